//! Parts of the scenarios: a program that forks when it has a pool, a job and a process.

use super::{builder, say, twice, wait_for, write};
use pool_runtime::{Error, Pool, Process, Result, active_children, current_process, task};
use std::{path::Path, time::Duration};

/// More than fits into a ring or a packet: it travels in memory of its own.
const LARGE: usize = 4 << 20;

#[task]
fn length(bytes: &[u8]) -> usize {
    bytes.len()
}

#[task]
fn wait(go: &Path) -> u32 {
    wait_for(go);
    std::process::id()
}

#[task]
fn abort() {
    std::process::abort();
}

fn refused<T>(what: &str, maker: u32, result: Result<T>) {
    let error: Error = result.err().unwrap_or_else(|| panic!("{what} is possible in a fork"));
    let text = error.to_string();
    let expected = format!("belongs to process {maker}, and this is process {}", std::process::id());
    assert!(text.contains(&expected) && text.contains("after the fork"), "{what}: {text}");
}

/// All that works in a process which has a pool of its own.
fn works(pool: &Pool) -> Result<()> {
    assert_eq!(pool.map(twice::call, 0..1000)?.len(), 1000);
    assert_eq!(pool.apply(length::call(&vec![1; LARGE]))?, LARGE);
    assert!(pool.apply(abort::call()).unwrap_err().is_worker_lost());
    let process = Process::new(twice::call(21)).start()?;
    assert_eq!(process.join()?, 42);
    Ok(())
}

pub(super) fn after_the_pool(directory: &Path) -> Result<()> {
    let (maker, go) = (std::process::id(), directory.join("go"));
    let pool = builder().processes(2).build()?;
    works(&pool)?;
    let mut job = pool.apply_async(wait::call(&go));
    let process = Process::new(wait::call(&go)).start()?;
    let worker = |pool: &Pool| pool.workers().iter().map(|worker| worker.pid).collect::<Vec<_>>();
    let before = worker(&pool);
    assert_eq!(before.len(), 2);
    // The look-ahead is full when the child asks for more.
    let mut begun = pool.imap(twice::call, 0..1000).look_ahead(8);
    assert_eq!(begun.next().expect("a result")?, 0);
    // SAFETY: this thread holds no lock, and nothing that the child does needs one that another thread may hold.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let mut results = pool.imap(twice::call, 0..3);
        refused("imap", maker, results.next().expect("an error"));
        drop(results);
        refused("imap that had begun", maker, begun.next().expect("an error"));
        assert!(begun.next().is_none() && begun.next_timeout(Duration::ZERO).is_none());
        drop(begun);
        refused("apply", maker, pool.apply(twice::call(1)));
        refused("apply_async", maker, pool.apply_async(twice::call(1)).get());
        refused("map", maker, pool.map(twice::call, 0..3));
        refused("map_async", maker, pool.map_async(twice::call, 0..3).get());
        refused("join", maker, pool.join());
        refused("get_timeout", maker, job.get_timeout(Duration::from_secs(60)));
        assert!(!job.wait(Duration::from_secs(60)) && !job.is_ready() && !job.cancel());
        assert_eq!(job.is_successful(), None);
        refused("get", maker, job.on_done(|_| unreachable!("it ends elsewhere")).get());
        refused("join of a process", maker, process.join());
        refused("kill of a process", maker, process.kill());
        assert!(process.is_alive() && process.exit_code().is_none());
        let process = process.on_done(|result| assert!(result.is_err(), "it ends elsewhere"));
        assert!(active_children().is_empty() && pool.workers().is_empty());
        assert_eq!(current_process().pid(), std::process::id());
        pool.close();
        pool.terminate();
        drop((pool, process));
        let own = builder().processes(2).build()?;
        works(&own)?;
        drop(own);
        say("the child has its own");
        return Ok(());
    }
    let mut status = 0;
    // SAFETY: the pointer is that of a number.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child ended well");
    assert_eq!(worker(&pool), before, "no worker was lost");
    assert!(!job.is_ready() && process.is_alive());
    write(&go, "go");
    assert!(before.contains(&job.get()?));
    assert_eq!(process.join()?, process.pid());
    assert_eq!(begun.collect::<Result<Vec<_>>>()?, (1..1000).map(|n| 2 * n).collect::<Vec<_>>());
    works(&pool)?;
    say("the parent goes on");
    Ok(())
}
