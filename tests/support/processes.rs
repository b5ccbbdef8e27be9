//! What processes there are, and what they hold, as `/proc` says.

use pool_runtime::Pool;
use std::path::{Path, PathBuf};

/// The fields of `/proc/pid/stat` after the name, which may contain anything: the state, the parent's pid, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Is there such a process, dead or alive, that nobody has reaped?
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Is there such a process, and does it run? An orphan may stay a zombie for as long as whoever inherits it does not
/// reap it.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z" && fields[0] != "X")
}

/// The children of this process, the dead among them that nobody has reaped.
pub fn children() -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("/proc");
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parent = std::process::id().to_string();
    pids.filter(|pid| stat(*pid).is_some_and(|fields| fields[1] == parent)).collect()
}

/// The processes of a pool.
pub fn pids(pool: &Pool) -> Vec<u32> {
    pool.workers().iter().map(|worker| worker.pid).collect()
}

/// Sends a signal to a process. One that is to stop has stopped when this returns: a thread that waits for a processor
/// might otherwise go on for a while.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: no memory is involved.
    let sent = unsafe { libc::kill(pid as i32, signal) };
    assert_eq!(sent, 0, "signal {signal} to {pid}: {}", std::io::Error::last_os_error());
    if signal == libc::SIGSTOP {
        super::until("all threads have stopped", || {
            let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
            threads.flatten().all(|thread| {
                let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['T', 'Z', 'X']))
            })
        });
    }
}

/// Lets Ctrl-C end what this process starts: a shell that runs something in the background has it ignored there, and
/// all that is started from it inherits that.
pub fn can_be_interrupted() {
    // SAFETY: no handler is installed, and no memory involved.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
}

/// What the open descriptors of this process lead to.
pub fn descriptors() -> Vec<(i32, PathBuf)> {
    let list = std::fs::read_dir("/proc/self/fd").expect("/proc");
    let entries = list.filter_map(|entry| {
        let entry = entry.ok()?;
        // The list itself is one as well, and is closed by the time it is read.
        Some((entry.file_name().to_str()?.parse().ok()?, std::fs::read_link(entry.path()).ok()?))
    });
    entries.filter(|(_, path)| !path.ends_with("fd") || !path.starts_with("/proc")).collect()
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

/// A process that is stopped while the test needs it to be, whatever becomes of the test. It goes on when this is dropped.
pub struct Stopped(u32);

impl Stopped {
    pub fn new(pid: u32) -> Self {
        signal(pid, libc::SIGSTOP);
        Self(pid)
    }

    pub fn pid(&self) -> u32 {
        self.0
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: a system call on plain numbers; a child that nobody has reaped, or one that is gone.
        unsafe { libc::kill(self.0 as i32, libc::SIGCONT) };
    }
}
