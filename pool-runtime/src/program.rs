//! What this program and this process are: the way in for workers, the mark that makes a process a worker, the
//! process's name and place in the tree.
//!
//! The only reader of the environment and of the command line.

use crate::{
    error::{Error, Kind, Result},
    protocol::Hello,
};
use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::fd::RawFd,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// The variable that makes a process a worker. It is removed before anything else happens there.
const MARK: &str = "POOL_RUNTIME_WORKER";

/// The variable that has a program run one call again, in place of all else: it names the file with the call.
const REPLAY: &str = "POOL_REPLAY";

/// With it, a call that ran in a sandbox is run again without: set to 1.
const UNCONFINED: &str = "POOL_REPLAY_UNCONFINED";

/// How many processes may stand between the first process and one that it led to.
pub(crate) const MAX_DEPTH: u32 = 16;

/// The descriptors that a worker is started with.
pub(crate) mod given {
    use super::RawFd;
    pub(crate) const READS: RawFd = 3;
    pub(crate) const WRITES: RawFd = 4;
    pub(crate) const STATUS: RawFd = 5;
    /// Where shared memory arrives.
    pub(crate) const PASSED: RawFd = 6;
    /// What comes behind those, where it is passed on, one after the other: the real standard output, where descriptor
    /// 1 is kept silent until the worker is in; the memory of the rings, and the bells.
    pub(crate) const MORE: RawFd = 7;
}

// ---- the way in ----

/// How a process started from this binary gets to the worker's loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WayIn {
    /// Through `main`, which calls `enter`.
    Main,
    /// Through a hidden test, as `main` belongs to the test harness.
    Test {
        /// The test's full name.
        name: String,
    },
}

/// What `pool_main!();` registers in a test program: the module in which it stands.
#[derive(Debug)]
pub struct TestEntry(pub &'static str);

inventory::collect!(TestEntry);

/// The name of the hidden test.
const HIDDEN_TEST: &str = "pool_main_way_in_for_workers";

static ENTERED: OnceLock<()> = OnceLock::new();

/// Notes that `main` leads workers to their loop.
pub(crate) fn entered() {
    let _ = ENTERED.set(());
}

/// The way in, if there is one.
pub(crate) fn way_in() -> Result<WayIn> {
    // In a test program `main` is the harness's, whoever calls `enter`.
    let Some(entry) = inventory::iter::<TestEntry>.into_iter().next() else {
        return ENTERED.get().map(|()| WayIn::Main).ok_or_else(|| Error::new(Kind::NoEntry));
    };
    // The harness names tests by their path inside the crate.
    let name = match entry.0.split_once("::") {
        Some((_, module)) => format!("{module}::{HIDDEN_TEST}"),
        None => HIDDEN_TEST.to_owned(),
    };
    Ok(WayIn::Test { name })
}

impl WayIn {
    /// The command line of a worker.
    pub(crate) fn args(&self) -> Vec<OsString> {
        let own = std::env::args_os();
        match self {
            Self::Main => own.collect(),
            Self::Test { name } => {
                own.take(1).chain(["--exact", name, "--nocapture", "--test-threads=1"].map(OsString::from)).collect()
            }
        }
    }
}

/// The environment of a worker: ours, with changes, and with its mark.
pub(crate) fn environment(changes: &[(OsString, Option<OsString>)], mark: &Mark) -> Vec<(OsString, OsString)> {
    let changed = |name: &OsStr| name == MARK || name == REPLAY || changes.iter().any(|(changed, _)| changed == name);
    std::env::vars_os()
        .filter(|(name, _)| !changed(name))
        .chain(changes.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))))
        .chain([(MARK.into(), mark.to_string().into())])
        .collect()
}

// ---- the mark ----

/// What the variable says: whose worker it is, and by which socket it can be sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) parent: u32,
    /// The inode of the socket at [`given::READS`].
    pub(crate) socket: u64,
    /// Is the standard output passed on, from [`given::MORE`] on?
    pub(crate) silenced: bool,
    /// Are rings passed on, behind that?
    pub(crate) rings: bool,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.parent, self.socket, u8::from(self.silenced), u8::from(self.rings))
    }
}

impl Mark {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mark = Self {
            parent: parts.next()?.parse().ok()?,
            socket: parts.next()?.parse().ok()?,
            silenced: parts.next()? == "1",
            rings: parts.next()? == "1",
        };
        parts.next().is_none().then_some(mark)
    }
}

/// What the environment says this process is.
#[derive(Debug)]
pub(crate) enum Marked {
    /// An ordinary process.
    No,
    /// A worker.
    Worker(Mark),
    /// A worker whose mark cannot be read.
    Damaged(OsString),
}

/// Reads the mark and removes it, so that no process started from here takes it for its own.
pub(crate) fn take_mark() -> Marked {
    let Some(value) = std::env::var_os(MARK) else { return Marked::No };
    crate::os::remove_variable(MARK);
    match value.to_str().and_then(Mark::parse) {
        Some(mark) => Marked::Worker(mark),
        None => Marked::Damaged(value),
    }
}

/// The file whose call is to be run again, if one is, and whether that is to be without the sandbox in which it ran. It
/// is read once.
pub(crate) fn take_replay() -> Option<(PathBuf, bool)> {
    let file = std::env::var_os(REPLAY)?;
    let unconfined = std::env::var_os(UNCONFINED).is_some_and(|value| value == "1");
    crate::os::remove_variable(REPLAY);
    crate::os::remove_variable(UNCONFINED);
    // Whoever starts a program that has more rights than they, gives it no orders.
    (!crate::os::has_more_rights()).then(|| (file.into(), unconfined))
}

/// What to type to have the call in a file run again.
pub(crate) fn replay_command(file: &Path) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "the program".into());
    let mut command = format!("{REPLAY}={} {}", quoted(file), quoted(&program));
    if let Ok(way_in @ WayIn::Test { .. }) = way_in() {
        for argument in way_in.args().iter().skip(1) {
            command.push(' ');
            command.push_str(&quoted(Path::new(argument)));
        }
    }
    command
}

/// As a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

// ---- the build ----

/// The file that this process runs: device and inode. The kernel refuses to write to it while it runs, so that two
/// processes of one file are of one build.
pub(crate) fn file() -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    static FILE: OnceLock<(u64, u64)> = OnceLock::new();
    *FILE.get_or_init(|| {
        let running = crate::os::program_path().and_then(std::fs::metadata);
        running.map_or((0, 0), |running| (running.dev(), running.ino()))
    })
}

/// A hash of the content of that file; None if it cannot be read any more.
pub(crate) fn build() -> Option<u64> {
    use std::io::Read;
    static BUILD: OnceLock<Option<u64>> = OnceLock::new();
    *BUILD.get_or_init(|| {
        let mut file = std::fs::File::open(crate::os::program_path().ok()?).ok()?;
        let mut hash = crate::hash::Fnv::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).ok()? {
                0 => return Some(hash.finish()),
                length => hash.write_words(&buffer[..length]),
            }
        }
    })
}

// ---- the process ----

/// A process of the tree that this library started, as that process or its child sees it.
///
/// ```
/// # use pool_runtime::{Process, Result, current_process, enter, task};
/// #[task]
/// fn introduce_yourself() -> (String, bool) {
///     (current_process().name().to_owned(), current_process().daemon())
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let process = Process::new(introduce_yourself::call()).name("crawler").start()?;
///     assert_eq!(process.join()?, ("crawler".to_owned(), false));
///     assert_eq!(current_process().name(), "MainProcess");
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    name: String,
    pid: u32,
    daemon: bool,
}

impl ProcessInfo {
    /// The name that it was started with; `MainProcess` for the first one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Was it started as a daemonic process, which ends when its parent's `main` returns?
    pub fn daemon(&self) -> bool {
        self.daemon
    }
}

struct Identity {
    own: ProcessInfo,
    parent: Option<ProcessInfo>,
    identity: String,
    depth: u32,
    confined: bool,
}

static IDENTITY: OnceLock<Identity> = OnceLock::new();

fn identity() -> &'static Identity {
    IDENTITY.get_or_init(|| Identity {
        own: ProcessInfo { name: "MainProcess".into(), pid: std::process::id(), daemon: false },
        parent: None,
        identity: String::new(),
        depth: 0,
        confined: false,
    })
}

/// This process was greeted: from now on it is what the parent says.
pub(crate) fn become_worker(hello: &Hello) {
    let own = ProcessInfo { name: hello.name.clone(), pid: std::process::id(), daemon: hello.daemon };
    let parent =
        ProcessInfo { name: hello.parent_name.clone(), pid: std::os::unix::process::parent_id(), daemon: false };
    let _ = IDENTITY.set(Identity {
        own,
        parent: Some(parent),
        identity: hello.identity.clone(),
        depth: hello.depth,
        confined: hello.confinement.is_some(),
    });
}

/// This process, as the one who started it named it.
pub fn current_process() -> &'static ProcessInfo {
    &identity().own
}

/// The process that started this one, if this library did; `None` in the first process.
pub fn parent_process() -> Option<&'static ProcessInfo> {
    identity().parent.as_ref()
}

/// How many processes stand between the first one and this one.
pub(crate) fn depth() -> u32 {
    identity().depth
}

/// Was this process put into a sandbox?
pub(crate) fn is_confined() -> bool {
    identity().confined
}

/// The place in the tree of the next child.
pub(crate) fn next_identity() -> String {
    static CHILDREN: AtomicU64 = AtomicU64::new(0);
    let number = CHILDREN.fetch_add(1, Ordering::Relaxed) + 1;
    match identity().identity.as_str() {
        "" => number.to_string(),
        parent => format!("{parent}:{number}"),
    }
}

pub(crate) fn process_info(name: String, pid: u32, daemon: bool) -> ProcessInfo {
    ProcessInfo { name, pid, daemon }
}

/// How many processors this process may use: the machine's, less what its CPU affinity or its cgroup's quota forbid.
///
/// This is how many workers a [`Pool`](crate::Pool) has if nobody says otherwise. At least 1.
pub fn cpu_count() -> usize {
    crate::os::cpu_count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/tmp/a-b.c")), "/tmp/a-b.c");
        assert_eq!(quoted(Path::new("a b")), "'a b'");
        assert_eq!(quoted(Path::new("it's")), "'it'\\''s'");
        assert_eq!(quoted(Path::new("")), "''");
    }

    #[test]
    fn a_mark_is_read_back() {
        let mark = Mark { parent: 17, socket: u64::MAX, silenced: true, rings: false };
        assert_eq!(Mark::parse(&mark.to_string()), Some(mark));
        for damaged in ["", "1:2", "1:2:1", "1:2:1:0:4", "a:b:c:d", "-1:2:1:0"] {
            assert_eq!(Mark::parse(damaged), None, "{damaged}");
        }
    }
}
