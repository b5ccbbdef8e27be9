//! `Process`: one call in a process of its own.
//!
//! ```text
//!   start ──▶ process ◀──greet, call── attendant thread ──report, death──▶ outcome ◀── join, from any thread
//! ```
//!
//! Each running process has an attendant thread, which greets it, sends the call, takes its result as soon as it comes
//! (so that a large one never blocks the process), and reaps it. Nobody has to join a process for it to be cleaned up.

use crate::codec::{Reader, Writer};
use crate::dossier::Stage;
use crate::error::{Error, Result};
use crate::identity::{self, ProcessInfo};
use crate::job::{Decode, decode_value};
use crate::memory::Hold;
use crate::options::{Stdio, WorkerOptions, surroundings};
use crate::os::{Child, HandleRef};
use crate::peer::handshake;
use crate::peer::spawn::Launch;
use crate::policy::{Policy, Wish};
use crate::pool::Single;
use crate::protocol::{Failed, Failure};
use crate::run::Run;
use crate::sandbox::Sandbox;
use crate::sync::lock;
use crate::task::{Body, RawCall, TaskCall};
use std::fmt;
use std::io::{PipeReader, PipeWriter};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A call that will run in a process of its own.
///
/// | option | default |
/// |---|---|
/// | [`name`](Self::name) | `Process-1`, `Process-2`, …, whatever the others are named; `Process-1:1` for the first one that `Process-1` starts |
/// | [`daemon`](Self::daemon) | as the process that starts it: false |
/// | [`env`](Self::env), [`current_dir`](Self::current_dir), [`nice`](Self::nice), [`cpus`](Self::cpus) | those of this process |
/// | [`sandbox`](Self::sandbox) | none: it may do what this process may |
/// | [`stdin`](Self::stdin) | empty |
/// | [`stdout`](Self::stdout), [`stderr`](Self::stderr) | those of this process |
///
/// Time-outs and limits of memory, declared with the task or chosen for [the call](crate::Call::timeout), hold for its
/// process as for a worker of a pool. It is started once: retries mean nothing to it.
///
/// ```
/// # use pool_runtime::{Process, Result, enter, task};
/// #[task]
/// fn greet(name: &str) -> String {
///     format!("hello, {name}")
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let process = Process::new(greet::call("bob")).name("greeter").start()?;
///     assert_eq!(process.join()?, "hello, bob");
///     assert_eq!(process.exit_code(), Some(0));
///     Ok(())
/// }
/// ```
#[must_use = "a process does nothing until it is started"]
pub struct Process<R> {
    target: Option<RawCall>,
    decode: Decode<R>,
    name: Option<String>,
    daemon: bool,
    options: WorkerOptions,
    stdio: [Stdio; 3],
    sandbox: Option<Sandbox>,
}

impl Process<()> {
    /// A process without a target: it starts, does nothing, and ends with exit code 0.
    pub fn idle() -> Self {
        Self::with(None, |_| Ok(()))
    }
}

impl<R> Process<R> {
    /// A process that will run `call`.
    pub fn new<C: TaskCall<Output = R>>(call: C) -> Self {
        Self::with(Some(call.into_raw()), <C::Task as crate::Task>::decode)
    }

    fn with(target: Option<RawCall>, decode: Decode<R>) -> Self {
        Self {
            target,
            decode,
            name: None,
            daemon: identity::current_process().daemon(),
            options: WorkerOptions::default(),
            stdio: [Stdio::null(), Stdio::inherit(), Stdio::inherit()],
            sandbox: None,
        }
    }

    /// The name by which the process and its messages are known.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A daemonic process is terminated when `main` returns, where others are joined; it cannot start processes.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    surroundings!("the process", "starts", "stands");

    /// What the process may do: which files, the network, how much memory.
    ///
    /// ```
    /// # use pool_runtime::{Process, Result, Sandbox, enter, task};
    /// #[task]
    /// fn can_read(file: &str) -> bool {
    ///     std::fs::File::open(file).is_ok()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let process = Process::new(can_read::call("/etc/passwd")).sandbox(Sandbox::strict()).start()?;
    ///     assert!(!process.join()?);
    ///     Ok(())
    /// }
    /// ```
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = Some(sandbox);
        self
    }

    /// What it reads: by default, nothing.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdio[0] = stdin.into();
        self
    }

    /// Where it writes: by default, where this process does.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdio[1] = stdout.into();
        self
    }

    /// Where its panics and complaints go: by default, where this process's do.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stdio[2] = stderr.into();
        self
    }

    /// Runs the target here, in this process, on this thread; arguments and result are encoded and decoded all the
    /// same.
    ///
    /// # Errors
    ///
    /// A value cannot be encoded or decoded.
    ///
    /// # Panics
    ///
    /// If the target does.
    pub fn run(self) -> Result<R> {
        let Some(call) = self.target else { return decode_value(self.decode, "", &[]) };
        let arguments = call.arguments?;
        let Body::Task(body, _) = call.task.body() else {
            return Err(Error::invalid("is an initializer, which cannot be called").of_task(call.task.name()));
        };
        let mut result = Writer::new();
        let hold = Hold::default();
        let mut run = Run {
            arguments: Reader::of_arguments(&arguments.bytes, &hold),
            result: &mut result,
            state: None,
            few: None,
            page: None,
        };
        let returned = body(&mut run);
        let few = run.few;
        let failure = match returned {
            Ok(()) if let Some(few) = few => return decode_value(self.decode, call.task.name(), &few),
            Ok(()) => return decode_value(self.decode, call.task.name(), &result.into_bytes()),
            Err(fault) => fault.into(),
        };
        let stage = if matches!(failure, Failure::Encode(_)) { Stage::Encoding } else { Stage::Decoding };
        let failed = Error::from(Failed { stage, leaving: false, failure });
        Err(failed.of_task(call.task.name()))
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// There is no way in for it (see [`pool_main!`](crate::pool_main)), two tasks have one name, this process is
    /// daemonic or nested too deeply, an argument cannot be encoded, the sandbox names a path that leads nowhere, or
    /// the system cannot start it. That the sandbox asks for more than the kernel can do,
    /// [`join`](RunningProcess::join) says.
    pub fn start(self) -> Result<RunningProcess<R>> {
        self.options.check()?;
        let confinement = self.sandbox.as_ref().map(Sandbox::resolve).transpose()?;
        let launch = Launch { stdio: self.stdio, confinement, ..Launch::new()? };
        let call = match self.target {
            Some(call) => {
                let arguments = call.arguments?;
                if let Some(state) = call.task.state() {
                    return Err(Error::invalid(format!(
                        "asks for a worker state `{}`, which only workers of a pool with an initializer have",
                        state.name()
                    ))
                    .of_task(call.task.name()));
                }
                let policy = Policy::of(call.wish.as_deref(), call.task.wish(), &Wish::NONE);
                Some((call.task, arguments, policy))
            }
            None => None,
        };
        let mut hello = handshake::hello(String::new(), self.daemon, 1, true, self.options.place());
        hello.name = self.name.unwrap_or_else(|| format!("Process-{}", hello.identity));
        let mut launched = launch.start(&self.options)?;
        let pipes =
            Pipes { stdin: launched.stdin.take(), stdout: launched.stdout.take(), stderr: launched.stderr.take() };
        let child = Arc::new(Running {
            name: hello.name.clone(),
            daemon: self.daemon,
            task: call.as_ref().map_or("", |(task, ..)| task.name()),
            process: launched.child.clone(),
            single: OnceLock::new(),
        });
        lock(&CHILDREN).push(child.clone());
        let (itself, process) = (child.clone(), launched.child.clone());
        let forget = move || lock(&CHILDREN).retain(|child| !Arc::ptr_eq(child, &itself));
        match Single::attend(launched, launch, hello, call, forget.clone()) {
            Ok(single) => drop(child.single.set(single)),
            Err(error) => {
                let _ = process.kill();
                process.wait();
                forget();
                return Err(Error::os("cannot start the thread that attends to a process", error));
            }
        }
        Ok(RunningProcess { child, decode: self.decode, pipes, value: std::marker::PhantomData })
    }
}

impl<R> fmt::Display for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("Process");
        write!(f, "<Process {name} initial{}>", if self.daemon { " daemon" } else { "" })
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A process that was started, as long as somebody wants to know of it.
struct Running {
    name: String,
    daemon: bool,
    /// Empty if there is none.
    task: &'static str,
    process: Arc<Child>,
    /// Set before anybody else knows of it.
    single: OnceLock<Single>,
}

/// All processes that were started with [`Process::start`] and have not been reaped.
static CHILDREN: Mutex<Vec<Arc<Running>>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Pipes {
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
}

/// A process that was started.
///
/// It goes on if this handle is dropped, and is reaped when it ends; when `main` returns, it is joined, or terminated
/// if it is daemonic (see [`pool_main!`](crate::pool_main)).
pub struct RunningProcess<R> {
    child: Arc<Running>,
    decode: Decode<R>,
    pipes: Pipes,
    value: std::marker::PhantomData<fn() -> R>,
}

impl<R> RunningProcess<R> {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.process.pid()
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.child.name
    }

    /// Is it daemonic?
    pub fn daemon(&self) -> bool {
        self.child.daemon
    }

    /// Does it still run?
    pub fn is_alive(&self) -> bool {
        !self.child.process.has_ended()
    }

    /// How it ended: 0 if the target returned, 1 if it panicked, n if it exited with n, −N if signal N killed it.
    /// `None` while it runs, and if something else in this program took its exit status.
    pub fn exit_code(&self) -> Option<i32> {
        self.child.process.has_ended();
        exit_code(&self.child.process)
    }

    /// Waits until the process has ended, and returns what its target returned. Can be called again, and from several
    /// threads.
    ///
    /// # Errors
    ///
    /// The target did not return: it panicked, or the process ended before. Or a value cannot be encoded or decoded.
    pub fn join(&self) -> Result<R> {
        self.await_outcome(None).unwrap_or_else(|| Err(Error::invalid("the wait for a process ended early")))
    }

    /// Waits for at most `patience` until the process has ended. `Ok(None)` if it has not; zero does not wait.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, patience: Duration) -> Result<Option<R>> {
        self.await_outcome(Instant::now().checked_add(patience)).transpose()
    }

    fn await_outcome(&self, deadline: Option<Instant>) -> Option<Result<R>> {
        let returned = self.child.single.get()?.await_end(deadline)?;
        Some(returned.and_then(|bytes| decode_value(self.decode, self.child.task, &bytes)))
    }

    /// Asks it to end, with `SIGTERM`. One that has ended is left alone.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn terminate(&self) -> Result<()> {
        self.child.process.terminate().map_err(|error| self.cannot("terminate", error))
    }

    /// Ends it, with `SIGKILL`. One that has ended is left alone.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn kill(&self) -> Result<()> {
        self.child.process.kill().map_err(|error| self.cannot("kill", error))
    }

    /// Interrupts it, with `SIGINT`, as Ctrl-C does. One that has ended is left alone.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn interrupt(&self) -> Result<()> {
        self.child.process.interrupt().map_err(|error| self.cannot("interrupt", error))
    }

    fn cannot(&self, what: &str, error: std::io::Error) -> Error {
        Error::os(format!("cannot {what} process `{}` ({})", self.name(), self.pid()), error)
    }

    /// A descriptor that becomes readable when the process ends, and stays so: for `poll` and its like.
    pub fn sentinel(&self) -> HandleRef<'_> {
        self.child.process.sentinel()
    }

    /// Our end of the pipe that the process reads, if it was started with [`Stdio::piped`]. Once.
    pub fn take_stdin(&mut self) -> Option<PipeWriter> {
        self.pipes.stdin.take()
    }

    /// Our end of the pipe to which the process prints, if it was started with [`Stdio::piped`]. Once.
    pub fn take_stdout(&mut self) -> Option<PipeReader> {
        self.pipes.stdout.take()
    }

    /// Our end of the pipe to which the process complains, if it was started with [`Stdio::piped`]. Once.
    pub fn take_stderr(&mut self) -> Option<PipeReader> {
        self.pipes.stderr.take()
    }
}

fn exit_code(child: &Child) -> Option<i32> {
    let status = child.status()?;
    status.code().or_else(|| status.signal().map(|signal| -signal))
}

impl<R> fmt::Display for RunningProcess<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Process {} ", self.name())?;
        match (self.is_alive(), exit_code(&self.child.process)) {
            (true, _) => f.write_str("started")?,
            (false, None | Some(0)) => f.write_str("stopped")?,
            (false, Some(code)) => write!(f, "stopped[{code}]")?,
        }
        f.write_str(if self.daemon() { " daemon>" } else { ">" })
    }
}

impl<R> fmt::Debug for RunningProcess<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The processes that this one started with [`Process::start`] and that still run; those that have ended are reaped.
pub fn active_children() -> Vec<ProcessInfo> {
    lock(&CHILDREN)
        .iter()
        .filter(|child| !child.process.has_ended())
        .map(|child| identity::process_info(child.name.clone(), child.process.pid(), child.daemon))
        .collect()
}

/// How long a daemonic process may take to obey `SIGTERM` when the program ends.
const GRACE: Duration = Duration::from_secs(1);

/// The end of the program: daemonic processes are terminated, the others joined.
pub(crate) fn finish() {
    // Whoever is joined may start others meanwhile: no, that is their own affair; but a thread of ours may.
    loop {
        let children = lock(&CHILDREN).clone();
        if children.is_empty() {
            return;
        }
        let (daemons, others): (Vec<_>, Vec<_>) = children.into_iter().partition(|child| child.daemon);
        for daemon in &daemons {
            let _ = daemon.process.terminate();
        }
        let deadline = Instant::now() + GRACE;
        for daemon in &daemons {
            let left = deadline.saturating_duration_since(Instant::now());
            if !daemon.process.wait_timeout(Some(left)) {
                let _ = daemon.process.kill();
            }
        }
        for child in daemons.iter().chain(&others) {
            match child.single.get() {
                Some(single) => drop(single.await_end(None)),
                // It is just being started, by another thread.
                None => std::thread::yield_now(),
            }
        }
    }
}
