//! Shared memory is freed when its last holder is gone, however it went: the caller dropped it, a call ended or was
//! cancelled, a worker was killed. Nothing more needs to be called for it.

over_every_transport! { in_turn: the_last_holder_frees_it }

use crate::support::regions::{held, held_here};
use crate::support::{Signals, await_given, builder, count, over_every_transport, until};
use pool_runtime::{Pool, Shared, task};
use std::{cell::RefCell, path::Path};

#[task]
fn sum(numbers: &Shared<[u32]>) -> u32 {
    numbers.iter().sum()
}

#[task]
fn hold(numbers: Shared<[u32]>, here: &Path, release: &Path) -> u32 {
    count(here);
    await_given(release);
    numbers.iter().sum()
}

thread_local! {
    static KEPT: RefCell<Option<Shared<[u32]>>> = const { RefCell::new(None) };
}

#[task]
fn keep(numbers: Option<Shared<[u32]>>) -> u32 {
    KEPT.with_borrow_mut(|kept| {
        let before = kept.iter().flatten().sum();
        *kept = numbers;
        before
    })
}

fn of_workers(pool: &Pool) -> Vec<(usize, usize)> {
    pool.workers().iter().filter_map(|worker| held(worker.pid)).collect()
}

fn numbers() -> Shared<[u32]> {
    Shared::new(&[1, 2, 3]).unwrap()
}

// It counts what the whole process holds.
fn the_last_holder_frees_it() {
    let pool = builder().processes(2).build().unwrap();
    let signals = Signals::new();
    let (here, release) = (signals.path("here"), signals.path("release"));
    assert_eq!(held_here(), (0, 0));

    // The caller drops it: the workers are told, also if nothing else is sent to them.
    let first = numbers();
    let jobs: Vec<_> = (0..2).map(|_| pool.apply_async(hold::call(first.clone(), &here, &release))).collect();
    until("both have it", || signals.counted("here") == 2);
    assert_eq!((held_here(), of_workers(&pool)), ((1, 1), vec![(1, 1); 2]));
    drop(first);
    // The calls still run.
    assert_eq!((held_here(), of_workers(&pool)), ((1, 1), vec![(1, 1); 2]));
    signals.give("release");
    assert!(jobs.into_iter().all(|job| job.get().unwrap() == 6));
    until("it is released", || held_here() == (0, 0) && of_workers(&pool) == [(0, 0); 2]);

    // While the caller has it, an idle worker may keep it; each one goes by itself.
    let (one, other) = (numbers(), numbers());
    pool.apply(sum::call(&one)).unwrap();
    pool.apply(sum::call(&other)).unwrap();
    drop(one);
    until("one is released", || held_here() == (1, 1));
    assert_eq!(pool.apply(sum::call(&other)).unwrap(), 6);
    drop(other);
    until("the other one too", || held_here() == (0, 0) && of_workers(&pool) == [(0, 0); 2]);

    // What waits holds it, until it is cancelled.
    let blockers: Vec<_> = (0..2)
        .map(|_| pool.apply_async(hold::call(numbers(), &signals.path("there"), &signals.path("go on"))))
        .collect();
    until("both run", || signals.counted("there") == 2);
    let waiting = pool.apply_async(sum::call(&numbers()));
    assert_eq!(held_here(), (3, 3));
    assert!(waiting.cancel());
    until("it is dropped", || held_here() == (2, 2));

    // A worker that is killed while it holds one leaves nothing, and neither does the call that it ran.
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::kill(pool.workers()[0].pid as i32, libc::SIGKILL) }, 0);
    until("its call has failed", || blockers.iter().any(|job| job.is_ready()));
    until("that is freed", || held_here() == (1, 1));
    signals.give("go on");
    let ended: Vec<bool> = blockers.into_iter().map(|job| job.get().is_ok()).collect();
    assert_eq!(ended.iter().filter(|ok| **ok).count(), 1);
    until("all is freed", || held_here() == (0, 0) && of_workers(&pool).iter().all(|held| *held == (0, 0)));

    // A task may keep it for longer than anybody else.
    let alone = builder().processes(1).build().unwrap();
    alone.apply(keep::call(Some(numbers()))).unwrap();
    until("it is freed here", || held_here() == (0, 0));
    assert_eq!(of_workers(&alone), [(1, 1)]);
    assert_eq!(alone.apply(keep::call(None)).unwrap(), 6);
    until("it is freed there", || of_workers(&alone) == [(0, 0)]);

    // A call that never runs, and pools that end.
    drop(sum::call(&numbers()));
    let kept = numbers();
    alone.apply(keep::call(Some(kept.clone()))).unwrap();
    drop((alone, pool));
    assert_eq!((held_here(), kept.len()), ((1, 1), 3));
}
