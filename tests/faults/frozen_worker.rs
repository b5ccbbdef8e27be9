//! A worker that not even SIGKILL ends, as it is in a frozen cgroup: its call ends, its pool goes on with another worker,
//! and nobody waits for it. It dies when it is thawed.

use crate::support::{Signals, builder, count, is_alive, over_every_transport, pool, returns, until};
use pool_runtime::{Process, Ran, task};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

over_every_transport! {
    its_call_ends_and_its_pool_goes_on,
    it_is_not_tried_again_while_it_may_run,
    terminating_its_pool,
    dropping_its_pool,
}

const SHORT: Duration = Duration::from_secs(2);
const LATE: Duration = Duration::from_secs(20);

/// A process in a frozen cgroup of the first version: those of the second are killed all the same.
struct Frozen {
    group: PathBuf,
    pid: u32,
}

impl Frozen {
    /// None where there are no such cgroups, or they are not ours.
    fn new(pid: u32) -> Option<Self> {
        let group = PathBuf::from(format!("/sys/fs/cgroup/freezer/pool-test-{pid}"));
        if let Err(error) = std::fs::create_dir(&group) {
            eprintln!("skipped: {}: {error}", group.display());
            return None;
        }
        let frozen = Self { group, pid };
        std::fs::write(frozen.group.join("cgroup.procs"), pid.to_string()).expect("a cgroup of ours");
        frozen.set("FROZEN");
        until("it is frozen", || {
            std::fs::read_to_string(frozen.group.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
        });
        Some(frozen)
    }

    fn set(&self, state: &str) {
        std::fs::write(self.group.join("freezer.state"), state).expect("a cgroup of ours");
    }

    /// It has been killed, and dies as soon as it can.
    fn thaw(self) {
        assert!(is_alive(self.pid), "it is frozen");
        let pid = self.pid;
        drop(self);
        until("it is dead, and reaped", || !Path::new(&format!("/proc/{pid}")).exists());
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.set("THAWED");
        // Until it has left.
        until("its cgroup is removed", || {
            let _ = std::fs::write("/sys/fs/cgroup/freezer/cgroup.procs", self.pid.to_string());
            std::fs::remove_dir(&self.group).is_ok()
        });
    }
}

#[task]
fn hang(begun: &Path) {
    std::fs::write(begun.with_extension("pid"), std::process::id().to_string()).expect("a file");
    count(begun);
    loop {
        std::thread::park();
    }
}

#[task]
fn pid() -> u32 {
    std::process::id()
}

/// Freezes the worker that runs the call of this signal.
fn freeze(signals: &Signals) -> Option<Frozen> {
    signals.await_given("begun");
    Frozen::new(std::fs::read_to_string(signals.path("begun.pid")).expect("a file").parse().expect("a number"))
}

fn its_call_ends_and_its_pool_goes_on() {
    let (pool, signals) = (pool(1), Signals::new());
    let mut job = pool.apply_async(hang::call(&signals.path("begun")).timeout(SHORT));
    let begun = Instant::now();
    let Some(frozen) = freeze(&signals) else { return };
    let error = job.get_timeout(LATE).unwrap_err();
    assert!(error.is_timeout() && !error.is_pending() && error.ran() == Ran::Maybe, "{error}");
    assert!(begun.elapsed() < SHORT + Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(error.dossier().unwrap().pid(), frozen.pid);
    assert!(error.dossier().unwrap().to_string().contains("has not ended"), "{}", error.dossier().unwrap());
    let mut next = pool.apply_async(pid::call());
    assert_ne!(next.get_timeout(LATE).unwrap(), frozen.pid);
    frozen.thaw();
}

fn it_is_not_tried_again_while_it_may_run() {
    let pool = builder().processes(1).retries(3).build().unwrap();
    let signals = Signals::new();
    let mut job = pool.apply_async(hang::call(&signals.path("begun")).timeout(SHORT));
    let Some(frozen) = freeze(&signals) else { return };
    let error = job.get_timeout(LATE).unwrap_err();
    assert!(error.is_timeout() && !error.is_pending() && error.attempts() == 1, "{error}");
    assert_eq!(signals.counted("begun"), 1);
    frozen.thaw();
}

fn terminating_its_pool() {
    let (pool, signals) = (pool(2), Signals::new());
    let mut job = pool.apply_async(hang::call(&signals.path("begun")));
    let Some(frozen) = freeze(&signals) else { return };
    pool.terminate();
    assert!(job.get_timeout(Duration::ZERO).unwrap_err().is_closed());
    let begun = Instant::now();
    returns("join", move || pool.join()).unwrap();
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());
    frozen.thaw();
}

fn dropping_its_pool() {
    let (pool, signals) = (pool(1), Signals::new());
    let _job = pool.apply_async(hang::call(&signals.path("begun")));
    let Some(frozen) = freeze(&signals) else { return };
    let begun = Instant::now();
    returns("drop", move || drop(pool));
    assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());
    frozen.thaw();
}

#[test]
fn a_frozen_process_is_not_waited_for() {
    let signals = Signals::new();
    let process = Process::new(hang::call(&signals.path("begun")).timeout(SHORT)).start().unwrap();
    let Some(frozen) = freeze(&signals) else { return };
    let error = process.join_timeout(LATE).unwrap_err();
    assert!(error.is_timeout() && !error.is_pending(), "{error}");
    frozen.thaw();
}
