//! What the tests of pools share: where their pools come from, how tasks and tests wait for each other, and how to count
//! what a process holds.

#![allow(dead_code, reason = "each test uses a part of this")]

use pool_runtime::{Pool, PoolBuilder};
use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long anything may take before a test says that it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Every pool of these tests is made from this: the one place to choose a transport.
pub fn builder() -> PoolBuilder {
    Pool::builder()
}

/// A pool of `processes` workers.
pub fn pool(processes: usize) -> Pool {
    builder().processes(processes).build().expect("a pool")
}

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `work` on a thread and returns its value; panics if it hangs.
#[track_caller]
pub fn returns<R: Send + 'static>(what: &str, work: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Signals between tasks and tests: files that appear, and files that grow by a line.
pub struct Signals(tempfile::TempDir);

impl Signals {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// The file of a signal, to be given to a task.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn give(&self, name: &str) {
        give(&self.path(name));
    }

    pub fn await_given(&self, name: &str) {
        await_given(&self.path(name));
    }

    /// How often a signal was [counted](count).
    pub fn counted(&self, name: &str) -> usize {
        std::fs::read(self.path(name)).map_or(0, |lines| lines.len())
    }
}

/// Gives a signal.
pub fn give(signal: &Path) {
    std::fs::write(signal, ".").expect("a signal");
}

/// Waits until a signal was given or counted.
#[track_caller]
pub fn await_given(signal: &Path) {
    // A file that is still empty belongs to somebody who may yet be killed before it counts.
    let given = || std::fs::metadata(signal).is_ok_and(|file| file.len() > 0);
    until(&format!("{} given", signal.display()), given);
}

/// Adds one to a signal's count, whatever process or thread others count in.
pub fn count(signal: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(signal).expect("a count");
    file.write_all(b".").expect("a count");
}

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count() - 1
}

/// The processes whose parent is this one, the dead among them that nobody has reaped.
pub fn children() -> Vec<u32> {
    children_of(std::process::id())
}

pub fn children_of(parent: u32) -> Vec<u32> {
    let parent_of = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may contain anything.
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let all = std::fs::read_dir("/proc").expect("/proc");
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// Does the process exist, alive or as a zombie?
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The bytes of memory in which the process has data of its own.
pub fn memory(pid: u32) -> usize {
    status(pid, "RssAnon:") * 1024
}

/// How many threads this process has.
pub fn threads() -> usize {
    status(std::process::id(), "Threads:")
}

fn status(pid: u32, field: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect(field);
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect(field)
}
