//! How fast large values travel.

use crate::{
    Result, Setting,
    contest::Contest,
    latency::{PROCSPAWN, add_python, timed},
    peers::{
        procspawn,
        python::{FUTURES, MULTIPROCESSING},
        system::Copy,
    },
    table::{Bound, OURS, Row, absolute, at_least},
    work::{echo as echo_task, ends, owned_ends},
};
use pool_runtime::Pool;
use std::time::Duration;

const SIZE: usize = 64 << 20;
const MEMCPY: &str = "memcpy";

/// One call takes long here, and a quick run leaves out whom no target names.
fn pythons(setting: &Setting) -> &'static [&'static str] {
    setting.pick(&[MULTIPROCESSING], &[MULTIPROCESSING, FUTURES])
}

/// Each way counts. What comes back is sent the next time: nobody has to make a copy for it.
pub fn echo(setting: &Setting) -> Result<Row> {
    let (pool, theirs) = (Pool::new(2)?, procspawn::pool(2)?);
    let (mut ours, mut other, mut copy) = (vec![1; SIZE], vec![1; SIZE], Copy::new(SIZE));
    let mut contest = Contest::new(1, setting.pick(2.0, 15.0));
    contest.add(OURS, |times| {
        timed(|| {
            for _ in 0..times {
                ours = pool.apply(echo_task::call(std::mem::take(&mut ours)))?;
                assert_eq!(ours.len(), SIZE);
            }
            Ok(())
        })
    });
    // Unoptimised, its serialization takes half a minute.
    if !cfg!(debug_assertions) {
        contest.add(PROCSPAWN, |times| {
            timed(|| {
                for _ in 0..times {
                    other = theirs.spawn(std::mem::take(&mut other), echo_task).join()?;
                    assert_eq!(other.len(), SIZE);
                }
                Ok(())
            })
        });
    }
    add_python(&mut contest, pythons(setting), "echo", SIZE as u64)?;
    contest.add(MEMCPY, |times| Ok(2 * copy.copy(times)?));
    let row = Row::of_contest("GB/s", &contest.run()?, Some(MEMCPY), |seconds| 2.0 * SIZE as f64 / seconds / 1e9);
    Ok(row.target([at_least(15.0, MULTIPROCESSING), absolute(Bound::AtLeast, 4.0)]))
}

pub fn lend(setting: &Setting) -> Result<Row> {
    let (pool, theirs) = (Pool::new(2)?, procspawn::pool(2)?);
    let (numbers, mut copy) = (vec![0.5; SIZE / size_of::<f64>()], Copy::new(SIZE));
    let mut contest = Contest::new(1, setting.pick(2.0, 15.0));
    contest.add(OURS, |times| {
        timed(|| {
            for _ in 0..times {
                assert_eq!(pool.apply(ends::call(&numbers))?, 1.0);
            }
            Ok(())
        })
    });
    if !cfg!(debug_assertions) {
        contest.add(PROCSPAWN, |times| {
            let mut time = Duration::ZERO;
            for _ in 0..times {
                // It cannot lend. The copy that it takes is not counted.
                let owned = numbers.clone();
                time += timed(|| {
                    assert_eq!(theirs.spawn(owned, owned_ends).join()?, 1.0);
                    Ok(())
                })?;
            }
            Ok(time)
        });
    }
    add_python(&mut contest, pythons(setting), "lend", numbers.len() as u64)?;
    contest.add(MEMCPY, |times| copy.copy(times));
    let row = Row::of_contest("GB/s", &contest.run()?, Some(MEMCPY), |seconds| SIZE as f64 / seconds / 1e9);
    Ok(row.target([absolute(Bound::AtLeast, 5.0)]))
}
