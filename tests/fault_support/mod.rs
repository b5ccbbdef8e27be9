//! What the tests of faults share.
#![allow(dead_code, reason = "each test program uses its part of this")]

use pool_runtime::{Pool, PoolBuilder};
use std::time::{Duration, Instant};

/// How long anything may take before a test calls it a hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The pools of these tests; there will be one for each transport.
pub fn builder() -> PoolBuilder {
    Pool::builder()
}

pub fn pool(processes: usize) -> Pool {
    builder().processes(processes).build().expect("a pool")
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The processes of a pool.
pub fn pids(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|worker| worker.pid).collect()
}

/// Sends a signal to a process.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: no memory is involved.
    let sent = unsafe { libc::kill(pid as i32, signal) };
    assert_eq!(sent, 0, "signal {signal} to {pid}: {}", std::io::Error::last_os_error());
}
