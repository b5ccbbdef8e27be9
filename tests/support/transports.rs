//! Each behaviour of a pool is one test, over every transport.
//!
//! A test is a plain function that makes its pools with [`builder`] or [`pool`], and is named in the list of its file:
//! `over_every_transport! { name }` makes the tests `name::over_rings` and `name::over_channels` of it. Which one of
//! them runs is known to its thread; to other threads that make pools, [`over`] passes it on, and to processes, the
//! environment.

use super::{children, regions::held_here, until};
use pool_runtime::{Pool, PoolBuilder, Transport};
use std::{
    cell::Cell,
    ops::Deref,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Makes a test for each transport of each function. Those `in_turn:` look at what the whole process has, and run one
/// after the other.
macro_rules! over_every_transport {
    ($way:ident: $($test:ident),+ $(,)?) => {$(
        mod $test {
            #[test]
            fn over_rings() {
                crate::support::$way(pool_runtime::Transport::Ring, super::$test);
            }

            #[test]
            fn over_channels() {
                crate::support::$way(pool_runtime::Transport::Channel, super::$test);
            }
        }
    )+};
    ($($test:ident),+ $(,)?) => {
        crate::support::over_every_transport! { over: $($test),+ }
    };
}
pub(crate) use over_every_transport;

/// The environment variable that says which transport a process is to use.
pub const VARIABLE: &str = "POOL_TEST_TRANSPORT";

thread_local! {
    static CHOSEN: Cell<Option<Transport>> = const { Cell::new(None) };
}

/// Does something on this thread whose pools use a transport.
pub fn over<R>(transport: Transport, work: impl FnOnce() -> R) -> R {
    let before = CHOSEN.replace(Some(transport));
    let done = work();
    CHOSEN.set(before);
    done
}

/// As [`over`], while nobody else in this process does the same.
pub fn in_turn<R>(transport: Transport, work: impl FnOnce() -> R) -> R {
    let _turn = turn();
    over(transport, work)
}

/// Until it is dropped, no other test of this process that takes a turn runs. It begins when the test before has left
/// nothing behind.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    until("the test before has left no process", || children().is_empty());
    until("the test before has left no shared slice", || held_here() == (0, 0));
    turn
}

/// The transport that was chosen on this thread.
pub fn chosen() -> Option<Transport> {
    CHOSEN.get()
}

/// The transport that this thread's pools use.
#[track_caller]
pub fn transport() -> Transport {
    let inherited = || match std::env::var(VARIABLE).ok()?.as_str() {
        "rings" => Some(Transport::Ring),
        "channels" => Some(Transport::Channel),
        unknown => panic!("no transport is called {unknown:?}"),
    };
    CHOSEN.get().or_else(inherited).expect("a test in the list of its file, or a thread that was told the transport")
}

/// The value of [`VARIABLE`] for the transport that this thread's pools use.
pub fn transport_name() -> &'static str {
    match transport() {
        Transport::Ring => "rings",
        Transport::Channel => "channels",
        other => panic!("{other:?} has no name here"),
    }
}

/// Every pool of these tests is made from this, also those that tasks make in its workers.
pub fn builder() -> PoolBuilder {
    Pool::builder().transport(transport()).env(VARIABLE, transport_name())
}

/// A pool of `processes` workers.
pub fn pool(processes: usize) -> Pool {
    builder().processes(processes).build().expect("a pool")
}

/// A pool of one worker that all tests of a program share: one for each transport.
pub struct SharedPool([OnceLock<Pool>; 2]);

impl SharedPool {
    pub const fn new() -> Self {
        Self([const { OnceLock::new() }; 2])
    }
}

impl Deref for SharedPool {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        self.0[usize::from(transport() == Transport::Ring)].get_or_init(|| pool(1))
    }
}
