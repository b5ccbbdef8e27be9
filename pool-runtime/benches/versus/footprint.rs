//! What a pool takes while nothing happens: time of a processor, memory, descriptors.

use crate::{
    Result, Setting,
    latency::PROCSPAWN,
    peers::{
        procspawn,
        python::{MULTIPROCESSING, Python},
        system::{self, Empty},
    },
    table::{Bound, Row, absolute},
    work::{add_one, nap, wait_for},
};
use pool_runtime::{Pool, Process, task};
use std::{thread, time::Duration};

/// What was busy at the start has gone to sleep.
const SETTLED: Duration = Duration::from_millis(500);

/// A pool all of whose workers have run something.
fn used_pool(processes: usize) -> Result<Pool> {
    let pool = Pool::new(processes)?;
    for _ in 0..100 {
        let naps: Vec<_> = (0..processes).map(|_| pool.apply_async(nap::call())).collect();
        naps.into_iter().try_for_each(|nap| nap.get())?;
        if pool.workers().iter().all(|worker| worker.jobs_done > 0) {
            return Ok(pool);
        }
    }
    Err("there are workers that never get any work".into())
}

fn pids(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|worker| worker.pid).collect()
}

/// What the parent and the workers use together, in milliseconds for ten seconds.
pub fn idle(setting: &Setting) -> Result<Row> {
    const WORKERS: usize = 8;
    let period = Duration::from_secs(setting.pick(3, 10));
    let used = |pids: &[u32]| -> Result<f64> {
        Ok(pids.iter().map(|pid| system::cpu_time(*pid)).sum::<Result<Duration>>()?.as_secs_f64())
    };
    let scale = 1e3 * 10.0 / period.as_secs_f64();
    let itself = std::process::id();

    // Python's pool is idle at the same time, in other processes.
    let mut python = Python::start(MULTIPROCESSING, WORKERS)?;
    let mut theirs = Vec::new();
    if let Some(python) = &mut python {
        python.ask("ready", 1, 0)?;
        theirs = system::children(python.pid())?;
        theirs.push(python.pid());
    }
    let pool = used_pool(WORKERS)?;
    let ours = [pids(&pool), vec![itself]].concat();
    thread::sleep(SETTLED);
    let before = (used(&ours)?, used(&theirs)?);
    thread::sleep(period);
    let after = (used(&ours)?, used(&theirs)?);
    drop((pool, python));

    let strangers = system::children(itself)?;
    let pool = procspawn::pool(WORKERS)?;
    let mut spawned = system::children(itself)?;
    spawned.retain(|pid| !strangers.contains(pid));
    spawned.push(itself);
    thread::sleep(SETTLED);
    let spawned_before = used(&spawned)?;
    thread::sleep(period);
    let spawned_after = used(&spawned)?;
    drop(pool);

    let row = Row::new("ms", (after.0 - before.0) * scale)
        .peer(MULTIPROCESSING, (!theirs.is_empty()).then_some((after.1 - before.1) * scale))
        .peer(PROCSPAWN, Some((spawned_after - spawned_before) * scale));
    Ok(row.target([absolute(Bound::AtMost, 1.0)]))
}

/// By how many bytes memory grows for each waiting job, with its handle, and by how many descriptors for all of them.
/// It is run in a process of its own, whose memory no other measure has used before.
#[task]
fn growth(jobs: u64) -> Result<(f64, f64), String> {
    measure_growth(jobs).map_err(|error| error.to_string())
}

fn measure_growth(count: u64) -> Result<(f64, f64)> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("go");
    let pool = used_pool(2)?;
    let name = file.to_str().ok_or("the directory's name is not text")?;
    let keepers = [pool.apply_async(wait_for::call(name)), pool.apply_async(wait_for::call(name))];
    thread::sleep(SETTLED);
    let mut jobs = Vec::with_capacity(count as usize);
    let (memory, descriptors) = (system::resident_memory()?, system::open_descriptors()?);
    for n in 0..count {
        jobs.push(pool.apply_async(add_one::call(n)));
    }
    thread::sleep(SETTLED);
    let grown = system::resident_memory()? as f64 - memory as f64;
    let opened = system::open_descriptors()? as f64 - descriptors as f64;
    if jobs.iter().any(|job| job.is_ready()) {
        return Err("jobs have run that should have waited".into());
    }
    std::fs::write(&file, "")?;
    for keeper in keepers {
        keeper.get()?;
    }
    for (n, job) in jobs.into_iter().enumerate() {
        assert_eq!(job.get()?, n as u64 + 1);
    }
    Ok((grown / count as f64, opened))
}

pub fn waiting_jobs(setting: &Setting) -> Result<Row> {
    let (bytes, descriptors) = Process::new(growth::call(setting.pick(200_000, 1_000_000))).start()?.join()??;
    let theirs = Python::start(MULTIPROCESSING, 2)?
        .map(|mut python| python.ask("memory_per_job", setting.pick(20_000, 200_000), 0))
        .transpose()?;
    let row = Row::new("B", bytes).peer(MULTIPROCESSING, theirs);
    // Some may be opened for all of them together.
    let row = row.condition("no descriptor each", descriptors < 100.0);
    Ok(row.target([absolute(Bound::AtMost, 256.0)]))
}

/// The largest of the workers, after each has run something.
pub fn worker(_: &Setting) -> Result<Row> {
    let largest = |pids: &[u32]| -> Result<Option<f64>> {
        let memory = pids.iter().map(|pid| system::private_memory(*pid)).collect::<Result<Vec<_>>>()?;
        Ok(memory.into_iter().max().map(|bytes| bytes as f64 / f64::from(1 << 20)))
    };
    let pool = used_pool(2)?;
    let ours = pids(&pool);
    let mut python = Python::start(MULTIPROCESSING, 2)?;
    let mut theirs = Vec::new();
    if let Some(python) = &mut python {
        python.ask("ready", 1, 0)?;
        theirs = system::children(python.pid())?;
    }
    let known = system::children(std::process::id())?;
    let spawner = procspawn::pool(2)?;
    let mut spawned = system::children(std::process::id())?;
    spawned.retain(|pid| !known.contains(pid));
    let empty = Empty::start()?;
    thread::sleep(SETTLED);
    let row = Row::new("MiB", largest(&ours)?.ok_or("no workers")?)
        .peer(MULTIPROCESSING, largest(&theirs)?)
        .peer(PROCSPAWN, largest(&spawned)?)
        .limit("empty program", largest(&[empty.pid()])?.ok_or("no process")?);
    drop(spawner);
    Ok(row.target([absolute(Bound::AtMost, 3.0)]))
}
