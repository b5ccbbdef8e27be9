//! procspawn: a pool of processes of this program, over ipc-channel.

use crate::Result;
use ::procspawn::Pool;
use std::time::{Duration, Instant};

/// Every call that has not ended holds four descriptors of the parent, of which it may have 1024 by default.
const IN_FLIGHT: u64 = 100;

/// The way in of its workers: first thing in `main`, but for what starts even less.
pub fn init() {
    ::procspawn::init();
    // SAFETY: all functions that are spawned are in the program itself, none in a shared library.
    unsafe { ::procspawn::assert_spawn_is_safe() };
}

/// A pool all of whose workers have answered.
pub fn pool(processes: usize) -> Result<Pool> {
    let pool = Pool::new(processes)?;
    // Whichever worker is free takes the next call: this many, and each has had some.
    burst(&pool, 10 * processes as u64, |n| n, crate::work::add_one)?;
    Ok(pool)
}

/// Many calls at once, as many at a time as the descriptors allow.
pub fn burst<A, R>(pool: &Pool, calls: u64, argument: impl Fn(u64) -> A, function: fn(A) -> R) -> Result<Duration>
where
    A: serde::Serialize + serde::de::DeserializeOwned,
    R: serde::Serialize + serde::de::DeserializeOwned + Send + 'static,
{
    let begun = Instant::now();
    let mut waiting = std::collections::VecDeque::new();
    for n in 0..calls {
        if waiting.len() as u64 == IN_FLIGHT {
            join(waiting.pop_front())?;
        }
        waiting.push_back(pool.spawn(argument(n), function));
    }
    while !waiting.is_empty() {
        join(waiting.pop_front())?;
    }
    Ok(begun.elapsed())
}

fn join<R>(handle: Option<::procspawn::JoinHandle<R>>) -> Result<()>
where
    R: serde::Serialize + serde::de::DeserializeOwned,
{
    if let Some(handle) = handle {
        handle.join()?;
    }
    Ok(())
}
