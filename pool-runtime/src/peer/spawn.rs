//! Starts processes of this program, for pools and for [`Process`](crate::Process).

use crate::error::{Error, Result};
use crate::locks::lock;
use crate::memory::{Arrivals, StatusPage, attach::Attacher};
use crate::options::{Stdio, StdioKind, WorkerOptions};
use crate::os::{self, Child, Confinement, Given, Handle, Io, OomWatch, Spawn};
use crate::peer::relay::{PassedOn, Relay, Strand, To};
use crate::program::{self, HandedOn, Mark, WayIn};
use crate::sandbox::Sandbox;
use crate::transport::{Inlet, Outlet, channel, ring};
use crate::{identity, registry};
use std::io::{self, IsTerminal as _, PipeReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a new process may take to answer, by default. Generous, for overloaded machines.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Launch {
    pub(crate) way_in: WayIn,
    pub(crate) program: Option<PathBuf>,
    pub(crate) stdio: [Stdio; 3],
    pub(crate) start_timeout: Duration,
    pub(crate) initializer_timeout: Option<Duration>,
    pub(crate) confinement: Option<Confinement>,
    /// Passes on the output of several processes.
    pub(crate) relay: Option<Arc<Relay>>,
    /// Whether the end of their standard error is kept.
    pub(crate) capture: bool,
    /// Whether their output is passed on even so: they are not to have this process's own streams.
    pub(crate) own_outputs: bool,
    pub(crate) handed_on: HandedOn,
    /// Whether its processes get the key of this one's connections.
    pub(crate) hands_on_authkey: bool,
    /// Made to see whether rings are possible. For the first process.
    pub(crate) spare_rings: Mutex<Option<ring::RingMemory>>,
}

/// This side's ends of the pipes to a process.
#[derive(Debug, Default)]
pub(crate) struct StdPipes {
    pub(crate) stdin: Option<PipeWriter>,
    /// Standard output and standard error.
    pub(crate) outputs: [Option<PipeReader>; 2],
}

/// Standard output and standard error, where they are relayed, and by whom.
type Strands = [Option<(Arc<Relay>, Arc<Strand>)>; 2];

/// A process that was started, and this side's ends of its connections.
pub(crate) struct Launched {
    pub(crate) launch: Arc<Launch>,
    pub(crate) child: Arc<Child>,
    pub(crate) page: Arc<StatusPage>,
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) inlet: Arc<Mutex<Box<dyn Inlet>>>,
    /// The socket of `inlet`, for those who only wait.
    pub(crate) socket: channel::SharedInlet,
    /// The socket of `outlet`, to be closed.
    pub(super) way_out: channel::SharedOutlet,
    pub(crate) rings: Option<Arc<ring::RingMemory>>,
    /// Passes shared memory to the process.
    pub(crate) attacher: Arc<Attacher>,
    /// The shared memory of its results.
    pub(super) arrivals: Mutex<Arrivals>,
    pub(crate) pipes: StdPipes,
    pub(super) strands: Strands,
    /// Why the system did not let it be killed.
    pub(super) unkilled: OnceLock<String>,
    /// Set once the process is a worker: tells whether the kernel killed it for want of memory.
    pub(super) oom: OnceLock<OomWatch>,
    /// The call that it was seen to have started last, and when it was first seen.
    pub(super) claim_seen: Mutex<(u32, u64)>,
    /// When it must have answered; None is never.
    pub(super) deadline: Option<Instant>,
}

impl Launch {
    /// The defaults: empty standard input, and this process's output. Fails if this process may not start others: it
    /// has no way in for workers, has two tasks of one name, is daemonic, is nested too deeply, or has rights that its
    /// starter has not.
    pub(crate) fn new() -> Result<Self> {
        if let Some(excess) = os::excess_of_rights() {
            return Err(Error::invalid(format!(
                "this process has {excess}, and no worker would work for it: start pools and processes in a program \
                 without them, or take `Backend::Threads`"
            )));
        }
        let way_in = program::way_in()?;
        registry::check().map_err(Error::invalid)?;
        if identity::current_process().daemon() {
            return Err(Error::invalid(
                "a daemonic process cannot start processes: start this one with `.daemon(false)`",
            ));
        }
        let depth = identity::identity().depth;
        if depth >= identity::MAX_DEPTH {
            return Err(Error::invalid(format!(
                "processes are nested {depth} deep: a task that starts processes whose tasks start processes has no end"
            )));
        }
        Ok(Self {
            way_in,
            program: None,
            stdio: [Stdio::null(), Stdio::inherit(), Stdio::inherit()],
            start_timeout: START_TIMEOUT,
            initializer_timeout: None,
            confinement: None,
            relay: None,
            capture: false,
            own_outputs: false,
            handed_on: HandedOn::All,
            hands_on_authkey: true,
            spare_rings: Mutex::default(),
        })
    }

    /// Denies its processes what `sandbox` denies. Fails as [`Sandbox::resolve`].
    pub(crate) fn confine(&mut self, sandbox: Option<&Sandbox>) -> Result<()> {
        let Some(sandbox) = sandbox else { return Ok(()) };
        self.confinement = Some(sandbox.resolve()?);
        self.own_outputs = !sandbox.inherits_output();
        self.hands_on_authkey = sandbox.inherits_authkey();
        self.handed_on = if sandbox.inherits_env() { HandedOn::All } else { HandedOn::Ordinary };
        Ok(())
    }

    /// How much memory the sandbox allows, if how much is used can be seen. The kernel sees to that limit too; so it is
    /// no error if it cannot.
    pub(crate) fn weighed_memory(&self) -> u64 {
        let limit = self.confinement.as_ref().and_then(|confinement| confinement.limits.memory);
        limit.filter(|_| os::check_memory_is_seen().is_ok()).unwrap_or(u64::MAX)
    }

    pub(super) fn is_in_test(&self) -> bool {
        matches!(self.way_in, WayIn::Test { .. })
    }

    /// Whether this process reads that stream and passes it on. In a test all output is printed from one of the test's
    /// threads, so that the test harness captures it.
    fn is_relayed(&self, index: usize) -> bool {
        matches!(self.stdio[index].0, StdioKind::Inherit)
            && ((self.is_in_test() || self.own_outputs) && index > 0 || self.capture && index == 2)
    }

    /// Makes one thread pass on the output of all these processes, if it is passed on at all: the one that
    /// [`start_relay`](Self::start_relay) starts.
    pub(crate) fn share_relay(&mut self) -> Result<()> {
        if self.capture || self.own_outputs || self.is_in_test() {
            self.relay = Some(Arc::new(Relay::new().map_err(Self::no_relay)?));
        }
        Ok(())
    }

    /// In a test, the output belongs to the test on whose thread this is called.
    pub(crate) fn start_relay(&self) -> Result<()> {
        self.relay.as_ref().map_or(Ok(()), |relay| relay.start().map_err(Self::no_relay))
    }

    fn no_relay(error: io::Error) -> Error {
        Error::os("cannot start the thread that passes on what workers print", error)
    }

    /// Starts a process, which has yet to be [greeted](Launched::greet); it is reached through rings if it is given
    /// `bells`. Fails if the system refuses: no more processes, handles or memory, or no such directory.
    pub(crate) fn start(self: &Arc<Self>, options: &WorkerOptions, bells: Option<&ring::BellPage>) -> Result<Launched> {
        let _permit = StartPermit::take();
        self.try_start(options, bells).map_err(|error| {
            let action = if error.kind() == io::ErrorKind::PermissionDenied && identity::identity().confined {
                "cannot start a process of this program, as this one is in a sandbox (let that `execute` this program, \
                 its loader and its libraries)"
            } else {
                "cannot start a process of this program"
            };
            Error::os(action, error)
        })
    }

    /// Everything that can fail comes before the process exists.
    fn try_start(self: &Arc<Self>, options: &WorkerOptions, bells: Option<&ring::BellPage>) -> io::Result<Launched> {
        let (passes, passed) = os::passing::pair()?;
        let attacher = Attacher::new(passes.into(), self.confinement.is_some());
        let pair = channel::Pair::new()?;
        let mut page = StatusPage::new()?;
        let made = || lock(&self.spare_rings).take().map_or_else(ring::RingMemory::new, Ok);
        let mut rings = bells.map(|_| made()).transpose()?;
        let (mut pipes, theirs) = self.pipes()?;
        let strands = self.relay(&mut pipes)?;

        let io = |index: usize| match (&theirs[index], &self.stdio[index].0) {
            (Some(handle), _) | (None, StdioKind::Handle(handle)) => Some(Io::from(handle)),
            (None, StdioKind::Null) => Some(Io::Null),
            (None, StdioKind::Inherit | StdioKind::Piped) => None,
        };
        // The worker's test harness must not print: the worker replaces standard output once it runs.
        let (stdout, later) = match self.is_in_test() {
            true => (Some(Io::Null), Some(io(1).unwrap_or(Io::Null))),
            false => (io(1), None),
        };
        let [reads, writes] = pair.worker_ends().map(Io::Handle);
        let given = Given {
            reads,
            writes,
            status: page.handle().map_or(Io::Null, Io::from),
            passed: Io::from(&passed),
            stdout: later,
            rings: rings
                .as_ref()
                .zip(bells)
                .and_then(|(rings, bells)| Some((Io::from(rings.handle.as_ref()?), Io::from(bells.handle.as_ref()?)))),
        };
        let child = Arc::new(self.spawn(options, [io(0), stdout, io(2)], &given)?);

        page.close_handle();
        rings.iter_mut().for_each(|rings| rings.handle = None);
        let channel::Pair { sender, receiver, .. } = pair;
        let (inlet, socket) = receiver.share(child.clone());
        let sender = Arc::new(sender);
        Ok(Launched {
            launch: self.clone(),
            child,
            page: Arc::new(page),
            way_out: channel::ChannelSender::socket(&sender),
            outlet: sender,
            inlet,
            socket,
            rings: rings.map(Arc::new),
            arrivals: Mutex::new(Arrivals::from(&attacher)),
            attacher,
            pipes,
            strands,
            unkilled: OnceLock::new(),
            oom: OnceLock::new(),
            claim_seen: Mutex::default(),
            deadline: Instant::now().checked_add(self.start_timeout),
        })
    }

    /// Makes pipes for the standard streams that need one. Returns this side's ends, and the process's.
    fn pipes(&self) -> io::Result<(StdPipes, [Option<Handle>; 3])> {
        let (mut pipes, mut theirs) = (StdPipes::default(), [None, None, None]);
        for (index, end) in theirs.iter_mut().enumerate() {
            if !self.is_relayed(index) && !matches!(self.stdio[index].0, StdioKind::Piped) {
                continue;
            }
            let (reader, writer) = os::pipe()?;
            if index == 0 {
                (pipes.stdin, *end) = (Some(writer), Some(reader.into()));
            } else {
                (pipes.outputs[index - 1], *end) = (Some(reader), Some(writer.into()));
            }
        }
        Ok((pipes, theirs))
    }

    /// Hands output that is passed on to the relay.
    fn relay(&self, pipes: &mut StdPipes) -> io::Result<Strands> {
        let mut strands = [None, None];
        if !self.is_relayed(1) && !self.is_relayed(2) {
            return Ok(strands);
        }
        let own = || {
            let relay = Relay::new()?;
            relay.start().map(|()| Arc::new(relay))
        };
        let relay = self.relay.clone().map_or_else(own, Ok)?;
        // What goes to a file or a pipe may be data, which stays as it is. What a test prints is not: it is shown by a
        // harness, or by what started that.
        let escapes = [self.is_in_test() || io::stdout().is_terminal(), true]
            .map(|escapes| escapes && self.confinement.is_some());
        let how = escapes.map(|escapes| if escapes { PassedOn::Escaped } else { PassedOn::AsItIs });
        let to = match self.is_in_test() {
            true => [To::Test(|text| print!("{text}")), To::Test(|text| eprint!("{text}"))],
            false => [
                if os::has_stdout() { To::Stdout } else { To::Nowhere },
                if os::has_stderr() { To::Stderr } else { To::Nowhere },
            ],
        };
        for (index, to) in to.into_iter().enumerate() {
            if let Some(pipe) = pipes.outputs[index].take_if(|_| self.is_relayed(index + 1)) {
                strands[index] = Some((relay.clone(), relay.add(pipe, to, how[index])?));
            }
        }
        Ok(strands)
    }

    fn spawn(&self, options: &WorkerOptions, stdio: [Option<Io<'_>>; 3], given: &Given<Io<'_>>) -> io::Result<Child> {
        let manifest = given.manifest()?;
        let mark = Mark { parent: std::process::id(), given: manifest };
        let args = self.way_in.args();
        let (program, args) = match &self.program {
            Some(program) => (program.clone(), args),
            None => os::own_command(args)?,
        };
        Spawn {
            program: program.as_os_str(),
            args: &args,
            env: &program::environment(self.handed_on, &options.env, &mark),
            current_dir: options.current_dir.as_deref().map(Path::as_os_str),
            stdio,
            given,
            manifest,
        }
        .start()
    }
}

/// How many processes are started at the same time. A process that is being started takes twice as many descriptors as
/// one that runs, so a large pool that started all workers at once could run out of them.
const STARTS: usize = 8;

static STARTING: Mutex<usize> = Mutex::new(0);
static STARTED: Condvar = Condvar::new();

struct StartPermit;

impl StartPermit {
    fn take() -> Self {
        let free = STARTED.wait_while(lock(&STARTING), |starting| *starting >= STARTS);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for StartPermit {
    fn drop(&mut self) {
        *lock(&STARTING) -= 1;
        STARTED.notify_one();
    }
}
