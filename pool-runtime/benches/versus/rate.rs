//! How much gets done: many calls at once, and what a second processor brings.

use crate::{
    Result, Setting,
    contest::Contest,
    latency::{PROCSPAWN, add_python, timed},
    peers::{
        procspawn,
        python::{self, FUTURES, MULTIPROCESSING, Python},
        raw::Ring,
    },
    table::{Bound, OURS, Row, absolute, at_least},
    work::{add_one, compute as compute_task, compute_pair, steps_per_microsecond},
};
use pool_runtime::{Pool, WorkerState};
use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

pub const RAYON: &str = "rayon";
pub const LOOP: &str = "plain loop";
const RING: &str = "raw ring";

pub fn two_threads() -> Result<ThreadPool> {
    Ok(ThreadPoolBuilder::new().num_threads(2).build()?)
}

/// Submits all, then takes all results.
fn burst_of(pool: &Pool, calls: u64) -> Result<Duration> {
    timed(|| {
        let jobs: Vec<_> = (0..calls).map(|n| pool.apply_async(add_one::call(n))).collect();
        for (n, job) in jobs.into_iter().enumerate() {
            assert_eq!(job.get()?, n as u64 + 1);
        }
        Ok(())
    })
}

pub fn burst(setting: &Setting) -> Result<Row> {
    let (pool, theirs, ring) = (Pool::new(2)?, procspawn::pool(2)?, Ring::start()?);
    let mut contest = Contest::new(setting.pick(100, 300), setting.pick(2.0, 15.0));
    contest.add(OURS, |calls| burst_of(&pool, calls));
    contest.add(PROCSPAWN, |calls| procspawn::burst(&theirs, calls, |n| n, add_one));
    add_python(&mut contest, &[MULTIPROCESSING, FUTURES], "burst", 0)?;
    contest.add(RING, |times| ring.burst(times));
    let row = Row::of_contest("k/s", &contest.run()?, Some(RING), |seconds| 1e-3 / seconds);
    let ratios = [at_least(30.0, MULTIPROCESSING), at_least(100.0, PROCSPAWN)];
    Ok(row.target(ratios).target([absolute(Bound::AtLeast, 1000.0)]))
}

/// All inputs at once. Those who are slow get fewer, as it is the rate that counts.
pub fn map(setting: &Setting) -> Result<Row> {
    let (pool, threads) = (Pool::new(2)?, two_threads()?);
    let most = setting.pick(2_000_000, 10_000_000);
    let mut contest = Contest::new(setting.pick(300, 2000), setting.pick(3.0, 20.0));
    contest.add_limited(OURS, most, |inputs| {
        timed(|| {
            let results = pool.map(add_one::call, 0..inputs)?;
            assert_eq!(results.last(), Some(&inputs));
            Ok(())
        })
    });
    contest.add_limited(RAYON, most, |inputs| {
        timed(|| {
            let map = || (0..inputs).into_par_iter().map(|n| black_box(add_one(n))).collect::<Vec<_>>();
            assert_eq!(threads.install(map).last(), Some(&inputs));
            Ok(())
        })
    });
    contest.add_limited(LOOP, most, |inputs| {
        timed(|| {
            let results: Vec<_> = (0..inputs).map(|n| black_box(add_one(n))).collect();
            assert_eq!(results.last(), Some(&inputs));
            Ok(())
        })
    });
    add_python(&mut contest, &[MULTIPROCESSING, FUTURES], "map", 0)?;
    let row = Row::of_contest("M/s", &contest.run()?, None, |seconds| 1e-6 / seconds);
    Ok(row.target([at_least(8.0, MULTIPROCESSING), absolute(Bound::AtLeast, 40.0)]))
}

/// How much gets done, beside a plain loop in one process: of the same language, for the same pieces.
pub fn compute(setting: &Setting) -> Result<Row> {
    const MICROSECONDS: u64 = 100;
    let (pool, theirs, threads) = (Pool::new(2)?, procspawn::pool(2)?, two_threads()?);
    let steps = (MICROSECONDS as f64 * steps_per_microsecond()) as u64;
    let mut contest = Contest::new(setting.pick(100, 500), setting.pick(3.0, 20.0));
    contest.add(OURS, |pieces| {
        timed(|| {
            black_box(pool.map(|seed| compute_task::call(seed, steps), 0..pieces)?);
            Ok(())
        })
    });
    contest.add(RAYON, |pieces| timed(|| in_threads(&threads, pieces, steps)));
    contest.add(LOOP, |pieces| timed(|| in_a_loop(pieces, steps)));
    contest.add(PROCSPAWN, |pieces| procspawn::burst(&theirs, pieces, |seed| (seed, steps), compute_pair));
    if let Some(mut python) = Python::start(python::LOOP, 1)? {
        let steps = python.steps(MICROSECONDS)?;
        add_python(&mut contest, &[MULTIPROCESSING, FUTURES, python::LOOP], "compute_map", steps)?;
    }
    let figures = contest.run()?;
    let of = |name| figures.of(name);
    let speed = |name, alone| Some(of(alone)? / of(name)?);
    let row = Row::new("× alone", speed(OURS, LOOP).ok_or("no figures")?)
        .peer(RAYON, speed(RAYON, LOOP))
        .peer(PROCSPAWN, speed(PROCSPAWN, LOOP))
        .peer(MULTIPROCESSING, speed(MULTIPROCESSING, python::LOOP))
        .peer(FUTURES, speed(FUTURES, python::LOOP))
        .limit("two processors", 2.0);
    Ok(row.target([at_least(0.95, RAYON)]))
}

/// Rayon splits down to single pieces by itself.
pub fn in_threads(threads: &ThreadPool, pieces: u64, steps: u64) -> Result<()> {
    let map = || (0..pieces).into_par_iter().map(|seed| compute_task(seed, steps)).collect::<Vec<_>>();
    black_box(threads.install(map));
    Ok(())
}

pub fn in_a_loop(pieces: u64, steps: u64) -> Result<()> {
    black_box((0..pieces).map(|seed| compute_task(seed, steps)).collect::<Vec<_>>());
    Ok(())
}

/// More workers than processors: does it cost more than it should?
pub fn many_workers(setting: &Setting) -> Result<Row> {
    const FEW: &str = "2 workers";
    let (few, many) = (Pool::new(2)?, Pool::new(200)?);
    // A pool is there as soon as its first worker is.
    let begun = Instant::now();
    while many.workers().iter().any(|worker| worker.state == WorkerState::Starting) {
        if begun.elapsed() > Duration::from_secs(60) {
            return Err("200 workers have not started within a minute".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let most = setting.pick(100_000, 1_000_000);
    let mut contest = Contest::new(setting.pick(500, 3000), setting.pick(3.0, 20.0));
    contest.add_limited(OURS, most, |calls| burst_of(&many, calls));
    contest.add_limited(FEW, most, |calls| burst_of(&few, calls));
    let row = Row::of_contest("k/s", &contest.run()?, None, |seconds| 1e-3 / seconds);
    Ok(row.target([at_least(0.5, FEW)]))
}
