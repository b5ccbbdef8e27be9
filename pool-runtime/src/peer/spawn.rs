//! Starts a process of this program; the same for pools and for processes.

use crate::error::{Error, Kind, Result};
use crate::memory::StatusPage;
use crate::memory::attach::Attacher;
use crate::options::{Stdio, StdioKind, WorkerOptions};
use crate::os::{self, Child, Confinement, Given, Handle, Io, OomWatch, Spawn};
use crate::peer::relay::{Relay, Strand, To};
use crate::program::{self, Mark, WayIn};
use crate::sync::lock;
use crate::transport::{Inlet, Outlet, channel, ring};
use crate::{identity, registry};
use std::io::{self, PipeReader, PipeWriter};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a new process may take to answer, if nobody says otherwise. Generous, for a machine that is overloaded.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

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
    pub(crate) bells: Option<Arc<ring::BellPage>>,
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
        if identity::current_process().daemon() {
            return Err(Error::new(Kind::Daemonic));
        }
        if identity::depth() >= identity::MAX_DEPTH {
            return Err(Error::new(Kind::TooDeep(identity::depth())));
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

/// A process that was started, and the ends of what leads to it.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Arc<Child>,
    pub(crate) page: Arc<StatusPage>,
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) inlet: Arc<Mutex<Box<dyn Inlet>>>,
    /// Where it is heard over its channel.
    pub(crate) socket: channel::SharedInlet,
    /// The memory of its rings, if there are any.
    pub(crate) rings: Option<Arc<ring::RingMemory>>,
    /// How shared memory gets there.
    pub(crate) attacher: Arc<Attacher>,
    pub(crate) stdin: Option<PipeWriter>,
    pub(crate) stdout: Option<PipeReader>,
    pub(crate) stderr: Option<PipeReader>,
    pub(super) relay: Option<Arc<Relay>>,
    /// What passes through it, and whether it is to be kept.
    pub(super) strands: [Option<Arc<Strand>>; 2],
    pub(super) captured: bool,
    pub(super) in_test: bool,
    /// What is needed to find out whether it was killed for want of memory, once it works.
    pub(super) oom: OnceLock<OomWatch>,
    pub(super) is_other_file: bool,
    pub(super) confinement: Option<Confinement>,
    /// None is never.
    pub(super) deadline: Option<Instant>,
    pub(super) timeout: Duration,
    pub(super) initializer_timeout: Option<Duration>,
}

/// One standard stream of a process that is about to start: what it gets, and our end of a pipe.
#[derive(Default)]
struct StreamSetup {
    given: Option<Handle>,
    null: bool,
    reader: Option<PipeReader>,
    writer: Option<PipeWriter>,
    /// What it prints is read here, and passed on.
    is_relayed: bool,
}

impl StreamSetup {
    fn new(stream: &StdioKind, is_input: bool) -> io::Result<Self> {
        let mut setup = Self::default();
        match stream {
            StdioKind::Inherit => {}
            StdioKind::Null => setup.null = true,
            StdioKind::Handle(handle) => setup.given = Some(handle.try_clone()?),
            StdioKind::Piped => {
                let (reader, writer) = os::pipe()?;
                if is_input {
                    (setup.given, setup.writer) = (Some(reader.into()), Some(writer));
                } else {
                    (setup.given, setup.reader) = (Some(writer.into()), Some(reader));
                }
            }
        }
        Ok(setup)
    }

    /// What the process gets; None is what this one has.
    fn io(&self) -> Option<Io<'_>> {
        let null = self.null.then_some(Io::Null);
        self.given.as_ref().map(Io::from).or(null)
    }

    /// The process has its end.
    fn close_given(&mut self) {
        self.given = None;
    }
}

/// All that will lead to a process, with both ends.
struct LaunchEnds {
    pair: channel::Pair,
    passes: Handle,
    passed: Handle,
    page: StatusPage,
    rings: Option<ring::RingMemory>,
    streams: [StreamSetup; 3],
}

impl Launch {
    /// Starts the process; it has yet to be [greeted](Launched::greet).
    ///
    /// # Errors
    ///
    /// The system refuses: no more processes, handles or memory, or no such directory.
    pub(crate) fn start(&self, options: &WorkerOptions) -> Result<Launched> {
        let _permit = StartPermit::take();
        self.try_start(options).map_err(|error| {
            let action = if error.kind() == io::ErrorKind::PermissionDenied && identity::is_confined() {
                "cannot start a process of this program, as this one is in a sandbox (let that `execute` this program, \
                 its loader and its libraries)"
            } else {
                "cannot start a process of this program"
            };
            Error::os(action, error)
        })
    }

    /// Under a test harness the output of workers is read here and printed from a thread of the test's, so that it is
    /// captured with the test's own.
    fn stream(&self, index: usize) -> io::Result<StreamSetup> {
        let stream = &self.stdio[index].0;
        let is_captured = self.is_in_test() && index > 0 || self.capture && index == 2;
        match stream {
            StdioKind::Inherit if is_captured => {
                Ok(StreamSetup { is_relayed: true, ..StreamSetup::new(&StdioKind::Piped, false)? })
            }
            _ => StreamSetup::new(stream, index == 0),
        }
    }

    fn try_start(&self, options: &WorkerOptions) -> io::Result<Launched> {
        let (passes, passed) = os::passing::pair()?;
        let mut ends = LaunchEnds {
            pair: channel::Pair::new()?,
            passes,
            passed,
            page: StatusPage::new()?,
            rings: self.bells.as_ref().map(|_| ring::RingMemory::new()).transpose()?,
            streams: [self.stream(0)?, self.stream(1)?, self.stream(2)?],
        };
        let relay = match &self.relay {
            Some(relay) => Some(relay.clone()),
            None if ends.streams.iter().any(|stream| stream.is_relayed) => Some(Arc::new(Relay::new()?)),
            None => None,
        };
        let child = Arc::new(self.spawn(options, &ends)?);
        let guard = KillOnDrop(Some(&child));
        ends.streams.iter_mut().for_each(StreamSetup::close_given);
        ends.page.close_handle();
        ends.rings.iter_mut().for_each(ring::RingMemory::close_handle);
        let LaunchEnds { pair: channel::Pair { sender, mut receiver, .. }, passes, page, rings, streams, .. } = ends;
        receiver.watch(child.clone());
        let [stdin, mut stdout, mut stderr] = streams;
        let in_test = self.is_in_test();
        let to_stderr = match in_test {
            true => To::Test(|text| eprint!("{text}")),
            false if os::has_stderr() => To::Stderr,
            false => To::Nowhere,
        };
        let pass_on = |stream: &mut StreamSetup, to: To| {
            let reader = stream.reader.take_if(|_| stream.is_relayed);
            reader.zip(relay.as_ref()).map(|(reader, relay)| relay.add(reader, to)).transpose()
        };
        let strands = [pass_on(&mut stdout, To::Test(|text| print!("{text}")))?, pass_on(&mut stderr, to_stderr)?];
        guard.disarm();
        let (inlet, socket) = receiver.share();
        Ok(Launched {
            child,
            page: Arc::new(page),
            outlet: Arc::new(sender),
            inlet,
            socket,
            rings: rings.map(Arc::new),
            attacher: Attacher::new(passes),
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

    fn spawn(&self, options: &WorkerOptions, ends: &LaunchEnds) -> io::Result<Child> {
        let [stdin, stdout, stderr] = ends.streams.each_ref().map(StreamSetup::io);
        // The harness in a worker must not print its own lines: the worker puts the real one in place.
        let (stdout, later) = match self.is_in_test() {
            true => (Some(Io::Null), Some(stdout.unwrap_or(Io::Null))),
            false => (stdout, None),
        };
        let [reads, writes] = ends.pair.worker_ends().map(Io::Handle);
        let bells = self.bells.as_ref().and_then(|bells| bells.handle());
        let given = Given {
            reads,
            writes,
            status: ends.page.handle().map_or(Io::Null, Io::from),
            passed: Io::from(&ends.passed),
            stdout: later,
            rings: ends.rings.as_ref().and_then(ring::RingMemory::handle).map(Io::from).zip(bells.map(Io::from)),
        };
        let mark = Mark { parent: std::process::id(), given: given.manifest()? };
        let program = match &self.program {
            Some(program) => program.clone(),
            None => os::program_path()?,
        };
        let spawn = Spawn {
            program: program.as_os_str(),
            args: &self.way_in.args(),
            env: &program::environment(&options.env, &mark),
            current_dir: options.current_dir.as_ref().map(|dir| dir.as_os_str()),
            stdio: [stdin, stdout, stderr],
            given: &given,
        };
        spawn.start()
    }
}

/// How many processes are started at the same time. While one is, twice as many descriptors are open for it as later:
/// those of a large pool must not run out because all its workers start at once.
const STARTS: usize = 8;

static STARTING: Mutex<usize> = Mutex::new(0);
static STARTED: Condvar = Condvar::new();

/// The right to start a process.
struct StartPermit;

impl StartPermit {
    fn take() -> Self {
        let mut starting = lock(&STARTING);
        while *starting >= STARTS {
            starting = STARTED.wait(starting).unwrap_or_else(PoisonError::into_inner);
        }
        *starting += 1;
        Self
    }
}

impl Drop for StartPermit {
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
