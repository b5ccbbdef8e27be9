//! A thousand pools, made and dropped (four hundred where the compiler does not optimise), leave no process, thread,
//! descriptor, temporary file or memory behind.

pool_runtime::pool_main!();

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::task;
use std::{path::PathBuf, sync::LazyLock};
use support::{children, descriptors, memory, over_every_transport, pool, threads, until};

over_every_transport! { in_turn: many_pools_leave_nothing }

const POOLS: u32 = if cfg!(debug_assertions) { 400 } else { 1000 };

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

/// In one of the ways in which pools are used and left.
fn make_and_leave(round: u32) {
    let pool = pool(1);
    match round % 5 {
        0 => {}
        1 => assert_eq!(pool.apply(double::call(round)).unwrap(), 2 * round),
        2 => {
            let jobs: Vec<_> = (0..10).map(|n| pool.apply_async(double::call(n))).collect();
            pool.close();
            pool.join().unwrap();
            drop(jobs);
        }
        3 => {
            drop(pool.map_async(double::call, 0..1000));
            pool.terminate();
        }
        _ => assert_eq!(pool.imap(double::call, 0..).take(3).count(), 3),
    }
}

// Nothing else runs in this program: it counts what the process holds.
fn many_pools_leave_nothing() {
    // Its own directory: others use the shared one at the same time.
    static SHARED: LazyLock<PathBuf> = LazyLock::new(std::env::temp_dir);
    let directory = tempfile::tempdir_in(&*SHARED).unwrap();
    // SAFETY: beside this test the harness runs the way in for workers and those that wait for their turn, which read
    // no environment.
    unsafe { std::env::set_var("TMPDIR", directory.path()) };
    (0..20).for_each(make_and_leave);
    until("the threads have ended", || threads() <= 3);
    let (descriptors_before, threads_before, memory_before) =
        (descriptors().len(), threads(), memory(std::process::id()));
    (0..POOLS).for_each(make_and_leave);
    assert_eq!(children(), []);
    until("the threads have ended", || threads() <= threads_before);
    assert_eq!(descriptors().len(), descriptors_before);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "temporary files");
    let grown = memory(std::process::id()).saturating_sub(memory_before);
    assert!(grown < 4 << 20, "{grown} bytes more than after the first 20 pools");
}
