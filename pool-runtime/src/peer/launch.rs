//! Starts a process of this program and brings it through the handshake; the same for pools and for processes.
//!
//! Nothing here waits without a deadline or without watching the child: a process that dies, hangs or is another
//! program before it has answered is an error that says so.

use crate::{
    dossier::{Dossier, Loss, Stage, was_killed},
    error::{Error, Kind, Result},
    memory::{attach::Courier, region::Region},
    options::{Stdio, StdioKind, WorkerOptions},
    os::{self, Child, Confinement, Io, OomWatch, Spawn, StatusPage},
    panic::PanicInfo,
    peer::relay::{Relay, Strand, To},
    program::{self, Mark, WayIn, given},
    protocol::{FromWorker, Hello, NamedCall, Place},
    registry,
    sync::lock,
    transport::{Inlet, Outlet, Received, channel, ring},
};
use std::{
    io::{self, PipeReader, PipeWriter},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    path::PathBuf,
    process::ExitStatus,
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

/// How long a new process may take to answer, if nobody says otherwise. Generous, for a machine that is overloaded.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a process may live on after its channel has closed.
pub(crate) const LAST_BREATH: Duration = Duration::from_secs(2);

/// All that a new process is made from.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) way_in: WayIn,
    pub(crate) program: Option<PathBuf>,
    pub(crate) stdio: [Stdio; 3],
    pub(crate) start_timeout: Duration,
    /// How long its initializer may take.
    pub(crate) initializer_timeout: Option<Duration>,
    /// The bells that it rings, if it is to be reached through rings.
    pub(crate) bells: Option<Arc<ring::Bells>>,
    /// What it may not do.
    pub(crate) confinement: Option<Confinement>,
    /// What passes on their output, if there is one for several processes; and whether it keeps the last of it.
    pub(crate) relay: Option<Arc<Relay>>,
    pub(crate) capture: bool,
}

impl Launch {
    /// What a process gets if nobody says otherwise: nothing to read, our output, our environment.
    ///
    /// # Errors
    ///
    /// This process may not start any: it has no way in for workers, has two tasks of one name, is daemonic, or is
    /// nested too deeply.
    pub(crate) fn new() -> Result<Self> {
        let way_in = program::way_in()?;
        registry::check()?;
        if program::current_process().daemon() {
            return Err(Error::new(Kind::Daemonic));
        }
        if program::depth() >= program::MAX_DEPTH {
            return Err(Error::new(Kind::TooDeep(program::depth())));
        }
        Ok(Self {
            way_in,
            program: None,
            stdio: [Stdio::null(), Stdio::inherit(), Stdio::inherit()],
            start_timeout: START_TIMEOUT,
            initializer_timeout: None,
            bells: None,
            confinement: None,
            relay: None,
            capture: false,
        })
    }

    /// Is the output of processes to be captured with that of a test?
    fn is_in_test(&self) -> bool {
        matches!(self.way_in, WayIn::Test { .. })
    }

    /// From now on, what these processes print passes through one thread, if it passes through any. In a test, it
    /// belongs to the one on whose thread this is called.
    pub(crate) fn share_relay(&mut self) -> Result<()> {
        if self.capture || self.is_in_test() {
            let made = Relay::new();
            let failed = |error| Error::os("cannot start the thread that passes on what workers print", error);
            self.relay = Some(Arc::new(made.map_err(failed)?));
        }
        Ok(())
    }
}

/// The greeting for a process of this build.
pub(crate) fn hello(name: String, daemon: bool, epoch: u32, single: bool, place: Place) -> Hello {
    Hello {
        file: program::file(),
        build: None,
        table: registry::digest(),
        epoch,
        name,
        identity: program::next_identity(),
        parent_name: program::current_process().name().to_owned(),
        daemon,
        depth: program::depth() + 1,
        single,
        place,
        has_initializer: false,
        confinement: None,
    }
}

/// A process that was started, and the ends of what leads to it.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Arc<Child>,
    pub(crate) page: Arc<StatusPage>,
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) inlet: Arc<Mutex<Box<dyn Inlet>>>,
    pub(crate) socket: channel::ReceivingSocket,
    /// The memory of its rings, if there are any.
    pub(crate) rings: Option<Arc<ring::Memory>>,
    /// How shared memory gets there.
    pub(crate) courier: Arc<Courier>,
    pub(crate) stdin: Option<PipeWriter>,
    pub(crate) stdout: Option<PipeReader>,
    pub(crate) stderr: Option<PipeReader>,
    relay: Option<Arc<Relay>>,
    /// What passes through it, and whether it is to be kept.
    strands: [Option<Arc<Strand>>; 2],
    captured: bool,
    in_test: bool,
    /// What is needed to find out whether it was killed for want of memory, once it works.
    oom: OnceLock<OomWatch>,
    is_other_file: bool,
    confinement: Option<Confinement>,
    /// None is never.
    deadline: Option<Instant>,
    timeout: Duration,
    initializer_timeout: Option<Duration>,
}

/// Why a process did not become a worker.
#[derive(Debug)]
pub(crate) struct StartFailure {
    pub(crate) error: Error,
    /// It would fail the same way again.
    pub(crate) for_good: bool,
    /// It ended by itself, or somebody else ended it: its status says how.
    pub(crate) died: bool,
}

/// One standard stream of a process that is about to start: what it gets, and our end of a pipe.
struct Prepared {
    given: Option<OwnedFd>,
    null: bool,
    reader: Option<PipeReader>,
    writer: Option<PipeWriter>,
}

impl Prepared {
    fn new(stream: &StdioKind, reads: bool) -> io::Result<Self> {
        let mut prepared = Self { given: None, null: false, reader: None, writer: None };
        match stream {
            StdioKind::Inherit => {}
            StdioKind::Null => prepared.null = true,
            StdioKind::Fd(fd) => prepared.given = Some(fd.try_clone()?),
            StdioKind::Piped => {
                let (reader, writer) = io::pipe()?;
                let reader = PipeReader::from(os::beyond_standard(reader.into())?);
                let writer = PipeWriter::from(os::beyond_standard(writer.into())?);
                if reads {
                    (prepared.given, prepared.writer) = (Some(reader.into()), Some(writer));
                } else {
                    (prepared.given, prepared.reader) = (Some(writer.into()), Some(reader));
                }
            }
        }
        Ok(prepared)
    }

    fn io(&self) -> Option<Io<'_>> {
        match &self.given {
            Some(fd) => Some(Io::Fd(fd.as_fd())),
            None => self.null.then_some(Io::Null),
        }
    }
}

impl Launch {
    /// Starts the process; it has yet to be [greeted](Launched::greet).
    ///
    /// # Errors
    ///
    /// The system refuses: no more processes, descriptors or memory, or no such directory.
    pub(crate) fn start(&self, options: &WorkerOptions) -> Result<Launched> {
        let _turn = Turn::take();
        self.try_start(options).map_err(|error| {
            let action = if error.kind() == io::ErrorKind::PermissionDenied && program::is_confined() {
                "cannot start a process of this program, as this one is in a sandbox (let that `execute` this program, \
                 its loader and its libraries)"
            } else {
                "cannot start a process of this program"
            };
            Error::os(action, error)
        })
    }

    fn try_start(&self, options: &WorkerOptions) -> io::Result<Launched> {
        let pair = channel::Pair::new()?;
        let (passes, passed) = os::passing::pair()?;
        let mut page = StatusPage::new()?;
        let mut rings = self.bells.as_ref().map(|_| ring::Memory::new()).transpose()?;
        let [reads, writes] = pair.worker_ends()?;

        // Under a test harness the output of workers is read here and printed from a thread of the test's, so that it
        // is captured with the test's own; and the harness in the worker must not print its own lines.
        let in_test = self.is_in_test();
        let passed_on = |index: usize| {
            let captured = in_test && index > 0 || self.capture && index == 2;
            captured && matches!(self.stdio[index].0, StdioKind::Inherit)
        };
        let prepare = |index: usize| match (&self.stdio[index].0, passed_on(index)) {
            (StdioKind::Inherit, true) => Prepared::new(&StdioKind::Piped, false),
            (stream, _) => Prepared::new(stream, index == 0),
        };
        let [mut stdin, mut stdout, mut stderr] = [prepare(0)?, prepare(1)?, prepare(2)?];
        let relay = match &self.relay {
            Some(relay) => Some(relay.clone()),
            None if passed_on(1) || passed_on(2) => Some(Arc::new(Relay::new()?)),
            None => None,
        };

        let socket = rustix::fs::fstat(reads)?.st_ino;
        let mark = Mark { parent: std::process::id(), socket, silenced: in_test, rings: rings.is_some() };
        let mut descriptors = vec![(given::READS, Io::Fd(reads)), (given::WRITES, Io::Fd(writes))];
        descriptors.extend(page.fd().map(|page| (given::STATUS, Io::Fd(page))));
        descriptors.push((given::PASSED, Io::Fd(passed.as_fd())));
        let mut more = given::MORE..;
        descriptors.extend(stdin.io().map(|io| (0, io)));
        descriptors.extend(stderr.io().map(|io| (2, io)));
        if in_test {
            descriptors.push((1, Io::Null));
            descriptors.extend(more.next().map(|number| (number, stdout.io().unwrap_or(Io::Null))));
        } else {
            descriptors.extend(stdout.io().map(|io| (1, io)));
        }
        let shared = [rings.as_ref().and_then(ring::Memory::fd), self.bells.as_ref().and_then(|bells| bells.fd())];
        descriptors.extend(shared.into_iter().flatten().zip(more.by_ref()).map(|(fd, number)| (number, Io::Fd(fd))));

        let program = match &self.program {
            Some(program) => program.clone(),
            None => os::program_path()?,
        };
        let child = Spawn {
            program: program.as_os_str(),
            args: &self.way_in.args(),
            env: &program::environment(&options.env, &mark),
            current_dir: options.current_dir.as_ref().map(|dir| dir.as_os_str()),
            close_from: more.start,
            descriptors: &descriptors,
        }
        .start()?;
        let child = Arc::new(child);
        drop(descriptors);
        drop(passed);
        page.close_fd();
        rings.iter_mut().for_each(ring::Memory::close_fd);
        (stdin.given, stdout.given, stderr.given) = (None, None, None);

        let channel::Pair { sender, mut receiver, .. } = pair;
        let guard = KillOnDrop(Some(&child));
        receiver.watch(child.clone());
        let pass_on = |index: usize, stream: &mut Prepared| -> io::Result<Option<Arc<Strand>>> {
            let to = match index {
                1 => To::Test(|text| print!("{text}")),
                _ if in_test => To::Test(|text| eprint!("{text}")),
                _ if os::has_stderr() => To::Stderr,
                _ => To::Nowhere,
            };
            let reader = stream.reader.take_if(|_| passed_on(index));
            reader.zip(relay.as_ref()).map(|(reader, relay)| relay.add(reader, to)).transpose()
        };
        let strands = [pass_on(1, &mut stdout)?, pass_on(2, &mut stderr)?];
        guard.disarm();
        let (inlet, socket) = receiver.share();
        Ok(Launched {
            child,
            page: Arc::new(page),
            outlet: Arc::new(sender),
            socket,
            inlet,
            rings: rings.map(Arc::new),
            courier: Courier::new(passes),
            stdin: stdin.writer,
            stdout: stdout.reader,
            stderr: stderr.reader,
            relay,
            strands,
            captured: self.capture,
            in_test,
            oom: OnceLock::new(),
            is_other_file: self.program.is_some(),
            confinement: self.confinement.clone(),
            deadline: Instant::now().checked_add(self.start_timeout),
            timeout: self.start_timeout,
            initializer_timeout: self.initializer_timeout,
        })
    }
}

/// How many processes are started at the same time. While one is, twice as many descriptors are open for it as later:
/// those of a large pool must not run out because all its workers start at once.
const STARTS: usize = 8;

static STARTING: Mutex<usize> = Mutex::new(0);
static STARTED: Condvar = Condvar::new();

/// The right to start a process.
struct Turn;

impl Turn {
    fn take() -> Self {
        let mut starting = lock(&STARTING);
        while *starting >= STARTS {
            starting = STARTED.wait(starting).unwrap_or_else(PoisonError::into_inner);
        }
        *starting += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&STARTING) -= 1;
        STARTED.notify_one();
    }
}

/// A child that is not handed out is not left behind.
struct KillOnDrop<'c>(Option<&'c Child>);

impl KillOnDrop<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(child) = self.0 {
            let _ = child.kill();
            child.wait();
        }
    }
}

/// When a process died that did not answer.
const BEFORE: &str = "before it became a worker: does code that runs before `pool_main!` or `enter()` exit or panic?";

impl Launched {
    /// Greets the process, and waits until it agrees to work and its initializer has run.
    ///
    /// # Errors
    ///
    /// It died, did not answer in time, is of another build, or its initializer failed. It is dead by then.
    pub(crate) fn greet(
        &self,
        mut hello: Hello,
        initializer: Option<(&NamedCall, &[Arc<Region>])>,
    ) -> Result<(), StartFailure> {
        hello.has_initializer = initializer.is_some();
        hello.confinement = self.confinement.clone();
        hello.build = if self.is_other_file { program::build() } else { None };
        // The greeting is small: it fits into the channel, whether or not anybody reads.
        let met = self.outlet.send(&hello.to_frame()).map_err(|_| self.died(BEFORE));
        let met = met.and_then(|()| self.welcome(initializer));
        met.inspect_err(|_| {
            let _ = self.child.kill();
            self.child.wait();
        })
    }

    fn welcome(&self, initializer: Option<(&NamedCall, &[Arc<Region>])>) -> Result<(), StartFailure> {
        let late = |pid, timeout| {
            format!(
                "process {pid} did not become a worker within {timeout:?}: does the program do something long before \
                 `pool_main!` or `enter()`?"
            )
        };
        match self.answer(self.deadline, BEFORE, || again(Kind::Invalid(late(self.child.pid(), self.timeout))))? {
            FromWorker::Welcome => {}
            FromWorker::Refused(why) => return Err(for_good(Kind::Refused(why))),
            _ => return Err(self.nonsense("answered a greeting with something else")),
        }
        let when = match initializer {
            Some((call, regions)) => {
                let when = format!("in the initializer `{}`", call.task);
                self.courier.bring(regions);
                self.outlet.send(&call.to_frame()).map_err(|_| self.died(&when))?;
                when
            }
            None => "when it was about to work".to_owned(),
        };
        // An initializer may take as long as it needs, if nobody says otherwise.
        let limit = self.initializer_timeout.filter(|_| initializer.is_some());
        let late = || for_good(Kind::Initializer(format!("it took longer than {:?}", limit.unwrap_or_default())));
        match self.answer(limit.and_then(|limit| Instant::now().checked_add(limit)), &when, late)? {
            FromWorker::Ready => {
                lock(&self.inlet).works();
                Ok(())
            }
            FromWorker::NotReady(why) => Err(StartFailure { error: why.into(), for_good: true, died: false }),
            _ => Err(self.nonsense("went to work before it was ready")),
        }
    }

    fn answer(
        &self,
        deadline: Option<Instant>,
        when: &str,
        late: impl FnOnce() -> StartFailure,
    ) -> Result<FromWorker<'static>, StartFailure> {
        match lock(&self.inlet).receive(deadline) {
            Received::Frame(frame) => match FromWorker::from_frame(&frame) {
                Ok(FromWorker::Welcome) => Ok(FromWorker::Welcome),
                Ok(FromWorker::Refused(why)) => Ok(FromWorker::Refused(why)),
                Ok(FromWorker::Ready) => Ok(FromWorker::Ready),
                Ok(FromWorker::NotReady(why)) => Ok(FromWorker::NotReady(why)),
                Ok(FromWorker::Reports(_)) => Err(self.nonsense("reported a call that it was not sent")),
                Err(garbled) => Err(self.nonsense(&garbled.to_string())),
            },
            Received::Gone => Err(self.died(when)),
            Received::Garbled(fault) => Err(self.nonsense(&fault)),
            Received::Nothing => Err(late()),
        }
    }

    fn nonsense(&self, fault: &str) -> StartFailure {
        again(Kind::Invalid(format!("process {} {fault}", self.child.pid())))
    }

    fn died(&self, when: &str) -> StartFailure {
        // Its sockets are closed, so it is dead or about to be; how it ends is not to be mistaken for our doing.
        let died = self.child.wait_timeout(Some(LAST_BREATH));
        if !died {
            let _ = self.child.kill();
        }
        let status = self.child.wait();
        let how = status.map_or_else(|| "ended".into(), describe);
        let text = format!("process {} {how} {when}", self.child.pid());
        // Where it was let in and died by itself, there is more to tell: its initializer has crashed, say.
        let dossier = (died && when != BEFORE).then(|| Dossier::of_process(self.examine(None)));
        let failure = again(Kind::DiedStarting { text, killed: died && status.is_some_and(was_killed), dossier });
        StartFailure { died, ..failure }
    }

    /// It works from now on: what kills it is asked for from here on.
    pub(crate) fn works(&self) {
        let _ = self.oom.set(OomWatch::new(self.child.pid()));
    }

    /// Waits until all that the process printed has been passed on. It has ended.
    pub(crate) fn drain(&self) {
        if let Some(relay) = &self.relay {
            self.strands.iter().flatten().for_each(|strand| relay.drain(strand, self.in_test));
        }
    }

    /// Finds out how the process ended, which it has; or is about to, killed for its `fault`.
    pub(crate) fn examine(&self, fault: Option<String>) -> Loss {
        let status = self.child.wait();
        self.drain();
        let signal = status.and_then(|status| status.signal());
        let oom = match signal {
            Some(libc::SIGKILL) if !self.child.was_killed() => self.oom.get().and_then(OomWatch::ask),
            _ => None,
        };
        // It may have written anything there: what does not fit how it ended is not believed.
        let crash = self.page.crash().filter(|crash| Some(crash.signal) == signal);
        let stderr = self.strands[1].as_ref().filter(|_| self.captured).map(|strand| strand.last());
        Loss {
            status,
            stage: Stage::from_u32(self.page.stage()),
            panic: PanicInfo::from_last_words(&self.page.words(), status),
            fault,
            usage: self.child.usage(),
            // What it was charged with before it began may be its parent's.
            first_peak: self.page.first_peak(),
            oom,
            crash,
            stderr,
            ..Loss::of(self.child.pid())
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exited with code {code}"),
        None => format!("was killed ({status})"),
    }
}

fn for_good(kind: Kind) -> StartFailure {
    StartFailure { error: Error::new(kind), for_good: true, died: false }
}

fn again(kind: Kind) -> StartFailure {
    StartFailure { error: Error::new(kind), for_good: false, died: false }
}
