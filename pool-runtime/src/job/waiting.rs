//! What threads and futures do until a job has ended: they sleep, and are woken.

use crate::locks::{lock, sleep_on};
use crate::panic;
use std::cell::{Cell, RefCell};
use std::sync::{Condvar, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

/// About the longest delay of a thread that waits for one of many short calls. Futures and callbacks may be a few times
/// later.
pub(crate) const SHORT_NAP: Duration = Duration::from_micros(300);

/// What a thread can wait for.
pub(crate) trait Awaited {
    fn is_done(&self) -> bool;

    /// Sleeps until another thread reports that it is done, at most until `deadline`; may return early.
    fn sleep(&self, deadline: Option<Instant>);

    /// How late the end may be noticed while many short calls are in flight.
    fn patience(&self) -> Duration {
        SHORT_NAP
    }
}

/// Sleeps on `changed` until `is_done`, at most until `deadline`. `sleepers` is counted, as notifying none is a system
/// call too.
pub(crate) fn sleep_until<T>(
    (state, changed): (&Mutex<T>, &Condvar),
    deadline: Option<Instant>,
    is_done: impl Fn(&T) -> bool,
    sleepers: impl Fn(&mut T) -> &mut u32,
) {
    let mut state = lock(state);
    while !is_done(&state) {
        *sleepers(&mut state) += 1;
        let Some(awake) = sleep_on(changed, state, deadline) else { return };
        state = awake;
        *sleepers(&mut state) -= 1;
    }
}

thread_local! {
    /// The number of [`Deferral`]s on this thread, and what is woken when there are none.
    static DEFERRALS: Cell<usize> = const { Cell::new(0) };
    static DEFERRED: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
    /// A `Waker` is being woken on this thread.
    static IS_WAKING: Cell<bool> = const { Cell::new(false) };
}

/// While one exists on a thread, its `Waker`s are woken later: an async runtime may poll the next call at once, which may
/// need what the thread holds.
pub(crate) struct Deferral(());

impl Deferral {
    pub(crate) fn new() -> Self {
        DEFERRALS.set(DEFERRALS.get() + 1);
        Self(())
    }

    /// Whether any `Waker` was deferred.
    pub(crate) fn has_any() -> bool {
        with_deferred(|wakers| !wakers.is_empty()).unwrap_or_default()
    }
}

impl Drop for Deferral {
    fn drop(&mut self) {
        DEFERRALS.set(DEFERRALS.get() - 1);
        if DEFERRALS.get() == 0 {
            with_deferred(std::mem::take).into_iter().flatten().for_each(wake);
        }
    }
}

/// None on a thread that is about to end.
fn with_deferred<R>(look: impl FnOnce(&mut Vec<Waker>) -> R) -> Option<R> {
    DEFERRED.try_with(|deferred| look(&mut deferred.borrow_mut())).ok()
}

/// Wakes, unless that is deferred. A panic of the async runtime is ignored.
pub(super) fn wake(waker: Waker) {
    let mut waker = Some(waker);
    if DEFERRALS.get() > 0 {
        with_deferred(|wakers| wakers.extend(waker.take()));
    }
    if let Some(waker) = waker {
        let before = IS_WAKING.replace(true);
        let _ = panic::catch(|| waker.wake());
        IS_WAKING.set(before);
    }
}

/// Whether this thread wakes a `Waker`: what that calls must not wait for another call, as the thread may be the one that
/// reads reports.
pub(crate) fn is_waking() -> bool {
    IS_WAKING.try_with(Cell::get).unwrap_or(false)
}
