//! Wherever a call crashes, and however, only that job fails; its error says what happened and whether the task ran;
//! the next job works.

use crate::support::{
    Signals, is_alive, kill_this_process, over_every_transport, overflow, pids, pool, segfault, until,
};
use pool_runtime::{Error, Pool, Ran, task};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use std::path::Path;

over_every_transport! {
    an_error_or_a_panic_is_told_and_costs_no_worker,
    a_death_is_told_and_the_worker_replaced,
    an_error_that_a_task_returns_is_a_value,
    where_the_caller_itself_dies_its_own_caller_is_told,
    a_call_from_a_callback_may_crash_too,
}

/// Where it happens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Place {
    EncodeArgument,
    DecodeArgument,
    Run,
    EncodeResult,
    DecodeResult,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Fate {
    Fine,
    Error,
    Panic,
    Exit(i32),
    Abort,
    Segv,
    Kill,
    Overflow,
}

const FATAL: [Fate; 6] = [Fate::Exit(0), Fate::Exit(7), Fate::Abort, Fate::Segv, Fate::Kill, Fate::Overflow];

fn meet(fate: Fate) -> Result<(), String> {
    match fate {
        Fate::Fine => {}
        Fate::Error => return Err("an error by design".into()),
        Fate::Panic => panic!("a panic by design"),
        Fate::Exit(code) => std::process::exit(code),
        Fate::Abort => std::process::abort(),
        Fate::Segv => segfault(),
        Fate::Kill => kill_this_process(),
        Fate::Overflow => overflow(),
    }
    Ok(())
}

/// A value that meets its fate when it is encoded or decoded.
#[derive(Debug)]
struct Trap {
    encoding: Fate,
    decoding: Fate,
}

const HARMLESS: Trap = Trap { encoding: Fate::Fine, decoding: Fate::Fine };

impl Serialize for Trap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        meet(self.encoding).map_err(S::Error::custom)?;
        self.decoding.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let decoding = Fate::deserialize(deserializer)?;
        meet(decoding).map_err(D::Error::custom)?;
        Ok(HARMLESS)
    }
}

#[task]
fn walk(_trap: Trap, place: Place, fate: Fate) -> Trap {
    match place {
        Place::Run => meet(fate).map(|()| HARMLESS).unwrap_or_else(|error| panic!("{error}")),
        Place::EncodeResult => Trap { encoding: fate, ..HARMLESS },
        Place::DecodeResult => Trap { decoding: fate, ..HARMLESS },
        Place::EncodeArgument | Place::DecodeArgument => HARMLESS,
    }
}

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

/// Goes there, checks that the next call works, and returns the error.
fn go(pool: &Pool, place: Place, fate: Fate) -> Error {
    let trap = match place {
        Place::EncodeArgument => Trap { encoding: fate, ..HARMLESS },
        Place::DecodeArgument => Trap { decoding: fate, ..HARMLESS },
        _ => HARMLESS,
    };
    let job = pool.apply_async(walk::call(trap, place, fate));
    let beside = pool.apply_async(add::call(1, 2));
    let error = job.get().expect_err("it cannot have worked");
    assert_eq!(beside.get().unwrap(), 3, "beside {place:?} {fate:?}");
    assert_eq!(pool.apply(add::call(20, 22)).unwrap(), 42, "after {place:?} {fate:?}");
    assert!(error.to_string().contains("faults::crash_matrix::walk"), "{error}");
    error
}

fn an_error_or_a_panic_is_told_and_costs_no_worker() {
    let pool = pool(1);
    let pid = crate::support::pids(&pool);
    for (place, ran) in [
        (Place::EncodeArgument, Ran::No),
        (Place::DecodeArgument, Ran::No),
        (Place::EncodeResult, Ran::Yes),
        (Place::DecodeResult, Ran::Yes),
    ] {
        let error = go(&pool, place, Fate::Error);
        let encodes = matches!(place, Place::EncodeArgument | Place::EncodeResult);
        assert_eq!((error.is_encode(), error.is_decode()), (encodes, !encodes), "{place:?}: {error}");
        assert!(error.to_string().contains("an error by design"), "{error}");
        assert_eq!(error.ran(), ran, "{place:?}: {error}");

        let error = go(&pool, place, Fate::Panic);
        assert!(error.is_panic(), "{place:?}: {error}");
        assert_eq!(error.panic().unwrap().message(), "a panic by design");
        assert_eq!(error.ran(), ran, "{place:?}: {error}");
    }
    let error = go(&pool, Place::Run, Fate::Panic);
    assert_eq!((error.is_panic(), error.ran()), (true, Ran::Yes));
    assert!(error.panic().unwrap().file().unwrap().ends_with("tests/faults/crash_matrix.rs"));
    assert_eq!(crate::support::pids(&pool), pid, "the worker lives on");
}

fn a_death_is_told_and_the_worker_replaced() {
    let pool = pool(1);
    for (place, ran) in [(Place::DecodeArgument, Ran::No), (Place::Run, Ran::Yes), (Place::EncodeResult, Ran::Yes)] {
        for fate in FATAL {
            let error = go(&pool, place, fate);
            assert!(error.is_worker_lost(), "{place:?} {fate:?}: {error}");
            died_of(fate, &error);
            assert_eq!(error.ran(), ran, "{place:?} {fate:?}: {error}");
        }
    }
}

/// The error says that the process met this fate.
fn died_of(fate: Fate, error: &Error) {
    let (code, signal) = match fate {
        Fate::Exit(code) => (Some(code), None),
        Fate::Abort => (None, Some(libc::SIGABRT)),
        Fate::Segv | Fate::Overflow => (None, Some(libc::SIGSEGV)),
        _ => (None, Some(libc::SIGKILL)),
    };
    assert!(error.is_worker_lost(), "{fate:?}: {error}");
    assert_eq!((error.exit_code(), error.signal()), (code, signal), "{fate:?}: {error}");
    assert_eq!(error.is_stack_overflow(), fate == Fate::Overflow, "{fate:?}: {error}");
}

/// What a task returns is no fate of its worker's, whatever it says.
#[task]
fn fail(fate: Fate) -> Result<(), String> {
    meet(fate)
}

fn an_error_that_a_task_returns_is_a_value() {
    let pool = pool(1);
    let pid = pids(&pool);
    assert_eq!(pool.apply(fail::call(Fate::Error)).unwrap(), Err("an error by design".into()));
    assert_eq!(pool.apply(fail::call(Fate::Fine)).unwrap(), Ok(()));
    assert_eq!(pids(&pool), pid);
}

/// Goes there in a pool of this worker's, and says first who works in it.
#[task]
fn go_below(place: Place, fate: Fate, below: &Path) {
    let pool = pool(1);
    std::fs::write(below, pids(&pool)[0].to_string()).expect("a file");
    go(&pool, place, fate);
}

/// Arguments are encoded and results decoded where the call is made: who dies there is the caller.
fn where_the_caller_itself_dies_its_own_caller_is_told() {
    let (pool, signals) = (pool(1), Signals::new());
    for (number, place) in [(0, Place::EncodeArgument), (1, Place::DecodeResult)] {
        for fate in FATAL {
            let below = signals.path(&format!("{number} {fate:?}"));
            let error = pool.apply(go_below::call(place, fate, &below)).expect_err("it cannot have worked");
            died_of(fate, &error);
            assert_eq!(error.ran(), Ran::Yes, "{place:?} {fate:?}: {error}");
            assert_eq!(pool.apply(add::call(20, 22)).unwrap(), 42, "after {place:?} {fate:?}");
            let worker = std::fs::read_to_string(&below).unwrap().parse().unwrap();
            until("what it had started has ended", || !is_alive(worker));
        }
    }
}

/// All that can happen to a call without the caller's own end.
fn matrix() -> impl Iterator<Item = (Place, Fate)> {
    let told = [Place::EncodeArgument, Place::DecodeArgument, Place::EncodeResult, Place::DecodeResult]
        .into_iter()
        .flat_map(|place| [(place, Fate::Error), (place, Fate::Panic)]);
    let deaths = [Place::DecodeArgument, Place::Run, Place::EncodeResult]
        .into_iter()
        .flat_map(|place| FATAL.map(|fate| (place, fate)));
    told.chain([(Place::Run, Fate::Panic)]).chain(deaths)
}

fn a_call_from_a_callback_may_crash_too() {
    let pool = std::sync::Arc::new(pool(1));
    let (sender, receiver) = std::sync::mpsc::channel();
    let inner = pool.clone();
    let job = pool.apply_async(add::call(1, 1)).on_done(move |_| {
        for (place, fate) in matrix() {
            sender.send((place, fate, go(&inner, place, fate))).expect("the test");
        }
    });
    assert_eq!(job.get().unwrap(), 2);
    let mut count = 0;
    for (place, fate, error) in receiver {
        match fate {
            Fate::Error => assert!(error.is_encode() || error.is_decode(), "{place:?}: {error}"),
            Fate::Panic => assert!(error.is_panic() && !error.is_worker_lost(), "{place:?}: {error}"),
            _ => died_of(fate, &error),
        }
        count += 1;
    }
    assert_eq!(count, matrix().count(), "the callback came to its end");
    assert_eq!(pool.apply(add::call(2, 2)).unwrap(), 4);
}
