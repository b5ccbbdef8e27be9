//! A call that uses more memory than it may fails with the figure; the parent and the other calls live.

use crate::support::{Signals, builder, over_every_transport, pids, pool};
use pool_runtime::{Ran, task};
use std::{path::Path, time::Duration};

over_every_transport! {
    a_call_that_uses_too_much_fails_with_the_figure,
    memory_that_is_not_touched_does_not_count,
    it_is_not_tried_again,
    the_others_live,
}

const MIB: usize = 1 << 20;

/// Uses ever more memory, a MiB at a time.
#[task(memory = "64MiB")]
fn fill() -> usize {
    let mut all = Vec::new();
    // An end, in case that nobody ends it.
    for _ in 0..4096 {
        all.push(vec![1u8; MIB]);
        std::thread::sleep(Duration::from_micros(300));
    }
    all.len()
}

#[task]
fn use_some(mebibytes: usize) -> usize {
    let all = vec![1u8; mebibytes * MIB];
    std::hint::black_box(&all).len() / MIB
}

fn a_call_that_uses_too_much_fails_with_the_figure() {
    let pool = pool(1);
    let before = pids(&pool);
    let error = pool.apply(fill::call()).unwrap_err();
    assert!(error.is_out_of_memory() && !error.is_worker_lost() && !error.is_timeout(), "{error}");
    assert_eq!(error.ran(), Ran::Yes);
    let text = error.to_string();
    assert!(text.contains("fill") && text.contains("its limit is 64.0 MiB"), "{text}");
    assert_eq!(pool.apply(use_some::call(1)).unwrap(), 1);
    assert_ne!(pids(&pool), before);
    let error = pool.apply(fill::call().memory(100 << 20)).unwrap_err();
    assert!(error.to_string().contains("its limit is 100.0 MiB"), "{error}");
}

#[task]
fn reserve(reserved: &Path, end: &Path) -> usize {
    let memory: Vec<u8> = Vec::with_capacity(1 << 30);
    crate::support::give(reserved);
    crate::support::await_given(end);
    memory.capacity() >> 30
}

fn memory_that_is_not_touched_does_not_count() {
    let signals = Signals::new();
    let pool = builder().processes(2).memory(256 << 20).build().unwrap();
    let job = pool.apply_async(reserve::call(&signals.path("reserved"), &signals.path("end")));
    signals.await_given("reserved");
    // All workers are looked at equally often: when it is seen that one has too much, the other has been looked at.
    assert!(pool.apply(fill::call().memory(256 << 20)).unwrap_err().is_out_of_memory());
    signals.give("end");
    assert_eq!(job.get().unwrap(), 1);
    assert_eq!(pool.apply(use_some::call(64)).unwrap(), 64);
}

fn it_is_not_tried_again() {
    let pool = builder().processes(1).retries(3).build().unwrap();
    let error = pool.apply(fill::call()).unwrap_err();
    assert!(error.is_out_of_memory());
    assert_eq!(error.attempts(), 1);
}

#[task]
fn wait_for(signal: &Path) {
    crate::support::await_given(signal);
}

fn the_others_live() {
    let signals = Signals::new();
    let pool = pool(2);
    let other = pool.apply_async(wait_for::call(&signals.path("end")));
    assert!(pool.apply(fill::call()).unwrap_err().is_out_of_memory());
    signals.give("end");
    other.get().unwrap();
}
