//! The nouns of the interface: what every system takes and returns.

#[cfg(unix)]
pub(crate) use std::os::fd::{BorrowedFd as HandleRef, OwnedFd as Handle};
#[cfg(windows)]
pub(crate) use std::os::windows::io::{BorrowedHandle as HandleRef, OwnedHandle as Handle};

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Offsets into shared memory are multiples of this: Windows maps at no others, and Linux may have pages as large.
pub(crate) const GRANULE: usize = 1 << 16;

/// Shared memory starts at a multiple of this: no system has smaller pages.
pub(crate) const MEMORY_ALIGN: usize = 1 << 12;

/// The memory of a process that runs and whose memory cannot be seen: more than any limit.
pub(crate) const UNSEEN: u64 = u64::MAX;

/// How many bytes of memory of its own a process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// At this moment, what nobody else can have. [`UNSEEN`] if that cannot be seen.
    pub(crate) alone: u64,
    /// Together with what it could share and does not, when that was told apart last: the time at which that began, by the
    /// monotonic clock, and the bytes.
    pub(crate) whole: Option<(u64, u64)>,
}

/// What a worker is started with, besides its standard streams.
#[derive(Debug)]
pub(crate) struct Given<H> {
    /// The two ends of its channels.
    pub(crate) reads: H,
    pub(crate) writes: H,
    pub(crate) status: H,
    /// The socket through which shared memory arrives.
    pub(crate) passed: H,
    /// The real standard output, where the stream of that name is silent until the worker has started.
    pub(crate) stdout: Option<H>,
    /// The memory of its rings, and the pool's bells.
    pub(crate) rings: Option<(H, H)>,
}

/// Where a socket listens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SocketPlace<'p> {
    Internet(SocketAddr),
    /// A Unix socket with this path.
    File(&'p Path),
}

/// Which file a socket has made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketFile {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// What a stream of a new process is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Io<'h> {
    /// The same as this one of ours.
    Handle(HandleRef<'h>),
    /// Empty to read, and writes are discarded.
    Null,
}

impl<'h> From<&'h Handle> for Io<'h> {
    fn from(handle: &'h Handle) -> Self {
        Self::Handle(borrow(handle))
    }
}

pub(crate) fn borrow(handle: &Handle) -> HandleRef<'_> {
    #[cfg(unix)]
    return std::os::fd::AsFd::as_fd(handle);
    #[cfg(windows)]
    return std::os::windows::io::AsHandle::as_handle(handle);
}

/// Why a directory is not this user's alone to write.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotPrivate(pub(crate) String);

impl NotPrivate {
    /// Whether an operation failed for this.
    pub(crate) fn is_why(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|why| why.is::<Self>())
    }
}

impl From<NotPrivate> for io::Error {
    fn from(why: NotPrivate) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, why)
    }
}

/// The processors that this process may use: the smaller of its affinity and its control group's quota.
pub(crate) fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(crate) fn remove_variable(name: impl AsRef<OsStr>) {
    // SAFETY: `enter` calls this first, before the program's own code, in a process of one thread. Where a program
    // calls `enter` late and has threads by then, the standard library's own lock protects all access from Rust.
    unsafe { std::env::remove_var(name) };
}

#[derive(Debug)]
pub(crate) struct Spawn<'s> {
    pub(crate) program: &'s OsStr,
    pub(crate) args: &'s [OsString],
    pub(crate) env: &'s [(OsString, OsString)],
    pub(crate) current_dir: Option<&'s OsStr>,
    /// Its standard streams; None is this process's.
    pub(crate) stdio: [Option<Io<'s>>; 3],
    /// It inherits these, and nothing else if the system can prevent that: see
    /// [`Manifest::close_strays`](super::Manifest::close_strays).
    pub(crate) given: &'s Given<Io<'s>>,
    /// What it is told of them.
    pub(crate) manifest: super::Manifest,
}

/// How a process ended: with an exit code, or by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Signal(i32),
}

impl End {
    pub(crate) const KILLED: Self = Self::Signal(9);
    pub(crate) const ABORTED: Self = Self::Signal(6);

    pub(crate) fn code(self) -> Option<i32> {
        let Self::Exited(code) = self else { return None };
        Some(code)
    }

    pub(crate) fn signal(self) -> Option<i32> {
        let Self::Signal(signal) = self else { return None };
        Some(signal)
    }

    pub(crate) fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// By a signal that others send? `SIGHUP`, `SIGINT`, `SIGKILL` and `SIGTERM` have these numbers on every Unix.
    pub(crate) fn was_killed(self) -> bool {
        matches!(self, Self::Signal(1 | 2 | 9 | 15))
    }
}

/// What a process has used of the machine, as the system counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    /// The largest memory that it had, in KiB; or its parent's when it was started, if that was more.
    pub(crate) peak: u64,
    /// Pages that had to be found for it, and those of them that had to be read from a file.
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
}

/// A place in the code of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodePlace {
    /// In this process.
    pub(crate) address: usize,
    /// In the program's file, as tools for that count.
    pub(crate) in_file: usize,
}

/// How a process crashed, by its own note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crash {
    pub(crate) signal: i32,
    /// The system's reason for the signal.
    pub(crate) code: i32,
    /// Of the memory that the process should not have touched.
    pub(crate) address: u64,
    pub(crate) overflow: bool,
    pub(crate) on_main: bool,
    /// The address of the anchor in that process.
    pub(crate) anchor: u64,
    /// The instruction that failed, and the return address of each function around it: distances from the anchor.
    pub(crate) frames: Vec<u64>,
}

/// Where a crashing process notes how it crashes. Its methods run in a signal handler: they neither allocate nor lock.
pub(crate) trait CrashSink: Send + Sync {
    /// All but the frames, which come later, one by one.
    fn note(&self, crash: &Crash);

    /// Returns whether there was room for this frame.
    fn note_frame(&self, frame: u64) -> bool;
}

/// What is sent to another process: from now on, `id` refers to this handle; or `id` is not used again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Transfer<H> {
    /// Memory. The number is that of the receiver among those that have it, if it could not draw one itself; or 0.
    Take {
        id: u64,
        number: u32,
        handle: H,
    },
    /// Something else that is open.
    File {
        id: u64,
        handle: H,
    },
    Release {
        id: u64,
    },
    /// Nothing but that the receiver should look whether something has changed.
    Nudge,
}

impl<H> Transfer<H> {
    /// Of what comes with a handle.
    pub(crate) fn id(&self) -> Option<u64> {
        match self {
            Self::Take { id, .. } | Self::File { id, .. } => Some(*id),
            Self::Release { .. } | Self::Nudge => None,
        }
    }
}

pub(crate) type Outgoing<'h> = Transfer<HandleRef<'h>>;

/// The same, as it arrives. There is an error in place of the handle if this process has no room for another one.
pub(crate) type Delivery = Transfer<io::Result<Handle>>;

/// The next packet that was [passed](super::passing), before it is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foremost {
    Nudge,
    Handle { id: u64 },
}

/// The next packet of a [`Link`](super::Link), before it is received.
#[derive(Debug)]
pub(crate) struct Peeked {
    pub(crate) head: [u8; 16],
    /// Of the whole packet; 0 at the end of the channel.
    pub(crate) length: usize,
    pub(crate) has_handles: bool,
}

/// How the system's scheduler treats a process.
///
/// A worker is scheduled as the thread that made its pool, or started its [`Process`](crate::Process): one that a
/// real-time thread makes is a real-time process too, unless it is given another of these.
///
/// ```
/// # use pool_runtime::{Pool, Result, Scheduler, enter, task};
/// #[task]
/// fn work(n: u64) -> u64 {
///     n * n
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     // For work that nobody waits for.
///     let pool = Pool::builder().processes(1).scheduler(Scheduler::Idle).build()?;
///     assert_eq!(pool.apply(work::call(3))?, 9);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Scheduler {
    /// As usual (`SCHED_OTHER`): shares processors by niceness.
    Normal,
    /// As usual, but a wake-up does not interrupt others (`SCHED_BATCH`): for long computations.
    Batch,
    /// Only where nothing else wants to run (`SCHED_IDLE`).
    Idle,
    /// In real time, until it waits (`SCHED_FIFO`). The priority is 1 to 99; it takes privileges, or `ulimit -r`.
    Fifo(u8),
    /// In real time, in turn with others of the same priority (`SCHED_RR`). The priority is 1 to 99; it takes
    /// privileges, or `ulimit -r`.
    RoundRobin(u8),
}

impl Scheduler {
    /// The priority in real time, if it has one.
    pub(crate) fn priority(self) -> Option<u8> {
        match self {
            Self::Fifo(priority) | Self::RoundRobin(priority) => Some(priority),
            Self::Normal | Self::Batch | Self::Idle => None,
        }
    }
}

/// How certain it is that the kernel's OOM killer has ended a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OomKill {
    /// The kernel's log says so.
    Certain,
    /// The log cannot be read. Something other than this program killed the process, and since it began to work the OOM
    /// killer was active: in this program's control group, or, if that has no counter, on the machine.
    Probable,
}
