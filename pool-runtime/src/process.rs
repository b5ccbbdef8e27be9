//! `Process`: one call in a process of its own.
//!
//! ```text
//!   start ──▶ process ◀──greet, call── attendant thread ──report, death──▶ outcome ◀── join, from any thread
//! ```
//!
//! Each running process has an attendant thread, which greets it, sends the call, reads its result at once (so that a
//! large one never blocks the process), and reaps it, whether or not it is joined.

use crate::codec::{Reader, Writer};
use crate::dossier::Stage;
use crate::error::{Error, Result};
use crate::foreign;
use crate::identity::{self, Kinship, MadeIn, ProcessInfo};
use crate::job::{Decode, decode_payload, decode_value};
use crate::locks::lock;
use crate::logging::LogSubscriber;
use crate::memory::{Hold, Payload, Regions};
use crate::options::{Stdio, WorkerOptions, surroundings};
use crate::os::{self, Child, HandleRef};
use crate::panic;
use crate::peer::autopsy::TIME_TO_DIE;
use crate::peer::handshake;
use crate::peer::spawn::{Launch, Launched, StdPipes};
use crate::policy::{Policy, Wish};
use crate::pool::{ReturnedBytes, Single};
use crate::protocol::{Failed, Failure};
use crate::run::Run;
use crate::sandbox::Sandbox;
use crate::targets::PROCESS;
use crate::task::{Body, RawCall, TaskCall};
use crate::worker::Joining;
use std::fmt;
use std::io::{PipeReader, PipeWriter};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tracing::Level;

/// A call that will run in a process of its own.
///
/// | option | default |
/// |---|---|
/// | [`name`](Self::name) | `Process-1`, `Process-2`, …; `Process-1:1` for the first one that `Process-1` starts |
/// | [`daemon`](Self::daemon) | that of this process; false in the first process |
/// | [`env`](Self::env), [`current_dir`](Self::current_dir), [`nice`](Self::nice), [`cpus`](Self::cpus), [`scheduler`](Self::scheduler) | those of this process; in a sandbox, see [`inherit_env`](Sandbox::inherit_env) |
/// | [`executable`](Self::executable) | this program |
/// | [`sandbox`](Self::sandbox) | none: it has the rights of this process |
/// | [`stdin`](Self::stdin) | empty |
/// | [`stdout`](Self::stdout), [`stderr`](Self::stderr) | those of this process; in a sandbox, see [`inherit_output`](Sandbox::inherit_output) |
///
/// Timeouts and memory limits, declared with the task or set for [the call](crate::Call::timeout), apply as in a pool.
/// The process is started once: retries have no effect.
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
    executable: Option<PathBuf>,
    exit_grace: Duration,
}

impl Process<()> {
    /// A process without a target, which ends at once with exit code 0.
    pub fn idle() -> Self {
        Self::with(None, |_| Ok(()))
    }
}

impl<R> Process<R> {
    /// A process that runs `call` once it is started.
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
            executable: None,
            exit_grace: EXIT_GRACE,
        }
    }

    /// The name of the process, also in its messages.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A daemonic process is terminated when `main` returns, while others are joined. It cannot start processes.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    surroundings!("the process", "starts", options.);

    /// What the process may use: files, the network, memory.
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
    #[cfg(feature = "sandbox")]
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = Some(sandbox);
        self
    }

    /// The file to start: a copy of this program, or a wrapper that executes it. It must be the same build; if it is not,
    /// [`join`](RunningProcess::join) says so.
    pub fn executable(mut self, path: impl Into<PathBuf>) -> Self {
        self.executable = Some(path.into());
        self
    }

    /// How long the process may take to end once its target has returned. Then it is killed, with a warning in the log;
    /// what the target has returned counts all the same, and [`exit_code`](RunningProcess::exit_code) is −9.
    ///
    /// In this time, what the program has registered with `atexit` runs. Time in which the process joins a `Process` that
    /// it has started itself does not count: it may take for as long as that one lives. `Duration::MAX` is no limit; the
    /// default is 5 s.
    ///
    /// The limits of its call hold until the process has ended: it is killed when its timeout is over, though not before
    /// two seconds after its target has returned, and when it has more memory than its call may use.
    ///
    /// ```
    /// # use pool_runtime::{Process, Result, enter, task};
    /// # use std::time::Duration;
    /// #[task]
    /// fn double(n: u32) -> u32 {
    ///     2 * n
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let process = Process::new(double::call(21)).exit_grace(Duration::from_secs(60)).start()?;
    ///     assert_eq!(process.join()?, 42);
    ///     Ok(())
    /// }
    /// ```
    pub fn exit_grace(mut self, grace: Duration) -> Self {
        self.exit_grace = grace;
        self
    }

    /// Its standard input; empty by default.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdio[0] = stdin.into();
        self
    }

    /// Its standard output; that of this process by default.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdio[1] = stdout.into();
        self
    }

    /// Its standard error, to which its panics are printed; that of this process by default.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stdio[2] = stderr.into();
        self
    }

    /// Runs the target in this process, on this thread. Arguments and result are encoded and decoded all the same. What
    /// was chosen for a process of its own does not apply: name, environment, directory, streams, and the limits of the
    /// call.
    ///
    /// # Errors
    ///
    /// A value cannot be encoded or decoded; or it was to have a [sandbox](Self::sandbox), which this process is not to
    /// get.
    ///
    /// # Panics
    ///
    /// If the target does.
    pub fn run(self) -> Result<R> {
        let Some(call) = self.target else { return decode_value(self.decode, "", &[]) };
        if self.sandbox.is_some() {
            let why = "cannot run in this process, as it is to have a sandbox: use `start`";
            return Err(Error::invalid(why).of_task(call.task.name()));
        }
        let arguments = call.arguments?;
        let Body::Task(body, _) = call.task.body else {
            return Err(Error::invalid("is an initializer, which cannot be called").of_task(call.task.name()));
        };
        let (mut result, hold) = (Writer::new(), Hold::default());
        let arguments = Reader::of_arguments(&arguments.bytes, &hold);
        let mut regions = Regions::default();
        let mut run = Run { attached: Some(&mut regions), ..Run::new(arguments, &mut result) };
        let returned = body(&mut run);
        let short = run.short;
        let failure = match returned {
            Ok(()) if let Some(short) = short => return decode_value(self.decode, call.task.name(), &short),
            Ok(()) => {
                let result = Payload::attached(result.into_bytes(), regions);
                return decode_payload(self.decode, call.task.name(), &result);
            }
            Err(fault) => fault.into(),
        };
        let stage = if matches!(failure, Failure::Encode(_)) { Stage::Encoding } else { Stage::Decoding };
        Err(Error::from(Failed { stage, leaving: false, failure }).of_task(call.task.name()))
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// There is no way in for it (see [`pool_main!`](crate::pool_main)), two tasks have one name, this process is
    /// daemonic, nested too deeply or has more rights than its starter, an argument cannot be encoded, the sandbox
    /// names a path that does not exist, or the system cannot start it. If the kernel does not support the sandbox,
    /// [`join`](RunningProcess::join) says so.
    pub fn start(self) -> Result<RunningProcess<R>> {
        self.options.check()?;
        let mut launch = Launch { stdio: self.stdio, program: self.executable, ..Launch::new()? };
        launch.confine(self.sandbox.as_ref())?;
        let confined = launch.confinement.is_some();
        let prepare = |call: RawCall| {
            let arguments = call.arguments?;
            let arguments = if confined { arguments.set_apart(call.task)? } else { arguments };
            if let Some(state) = call.task.state() {
                return Err(Error::invalid(format!(
                    "asks for a worker state `{}`, which only workers of a pool with an initializer have",
                    state.name
                ))
                .of_task(call.task.name()));
            }
            let policy = Policy::of(call.wish.as_deref(), &call.task.wish, &Wish::NONE);
            if policy.memory != u64::MAX {
                os::check_memory_is_seen().map_err(|error| Error::memory_unseen(error).of_task(call.task.name()))?;
            }
            Ok((call.task, arguments, policy))
        };
        let call = self.target.map(prepare).transpose()?;
        let mut hello = handshake::hello(String::new(), self.daemon, 1, true, self.options.place.clone());
        hello.name = self.name.unwrap_or_else(|| format!("Process-{}", hello.identity));
        let (name, daemon) = (hello.name.clone(), self.daemon);
        let task = call.as_ref().map_or("", |(task, ..)| task.name());
        let born = Arc::new(OnceLock::<Arc<Running>>::new());
        let itself = born.clone();
        let begin = move |launched: &mut Launched| {
            let (process, single) = (launched.child.clone(), OnceLock::new());
            let made_in = MadeIn::this_process();
            let kinship = Kinship::Child(process.clone(), made_in);
            let info = ProcessInfo { name, pid: process.pid(), daemon, kinship };
            let child = Arc::new(Running { info, made_in, task, process, single });
            lock(&CHILDREN).push(child.clone());
            let _ = born.set(child.clone());
            (child, std::mem::take(&mut launched.pipes))
        };
        let forget = move || {
            if let Some(itself) = itself.get() {
                lock(&CHILDREN).retain(|child| !Arc::ptr_eq(child, itself));
            }
        };
        let (single, (child, pipes)) =
            Single::start(launch, self.options, hello, call, self.exit_grace, begin, forget)?;
        let _ = child.single.set(single);
        Ok(RunningProcess { child, decode: self.decode, pipes })
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

/// What a [`RunningProcess`] and [`CHILDREN`] share.
struct Running {
    info: ProcessInfo,
    made_in: MadeIn,
    /// The name of the target; empty if there is none.
    task: &'static str,
    process: Arc<Child>,
    /// Set before [`Process::start`] returns.
    single: OnceLock<Single>,
}

impl Running {
    fn is_alive(&self) -> bool {
        match self.made_in.is_here() {
            true => !self.process.has_ended(),
            // Only its parent can reap it.
            false => !os::wait_readable([self.process.sentinel()], Some(Duration::ZERO)).is_ok_and(|[ended]| ended),
        }
    }
}

/// The processes that [`Process::start`] has started and that have not been reaped.
static CHILDREN: Mutex<Vec<Arc<Running>>> = Mutex::new(Vec::new());

/// A process that was started.
///
/// Dropping this handle does not end the process, which is reaped when it ends. When `main` returns, it is joined, or
/// terminated if it is daemonic (see [`pool_main!`](crate::pool_main)).
pub struct RunningProcess<R> {
    child: Arc<Running>,
    decode: Decode<R>,
    pipes: StdPipes,
}

impl<R> RunningProcess<R> {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.info.pid()
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.child.info.name()
    }

    /// Whether it is daemonic.
    pub fn daemon(&self) -> bool {
        self.child.info.daemon()
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.child.is_alive()
    }

    /// How it ended: 0 if the target returned, 1 if it panicked, n if it exited with n, −N if signal N killed it.
    /// `None` while it runs, or if something else in this program took its exit status.
    pub fn exit_code(&self) -> Option<i32> {
        if self.child.is_alive() {
            return None;
        }
        let status = self.child.process.status()?;
        status.code().or_else(|| status.signal().map(|signal| -signal))
    }

    /// Waits until the process has ended, and returns the target's result. It can be called more than once, and from
    /// several threads. A process whose target has returned ends within its [`exit_grace`](Process::exit_grace), or is
    /// killed, unless it still joins processes of its own: those it may join for as long as they live.
    ///
    /// # Errors
    ///
    /// The target panicked, the process ended before it returned, or a value cannot be encoded or decoded.
    pub fn join(&self) -> Result<R> {
        self.await_outcome(None).unwrap_or_else(|| Err(Error::invalid("the wait for a process ended early")))
    }

    /// As [`join`](Self::join), but waits for at most `patience`: `Ok(None)` if the process has not ended by then.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, patience: Duration) -> Result<Option<R>> {
        self.await_outcome(Instant::now().checked_add(patience)).transpose()
    }

    fn await_outcome(&self, deadline: Option<Instant>) -> Option<Result<R>> {
        if let Err(error) = self.child.made_in.check("process") {
            return Some(Err(error.of_task(self.child.task)));
        }
        let _joining = Joining::new();
        let returned = self.child.single.get()?.await_end(deadline)?;
        Some(returned.and_then(|bytes| decode_payload(self.decode, self.child.task, &bytes)))
    }

    /// Calls `f` once with the result when the process has ended, before [`join`](Self::join) and the future return it.
    ///
    /// Callbacks of one process run one after the other on a thread of their own. If the process has ended, and those
    /// before have returned, `f` is called at once, on this thread. One that panics harms nothing else; one that waits for
    /// this very process waits for itself.
    ///
    /// ```
    /// # use pool_runtime::{Process, Result, enter, task};
    /// #[task]
    /// fn double(n: u32) -> u32 {
    ///     2 * n
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let (sender, receiver) = std::sync::mpsc::channel();
    ///     let process = Process::new(double::call(21)).start()?;
    ///     let process = process.on_done(move |result| sender.send(result.clone().ok()).unwrap());
    ///     assert_eq!(process.join()?, 42);
    ///     assert_eq!(receiver.try_recv(), Ok(Some(42)), "it was called before");
    ///     Ok(())
    /// }
    /// ```
    pub fn on_done(self, f: impl FnOnce(&Result<R>) + Send + 'static) -> Self
    where
        R: 'static,
    {
        let (decode, task, subscriber) = (self.decode, self.child.task, LogSubscriber::of_this_thread());
        let callback = move |returned: ReturnedBytes| {
            let result = returned.and_then(|bytes| decode_payload(decode, task, &bytes));
            if let Err(panic) = panic::catch(|| f(&result)) {
                subscriber.log(Level::WARN, || {
                    move || {
                        let reason = foreign::line(&panic.to_string()).to_string();
                        tracing::warn!(target: PROCESS, task, %reason, "a callback of a process has panicked");
                    }
                });
            }
        };
        match (self.child.made_in.check("process"), self.child.single.get()) {
            (Err(error), _) => callback(Err(error.of_task(task))),
            (Ok(()), Some(single)) => single.then(Box::new(callback)),
            // It is set before this handle exists.
            (Ok(()), None) => {}
        }
        self
    }

    /// Sends `SIGTERM`. Has no effect on a process that has ended.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn terminate(&self) -> Result<()> {
        self.child.made_in.check("process")?;
        self.child.process.terminate().map_err(|error| self.cannot("terminate", error))
    }

    /// Sends `SIGKILL`. Has no effect on a process that has ended.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn kill(&self) -> Result<()> {
        self.child.made_in.check("process")?;
        self.child.process.kill().map_err(|error| self.cannot("kill", error))
    }

    /// Sends `SIGINT`, as Ctrl-C does. Has no effect on a process that has ended.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn interrupt(&self) -> Result<()> {
        self.child.made_in.check("process")?;
        self.child.process.interrupt().map_err(|error| self.cannot("interrupt", error))
    }

    fn cannot(&self, what: &str, error: std::io::Error) -> Error {
        Error::os(format!("cannot {what} process `{}` ({})", self.name(), self.pid()), error)
    }

    /// A descriptor that becomes readable when the process ends, and stays so, for `poll` and similar calls.
    pub fn sentinel(&self) -> HandleRef<'_> {
        self.child.process.sentinel()
    }

    /// Takes the pipe to its standard input, if it was started with [`Stdio::piped`].
    pub fn take_stdin(&mut self) -> Option<PipeWriter> {
        self.pipes.stdin.take()
    }

    /// Takes the pipe from its standard output, if it was started with [`Stdio::piped`].
    pub fn take_stdout(&mut self) -> Option<PipeReader> {
        self.pipes.outputs[0].take()
    }

    /// Takes the pipe from its standard error, if it was started with [`Stdio::piped`].
    pub fn take_stderr(&mut self) -> Option<PipeReader> {
        self.pipes.outputs[1].take()
    }
}

/// Resolves as [`join`](RunningProcess::join) returns, on any executor. The latest waker counts. It may be polled again
/// after that, and is ready at once.
///
/// ```
/// # use pool_runtime::{Process, Result, enter, task};
/// #[task]
/// fn double(n: u32) -> u32 {
///     2 * n
/// }
///
/// async fn double_elsewhere(n: u32) -> Result<u32> {
///     Process::new(double::call(n)).start()?.await
/// }
/// # fn main() -> Result<()> {
/// #     enter();
/// #     let (mut future, waker) = (std::pin::pin!(double_elsewhere(21)), std::task::Waker::noop());
/// #     loop {
/// #         match future.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
/// #             std::task::Poll::Ready(doubled) => return Ok(assert_eq!(doubled?, 42)),
/// #             std::task::Poll::Pending => std::thread::yield_now(),
/// #         }
/// #     }
/// # }
/// ```
impl<R> Future for RunningProcess<R> {
    type Output = Result<R>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<R>> {
        if let Err(error) = self.child.made_in.check("process") {
            return Poll::Ready(Err(error.of_task(self.child.task)));
        }
        match self.child.single.get().and_then(|single| single.poll_end(context.waker())) {
            None => Poll::Pending,
            Some(returned) => {
                Poll::Ready(returned.and_then(|bytes| decode_payload(self.decode, self.child.task, &bytes)))
            }
        }
    }
}

impl<R> fmt::Display for RunningProcess<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Process {} ", self.name())?;
        match (self.is_alive(), self.exit_code()) {
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

/// The processes that this one started with [`Process::start`] and that still run.
pub fn active_children() -> Vec<ProcessInfo> {
    lock(&CHILDREN)
        .iter()
        .filter(|child| child.made_in.is_here() && child.is_alive())
        .map(|child| child.info.clone())
        .collect()
}

/// How long a process may take to end once its target has returned, if nothing else is said.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// How long a daemonic process may take to end after `SIGTERM`.
const GRACE: Duration = Duration::from_secs(1);

/// At the end of the program: terminates daemonic processes, and joins the others.
pub(crate) fn finish() {
    // Other threads of this program may start processes meanwhile.
    loop {
        // Those of the process that this one was forked from are that one's concern.
        let mut children = lock(&CHILDREN).clone();
        children.retain(|child| child.made_in.is_here());
        if children.is_empty() {
            return;
        }
        let (daemons, others): (Vec<_>, Vec<_>) = children.into_iter().partition(|child| child.info.daemon());
        for daemon in &daemons {
            let _ = daemon.process.terminate();
        }
        let deadline = Instant::now() + GRACE;
        for daemon in &daemons {
            let left = deadline.saturating_duration_since(Instant::now());
            if !daemon.process.wait_timeout(Some(left)) {
                // One that cannot be killed ends by itself: this program's end closes its connection.
                let _ = daemon.process.kill();
                if !daemon.process.await_death(TIME_TO_DIE) {
                    lock(&CHILDREN).retain(|child| !Arc::ptr_eq(child, daemon));
                }
            }
        }
        let _joining = Joining::new();
        let ended = daemons.iter().filter(|daemon| daemon.process.has_ended());
        for child in ended.chain(&others) {
            match child.single.get() {
                Some(single) => drop(single.await_end(None)),
                // Another thread is starting it.
                None => std::thread::yield_now(),
            }
        }
    }
}
