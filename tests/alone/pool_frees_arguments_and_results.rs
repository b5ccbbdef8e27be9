//! Arguments and results are freed when a call is done, in the parent and in the worker: of a gigabyte that passes
//! through both ways, and of half a gigabyte in other ways, little remains.

pool_runtime::pool_main!();

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Job, task};
use support::{memory, over_every_transport, pool};

over_every_transport! { in_turn: little_remains_of_a_gigabyte }

const LARGE: usize = 20 << 20;
/// A few values that are on their way, and what an allocator keeps for later.
const BOUND: usize = 200 << 20;

/// Has the allocator of the GNU library keep nothing for itself: it would keep up to 64 MB for each thread that ever
/// freed a large value, which is not what is measured here.
fn keep_nothing() {
    #[cfg(target_env = "gnu")]
    // SAFETY: neither has conditions.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::malloc_trim(0);
    }
}

#[task]
fn change_one(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[LARGE / 2] ^= 1;
    bytes
}

#[task]
fn last(bytes: &[u8]) -> Option<u8> {
    bytes.last().copied()
}

#[task]
fn many(byte: u8) -> Vec<u8> {
    vec![byte; LARGE]
}

fn check(pool: &pool_runtime::Pool, when: &str) {
    keep_nothing();
    let own = memory(std::process::id());
    assert!(own < BOUND, "{when}: {own} bytes here");
    for worker in pool.workers() {
        let bytes = memory(worker.pid);
        assert!(bytes < BOUND, "{when}: {bytes} bytes in worker {}", worker.pid);
    }
}

// One test: it measures the memory of the whole process.
fn little_remains_of_a_gigabyte() {
    keep_nothing();
    let pool = pool(2);
    for byte in 0..50 {
        let changed = pool.apply(change_one::call(vec![byte; LARGE])).unwrap();
        assert_eq!((changed.len(), changed[0], changed[LARGE / 2]), (LARGE, byte, byte ^ 1));
    }
    check(&pool, "one after the other");

    // The handles are kept, with their small results; the arguments are not.
    let bytes = vec![5; LARGE];
    let mut jobs: Vec<Job<Option<u8>>> = Vec::new();
    for _ in 0..25 {
        jobs.push(pool.apply_async(last::call(&bytes)));
        assert!(jobs[jobs.len() - 1].wait(support::PATIENCE));
    }
    drop(bytes);
    check(&pool, "with handles kept");
    assert!(jobs.into_iter().all(|job| job.get().unwrap() == Some(5)));

    // Nobody takes the results.
    for byte in 0..25 {
        let job = pool.apply_async(many::call(byte));
        if byte % 5 == 4 {
            assert!(job.wait(support::PATIENCE));
        }
    }
    assert_eq!(pool.apply(last::call(&[])).unwrap(), None);
    support::until("all are done", || pool.stats().running == 0 && pool.stats().waiting == 0);
    check(&pool, "with results that nobody takes");

    // A map frees what it has handed out; an iterator keeps but its look-ahead.
    let total: usize = pool.imap(many::call, 0..25).look_ahead(3).map(|result| result.unwrap().len()).sum();
    assert_eq!(total, 25 * LARGE);
    check(&pool, "through an iterator");
    let bytes = vec![9; LARGE];
    let lasts = pool.map(|_| last::call(&bytes), 0..5).unwrap();
    drop(bytes);
    assert_eq!(lasts, [Some(9); 5]);
    check(&pool, "through a map");
}
