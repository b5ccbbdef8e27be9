//! `Process`: one call in a process of its own.
//!
//! ```text
//!   start ──▶ process ◀──greet, call── attendant thread ──report, death──▶ outcome ◀── join, from any thread
//! ```
//!
//! Each running process has an attendant thread, which greets it, sends the call, takes its result as soon as it comes
//! (so that a large one never blocks the process), and reaps it. Nobody has to join a process for it to be cleaned up.

use crate::{
    codec::{Reader, Writer},
    dossier::{Dossier, Loss, Ran, Stage},
    error::{Error, Kind, Result},
    identity::{self, ProcessInfo},
    job::{Decode, decode_value},
    limits,
    memory::{Hold, packed::Part},
    options::{Stdio, WorkerOptions, surroundings},
    os::{self, Child},
    peer::launch::{self, Launch, Launched},
    policy::{Policy, Wish},
    protocol::{
        CALLS_HEAD, CallHeader, CallsWriter, Failed, FromWorker, Garbled, Record, Told, chunk_overhead, stop_frame,
    },
    run::{Fault, Run},
    sandbox::Sandbox,
    sync::lock,
    task::{Body, Encoded, RawCall, TaskCall, TaskInfo},
    transport::Received,
};
use std::{
    fmt,
    io::{PipeReader, PipeWriter},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

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
        let failed = match returned {
            Ok(()) if let Some(few) = few => return decode_value(self.decode, call.task.name(), &few),
            Ok(()) => return decode_value(self.decode, call.task.name(), &result.into_bytes()),
            Err(Fault::Decode(why)) => Error::new(Kind::DecodeArgument(why)),
            Err(Fault::Encode(why)) => Error::new(Kind::EncodeResult(why)).with_ran(Ran::Yes),
            Err(Fault::State(why) | Fault::Initializer(why)) => Error::new(Kind::State(why)),
        };
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
        let mut policy = Policy::NONE;
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
                policy = Policy::of(call.wish.as_deref(), call.task.wish(), &Wish::NONE);
                Some((call.task, arguments))
            }
            None => None,
        };
        let mut hello = launch::hello(String::new(), self.daemon, 1, true, self.options.place());
        hello.name = self.name.unwrap_or_else(|| format!("Process-{}", hello.identity));
        let mut launched = launch.start(&self.options)?;
        let pipes =
            Pipes { stdin: launched.stdin.take(), stdout: launched.stdout.take(), stderr: launched.stderr.take() };
        let shared = Arc::new(Shared {
            name: hello.name.clone(),
            daemon: self.daemon,
            task: call.as_ref().map_or("", |(task, _)| task.name()),
            child: launched.child.clone(),
            outcome: Mutex::new(None),
            changed: Condvar::new(),
        });
        lock(&CHILDREN).push(shared.clone());
        let attended = shared.clone();
        let attendant = std::thread::Builder::new().name(format!("pool-{}", hello.name)).stack_size(1 << 18);
        let spawned = attendant.spawn(move || {
            os::block_all_signals();
            let outcome = attend(&mut launched, &hello, call, &policy);
            launched.drain();
            lock(&CHILDREN).retain(|child| !Arc::ptr_eq(child, &attended));
            *lock(&attended.outcome) = Some(outcome);
            attended.changed.notify_all();
        });
        if let Err(error) = spawned {
            let _ = shared.child.kill();
            shared.child.wait();
            lock(&CHILDREN).retain(|child| !Arc::ptr_eq(child, &shared));
            return Err(Error::os("cannot start the thread that attends to a process", error));
        }
        Ok(RunningProcess { shared, decode: self.decode, pipes, value: std::marker::PhantomData })
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

struct Shared {
    name: String,
    daemon: bool,
    /// Empty if there is none.
    task: &'static str,
    child: Arc<Child>,
    outcome: Mutex<Option<Outcome>>,
    changed: Condvar,
}

type Outcome = Result<Vec<u8>>;

/// All processes that were started with [`Process::start`] and have not been reaped.
static CHILDREN: Mutex<Vec<Arc<Shared>>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Pipes {
    stdin: Option<PipeWriter>,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
}

/// Accompanies a process from its greeting to its end.
fn attend(
    launched: &mut Launched,
    hello: &crate::protocol::Hello,
    call: Option<(&'static TaskInfo, Encoded)>,
    policy: &Policy,
) -> Outcome {
    let named = |error: Error| match &call {
        Some((task, _)) => error.of_task(task.name()),
        None => error,
    };
    if let Err(failure) = launched.greet(hello.clone(), None) {
        // One that was signalled meanwhile did not fail to start: it was told to end.
        return Err(named(match launched.child.status() {
            Some(status) if failure.died && status.signal().is_some() => {
                Error::new(Kind::Lost(Dossier::of_process(Loss { stage: Stage::Idle, ..launched.examine(None) })))
            }
            _ => failure.error,
        }));
    }
    let frame = match &call {
        None => stop_frame(),
        Some((task, arguments)) => {
            launched.attacher.bring(&arguments.regions);
            let mut frame = Vec::with_capacity(CALLS_HEAD + chunk_overhead(task.name()) + arguments.bytes.len());
            let only = CallHeader { job: 1, attempt: 1, number: 1, timing: policy.timing() };
            CallsWriter::new(&mut frame, 0).chunk(only, 1, task.name(), Part::single(&arguments.bytes));
            frame
        }
    };
    // If it is gone already, that is noticed below.
    let _ = launched.outlet.send(&frame);
    launched.works();
    let mut ending = None;
    let mut fault = None;
    let mut excess = None;
    while fault.is_none() && excess.is_none() {
        // Once it has returned, what the process does is its own affair.
        let looked = match ending {
            None => limits::look(policy, &launched.page, launched.child.pid()),
            Some(_) => Ok(None),
        };
        let (next_look, found) = match looked {
            Ok(next_look) => (next_look, None),
            // A result that is there already counts.
            Err(found) => (Some(Instant::now()), Some(found)),
        };
        match lock(&launched.inlet).receive(next_look) {
            Received::Frame(frame) => match FromWorker::from_frame(&frame) {
                Ok(FromWorker::Reports(records)) => match ending_in(records) {
                    Ok(found) => ending = found.or(ending),
                    Err(garbled) => fault = Some(garbled.to_string()),
                },
                Ok(_) => fault = Some("sent a message out of turn".to_owned()),
                Err(garbled) => fault = Some(garbled.to_string()),
            },
            Received::Gone => break,
            Received::Garbled(garbled) => fault = Some(garbled),
            Received::Nothing => {}
        }
        excess = found.filter(|_| ending.is_none());
    }
    if fault.is_some() || excess.is_some() {
        let _ = launched.child.kill();
    }
    let status = launched.child.wait();
    let error = match ending {
        Some(Ok(bytes)) => return Ok(bytes),
        Some(Err(failed)) => failed.into(),
        None if call.is_none() && status.is_some_and(|status| status.success()) => return Ok(Vec::new()),
        None => {
            let loss = launched.examine(fault);
            let ran = if launched.page.claimed() == 0 { Ran::No } else { loss.stage.ran() };
            let dossier = Dossier::of_process(loss);
            let kind = match excess {
                Some(excess) => excess.kind(dossier),
                None => Kind::Lost(dossier),
            };
            Error::new(kind).with_ran(ran)
        }
    };
    Err(named(error))
}

/// How the call has ended, if these records say so.
fn ending_in(records: &[u8]) -> Result<Option<Result<Vec<u8>, Failed>>, Garbled> {
    let (mut at, mut ending) = (0, None);
    while let Some(record) = Record::first(&records[at..])? {
        let payload = records.get(record.payload(at)).ok_or(Garbled::cut_off())?;
        ending = match record.told(payload)? {
            Told::Value(bytes) => Some(Ok(bytes.to_vec())),
            Told::Failed(failed) => Some(Err(failed)),
            Told::Time { .. } => ending,
        };
        at = (at + record.size()).min(records.len());
    }
    Ok(ending)
}

/// A process that was started.
///
/// It goes on if this handle is dropped, and is reaped when it ends; when `main` returns, it is joined, or terminated
/// if it is daemonic (see [`pool_main!`](crate::pool_main)).
pub struct RunningProcess<R> {
    shared: Arc<Shared>,
    decode: Decode<R>,
    pipes: Pipes,
    value: std::marker::PhantomData<fn() -> R>,
}

impl<R> RunningProcess<R> {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.shared.child.pid()
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Is it daemonic?
    pub fn daemon(&self) -> bool {
        self.shared.daemon
    }

    /// Does it still run?
    pub fn is_alive(&self) -> bool {
        !self.shared.child.has_ended()
    }

    /// How it ended: 0 if the target returned, 1 if it panicked, n if it exited with n, −N if signal N killed it.
    /// `None` while it runs, and if something else in this program took its exit status.
    pub fn exit_code(&self) -> Option<i32> {
        self.shared.child.has_ended();
        exit_code(&self.shared.child)
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
        let mut guard = lock(&self.shared.outcome);
        loop {
            if let Some(outcome) = &*guard {
                let bytes = match outcome {
                    Ok(bytes) => bytes.clone(),
                    Err(error) => return Some(Err(error.clone())),
                };
                drop(guard);
                return Some(decode_value(self.decode, self.shared.task, &bytes));
            }
            let changed = &self.shared.changed;
            guard = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return None,
                Some(left) => changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Asks it to end, with `SIGTERM`. One that has ended is left alone.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn terminate(&self) -> Result<()> {
        self.shared.child.terminate().map_err(|error| self.cannot("terminate", error))
    }

    /// Ends it, with `SIGKILL`. One that has ended is left alone.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn kill(&self) -> Result<()> {
        self.shared.child.kill().map_err(|error| self.cannot("kill", error))
    }

    /// Interrupts it, with `SIGINT`, as Ctrl-C does. One that has ended is left alone.
    ///
    /// # Errors
    ///
    /// The system does not allow it.
    pub fn interrupt(&self) -> Result<()> {
        self.shared.child.interrupt().map_err(|error| self.cannot("interrupt", error))
    }

    fn cannot(&self, what: &str, error: std::io::Error) -> Error {
        Error::os(format!("cannot {what} process `{}` ({})", self.name(), self.pid()), error)
    }

    /// A descriptor that becomes readable when the process ends, and stays so: for `poll` and its like.
    pub fn sentinel(&self) -> os::HandleRef<'_> {
        self.shared.child.sentinel()
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
        match (self.is_alive(), exit_code(&self.shared.child)) {
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
        .filter(|child| !child.child.has_ended())
        .map(|child| identity::process_info(child.name.clone(), child.child.pid(), child.daemon))
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
            let _ = daemon.child.terminate();
        }
        let deadline = Instant::now() + GRACE;
        for daemon in &daemons {
            let left = deadline.saturating_duration_since(Instant::now());
            if !daemon.child.wait_timeout(Some(left)) {
                let _ = daemon.child.kill();
            }
        }
        for child in daemons.iter().chain(&others) {
            let mut outcome = lock(&child.outcome);
            while outcome.is_none() {
                outcome = child.changed.wait(outcome).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
