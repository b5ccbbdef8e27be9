//! A pool that is dropped without close is terminated: no process is left, and its jobs end. One that is not even
//! dropped ends with the program.

use crate::support::{
    Signals, VARIABLE, await_given, children, count, exists, is_alive, over_every_transport, pids, pool, returns,
    transport_name, until,
};
use pool_runtime::{Job, Process, task};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

over_every_transport! { in_turn: no_process_is_left }

#[task]
fn wait(begun: &Path, release: &Path) {
    count(begun);
    await_given(release);
}

#[task]
fn deaf(begun: &Path, release: &Path) {
    // SAFETY: ignoring a signal runs no handler.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    wait(begun, release);
}

/// A program that ends with a pool at work, which it does not drop.
#[task]
fn end_with_a_pool(begun: &Path, release: &Path) -> Vec<u32> {
    let pool = pool(2);
    for _ in 0..10 {
        drop(pool.apply_async(wait::call(begun, release)));
    }
    until("both have begun", || std::fs::read(begun).is_ok_and(|calls| calls.len() == 2));
    let pids = pids(&pool);
    std::mem::forget(pool);
    pids
}

// It counts this process's children.
fn no_process_is_left() {
    let signals = Signals::new();
    let never = signals.path("never");

    // Idle.
    let idle = pool(3);
    let workers = pids(&idle);
    assert!(!workers.is_empty());
    returns("drop", move || drop(idle));
    assert!(!workers.iter().any(|pid| exists(*pid)), "they are dead and reaped");
    assert_eq!(children(), []);

    // At work, with more waiting, and deaf to being asked.
    let busy = pool(2);
    let jobs: Vec<Job<()>> = (0..10)
        .map(|n| match n % 2 {
            0 => busy.apply_async(wait::call(&signals.path("busy"), &never)),
            _ => busy.apply_async(deaf::call(&signals.path("busy"), &never)),
        })
        .collect();
    until("both have begun", || signals.counted("busy") == 2);
    let workers = pids(&busy);
    returns("drop", move || drop(busy));
    assert!(!workers.iter().any(|pid| exists(*pid)));
    assert!(jobs.into_iter().all(|job| job.get().unwrap_err().is_closed()));
    assert_eq!(children(), []);

    // By a panic of its owner.
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let pool = pool(2);
        drop(pool.apply_async(wait::call(&signals.path("unwound"), &never)));
        signals.await_given("unwound");
        panic!("of the owner");
    }));
    assert!(unwound.is_err());
    assert_eq!(children(), []);

    // While its workers are still on their way in.
    for _ in 0..10 {
        drop(pool(4));
        assert_eq!(children(), []);
    }

    // Not at all.
    let process = Process::new(end_with_a_pool::call(&signals.path("orphans"), &never));
    let process = process.env(VARIABLE, transport_name()).start().unwrap();
    let orphans = returns("the program's end", move || process.join()).unwrap();
    assert_eq!(orphans.len(), 2);
    until("they have ended", || !orphans.iter().any(|pid| is_alive(*pid)));
}
