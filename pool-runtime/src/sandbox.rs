//! `Sandbox`: what workers may do, as users say it.
//!
//! Paths are made absolute and looked at here, in the parent, where a mistake can be told to whoever made it, and what
//! they lead to is settled for all workers. The rest is plain data that travels with the greeting; the worker confines
//! itself, before it runs any of the user's code.

use crate::error::{Error, Result};
use crate::os::{self, Abilities, Allowed, Confinement, Files, ResourceLimits};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// With less, a worker cannot begin.
const LEAST_MEMORY: u64 = 16 << 20;
/// A worker has some ten files open by itself.
const LEAST_FILES: u64 = 16;
/// What the paths may be long together: the greeting has to fit into the channel before anybody reads.
const MOST_PATHS: usize = 1 << 15;
/// What else travels with each of them.
const WITH_A_PATH: usize = 32;

/// What the processes of a [`Pool`](crate::Pool), or a [`Process`](crate::Process), may do.
///
/// Start from [`strict`](Self::strict), which denies files, network and processes, and allow what is needed; or from
/// [`none`](Self::none), which denies nothing, and deny. A worker confines itself before it runs anything of yours,
/// its initializer too, and nothing there, `unsafe` code included, can take that back. What it may not do fails with an
/// error of the system (`EACCES` or `EPERM`), as it would for lack of rights.
///
/// | | `strict()` | `none()` |
/// |---|---|---|
/// | [`read`](Self::read), [`write`](Self::write), [`execute`](Self::execute) | no file but `/dev/null` can be opened | all files |
/// | [`network`](Self::network) | no sockets but pairs | yes |
/// | [`processes`](Self::processes) | no fork, no programs, no signals to others; threads | yes |
/// | [`memory`](Self::memory), [`cpu_time`](Self::cpu_time), [`file_size`](Self::file_size), [`open_files`](Self::open_files) | as this process | as this process |
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
/// # How
///
/// Files are denied by Landlock, all else by a seccomp filter, which also denies the ways around: tracing and
/// reading other processes, io_uring, BPF, mounts and namespaces, keys, kernel modules, System V's and POSIX's named
/// messages and memory, changing the clock. As soon as anything is denied, so are these, and a privileged process loses
/// its capabilities, but some about files, user ids and, with a network, sockets.
///
/// That takes Linux 6.2 or newer, with Landlock switched on, and 6.12 for `strict().processes(true)`, on x86_64 or
/// aarch64. Where the kernel has less, no worker starts, and the error says what is missing: see
/// [`best_effort`](Self::best_effort).
///
/// # What it does not do
///
/// - It does not hide which files exist: their names in directories that may not be read are out of reach, but a path
///   can be asked for its size, owner, times and attributes. With `network(true)`, UNIX sockets are reached by their
///   paths, whatever files are denied.
/// - What a worker has open, it can use: its standard streams are wherever this process writes.
/// - Where one thing is denied and the rest is not, the rest may be a way around: who may write any file can have other
///   programs do what it may not. Against code that means harm, start from `strict()`.
/// - It does not hide the machine: time, load, the number of processors, its own environment and command line. Secrets
///   do not belong there. Side channels through caches and timing stay open.
/// - A worker and this process share memory, for calls and results. The worker can write anything there; this process
///   checks what it reads, and takes what makes no sense as the end of that worker. What a result *says* is for you to
///   check; so is what it leaves in directories where it may write, such as links.
/// - It does not part the workers of a program from each other in all things: a worker can go on reading memory in
///   which it got a large argument, when that of another call is there, and can keep others from being woken in time.
///   What the code of one call must not see of another belongs into another program.
/// - A call that was lost and is [run again](crate::PoolBuilder::dossiers) has the same sandbox, but not for the
///   debugger around it, and not with `POOL_REPLAY_UNCONFINED=1`. Its arguments may come from code that means harm.
/// - It does not share out the machine: without limits, a worker uses all processors and all memory.
/// - The code that runs before [`enter`](crate::enter) or [`pool_main!`](crate::pool_main), such as constructors of
///   C libraries, is not confined. Threads that it leaves behind would stay outside: they are an error. (In tests, the
///   harness has one, which waits.)
///
/// # What code may miss
///
/// Libraries open files when they are first used: names of hosts want `/etc` and, with glibc, libraries; time zones
/// `/usr/share/zoneinfo`; certificates `/etc/ssl`; backtraces the program itself. What an initializer opens must be
/// allowed too. A pool inside of a sandbox starts this program again, which needs its file, the loader and the
/// libraries: `.execute(std::env::current_exe()?).execute("/lib64/ld-linux-x86-64.so.2").read("/lib")`, say. Its
/// workers are in the same sandbox, and in their own.
#[derive(Clone, Debug)]
#[must_use = "a sandbox does nothing until it is given to a pool or a process"]
pub struct Sandbox {
    files: Option<Paths>,
    network: bool,
    processes: bool,
    memory: Option<u64>,
    cpu_time: Option<Duration>,
    file_size: Option<u64>,
    open_files: Option<u64>,
    best_effort: bool,
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
    /// Denies nothing. For limits alone, which guard against accidents; or to deny one thing.
    pub fn none() -> Self {
        Self {
            files: None,
            network: true,
            processes: true,
            memory: None,
            cpu_time: None,
            file_size: None,
            open_files: None,
            best_effort: false,
        }
    }

    /// Denies all files, the network, and processes: what remains is to compute, on what the calls bring along.
    pub fn strict() -> Self {
        Self { files: Some(Paths::default()), network: false, processes: false, ..Self::none() }
    }

    /// Allows to read a file, or all below a directory. A relative path is one of this process's directory, whatever
    /// that of the workers is.
    ///
    /// What counts is the file or directory that is there when the pool or process is built. If another one is put in
    /// its place, no further worker starts, as whoever did that may have meant harm: of files that are replaced from
    /// time to time, name the directory.
    ///
    /// After [`none`](Self::none), the first path that is allowed denies all others.
    pub fn read(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.get_or_insert_default().reads.push(path.into());
        self
    }

    /// Allows to read, write, make and remove files below a directory, or to read and write a file. No devices can be
    /// made, nor files that run with the rights of their owner (`setuid`, `setgid`). Nothing there can be started as a
    /// program, unless something that may be [executed](Self::execute) runs it: a loader, a shell, an interpreter.
    ///
    /// Modes, owners and times cannot be changed by path, and, as soon as anything may be written, can be changed of
    /// files that are open, also of those that may only be read.
    pub fn write(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.get_or_insert_default().writes.push(path.into());
        self
    }

    /// Allows to read and to start a program, or all below a directory; and with it, [processes](Self::processes).
    ///
    /// What is started is in the same sandbox. Most programs need a loader and libraries: `.execute("/lib64")` and
    /// `.read("/lib")`, say.
    pub fn execute(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.get_or_insert_default().executes.push(path.into());
        self.processes = true;
        self
    }

    /// May it use sockets? Pairs of connected ones are always allowed.
    pub fn network(mut self, allowed: bool) -> Self {
        self.network = allowed;
        self
    }

    /// May it make other processes, and send them signals? Threads are always allowed.
    ///
    /// Where files are denied, signals reach only what is in the same sandbox, and programs have to be
    /// [allowed](Self::execute), but for those that it makes in its own memory (`memfd_create`): Landlock lets it start
    /// them, and they are in the same sandbox, as any code of its own. What it starts is not ended with it, unless it
    /// is a pool or a process of this library.
    pub fn processes(mut self, allowed: bool) -> Self {
        self.processes = allowed;
        self
    }

    /// How much memory each process may have for its own use, in bytes; at least 16 MiB. One more allocation fails,
    /// which aborts a Rust program: the call's worker is lost. [`PoolBuilder::memory`](crate::PoolBuilder::memory)
    /// watches from outside what is in use, per call, and says so in the error; this is a wall that nothing gets past
    /// between two looks.
    ///
    /// This is `RLIMIT_DATA`. [`Shared`](crate::Shared) slices do not count, nor does other memory that is shared
    /// (`memfd`, `/dev/shm`): against code that means harm, a control group is the right tool. Arguments and results
    /// count while they are copied, for a moment twice.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// How much processor time each process may use, over all of its calls, rounded up to seconds. Then it is killed
    /// (`SIGXCPU`), and replaced.
    pub fn cpu_time(mut self, time: Duration) -> Self {
        self.cpu_time = Some(time);
        self
    }

    /// How large the files may get that it writes, in bytes; also the one that standard output is, and shared memory.
    /// Who writes on is killed (`SIGXFSZ`).
    pub fn file_size(mut self, bytes: u64) -> Self {
        self.file_size = Some(bytes);
        self
    }

    /// How many files it may have open; at least 16. A worker has some ten by itself, and one for each
    /// [`Shared`](crate::Shared) slice.
    pub fn open_files(mut self, count: u64) -> Self {
        self.open_files = Some(count);
        self
    }

    /// Where the kernel cannot do all that is asked for, do what it can; a warning says what is missing. Otherwise no
    /// worker starts.
    pub fn best_effort(mut self) -> Self {
        self.best_effort = true;
        self
    }

    /// What a worker is to be told.
    ///
    /// # Errors
    ///
    /// A path leads nowhere, or a limit lets no worker live.
    pub(crate) fn resolve(&self) -> Result<Confinement> {
        let too_low = |what: &str, least: u64, given: u64| {
            Err(Error::invalid(format!("a sandbox allows at least {least} {what}, and {given} were asked for")))
        };
        if let Some(given) = self.memory.filter(|given| *given < LEAST_MEMORY) {
            return too_low("bytes of memory", LEAST_MEMORY, given);
        }
        if let Some(given) = self.open_files.filter(|given| *given < LEAST_FILES) {
            return too_low("open files", LEAST_FILES, given);
        }
        if self.cpu_time.is_some_and(|time| time.is_zero()) {
            return Err(Error::invalid("a sandbox without any processor time lets no worker start"));
        }
        let files = match &self.files {
            None => None,
            Some(paths) => Some(Files {
                reads: all(&paths.reads, "read")?,
                writes: all(&paths.writes, "write")?,
                executes: all(&paths.executes, "execute")?,
            }),
        };
        if let Some(files) = &files {
            let paths = [&files.reads, &files.writes, &files.executes].into_iter().flatten();
            if paths.map(|allowed| allowed.path.len() + WITH_A_PATH).sum::<usize>() > MOST_PATHS {
                return Err(Error::invalid("a sandbox allows too many paths: name directories above them"));
            }
        }
        let confinement = Confinement {
            files,
            network: self.network,
            processes: self.processes,
            limits: ResourceLimits {
                memory: self.memory,
                cpu_time: self.cpu_time.map(|time| time.as_secs() + u64::from(time.subsec_nanos() > 0)),
                file_size: self.file_size,
                open_files: self.open_files,
            },
            best_effort: self.best_effort,
        };
        if self.best_effort {
            // Said here, where somebody may listen, and once.
            for missing in confinement.missing(Abilities::here()) {
                tracing::warn!("a sandbox does less than was asked for, as the kernel lacks something: {missing}");
            }
        }
        Ok(confinement)
    }
}

fn all(paths: &[PathBuf], what: &str) -> Result<Vec<Allowed>> {
    paths.iter().map(|path| existing(path, what)).collect()
}

/// The path from the root on, and what is there.
fn existing(path: &Path, what: &str) -> Result<Allowed> {
    std::path::absolute(path)
        .and_then(|path| os::file_id(&path).map(|id| Allowed::new(path, id)))
        .map_err(|error| Error::os(format!("cannot let a sandbox {what} `{}`", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        refused(Sandbox::none().memory(1), "at least 16777216 bytes of memory, and 1 were");
        refused(Sandbox::none().open_files(3), "at least 16 open files, and 3 were");
        refused(Sandbox::none().cpu_time(Duration::ZERO), "without any processor time");
        let many = (0..MOST_PATHS / 9 + 1).fold(Sandbox::strict(), |sandbox, _| sandbox.read("/"));
        refused(many, "too many paths");
    }

    #[test]
    fn nothing_is_denied_unless_asked_for() {
        let none = Sandbox::default().cpu_time(Duration::from_millis(1500)).resolve().unwrap();
        assert!(none.files.is_none() && none.network && none.processes);
        assert_eq!(none.limits.cpu_time, Some(2));
        assert!(Sandbox::none().read("/").resolve().unwrap().files.is_some());
    }
}
