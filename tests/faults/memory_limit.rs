//! A call that uses more memory than it may fails with the figure; the parent and the other calls live.

use crate::support::{Signals, builder, is_alive, over_every_transport, pids, pool, until};
use pool_runtime::{Array, Ran, Shared, task};
use std::{path::Path, time::Duration};

over_every_transport! {
    a_call_that_uses_too_much_fails_with_the_figure,
    memory_that_is_not_touched_does_not_count,
    it_is_not_tried_again,
    the_others_live,
    memory_in_bursts_counts,
    memory_that_could_be_shared_counts,
    what_an_earlier_call_could_share_does_not_count,
    memory_that_could_be_shared_counts_however_long_it_takes_to_find_out,
    what_is_shared_with_the_parent_does_not_count_where_nobody_sees_it,
    what_grows_after_its_call_counts,
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
    // Maybe, where it takes long to end a process.
    assert_ne!(error.ran(), Ran::No);
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

/// Uses too much now and then, after it has made its worker's page say that it has not started.
#[task(memory = "64MiB")]
fn burst() {
    crate::limits_hold::say_unstarted();
    loop {
        std::hint::black_box(vec![1_u8; 300 * MIB]);
        std::thread::sleep(Duration::from_millis(60));
    }
}

fn memory_in_bursts_counts() {
    // With one call before it that may use anything, and without.
    for any in [true, false] {
        let pool = pool(1);
        if any {
            pool.apply(use_some::call(1)).unwrap();
        }
        let error = pool.apply(burst::call()).unwrap_err();
        // Each worker is ended for its memory. While nobody knows whether it is its call's, the call is given to another,
        // but not to more and more of them.
        assert!(error.is_out_of_memory() || error.signal() == Some(libc::SIGKILL), "{error}");
        assert_eq!(pool.apply(use_some::call(1)).unwrap(), 1);
    }
}

/// Anonymous memory that this process could share with its children, for some time.
fn have_shared(mebibytes: usize, time: Duration) {
    let (length, rights) = (mebibytes * MIB, libc::PROT_READ | libc::PROT_WRITE);
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: new memory, to which nothing else refers.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), length, rights, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        at.write_bytes(1, length);
        std::thread::sleep(time);
        assert_eq!(libc::munmap(at, length), 0);
    }
}

#[task(memory = "64MiB")]
fn share() {
    have_shared(256, Duration::from_secs(60));
}

#[task(memory = "512MiB")]
fn share_for_a_while() {
    have_shared(128, Duration::from_millis(500));
}

/// The same, once a small part was seen, with so many mappings that it takes long to go through them.
#[task(memory = "64MiB")]
fn share_much() {
    let (length, page) = (60_000 << 12, 1 << 12);
    // SAFETY: new memory, to which nothing else refers. Fewer parts do as well.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, flags, -1, 0);
        assert_ne!(at, libc::MAP_FAILED);
        for part in (0..length).step_by(2 * page) {
            libc::mprotect(at.byte_add(part), page, libc::PROT_NONE);
        }
    }
    have_shared(8, Duration::from_millis(400));
    have_shared(800, Duration::from_secs(60));
}

#[task(memory = "64MiB")]
fn sum_unseen(bytes: &[u8], shared: &Shared<[u8]>) -> u64 {
    // SAFETY: it takes numbers. Only somebody with more rights may look at this process's mappings from now on.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }, 0);
    sum(bytes, shared)
}

/// In a MiB.
const PAGES: u64 = 256;

/// Reads a byte of each page.
#[task(memory = "64MiB")]
fn sum(bytes: &[u8], shared: &Shared<[u8]>) -> u64 {
    let pages = |bytes: &[u8]| bytes.iter().step_by(4096).map(|byte| u64::from(*byte)).sum::<u64>();
    let sum = pages(bytes) + pages(shared);
    // Long enough to be looked at with all of that in memory.
    std::thread::sleep(Duration::from_millis(500));
    sum
}

fn memory_that_could_be_shared_counts() {
    let pool = pool(1);
    let error = pool.apply(share::call()).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
    // What is the parent's does not.
    let shared = Shared::new(&vec![1_u8; 128 * MIB]).unwrap();
    assert_eq!(pool.apply(sum::call(&vec![1; 16 * MIB], &shared)).unwrap(), 144 * PAGES);
    drop(shared);
    let written = Array::<u64>::zeroed(16 * MIB).unwrap();
    pool.apply(write_all::call(written.clone())).unwrap();
    assert_eq!(written.get(16 * MIB - 1), 1);
}

#[task(memory = "64MiB")]
fn write_all(values: Array<u64>) {
    values.fill(1);
    // Long enough to be looked at with all of that in memory.
    std::thread::sleep(Duration::from_millis(500));
}

fn what_an_earlier_call_could_share_does_not_count() {
    let (pool, shared) = (pool(1), Shared::new(&vec![1_u8; 128 * MIB]).unwrap());
    pool.apply(share_for_a_while::call()).unwrap();
    // The worker has as much in memory as before.
    assert_eq!(pool.apply(sum::call(&[], &shared)).unwrap(), 128 * PAGES);
}

fn memory_that_could_be_shared_counts_however_long_it_takes_to_find_out() {
    // It would end well after a minute.
    let error = pool(1).apply(share_much::call()).unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
}

fn what_is_shared_with_the_parent_does_not_count_where_nobody_sees_it() {
    // SAFETY: it asks for a number.
    if unsafe { libc::geteuid() } == 0 {
        eprintln!("root sees the mappings all the same: this shows more as an ordinary user");
    }
    let (pool, shared) = (pool(1), Shared::new(&vec![1_u8; 128 * MIB]).unwrap());
    assert_eq!(pool.apply(sum_unseen::call(&vec![1; 16 * MIB], &shared)).unwrap(), 144 * PAGES);
}

/// Returns, and leaves a thread behind that uses ever more memory.
#[task(memory = "64MiB")]
fn leave_behind(go: &Path) -> u32 {
    let go = go.to_owned();
    std::thread::spawn(move || {
        crate::support::await_given(&go);
        let mut all = Vec::new();
        loop {
            all.push(vec![1_u8; MIB]);
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    std::process::id()
}

fn what_grows_after_its_call_counts() {
    let (pool, signals) = (pool(1), Signals::new());
    let pid = pool.apply(leave_behind::call(&signals.path("go"))).unwrap();
    assert!(is_alive(pid));
    signals.give("go");
    until("it is killed, though it is idle", || !is_alive(pid));
    assert_ne!(pool.apply(leave_behind::call(&signals.path("never"))).unwrap(), pid);
    // While it leaves as well.
    let signals = Signals::new();
    let pool = builder().processes(1).exit_grace(Duration::from_secs(600)).build().unwrap();
    let pid = pool.apply(hang_at_exit::call(&signals.path("go"))).unwrap();
    pool.close();
    assert!(is_alive(pid));
    signals.give("go");
    pool.join().unwrap();
}

extern "C" fn hang() {
    loop {
        std::thread::park();
    }
}

/// As before, and its process hangs at its exit.
#[task(memory = "64MiB")]
fn hang_at_exit(go: &Path) -> u32 {
    // SAFETY: the function is never unloaded.
    unsafe { libc::atexit(hang) };
    leave_behind(go)
}
