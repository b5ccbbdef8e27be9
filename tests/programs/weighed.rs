//! Parts of the scenarios: limits of memory where `/proc` is missing, or is that of another name space of processes.

use super::{builder, say};
use pool_runtime::{Pool, PoolBuilder, Process, Result, task};
use std::path::Path;

/// Uses so many bytes for as long as it may.
#[task]
fn hoard(bytes: usize) -> usize {
    let hoard = vec![1_u8; bytes];
    std::thread::sleep(std::time::Duration::from_secs(60));
    hoard.len()
}

#[task]
fn add(one: u64, other: u64) -> u64 {
    one + other
}

fn end<T>(how: Result<T>) {
    say(match how {
        Ok(_) => "it went well".to_owned(),
        Err(error) if error.is_out_of_memory() => "out of memory".to_owned(),
        Err(error) => format!("error: {error}"),
    });
}

/// What becomes of calls that may use less than they do, in a pool and in a process, and of pools with limits.
pub(super) fn in_pools_and_processes(executable: &Path) -> Result<()> {
    const LIMIT: u64 = 64 << 20;
    let pool = |limit: fn(PoolBuilder) -> PoolBuilder| limit(builder().processes(1).executable(executable)).build();
    let plain = || pool(|builder| builder);
    end(plain().and_then(|pool| pool.apply(hoard::call(200 << 20).memory(LIMIT))));
    end(plain().and_then(|pool| pool.apply_async(hoard::call(200 << 20).memory(LIMIT)).get()));
    let limited: Result<Pool> = pool(|builder| builder.memory(LIMIT));
    end(limited.and_then(|pool| pool.apply(hoard::call(200 << 20))));
    let replaced = pool(|builder| builder.max_memory_per_child(LIMIT));
    end(replaced.and_then(|pool| pool.apply(add::call(1, 2))));
    end(Process::new(hoard::call(200 << 20).memory(LIMIT)).start().and_then(|process| process.join()));
    Ok(())
}
