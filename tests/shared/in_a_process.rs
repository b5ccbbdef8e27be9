//! A process of its own is given a shared slice as a worker is; what ran it here and in a child leaves nothing.

use crate::support::regions::{held, held_here};
use crate::support::{Signals, await_given, count, until};
use pool_runtime::{Process, Shared, task};
use std::path::Path;

#[task]
fn sum(numbers: Shared<[u64]>, more: &[Shared<[u64]>]) -> u64 {
    numbers.iter().chain(more.iter().flatten()).sum()
}

#[task]
fn hold(numbers: &Shared<[u64]>, here: &Path, release: &Path) -> u64 {
    count(here);
    await_given(release);
    numbers.iter().sum()
}

// It counts what the whole process holds.
#[test]
fn a_process_gets_it_and_leaves_nothing() {
    let _turn = crate::support::turn();
    let numbers = Shared::from_fn(100_000, |index| index as u64).unwrap();
    let more = [Shared::new(&[1]).unwrap(), Shared::new(&[]).unwrap(), numbers.clone()];
    let expected = 2 * (0..100_000).sum::<u64>() + 1;
    let process = || Process::new(sum::call(numbers.clone(), &more));
    assert_eq!(process().run().unwrap(), expected);
    let running = process().start().unwrap();
    assert_eq!(running.join().unwrap(), expected);
    // Not started.
    drop(process());
    drop((numbers, more));
    until("all are freed", || held_here() == (0, 0));

    // The call holds it as long as the process runs, and no longer, also if that is killed.
    let signals = Signals::new();
    let (here, never) = (signals.path("here"), signals.path("never"));
    let running = Process::new(hold::call(&Shared::new(&[7; 10]).unwrap(), &here, &never)).start().unwrap();
    signals.await_given("here");
    assert_eq!((held_here(), held(running.pid())), ((1, 1), Some((1, 1))));
    running.kill().unwrap();
    assert!(running.join().unwrap_err().is_worker_lost());
    until("it is freed", || held_here() == (0, 0));
}
