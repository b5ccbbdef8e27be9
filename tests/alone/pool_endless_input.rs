//! `imap` and `imap_unordered` over an endless input read it a bounded distance ahead, and keep nothing of what has
//! passed.

pool_runtime::pool_main!();

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Pool, task};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    path::Path,
    sync::atomic::{AtomicIsize, Ordering::Relaxed},
};
use support::{Signals, await_given, over_every_transport, pool, until};

over_every_transport! { in_turn: memory_stays_flat }

/// Counts the bytes that are allocated in this process.
struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: it is the system's allocator, and a count beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[task]
fn successor(n: u64) -> u64 {
    n + 1
}

#[task]
fn wait(signal: &Path) {
    await_given(signal);
}

/// How much more is allocated after many results than after a few, when nothing is under way.
fn growth(pool: &Pool, results: &mut impl Iterator<Item = pool_runtime::Result<u64>>) -> isize {
    let mut after = |n: usize| {
        results.by_ref().take(n).for_each(|result| assert!(result.is_ok()));
        until("nothing is under way", || pool.stats().running == 0 && pool.stats().waiting == 0);
        // A report that has been heard may yet be freed, which is a matter of moments.
        let samples = (0..50).map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            LIVE.load(Relaxed)
        });
        samples.min().unwrap()
    };
    let before = after(2000);
    after(20_000) - before
}

// One test, as the count is that of all threads.
fn memory_stays_flat() {
    let pool = pool(2);
    let ordered = growth(&pool, &mut pool.imap(successor::call, 0..));
    assert!(ordered < 100_000, "imap: {ordered} bytes");
    let unordered = growth(&pool, &mut pool.imap_unordered(successor::call, 0..));
    assert!(unordered < 100_000, "imap_unordered: {unordered} bytes");

    // How far it reads ahead, while no result comes.
    let signals = Signals::new();
    let signal = signals.path("release");
    for (look_ahead, expected) in [(None, 32), (Some(5), 5), (Some(1), 1)] {
        let read = Cell::new(0);
        let inputs = (0..).inspect(|_| read.set(read.get() + 1));
        let results = pool.imap(|_: u32| wait::call(&signal), inputs);
        let mut results = match look_ahead {
            None => results,
            Some(inputs) => results.look_ahead(inputs),
        };
        assert_eq!(read.get(), 0, "nothing is read before a result is asked for");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                until("calls have begun", || pool.stats().running > 0);
                signals.give("release");
            });
            results.next().unwrap().unwrap();
        });
        assert_eq!(read.get(), expected);
        drop(results);
        std::fs::remove_file(&signal).unwrap();
        // Those that had begun must not find the signal gone.
        signals.give("release");
        until("all have ended", || pool.stats().running == 0 && pool.stats().waiting == 0);
        std::fs::remove_file(&signal).unwrap();
    }
}
