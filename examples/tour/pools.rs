//! Programs 8 to 12, and 14: pools, and a queue.

use crate::work::{fun1, fun2, ping, tell};
use pool_runtime::{Pool, Queue, Result};
use std::panic::resume_unwind;

const TIMES: [f64; 5] = [3.0, 4.0, 5.0, 6.0, 7.0];

pub fn apply_async(second: f64) -> Result<()> {
    let pool = Pool::new(3)?;
    let jobs = TIMES.map(|t| pool.apply_async(fun1::call(t, second)));
    pool.close();
    pool.join()?;
    jobs.into_iter().try_for_each(|job| job.get())
}

pub fn apply(second: f64) -> Result<()> {
    let pool = Pool::new(3)?;
    TIMES.into_iter().try_for_each(|t| pool.apply(fun1::call(t, second)))
}

pub fn two_functions(second: f64) -> Result<()> {
    let pool = Pool::new(3)?;
    let ones = TIMES.map(|t| pool.apply_async(fun1::call(t, second)));
    let twos = TIMES.map(|t| pool.apply_async(fun2::call(t, second)));
    pool.close();
    pool.join()?;
    ones.into_iter().chain(twos).try_for_each(|job| job.get())
}

pub fn no_parameters(_: f64) -> Result<()> {
    let pool = Pool::new(1)?;
    println!("this is process {}", std::process::id());
    println!("{}", pool.apply_async(ping::call()).get()?);
    Ok(())
}

pub fn no_guard(_: f64) -> Result<()> {
    println!("this line, in `run`, is printed once, by process {}", std::process::id());
    let pool = Pool::new(3)?;
    pool.map(|_| ping::call(), 0..3)?.iter().for_each(|pong| println!("{pong}"));
    Ok(())
}

/// Pools, jobs and queues can be used from any thread, and queues from any process.
pub fn threads_and_queues(second: f64) -> Result<()> {
    let (pool, finished) = (Pool::new(3)?, Queue::unbounded()?);
    std::thread::scope(|scope| {
        let threads = [1.0, 2.0, 3.0].map(|t| {
            let (pool, finished) = (&pool, &finished);
            scope.spawn(move || pool.apply(tell::call(t, second, finished)))
        });
        for _ in &threads {
            println!("taken off the queue: {:?}", finished.get()?);
        }
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
