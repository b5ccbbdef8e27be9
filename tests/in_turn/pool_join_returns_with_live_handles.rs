//! Close, then join, returns while jobs' handles are held, and the results can be taken after it.

use crate::support::{children, over_every_transport, pool, returns};
use pool_runtime::task;

over_every_transport! { in_turn: join_returns_with_live_handles }

#[task]
fn repeat(text: &str, times: usize) -> String {
    text.repeat(times)
}

fn join_returns_with_live_handles() {
    let pool = pool(2);
    let jobs: Vec<_> = (0..50).map(|n| pool.apply_async(repeat::call("abc", n))).collect();
    // Larger than what fits into any pipe between the processes.
    let large = pool.apply_async(repeat::call("x", 10 << 20));
    let map = pool.map_async(|n| repeat::call("y", n), 0..500);
    pool.close();
    let pool = returns("join", move || {
        pool.join().unwrap();
        pool
    });
    assert_eq!(children(), [], "the workers have exited");
    assert!(jobs.iter().all(|job| job.is_ready() && job.is_successful() == Some(true)));
    assert_eq!(pool.workers(), []);
    drop(pool);
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.get().unwrap(), "abc".repeat(n));
    }
    assert_eq!(large.get().unwrap().len(), 10 << 20);
    assert_eq!(map.get().unwrap().len(), 500);
}
