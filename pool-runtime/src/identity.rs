//! What this process is: its name and place in the tree of processes, and the file and build of its program.

use crate::authkey;
#[cfg(feature = "connection")]
use crate::authkey::AuthKey;
use crate::error::{Error, Result};
use crate::hash::Fnv;
use crate::locks::lock;
use crate::os::{self, Child};
use crate::protocol::Hello;
use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// How deeply processes may be nested.
pub(crate) const MAX_DEPTH: u32 = 16;

/// The device and inode of the file that this process runs. The kernel refuses to write to it while it runs, so two
/// processes of one file are of one build.
pub(crate) fn file() -> (u64, u64) {
    static FILE: OnceLock<(u64, u64)> = OnceLock::new();
    *FILE.get_or_init(|| os::program_path().and_then(|path| os::file_id(&path)).unwrap_or((0, 0)))
}

/// A hash of the content of that file; None if it cannot be read.
pub(crate) fn build() -> Option<u64> {
    static BUILD: OnceLock<Option<u64>> = OnceLock::new();
    *BUILD.get_or_init(|| {
        let mut file = File::open(os::program_path().ok()?).ok()?;
        let mut hash = Fnv::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).ok()? {
                0 => return Some(hash.finish()),
                length => hash.write_words(&buffer[..length]),
            }
        }
    })
}

/// The name, pid and kind of a process that this library started, or of the first one.
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
#[derive(Clone, Debug)]
pub struct ProcessInfo {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) daemon: bool,
    pub(crate) kinship: Kinship,
}

/// What a process is to this one, and so how its end is seen.
#[derive(Clone, Debug)]
pub(crate) enum Kinship {
    Itself,
    Parent(MadeIn),
    Child(Arc<Child>, MadeIn),
}

impl PartialEq for ProcessInfo {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.pid, self.daemon) == (&other.name, other.pid, other.daemon)
    }
}

impl Eq for ProcessInfo {}

impl ProcessInfo {
    /// The name; `MainProcess` for the first process.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it is daemonic: it ends when its parent's `main` returns.
    pub fn daemon(&self) -> bool {
        self.daemon
    }

    /// The key by which this process's [connections](crate::connection) are authenticated: see [`AuthKey::current`].
    ///
    /// # Errors
    ///
    /// The system gives no random bytes; or this is another process, whose key nobody but itself knows.
    ///
    /// ```
    /// # use pool_runtime::{Process, Result, current_process, enter, task};
    /// #[task]
    /// fn key() -> Vec<u8> {
    ///     current_process().authkey().expect("a key").as_bytes().to_vec()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let of_child = Process::new(key::call()).start()?.join()?;
    ///     assert_eq!(of_child, current_process().authkey()?.as_bytes());
    ///     Ok(())
    /// }
    /// ```
    #[cfg(feature = "connection")]
    pub fn authkey(&self) -> Result<AuthKey> {
        match self.kinship {
            Kinship::Itself => AuthKey::current(),
            Kinship::Parent(_) | Kinship::Child(..) => Err(Error::invalid(format!(
                "cannot tell the key of process `{}` ({}): a process knows only its own, `current_process().authkey()`",
                self.name, self.pid
            ))),
        }
    }

    /// Whether it still runs. True in a forked child, which is no relative.
    pub fn is_alive(&self) -> bool {
        self.check_waits().is_err() || !self.has_ended_within(Some(Duration::ZERO))
    }

    /// Waits until the process has ended: the one that started this one ([`parent_process`]), or one that this one has
    /// started ([`active_children`](crate::active_children)).
    ///
    /// A process of this library ends when its parent does, whatever it is doing. So with the parent this is a way to
    /// serve for as long as that lives, and it returns only if the process outlives it for a moment. To look in between,
    /// use [`wait_timeout`](Self::wait_timeout).
    ///
    /// # Errors
    ///
    /// It is this process, or the process was forked from the one that is its relative.
    ///
    /// ```
    /// # use pool_runtime::{Process, Result, active_children, enter, parent_process, task};
    /// # use std::time::Duration;
    /// #[task]
    /// fn work_until_the_parent_ends() -> Result<bool, String> {
    ///     let parent = parent_process().ok_or("it was not started by this library")?;
    ///     // In a program: `while !parent.wait_timeout(…) { … }`.
    ///     parent.wait_timeout(Duration::from_millis(10)).map_err(|error| error.to_string())
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let process = Process::new(work_until_the_parent_ends::call()).start()?;
    ///     for child in active_children() {
    ///         child.wait()?;
    ///     }
    ///     assert_eq!(process.join()?, Ok(false));
    ///     Ok(())
    /// }
    /// ```
    pub fn wait(&self) -> Result<()> {
        self.check_waits()?;
        while !self.has_ended_within(None) {}
        Ok(())
    }

    /// As [`wait`](Self::wait), but for at most `patience`. Returns whether the process has ended.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, patience: Duration) -> Result<bool> {
        self.check_waits()?;
        Ok(self.has_ended_within(Some(patience)))
    }

    fn check_waits(&self) -> Result<()> {
        match &self.kinship {
            Kinship::Itself => Err(Error::invalid(format!(
                "cannot wait for the end of process `{}` ({}): it is this process itself",
                self.name, self.pid
            ))),
            Kinship::Parent(made_in) | Kinship::Child(_, made_in) => made_in.check("process"),
        }
    }

    fn has_ended_within(&self, patience: Option<Duration>) -> bool {
        match &self.kinship {
            Kinship::Itself => false,
            Kinship::Parent(_) => os::await_parent(self.pid, patience),
            Kinship::Child(child, _) => child.wait_timeout(patience),
        }
    }
}

/// The process that made something which is of no use in a forked child: its threads, and what they watch, are missing
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MadeIn(u32);

impl MadeIn {
    pub(crate) fn this_process() -> Self {
        Self(os::current_pid())
    }

    #[inline]
    pub(crate) fn is_here(self) -> bool {
        self.0 == os::current_pid()
    }

    /// An error in a forked child, where `what` is of no use.
    #[inline]
    pub(crate) fn check(self, what: &str) -> Result<()> {
        if self.is_here() { Ok(()) } else { Err(self.refusal(what)) }
    }

    #[cold]
    fn refusal(self, what: &str) -> Error {
        let (maker, own) = (self.0, os::current_pid());
        Error::invalid(format!(
            "this {what} belongs to process {maker}, and this is process {own}, which was forked from it: make the {what} \
             after the fork"
        ))
    }
}

/// What the parent says of this process.
pub(crate) struct Identity {
    own: ProcessInfo,
    parent: Option<ProcessInfo>,
    /// Its place in the tree, as in `2:1`.
    path: String,
    /// How many processes stand between the first one and this one.
    pub(crate) depth: u32,
    /// Whether it is in a sandbox.
    pub(crate) confined: bool,
}

static IDENTITY: OnceLock<Identity> = OnceLock::new();

pub(crate) fn identity() -> &'static Identity {
    IDENTITY.get_or_init(|| Identity {
        own: ProcessInfo {
            name: "MainProcess".into(),
            pid: std::process::id(),
            daemon: false,
            kinship: Kinship::Itself,
        },
        parent: None,
        path: String::new(),
        depth: 0,
        confined: false,
    })
}

/// Takes the key out of the greeting.
pub(crate) fn become_worker(hello: &mut Hello) {
    if let Some(key) = hello.authkey.take() {
        authkey::inherit(key);
    }
    let (daemon, kinship) = (hello.daemon, Kinship::Itself);
    let own = ProcessInfo { name: hello.name.clone(), pid: std::process::id(), daemon, kinship };
    let (pid, kinship) = (os::parent_pid(), Kinship::Parent(MadeIn::this_process()));
    let parent = ProcessInfo { name: hello.parent_name.clone(), pid, daemon: false, kinship };
    let _ = IDENTITY.set(Identity {
        own,
        parent: Some(parent),
        path: hello.identity.clone(),
        depth: hello.depth,
        confined: hello.confinement.is_some(),
    });
}

/// This process.
pub fn current_process() -> &'static ProcessInfo {
    let own = &identity().own;
    if own.pid == os::current_pid() { own } else { forked(own) }
}

/// A forked child has the name of its parent.
#[cold]
fn forked(maker: &ProcessInfo) -> &'static ProcessInfo {
    static FORKED: Mutex<Option<&ProcessInfo>> = Mutex::new(None);
    let (mut forked, pid) = (lock(&FORKED), os::current_pid());
    match *forked {
        Some(own) if own.pid == pid => own,
        _ => forked.insert(Box::leak(Box::new(ProcessInfo { pid, ..maker.clone() }))),
    }
}

/// The process that started this one, if this library did; `None` in the first process.
pub fn parent_process() -> Option<&'static ProcessInfo> {
    identity().parent.as_ref()
}

/// The place of the next child in the tree of processes.
pub(crate) fn next_identity() -> String {
    static CHILDREN: AtomicU64 = AtomicU64::new(0);
    let number = CHILDREN.fetch_add(1, Ordering::Relaxed) + 1;
    match identity().path.as_str() {
        "" => number.to_string(),
        parent => format!("{parent}:{number}"),
    }
}

/// How many processors this process may use by its CPU affinity and its cgroup's quota, at least 1: the default number
/// of workers of a [`Pool`](crate::Pool).
pub fn cpu_count() -> usize {
    os::cpu_count()
}

/// How many cores this process may use, at least 1: as [`cpu_count`], but processors that share a core, as with
/// hyper-threading, count as one. For work that keeps a core's units busy by itself, as numerics do.
///
/// Where the system does not tell cores, it is [`cpu_count`].
///
/// ```
/// use pool_runtime::{cpu_count, cpu_count_physical};
///
/// assert!((1..=cpu_count()).contains(&cpu_count_physical()));
/// ```
pub fn cpu_count_physical() -> usize {
    let all = cpu_count();
    os::count_cores(&os::usable_cpus()).map_or(all, |cores| cores.clamp(1, all))
}
