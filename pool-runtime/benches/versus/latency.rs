//! How long one waits: for a call, for a call after a rest, for a new pool.

use crate::{
    Result, Setting,
    contest::Contest,
    peers::{
        procspawn,
        python::{FUTURES, MULTIPROCESSING, Python, SPAWN},
        raw::{Futex, Placement, Ring},
        system,
    },
    table::{Bound, OURS, Row, absolute, at_most},
    work::add_one,
};
use pool_runtime::Pool;
use std::{
    process::Command,
    time::{Duration, Instant},
};

pub const PROCSPAWN: &str = "procspawn";
const RING: &str = "raw ring";
const FUTEX: &str = "raw futex";

const REST: Duration = Duration::from_millis(10);

/// How long something takes that can fail.
pub fn timed(act: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    act()?;
    Ok(begun.elapsed())
}

/// Contenders that are pools of Python, each in an interpreter of its own.
pub fn add_python(
    contest: &mut Contest<'_>,
    kinds: &[&'static str],
    measure: &'static str,
    parameter: u64,
) -> Result<()> {
    for kind in kinds {
        if let Some(mut python) = Python::start(kind, 2)? {
            contest.add(kind, move |times| python.time(measure, times, parameter));
        }
    }
    Ok(())
}

pub fn round_trip(setting: &Setting) -> Result<Row> {
    let (pool, theirs) = (Pool::new(2)?, procspawn::pool(2)?);
    let (ring, mut futex) = (Ring::start()?, Futex::start(Placement::Any)?);
    let mut contest = Contest::new(10, setting.pick(2.0, 10.0));
    contest.add(OURS, |times| {
        timed(|| {
            for n in 0..times {
                assert_eq!(pool.apply(add_one::call(n))?, n + 1);
            }
            Ok(())
        })
    });
    contest.add(PROCSPAWN, |times| {
        timed(|| {
            for n in 0..times {
                assert_eq!(theirs.spawn(n, add_one).join()?, n + 1);
            }
            Ok(())
        })
    });
    add_python(&mut contest, &[MULTIPROCESSING, FUTURES], "round_trip", 0)?;
    contest.add(FUTEX, |times| futex.round_trips(times));
    contest.add(RING, |times| ring.round_trips(times));
    let row = Row::of_contest("µs", &contest.run()?, Some(RING), |seconds| seconds * 1e6);
    Ok(row.target([at_most(0.01, MULTIPROCESSING), at_most(1.0 / 40.0, PROCSPAWN)]).wish(at_most(3.0, RING)))
}

/// Everybody makes a call, rests, and makes the call that is measured: both sides have slept for as long as they were
/// told to, and not for as long as the others' turns took.
pub fn round_trip_after_rest(setting: &Setting) -> Result<Row> {
    fn rested(times: u64, mut call: impl FnMut() -> Result<()>) -> Result<Duration> {
        let mut time = Duration::ZERO;
        for _ in 0..times {
            call()?;
            std::thread::sleep(REST);
            time += timed(&mut call)?;
        }
        Ok(time)
    }

    let (pool, theirs) = (Pool::new(2)?, procspawn::pool(2)?);
    let (mut futex, mut apart) = (Futex::start(Placement::Any)?, Futex::start(Placement::Apart)?);
    let mut contest = Contest::new(1, setting.pick(3.0, 15.0));
    contest.add_limited(OURS, 1, |times| {
        rested(times, || {
            pool.apply(add_one::call(1))?;
            Ok(())
        })
    });
    contest.add_limited(PROCSPAWN, 1, |times| {
        rested(times, || {
            theirs.spawn(1, add_one).join()?;
            Ok(())
        })
    });
    for kind in [MULTIPROCESSING, FUTURES] {
        if let Some(mut python) = Python::start(kind, 2)? {
            let rest = REST.as_millis() as u64;
            contest.add_limited(kind, 1, move |times| python.time("round_trip_after_rest", times, rest));
        }
    }
    contest.add_limited(FUTEX, 1, |_| futex.round_trip_after(REST));
    // What it takes if the one that sleeps has to be woken on the other processor. The limit is the other one: the
    // pool's processes are left to the scheduler too.
    contest.add_limited("raw futex on two processors", 1, |_| apart.round_trip_after(REST));
    let row = Row::of_contest("µs", &contest.run()?, Some(FUTEX), |seconds| seconds * 1e6);
    Ok(row.target([at_most(1.5, FUTEX)]))
}

/// Until the first result is there; that a pool has to end too is not counted.
pub fn start(setting: &Setting) -> Result<Row> {
    const EMPTY: &str = "empty program";

    fn first_result<P>(times: u64, make: impl Fn() -> Result<P>, call: impl Fn(&P) -> Result<u64>) -> Result<Duration> {
        let mut time = Duration::ZERO;
        for _ in 0..times {
            let begun = Instant::now();
            let pool = make()?;
            assert_eq!(call(&pool)?, 2);
            time += begun.elapsed();
        }
        Ok(time)
    }

    let mut contest = Contest::new(1, setting.pick(3.0, 15.0));
    contest.add_limited(OURS, 1, |times| {
        first_result(times, || Ok(Pool::new(2)?), |pool| Ok(pool.apply(add_one::call(1))?))
    });
    contest.add_limited(PROCSPAWN, 1, |times| {
        first_result(times, || Ok(::procspawn::Pool::new(2)?), |pool| Ok(pool.spawn(1, add_one).join()?))
    });
    add_python(&mut contest, &[MULTIPROCESSING, SPAWN, FUTURES], "start", 0)?;
    let mut empty = system::empty_program()?;
    contest.add_limited(EMPTY, 1, move |times| system::start_and_wait(&mut empty, times));
    contest.add_limited("true", 1, |times| system::start_and_wait(&mut Command::new("true"), times));
    let row = Row::of_contest("ms", &contest.run()?, Some(EMPTY), |seconds| seconds * 1e3);
    Ok(row.target([at_most(0.7, PROCSPAWN), absolute(Bound::AtMost, 2.5)]))
}
