//! Parts of the scenarios: a program with busy and idle workers that signals come to.

use super::{finish_when_told, pool, say, spin_forever, wait_for, wait_forever, write};
use pool_runtime::{Pool, Process, Result, WorkerInfo, WorkerState, task};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

static SEEN: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32) {
    SEEN.fetch_add(1, Ordering::Relaxed);
}

/// The user's own handler, without SA_RESTART.
fn handle(signal: i32) {
    // SAFETY: the handler only touches an atomic; the structure is initialised.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as extern "C" fn(i32) as usize;
        assert_eq!(libc::sigaction(signal, &raw const action, std::ptr::null_mut()), 0);
    }
}

/// Returns when as many workers as there are of them run it at the same time.
#[task]
pub(super) fn meet(directory: PathBuf, own: u32, count: u32) -> u32 {
    write(&directory.join(format!("met-{own}")), "here");
    (0..count).for_each(|other| wait_for(&directory.join(format!("met-{other}"))));
    std::process::id()
}

fn pids(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|worker| worker.pid).collect()
}

fn both_ready(pool: &Pool) {
    let starts = |worker: &WorkerInfo| worker.state == WorkerState::Starting;
    while pool.workers().len() < 2 || pool.workers().iter().any(starts) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One worker computes, one sleeps in its task, of another pool both are idle, and a process waits.
pub(super) fn unhandled(directory: &Path) -> Result<()> {
    let [busy, idle] = [pool(2)?, pool(2)?];
    let process = Process::new(wait_forever::call(directory.join("process"))).start()?;
    let spins = busy.apply_async(spin_forever::call(directory.join("spins")));
    let waits = busy.apply_async(wait_forever::call(directory.join("waits")));
    ["process", "spins", "waits"].iter().for_each(|name| wait_for(&directory.join(name)));
    both_ready(&idle);
    say("ready");
    let ended = [spins.get(), waits.get(), process.join()];
    panic!("{ended:?}");
}

/// Goes on until the file `go` is there, counting the signals that came.
pub(super) fn handled(directory: &Path, signal: i32) -> Result<()> {
    handle(signal);
    let pool = pool(2)?;
    let job = pool.apply_async(finish_when_told::call(directory.to_owned()));
    wait_for(&directory.join("started"));
    both_ready(&pool);
    let before = pids(&pool);
    say("ready");
    while SEEN.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    say("seen");
    // The call that was running, and then one in each worker.
    job.get()?;
    let jobs: Vec<_> = (0..2).map(|own| pool.apply_async(meet::call(directory.to_owned(), own, 2))).collect();
    let mut met: Vec<u32> = jobs.into_iter().map(|job| job.get()).collect::<Result<_>>()?;
    let mut all = before.clone();
    met.sort_unstable();
    all.sort_unstable();
    assert_eq!((met, pids(&pool)), (all, before), "no worker was replaced");
    pool.close();
    pool.join()?;
    say("done");
    Ok(())
}
