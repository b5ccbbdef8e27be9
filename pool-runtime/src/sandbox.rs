//! `Sandbox`: what workers may do, as users say it.
//!
//! Paths are made absolute and looked up in the parent, where a mistake can be reported to its author, and once for all
//! workers. The rest travels with the greeting; the worker confines itself before it runs any of the user's code.

use crate::error::{Error, Result};
use crate::os::{self, Abilities, Allowed, Confinement, Files, ResourceLimits};
use crate::targets::SANDBOX;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// With less memory, a worker cannot start.
const LEAST_MEMORY: u64 = 16 << 20;
/// A worker has some ten files open by itself.
const LEAST_FILES: u64 = 16;
/// All paths together, in bytes: the greeting has to fit into the channel before anybody reads it.
const MOST_PATHS: usize = 1 << 15;
/// In `strict()`. What a worker has sent to itself through sockets counts as this user's: no process of the user's sends
/// a file while that is more than its own limit, which is seldom below 1024.
const STRICT_FILES: u64 = 512;
/// In `strict()`. These count for all processes of this user, and a process sends none beyond its own limit.
const STRICT_SIGNALS: u64 = 256;
/// What else travels with each path.
const WITH_A_PATH: usize = 32;

/// How many bytes a result of a confined worker may have, if neither its call nor its task nor its pool says.
const MOST_RESULT: u64 = 1 << 30;

/// How many bytes a result may have by default: any number, if the worker is not confined.
pub(crate) fn default_max_result(confinement: Option<&Confinement>) -> u64 {
    // With less memory for the whole worker, it cannot have made a longer one.
    confinement.map_or(u64::MAX, |confinement| confinement.limits.memory.unwrap_or(MOST_RESULT))
}

/// What a strict sandbox denies.
pub(crate) fn strict() -> Result<Confinement> {
    Sandbox::strict().resolve()
}

/// What the processes of a [`Pool`](crate::Pool), or a [`Process`](crate::Process), may do.
///
/// Start from [`strict`](Self::strict), which denies files, network and processes, and allow what is needed; or from
/// [`none`](Self::none), which denies nothing, and deny. A worker confines itself before it runs anything of yours,
/// its initializer included, and no code in it, `unsafe` or not, can undo that. What is denied fails with an error of
/// the system (`EACCES` or `EPERM`), as it would for lack of rights.
///
/// | | `strict()` | `none()` |
/// |---|---|---|
/// | [`read`](Self::read), [`write`](Self::write), [`execute`](Self::execute) | no file but `/dev/null` can be opened | all files |
/// | [`network`](Self::network) | no sockets but pairs | yes |
/// | [`processes`](Self::processes) | no fork, no programs, no signals to others; threads | yes |
/// | [`attributes`](Self::attributes), [`locks`](Self::locks) | no modes, owners or times; locks where anything may be written | yes |
/// | [`inherit_env`](Self::inherit_env) | a few environment variables | all of this process |
/// | [`inherit_output`](Self::inherit_output) | output through pipes | this process's own streams, until anything is denied |
/// | [`inherit_authkey`](Self::inherit_authkey) | a key of its own for connections | this process's key, until anything is denied |
/// | [`open_files`](Self::open_files), [`pending_signals`](Self::pending_signals), [`core_size`](Self::core_size) | 512, 256, 0 | as this process |
/// | [`memory`](Self::memory), [`cpu_time`](Self::cpu_time), [`file_size`](Self::file_size), [`threads`](Self::threads) | as this process | as this process |
///
/// ```
/// # use pool_runtime::{Pool, Result, Sandbox, enter, task};
/// #[task]
/// fn first_line(file: &str) -> Result<String, String> {
///     let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
///     Ok(text.lines().next().unwrap_or_default().to_owned())
/// }
///
/// #[task]
/// fn call_home() -> bool {
///     std::net::TcpStream::connect("127.0.0.1:80").is_ok()
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let sandbox = Sandbox::strict().read("Cargo.toml").memory(1 << 30);
///     let pool = Pool::builder().processes(1).sandbox(sandbox).build()?;
///     assert!(pool.apply(first_line::call("Cargo.toml"))?.is_ok());
///     assert!(pool.apply(first_line::call("/etc/passwd"))?.is_err());
///     assert!(!pool.apply(call_home::call())?);
///     Ok(())
/// }
/// ```
///
/// # How it works
///
/// Landlock denies files; a seccomp filter denies everything else, and ways around it: tracing and reading other
/// processes, io_uring, BPF, mounts and namespaces, keys, kernel modules, System V IPC, POSIX message queues, setting
/// the clock, and what moves threads that sleep on shared memory or keeps them from being woken (`FUTEX_REQUEUE`,
/// `FUTEX_WAIT_REQUEUE_PI`: mutexes that several processes share hand on no priorities). These are denied as soon as
/// anything is. A privileged process then also loses its capabilities, except some for files, with a network for
/// sockets, and with processes for user ids, and any process the right to a higher priority (`RLIMIT_RTPRIO`,
/// `RLIMIT_NICE`). No terminal controls a worker any more: `/dev/tty` leads nowhere, and nothing that it reads from the
/// background stops this program.
///
/// Where files are denied, an open file takes the requests that read what it is, or change this process's descriptor
/// alone (`ioctl`: the size of a terminal, `FIONREAD`, `FIONBIO`, attributes, extents; with a network, interfaces), and
/// no others: file systems have many that change a file which is open for reading. A device that was itself named to
/// [`write`](Self::write) takes requests of its own; then file systems' requests are denied by their kind. Of the
/// requests of terminals and consoles, those that ask are allowed and no others, whatever is denied, unless a terminal
/// was itself named to [`write`](Self::write); typing for somebody else (`TIOCSTI`, `TIOCLINUX`) is denied even then.
/// Leases (`F_SETLEASE`), notifications (`F_NOTIFY`, inotify), asynchronous I/O (`io_setup`), `sync` and larger pipes
/// are denied too, as are locks unless they are [allowed](Self::locks).
///
/// That takes Linux 6.2 or newer, with Landlock enabled, and 6.12 for `strict().processes(true)`, on x86_64 or aarch64.
/// Where the kernel lacks something, no worker starts, and the error names it: see [`best_effort`](Self::best_effort).
///
/// # What it does not do
///
/// - It does not hide which files exist. A directory that may not be read cannot be listed, but any path can be asked
///   for size, owner, times and attributes. With `network(true)`, UNIX sockets can be reached by path, and behind some of
///   them (the bus of a session, the engine of containers) are services that start programs outside.
/// - A worker can use what it has open: what it prints appears where this process prints, and a stream that is
///   [inherited](Self::inherit_output), or given to a [`Process`](crate::Process), is open to it.
/// - If only one thing is denied, the rest may be a way around it: code that may write any file can have other programs
///   act for it, and change the files of this process in `/proc` (`oom_score_adj`). Against malicious code, start from
///   `strict()`.
/// - Who may start [`processes`](Self::processes) can also choose the processors of this user's other processes, and
///   arrange that it does not end with this program.
/// - It does not hide the machine: time, load, number of processors and command line. Keep secrets out of the last. Side
///   channels through caches and timing stay open.
/// - A worker and this process share memory for calls and results, and the worker can write anything there. This
///   process checks what it reads, and treats corrupt contents as the end of that worker. Checking what a result *says*
///   is up to you; so is what a worker leaves in directories where it may write, such as links.
/// - It does not fully separate the workers of a program: a worker can delay the wake-ups of others. What it is sent, the
///   workers of other pools do not see, except for [`Shared`](crate::Shared) slices that both are given; a large argument
///   is copied once more for that.
/// - A lost call that is [run again](crate::PoolBuilder::dossiers) has the same sandbox, but the debugger around it has
///   none, nor has a run with `POOL_REPLAY_UNCONFINED=1`. The arguments may come from malicious code.
/// - It does not divide the machine: without limits, a worker uses all processors and all memory, and starts as many
///   [threads](Self::threads) as this user or the control group may have. What waits in pipes is also counted for the
///   user (`pipe-user-pages-soft`): four strict workers can use that up with the files that each may open, and the
///   user's further pipes are small then. Of what `epoll` watches (`max_user_watches`), each can take up to 65,000.
/// - Code that runs before [`enter`](crate::enter) or [`pool_main!`](crate::pool_main), such as constructors of C
///   libraries, is not confined. Threads that it leaves running are an error, except the test harness's own, which are
///   confined as well.
///
/// # What code may need
///
/// Libraries open files when first used: host names need `/etc` and, with glibc, libraries; time zones
/// `/usr/share/zoneinfo`; certificates `/etc/ssl`; backtraces the program itself. What an initializer opens must be
/// allowed too. Without [`processes`](Self::processes), the processors of a thread are chosen by that thread itself: from
/// another one (a thread attribute, `OMP_PROC_BIND`) that fails with `EPERM`, as the kernel does not tell a process's own
/// threads from others to a filter.
///
/// A pool inside a sandbox starts this program again, so it needs the program, its loader and libraries:
/// `.execute(std::env::current_exe()?).execute("/lib64/ld-linux-x86-64.so.2").read("/lib")`, for example. Its workers
/// are in the same sandbox, and in their own.
#[derive(Clone, Debug)]
#[must_use = "a sandbox does nothing until it is given to a pool or a process"]
pub struct Sandbox {
    paths: Option<Paths>,
    /// All but the files.
    rest: Confinement,
    attributes: bool,
    /// None: where anything may be written.
    locks: Option<bool>,
    /// None: unless anything is denied.
    inherits_output: Option<bool>,
    /// None: unless anything is denied.
    inherits_authkey: Option<bool>,
}

#[derive(Clone, Debug, Default)]
struct Paths {
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
    executes: Vec<PathBuf>,
}

/// Denies nothing: [`Sandbox::none`].
impl Default for Sandbox {
    fn default() -> Self {
        Self::none()
    }
}

impl Sandbox {
    /// Denies nothing: for limits alone, which guard against accidents, or to deny one thing.
    pub fn none() -> Self {
        let limits = ResourceLimits::default();
        let rest =
            Confinement { files: None, network: true, processes: true, limits, best_effort: false, inherits_env: true };
        Self { paths: None, rest, attributes: false, locks: None, inherits_output: None, inherits_authkey: None }
    }

    /// Denies all files, the network, and processes: a worker can compute, and nothing else.
    ///
    /// It also gets few [environment variables](Self::inherit_env), and has low limits on what all processes of a user
    /// share: [`open_files`](Self::open_files), [`pending_signals`](Self::pending_signals) and
    /// [`core_size`](Self::core_size).
    pub fn strict() -> Self {
        let strict = Self { paths: Some(Paths::default()), ..Self::none() }.network(false).processes(false);
        strict.inherit_env(false).open_files(STRICT_FILES).pending_signals(STRICT_SIGNALS).core_size(0)
    }

    /// Allows to read a file, or everything below a directory. A relative path starts at this process's current
    /// directory, whatever that of the workers is.
    ///
    /// The file or directory that exists when the pool or process is built is what counts. If it is replaced later, no
    /// further worker starts, as the replacement may be malicious: for files that are replaced regularly, name the
    /// directory.
    ///
    /// Devices have to be named themselves, terminals included. A directory of devices that is named, such as `/dev/input`,
    /// lets them be opened, and they take no requests of their own. Of `/dev`, or a directory above it, all but devices is
    /// given, and `/dev/null`, `full`, `random`, `urandom` and, without a limit of [memory](Self::memory), `zero`. Such a
    /// directory is given entry by entry: what is made or mounted directly in it later, a worker that runs already does not
    /// have. Naming `/dev/tty` is of no use, as no terminal controls a worker: name the terminal's own device, as the
    /// command `tty` prints it.
    ///
    /// After [`none`](Self::none), the first path that is allowed denies all others.
    pub fn read(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.get_or_insert_default().reads.push(path.into());
        self
    }

    /// Allows to read, write, make and remove files below a directory, or to read and write a file. Neither devices can
    /// be made nor files that run with the rights of their owner (`setuid`, `setgid`); give no directory that has such
    /// files already, as they may keep these rights when they are changed. No file there can be started as a program,
    /// unless something that may be [executed](Self::execute) runs it: a loader, a shell, an interpreter.
    ///
    /// What the kernel obeys is not written with a directory above it: `/proc`, `/sys`, control groups and the like can
    /// then be read. Name the file or directory there; `/proc` as a whole is refused, as it has files of all processes.
    /// In a directory above one of those, such as `/`, nothing is made or removed but below its entries. For devices, see
    /// [`read`](Self::read).
    ///
    /// Modes, owners and times are another matter: see [`attributes`](Self::attributes).
    pub fn write(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.get_or_insert_default().writes.push(path.into());
        self
    }

    /// Allows to read and to start a program, or everything below a directory; also allows
    /// [processes](Self::processes).
    ///
    /// What is started is in the same sandbox. Most programs need a loader and libraries, for example
    /// `.execute("/lib64")` and `.read("/lib")`.
    pub fn execute(mut self, path: impl Into<PathBuf>) -> Self {
        self.paths.get_or_insert_default().executes.push(path.into());
        self.processes(true)
    }

    /// Whether a worker may change the mode, owner, times and extended attributes of the files that it has open, where
    /// files are denied. By default it may if [`write`](Self::write) names `/`.
    ///
    /// The kernel does not tell a filter which file it is, so this is for **every** file that it can open, and that this
    /// user owns: also one that may only be read, and `/dev/null`. By path, attributes are never changed.
    ///
    /// `std::fs::copy` sets the mode of what it writes, and so do programs that unpack archives. Without this, use
    /// [`std::io::copy`], and choose the mode when the file is made.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, Sandbox, enter, task};
    /// #[task]
    /// fn copy(from: &str, to: &str) -> bool {
    ///     std::fs::copy(from, to).is_ok()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let dir = std::env::temp_dir().join(format!("attributes-{}", std::process::id()));
    ///     std::fs::create_dir(&dir).expect("a directory");
    ///     let to = dir.join("copy").display().to_string();
    ///     let sandbox = Sandbox::strict().read("Cargo.toml").write(&dir).attributes(true);
    ///     let pool = Pool::builder().processes(1).sandbox(sandbox).build()?;
    ///     assert!(pool.apply(copy::call("Cargo.toml", &to))?);
    ///     std::fs::remove_dir_all(&dir).expect("it is there");
    ///     Ok(())
    /// }
    /// ```
    pub fn attributes(mut self, allowed: bool) -> Self {
        self.attributes = allowed;
        self
    }

    /// Whether a worker may lock the files that it has open (`flock`, `F_SETLK`), where files are denied. By default it
    /// may if anything may be [written](Self::write).
    ///
    /// The kernel does not tell a filter which file it is, so this is for every file that it can open: a lock on one that
    /// may only be read holds up other programs that lock it. SQLite, for example, locks what it reads.
    pub fn locks(mut self, allowed: bool) -> Self {
        self.locks = Some(allowed);
        self
    }

    /// Whether a worker gets all environment variables of this process, which may hold secrets. [`strict`](Self::strict)
    /// denies it: a worker gets `PATH`, `LANG`, `LANGUAGE`, `TZ`, `LC_ALL` and the locale's categories (`LC_CTYPE`,
    /// `LC_TIME`, …, and no other variable that begins with `LC_`), and what it is started with: the loader's
    /// `LD_LIBRARY_PATH` and `LD_PRELOAD`, Rust's `RUST_BACKTRACE`, `RUST_LIB_BACKTRACE` and `RUST_MIN_STACK`, and in
    /// tests of documentation what says which one it is.
    ///
    /// What [`PoolBuilder::env`](crate::PoolBuilder::env) or [`Process::env`](crate::Process::env) sets is added in any
    /// case.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, Sandbox, enter, task};
    /// #[task]
    /// fn knows(name: &str) -> bool {
    ///     std::env::var_os(name).is_some()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     // `HOME` is not in the list; the pool says what its workers are to know.
    ///     let pool = Pool::builder().processes(1).sandbox(Sandbox::strict()).env("LEVEL", "7").build()?;
    ///     assert!(!pool.apply(knows::call("HOME"))?);
    ///     assert!(pool.apply(knows::call("LEVEL"))?);
    ///     Ok(())
    /// }
    /// ```
    pub fn inherit_env(mut self, inherited: bool) -> Self {
        self.rest.inherits_env = inherited;
        self
    }

    /// Whether a worker has this process's own standard output and standard error. By default it has pipes of its own as
    /// soon as anything is denied, and this process passes on what comes through them, in whole lines and in order.
    ///
    /// A stream can be more than a way out: a worker that has it can read what a pipe still holds, read what is typed
    /// into a terminal, cut off a file, shut down a socket, or make it non-blocking, which makes this process's own
    /// `println!` panic. Where streams are inherited, requests that change a terminal are denied all the same, unless a
    /// terminal was itself named to [`write`](Self::write).
    ///
    /// What is passed on appears a moment later than it was printed: all of it is there when the worker's end is told,
    /// and when the pool was joined or dropped. A [`Process`](crate::Process) that was given streams has those.
    pub fn inherit_output(mut self, inherited: bool) -> Self {
        self.inherits_output = Some(inherited);
        self
    }

    /// Whether a worker gets the [key](crate::connection::AuthKey) by which processes of this program authenticate
    /// their connections. By default it does not as soon as anything is denied: with the key, its code could connect to
    /// any listener of the program as if it were the program itself. It has a random key of its own then, which those
    /// that it starts have too.
    ///
    /// ```
    /// # use pool_runtime::{Process, Result, Sandbox, current_process, enter, task};
    /// #[task]
    /// fn key() -> Vec<u8> {
    ///     current_process().authkey().expect("a key").as_bytes().to_vec()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let key_in = |sandbox| Process::new(key::call()).sandbox(sandbox).start()?.join();
    ///     let own = current_process().authkey()?;
    ///     assert_ne!(key_in(Sandbox::strict())?, own.as_bytes());
    ///     assert_eq!(key_in(Sandbox::strict().inherit_authkey(true))?, own.as_bytes());
    ///     Ok(())
    /// }
    /// ```
    pub fn inherit_authkey(mut self, inherited: bool) -> Self {
        self.inherits_authkey = Some(inherited);
        self
    }

    /// Whether a worker may use sockets. Connected pairs are always allowed.
    pub fn network(mut self, allowed: bool) -> Self {
        self.rest.network = allowed;
        self
    }

    /// Whether a worker may start other processes and send them signals. Threads are always allowed.
    ///
    /// Where anything is denied, signals only reach processes in the same sandbox (with Linux 6.12). Where files are,
    /// programs have to be [allowed](Self::execute), except those in the worker's own memory (`memfd_create`): Landlock
    /// lets it start them, in the same sandbox. What a worker starts does not end with it, unless it is a pool or a
    /// process of this library.
    pub fn processes(mut self, allowed: bool) -> Self {
        self.rest.processes = allowed;
        self
    }

    /// How much private memory each process may have, in bytes; at least 16 MiB. An allocation beyond it fails, which
    /// aborts a Rust program, and the call's worker is lost: no allocation goes beyond it.
    /// [`PoolBuilder::memory`](crate::PoolBuilder::memory) samples from outside, limits each call, and can be lower.
    ///
    /// This is `RLIMIT_DATA`, which counts what a process may write at present. What it has made read-only
    /// (`mprotect`), and the tables of its pages, are sampled from outside: a worker with 64 MiB more than its limit in
    /// use is killed, and the job fails with an error that [`is_out_of_memory`](crate::Error::is_out_of_memory). Where
    /// `/proc` does not show workers, that is not done. What waits in sockets and pipes, and what threads need, is the
    /// kernel's memory, and counts nowhere but in a control group: some hundred KiB for each of the
    /// [`open_files`](Self::open_files), where there is no network, in which they can be larger. The stack of the main
    /// thread is not counted; it becomes no larger than this process's limit for stacks (`ulimit -s`), and 64 MiB. It
    /// does not count [`Shared`](crate::Shared) slices, which are this process's. Where [`processes`](Self::processes)
    /// are denied, a worker with this limit can make no shared memory of its own (`memfd_create`, shared anonymous
    /// mappings), so neither [`Shared`](crate::Shared) slices nor a pool of threads. Otherwise that is not counted, nor
    /// are files in memory (`/dev/shm`) where it may write, nor shared mappings of `/dev/zero` where that was named,
    /// nor what the processes that it starts have: there, use a control group. A worker with this limit has no
    /// `vmsplice`. Arguments and results count while they are copied, for a moment twice.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.rest.limits.memory = Some(bytes);
        self
    }

    /// How much processor time each process may use over all of its calls, rounded up to seconds. Then it is killed
    /// (`SIGXCPU`) and replaced.
    pub fn cpu_time(mut self, time: Duration) -> Self {
        self.rest.limits.cpu_time = Some(time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)));
        self
    }

    /// How large the files that it writes may get, in bytes; streams that lead to files and shared memory included. A
    /// process that writes more is killed (`SIGXFSZ`).
    pub fn file_size(mut self, bytes: u64) -> Self {
        self.rest.limits.file_size = Some(bytes);
        self
    }

    /// How many files it may have open; at least 16, and 512 in [`strict`](Self::strict). A worker has some ten by
    /// itself, and one for each [`Shared`](crate::Shared) slice.
    ///
    /// It can also have so many on their way through sockets. The kernel counts those for the whole user: a process
    /// sends no file, and a pool no [`Shared`](crate::Shared) slice, while the user has more on their way than that
    /// process may have open. So this should be well below the limit of this process.
    pub fn open_files(mut self, count: u64) -> Self {
        self.rest.limits.open_files = Some(count);
        self
    }

    /// How many threads and processes this user may have, in all, for a worker to start another thread; no limit by
    /// default. Beyond that, threads fail to start (`EAGAIN`).
    ///
    /// The kernel (`RLIMIT_NPROC`) counts those of all the user's programs, this one included, which has some ten and two
    /// for each worker. So this fits a user of its own, as services have. The kernel does not limit root's threads: there
    /// no worker starts, and the error says so, unless [`best_effort`](Self::best_effort) is chosen.
    pub fn threads(mut self, count: u64) -> Self {
        self.rest.limits.threads = Some(count);
        self
    }

    /// How many signals may wait for it, timers included; 256 in [`strict`](Self::strict). The kernel counts those of all
    /// processes of this user.
    pub fn pending_signals(mut self, count: u64) -> Self {
        self.rest.limits.pending_signals = Some(count);
        self
    }

    /// How large an image of its memory a crash may leave behind, in bytes; none in [`strict`](Self::strict).
    pub fn core_size(mut self, bytes: u64) -> Self {
        self.rest.limits.core = Some(bytes);
        self
    }

    /// Where the kernel cannot do all that is asked for, do what it can, with a warning that says what is missing.
    /// Otherwise no worker starts.
    pub fn best_effort(mut self) -> Self {
        self.rest.best_effort = true;
        self
    }

    pub(crate) fn inherits_env(&self) -> bool {
        self.rest.inherits_env
    }

    /// Whether its workers may do less than this process. Limits deny nothing.
    fn denies(&self) -> bool {
        self.paths.is_some() || self.rest.denies()
    }

    pub(crate) fn inherits_output(&self) -> bool {
        self.inherits_output.unwrap_or(!self.denies())
    }

    pub(crate) fn inherits_authkey(&self) -> bool {
        self.inherits_authkey.unwrap_or(!self.denies())
    }

    /// What a worker is to be told.
    ///
    /// # Errors
    ///
    /// A path does not exist, or cannot be given as a whole, or a limit is too low for a worker to start.
    pub(crate) fn resolve(&self) -> Result<Confinement> {
        let mut confinement = self.rest.clone();
        let limits = &confinement.limits;
        for (least, what, given) in [
            (LEAST_MEMORY, "bytes of memory", limits.memory),
            (LEAST_FILES, "open files", limits.open_files),
            (1, "second of processor time", limits.cpu_time),
        ] {
            if let Some(given) = given.filter(|given| *given < least) {
                return Err(Error::invalid(format!("a sandbox must allow at least {least} {what}, got {given}")));
            }
        }
        if let Some(Paths { reads, writes, executes }) = &self.paths {
            if let Some(path) = writes.iter().find(|path| os::lists_processes(path)) {
                return Err(Error::invalid(format!(
                    "a sandbox cannot write `{}`: there, all processes of this user can be changed, this one too: name \
                     the file or directory in it, such as `/proc/self`",
                    path.display()
                )));
            }
            let files = Files {
                reads: all(reads, "read")?,
                writes: all(writes, "write")?,
                executes: all(executes, "execute")?,
                attributes: self.attributes || writes.iter().any(|path| path == Path::new("/")),
                locks: self.locks.unwrap_or(!writes.is_empty()),
            };
            let allowed = [&files.reads, &files.writes, &files.executes].into_iter().flatten();
            if allowed.map(|allowed| allowed.path.len() + WITH_A_PATH).sum::<usize>() > MOST_PATHS {
                return Err(Error::invalid("a sandbox allows too many paths: name directories above them"));
            }
            confinement.files = Some(files);
        }
        if confinement.best_effort {
            // Once, and in the parent, where a subscriber may listen.
            for missing in confinement.missing(Abilities::here()) {
                tracing::warn!(target: SANDBOX, "the kernel lacks what a sandbox asks for, and less is done: {missing}");
            }
        }
        Ok(confinement)
    }
}

/// The paths from the root on, and what exists there.
fn all(paths: &[PathBuf], what: &str) -> Result<Vec<Allowed>> {
    let existing = |path: &PathBuf| {
        std::path::absolute(path)
            .and_then(|path| os::file_id(&path).map(|id| Allowed::new(path, id)))
            .map_err(|error| Error::os(format!("cannot let a sandbox {what} `{}`", path.display()), error))
    };
    paths.iter().map(existing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confined_worker_returns_no_more_than_it_has_memory() {
        let limit = |sandbox: Sandbox| default_max_result(Some(&sandbox.resolve().unwrap()));
        assert_eq!(limit(Sandbox::strict()), 1 << 30);
        assert_eq!(limit(Sandbox::strict().memory(100 << 20)), 100 << 20);
        assert_eq!(limit(Sandbox::none().memory(8 << 30)), 8 << 30);
        assert_eq!(default_max_result(None), u64::MAX);
    }

    #[test]
    fn relative_paths_are_of_this_directory() {
        let here = std::env::current_dir().unwrap();
        let resolved = Sandbox::strict().read("Cargo.toml").write("src").execute("/").resolve().unwrap();
        let files = resolved.files.unwrap();
        let paths = |allowed: &[Allowed]| allowed.iter().map(|one| PathBuf::from(&one.path)).collect::<Vec<_>>();
        assert_eq!(paths(&files.reads), [here.join("Cargo.toml")]);
        assert_eq!(paths(&files.writes), [here.join("src")]);
        assert_eq!(paths(&files.executes), [Path::new("/")]);
        assert!(resolved.processes && !resolved.network);
    }

    #[test]
    fn mistakes_are_told_here() {
        let refused = |sandbox: Sandbox, text: &str| {
            let error = sandbox.resolve().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        };
        refused(Sandbox::strict().read("no/such/file"), "cannot let a sandbox read `no/such/file`");
        refused(Sandbox::none().write("/no such dir"), "cannot let a sandbox write `/no such dir`");
        refused(Sandbox::strict().execute("/bin/no such"), "cannot let a sandbox execute `/bin/no such`");
        refused(Sandbox::strict().write("/proc/"), "a sandbox cannot write `/proc/`: there, all processes");
        refused(Sandbox::none().memory(1), "at least 16777216 bytes of memory, got 1");
        refused(Sandbox::none().open_files(3), "at least 16 open files, got 3");
        refused(Sandbox::none().cpu_time(Duration::ZERO), "at least 1 second of processor time, got 0");
        let many = (0..MOST_PATHS / 9 + 1).fold(Sandbox::strict(), |sandbox, _| sandbox.read("/"));
        refused(many, "too many paths");
    }

    #[test]
    fn attributes_and_locks_follow_what_may_be_written() {
        let files = |sandbox: Sandbox| {
            let files = sandbox.resolve().unwrap().files.unwrap();
            (files.attributes, files.locks)
        };
        assert_eq!(files(Sandbox::strict().read("/")), (false, false));
        assert_eq!(files(Sandbox::strict().write("src")), (false, true));
        assert_eq!(files(Sandbox::strict().write("/")), (true, true));
        assert_eq!(files(Sandbox::strict().attributes(true).locks(true)), (true, true));
        assert_eq!(files(Sandbox::none().write("src").locks(false)), (false, false));
    }

    #[test]
    fn streams_are_inherited_until_anything_is_denied() {
        let limited = Sandbox::none().memory(1 << 30);
        assert!(limited.inherits_output() && limited.inherits_env());
        for denies in [Sandbox::none().network(false), Sandbox::none().processes(false), Sandbox::none().read("/")] {
            assert!(!denies.inherits_output() && denies.inherits_env());
            assert!(denies.inherit_output(true).inherits_output());
        }
        assert!(!Sandbox::strict().inherits_env() && !Sandbox::strict().inherits_output());
        assert!(!limited.clone().inherit_output(false).inherits_output());
        assert!(limited.inherits_authkey() && !limited.inherit_authkey(false).inherits_authkey());
        assert!(!Sandbox::none().network(false).inherits_authkey() && !Sandbox::strict().inherits_authkey());
        assert!(Sandbox::strict().inherit_authkey(true).inherits_authkey());
    }

    #[test]
    fn nothing_is_denied_unless_asked_for() {
        let none = Sandbox::default().cpu_time(Duration::from_millis(1500)).resolve().unwrap();
        assert!(none.files.is_none() && none.network && none.processes);
        assert_eq!(none.limits.cpu_time, Some(2));
        assert!(Sandbox::none().read("/").resolve().unwrap().files.is_some());
    }
}
