//! A worker that receives nothing for a while, as it is stopped, holds nobody up: what is passed to it waits, and
//! arrives when it goes on. One that is killed instead leaves nothing.

over_every_transport! { in_turn: what_is_passed_waits_for_it }

use crate::support::regions::held_here;
use crate::support::{builder, over_every_transport, pids, pool, signal, until};
use pool_runtime::{Shared, task};
use std::time::{Duration, Instant};

#[task]
fn sum_all(all: &[Shared<[u64]>]) -> u64 {
    all.iter().flatten().sum()
}

/// More than a socket holds.
const MANY: u64 = 600;

// It counts what the whole process holds.
fn what_is_passed_waits_for_it() {
    let all: Vec<Shared<[u64]>> = (0..MANY).map(|n| Shared::new(&[n]).unwrap()).collect();
    let expected: u64 = (0..MANY).sum();
    let stopped = builder().processes(1).build().unwrap();
    let other = pool(1);
    signal(pids(&stopped)[0], libc::SIGSTOP);
    let began = Instant::now();
    let job = stopped.apply_async(sum_all::call(&all));
    assert!(began.elapsed() < Duration::from_secs(10), "submitting waits for the worker");
    assert_eq!(other.apply(sum_all::call(&all)).unwrap(), expected);
    assert!(!job.wait(Duration::from_millis(100)));
    signal(pids(&stopped)[0], libc::SIGCONT);
    assert_eq!(job.get().unwrap(), expected);

    signal(pids(&stopped)[0], libc::SIGSTOP);
    let more: Vec<Shared<[u64]>> = (0..MANY / 2).map(|n| Shared::new(&[n]).unwrap()).collect();
    let job = stopped.apply_async(sum_all::call(&more));
    drop(more);
    assert_eq!(held_here().0 as u64, MANY + MANY / 2);
    assert!(job.cancel());
    drop(job);
    until("what it would have been passed is freed", || held_here().0 as u64 == MANY);
    signal(pids(&stopped)[0], libc::SIGCONT);
    assert_eq!(stopped.apply(sum_all::call(&all)).unwrap(), expected);

    // Or it is killed, with what was under way to it.
    signal(pids(&stopped)[0], libc::SIGSTOP);
    let more: Vec<Shared<[u64]>> = (0..MANY / 2).map(|n| Shared::new(&[n]).unwrap()).collect();
    let job = stopped.apply_async(sum_all::call(&more));
    signal(pids(&stopped)[0], libc::SIGKILL);
    // It had not started the call, which another worker runs: with the same memory.
    assert_eq!(job.get().unwrap(), (0..MANY / 2).sum());
    drop((all, more));
    until("all is freed", || held_here() == (0, 0));
}
