//! The options of a pool, each with its default.

use crate::{
    dossier::keep::DossierKeeper,
    error::{Error, Kind, Result},
    identity,
    job::Callbacks,
    memory::region::Regions,
    options::{WorkerOptions, surroundings},
    os,
    peer::{
        Inline,
        faults::Plan,
        launch::{Launch, START_TIMEOUT},
    },
    policy::Wish,
    pool::{
        Backend, Pool,
        backend::Staff,
        collector::Collector,
        dispatcher::{self, Dispatcher},
        shared::{Core, Shared},
        supervisor,
    },
    program,
    protocol::NamedCall,
    registry,
    sandbox::Sandbox,
    sync::lock,
    task::{Call, Initializer, RawCall, StateType},
    transport::{channel, ring},
};
use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// More processes than this are a mistake, whatever the machine.
const MAX_PROCESSES: usize = 1 << 13;

/// Half of what a ring holds may be on its way; a frame is read where it lies.
const RING: dispatcher::Limits = dispatcher::Limits {
    unhindered: 1 << 17,
    frame: ring::WHOLE - (1 << 13),
    frames: 1 << 12,
    calls: 1 << 13,
    shortest: 20,
    ..dispatcher::Limits::NONE
};

/// A socket holds a few hundred packets, however small they are, and whoever sends one more waits for the worker to
/// read, which it may not do before somebody reads its reports.
const CHANNEL: dispatcher::Limits = dispatcher::Limits {
    unhindered: channel::UNHINDERED,
    frame: channel::UNHINDERED,
    frames: 16,
    calls: 1 << 10,
    shortest: 2_000,
    ..dispatcher::Limits::NONE
};

/// A queue between threads holds anything.
const LOCAL: dispatcher::Limits = dispatcher::Limits { unhindered: usize::MAX, frame: usize::MAX, ..CHANNEL };

/// As many calls as a worker may have where workers are lost all the time: every loss counts against all that it had,
/// and what has lost too many is given up.
const FAULTY: dispatcher::Limits = dispatcher::Limits { calls: 4, ..LOCAL };

/// How often the memory of a worker is looked at, where that matters; and how long all workers together must not take
/// to be looked at, which takes some 5 µs for each.
const WEIGH_EVERY: Duration = Duration::from_millis(10);
const WEIGH_ONE: Duration = Duration::from_micros(250);

/// How calls and results get to the workers and back.
///
/// What a program sees is the same with each; a call over shared memory takes a fraction of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Rings of bytes in memory that both processes share: no system call while both are busy.
    Ring,
    /// Messages of ipc-channel: a system call or two and a wake-up for each.
    Channel,
}

/// Chooses what one worker is started with.
struct EachWorker(Box<dyn Fn(usize, WorkerOptions) -> WorkerOptions + Send + Sync>);

impl fmt::Debug for EachWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EachWorker")
    }
}

/// Makes a [`Pool`] with options.
///
/// | option | default |
/// |---|---|
/// | [`processes`](Self::processes) | [`cpu_count`](crate::cpu_count) |
/// | [`name`](Self::name) | `Pool-1`, `Pool-2`, … |
/// | [`max_tasks_per_child`](Self::max_tasks_per_child), [`max_memory_per_child`](Self::max_memory_per_child), [`max_age_per_child`](Self::max_age_per_child) | no limit |
/// | [`timeout`](Self::timeout), [`soft_timeout`](Self::soft_timeout), [`memory`](Self::memory) | no limit |
/// | [`retries`](Self::retries), [`retry_delay`](Self::retry_delay) | none; 100 ms before the first |
/// | [`initializer`](Self::initializer) | none |
/// | [`env`](Self::env), [`current_dir`](Self::current_dir), [`nice`](Self::nice), [`cpus`](Self::cpus); [`each_worker`](Self::each_worker) | those of this process |
/// | [`start_timeout`](Self::start_timeout) | 60 s |
/// | [`executable`](Self::executable) | this program |
/// | [`backend`](Self::backend) | [`Processes`](Backend::Processes) |
/// | [`sandbox`](Self::sandbox) | none: workers may do what this process may |
/// | [`capture_stderr`](Self::capture_stderr) | true |
/// | [`dossiers`](Self::dossiers) | none are written |
/// | [`transport`](Self::transport) | [`Ring`](Transport::Ring), or [`Channel`](Transport::Channel) if memory cannot be shared |
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct PoolBuilder {
    processes: Option<usize>,
    name: Option<String>,
    tasks_per_child: u64,
    initializer: Option<RawCall>,
    options: WorkerOptions,
    each_worker: Vec<EachWorker>,
    start_timeout: Duration,
    executable: Option<PathBuf>,
    transport: Option<Transport>,
    backend: Backend,
    wish: Wish,
    retry_delay: Duration,
    memory_per_child: u64,
    age_per_child: Duration,
    sandbox: Option<Sandbox>,
    capture_stderr: bool,
    dossiers: Option<PathBuf>,
}

impl PoolBuilder {
    pub(super) fn new() -> Self {
        Self {
            processes: None,
            name: None,
            tasks_per_child: u64::MAX,
            initializer: None,
            options: WorkerOptions::default(),
            each_worker: Vec::new(),
            start_timeout: START_TIMEOUT,
            executable: None,
            transport: None,
            backend: Backend::Processes,
            wish: Wish::NONE,
            retry_delay: Duration::from_millis(100),
            memory_per_child: u64::MAX,
            age_per_child: Duration::MAX,
            sandbox: None,
            capture_stderr: true,
            dossiers: None,
        }
    }

    /// How many workers; at least 1.
    pub fn processes(mut self, processes: usize) -> Self {
        self.processes = Some(processes);
        self
    }

    /// The pool's name, from which the workers have theirs.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// After how many calls a worker is replaced by a new one; at least 1. Keeps a leak small.
    pub fn max_tasks_per_child(mut self, tasks: u64) -> Self {
        self.tasks_per_child = tasks;
        self
    }

    /// A worker that has more bytes of memory of its own than this is replaced by a new one as soon as it is through
    /// with its call. Keeps a leak small, whatever leaks.
    pub fn max_memory_per_child(mut self, bytes: u64) -> Self {
        self.memory_per_child = bytes;
        self
    }

    /// A worker that is older than this is replaced by a new one as soon as it is through with its call. One that has
    /// had no call yet is left alone.
    pub fn max_age_per_child(mut self, age: Duration) -> Self {
        self.age_per_child = age;
        self
    }

    /// How long a call may take, from when a worker takes it up. Then its worker is killed and replaced, whatever the
    /// task is doing, and the job fails with an error that [`is_timeout`](Error::is_timeout), unless it may be [tried
    /// again](Self::retries).
    ///
    /// This, [`soft_timeout`](Self::soft_timeout), [`retries`](Self::retries) and [`memory`](Self::memory) hold for
    /// calls that ask for nothing else: `#[task(timeout = "30s", retries = 2, memory = "512MiB")]` goes before what the
    /// pool says, and [`call.timeout(…)`](Call::timeout) and its like before both.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// # use std::time::Duration;
    /// #[task]
    /// fn sleep(millis: u64) -> u64 {
    ///     std::thread::sleep(Duration::from_millis(millis));
    ///     millis
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::builder().processes(1).timeout(Duration::from_millis(200)).build()?;
    ///     assert_eq!(pool.apply(sleep::call(1))?, 1);
    ///     let error = pool.apply(sleep::call(60_000)).unwrap_err();
    ///     assert!(error.is_timeout());
    ///     // This one has its own limit.
    ///     assert_eq!(pool.apply(sleep::call(300).timeout(Duration::MAX))?, 300);
    ///     Ok(())
    /// }
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.wish.timeout = Some(limit);
        self
    }

    /// After how long a call is told to come to an end:
    /// [`current_job().is_cancelled()`](crate::CurrentJob::is_cancelled) turns true. One that is not shorter than the
    /// time-out means nothing. A task that makes progress can ask for more time, with
    /// [`extend_deadline`](crate::CurrentJob::extend_deadline). One that goes on is killed by its
    /// [`timeout`](Self::timeout), if there is one.
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.wish.soft_timeout = Some(limit);
        self
    }

    /// How often a call may be tried again after its worker was lost, or killed because the call took too long. It must
    /// then do no harm to run it twice. A call that returned an error, panicked, or used too much memory is not tried
    /// again.
    pub fn retries(mut self, retries: u32) -> Self {
        self.wish.retries = Some(retries);
        self
    }

    /// How long a call waits before it is [tried again](Self::retries) the first time; then twice as long each time, up
    /// to 30 s.
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = delay;
        self
    }

    /// How many bytes of memory a worker may have while it runs a call: then it is killed and replaced, and the job
    /// fails with an error that [`is_out_of_memory`](Error::is_out_of_memory) and has the figure.
    ///
    /// It is the worker as a whole that is looked at: what calls before this one and the initializer have left there
    /// counts, too, so that a limit should be well above that; [`max_memory_per_child`](Self::max_memory_per_child)
    /// keeps it small. What counts is memory in use that is the worker's own: not what it shares with others, such as
    /// the program itself, arguments in shared memory and [`Shared`](crate::Shared) slices, nor what was allocated and
    /// never touched. It is looked at some hundred times a second, less often with more than 40 workers: a call can
    /// have more for a moment. A limit without such a moment, which counts what is allocated, is that of a sandbox.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.wish.memory = Some(bytes);
        self
    }

    /// A call that each worker makes once, before all others. What it returns is the worker's state: it stays there,
    /// and tasks with a `#[state]` parameter use it.
    ///
    /// It may take as long as it likes, unless it is given a [`timeout`](Call::timeout).
    ///
    /// If a task with a `#[state]` parameter panics, the state may be broken: the worker is replaced by a new one.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// struct Model {
    ///     weight: f64,
    /// }
    ///
    /// #[task(initializer)]
    /// fn load(weight: f64) -> Model {
    ///     Model { weight } // costly, and not serializable: it never leaves the worker
    /// }
    ///
    /// #[task]
    /// fn predict(#[state] model: &mut Model, x: f64) -> f64 {
    ///     model.weight * x
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::builder().processes(2).initializer(load::call(0.5)).build()?;
    ///     assert_eq!(pool.apply(predict::call(4.0))?, 2.0);
    ///     Ok(())
    /// }
    /// ```
    pub fn initializer<T: Initializer>(mut self, call: Call<'_, T>) -> Self {
        self.initializer = Some(call.into_raw());
        self
    }

    surroundings!("the workers", "start", "stand");

    /// Gives each worker its own environment, directory, processors or priority. `choose` is given the worker's place
    /// in the pool, from 0, and what is chosen for all; a worker that replaces another has its place.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// #[task]
    /// fn device() -> String {
    ///     std::env::var("DEVICE").unwrap_or_default()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::builder()
    ///         .processes(2)
    ///         .nice(5)
    ///         .each_worker(|index, worker| worker.env("DEVICE", index.to_string()))
    ///         .build()?;
    ///     assert!(["0", "1"].contains(&pool.apply(device::call())?.as_str()));
    ///     Ok(())
    /// }
    /// ```
    pub fn each_worker(
        mut self,
        choose: impl Fn(usize, WorkerOptions) -> WorkerOptions + Send + Sync + 'static,
    ) -> Self {
        self.each_worker.push(EachWorker(Box::new(choose)));
        self
    }

    /// How long a new process may take until it has become a worker. Its initializer may take longer.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// The file to start as a worker, in place of this program's: a copy of it, say, or a wrapper that executes it.
    /// What comes to life there must be this very build.
    pub fn executable(mut self, path: impl Into<PathBuf>) -> Self {
        self.executable = Some(path.into());
        self
    }

    /// What the workers may do, their initializer included: which files, the network, how much memory.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, Sandbox, enter, task};
    /// #[task]
    /// fn decode(image: &[u8]) -> usize {
    ///     // A parser in which there may be a hole: whoever gets in finds no file and no network.
    ///     image.len()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::builder().processes(2).sandbox(Sandbox::strict()).build()?;
    ///     assert_eq!(pool.apply(decode::call(&[0xff, 0xd8]))?, 2);
    ///     Ok(())
    /// }
    /// ```
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = Some(sandbox);
        self
    }

    /// How calls and results travel.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// What runs the calls: worker processes, or, for tests and debuggers, this process.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Whether what workers write to standard error passes through a pipe, so that the last of it is found in the
    /// [`Dossier`](crate::Dossier) of a worker that died.
    ///
    /// It arrives at this process's standard error a moment later, so that a line may come behind one that this process
    /// has printed after it, and whole lines stay whole. What nobody has read by then is lost where the program ends by
    /// [`exit`](std::process::exit) or a signal, without dropping the pool. To a worker its standard error is
    /// no terminal then: what would be coloured there is not. With `false`, workers have this process's own standard
    /// error, and there is nothing of it in a dossier.
    pub fn capture_stderr(mut self, capture: bool) -> Self {
        self.capture_stderr = capture;
        self
    }

    /// For each call that is lost with its worker, writes a file into this directory: all that the
    /// [`Dossier`](crate::Dossier) has to say, and the call with its arguments, so that it can be run again, under a
    /// debugger if need be.
    ///
    /// The directory is made if it is not there, for its owner alone, and so are the files: whatever was in the
    /// arguments is in them, and in [`Shared`](crate::Shared) slices of which they speak. A file that cannot be written
    /// is a warning in the log, and no more than 1000 are written by one pool, with no more than 1 GiB of arguments in
    /// all: then a file has the report alone. There is none for a call that had not begun.
    ///
    /// `POOL_REPLAY=file program` runs the call of a file again, in one process: see the
    /// [guide](crate#when-a-worker-dies).
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// #[task]
    /// fn crash(n: u32) {
    ///     eprintln!("about to crash on {n}");
    ///     std::process::abort();
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let files = tempfile::tempdir().unwrap();
    ///     let pool = Pool::builder().processes(1).dossiers(files.path()).build()?;
    ///     let error = pool.apply(crash::call(3)).unwrap_err();
    ///     let dossier = error.dossier().unwrap();
    ///     assert_eq!(dossier.stderr(), Some("about to crash on 3\n"));
    ///     assert!(dossier.saved().unwrap().starts_with(files.path()));
    ///     Ok(())
    /// }
    /// ```
    pub fn dossiers(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dossiers = Some(dir.into());
        self
    }

    /// Starts the workers; returns when the first of them takes calls.
    ///
    /// # Errors
    ///
    /// No or no sensible number of workers; no way in for them (see [`pool_main!`](crate::pool_main)); two tasks of
    /// one name; a daemonic process, or too deep a nesting of processes; the workers cannot start, or their initializer
    /// fails; the sandbox names a path that leads nowhere, or asks for more than the kernel can do; a
    /// [backend](Self::backend) without processes, and what only processes have: [`env`](Self::env),
    /// [`current_dir`](Self::current_dir), [`sandbox`](Self::sandbox).
    pub fn build(self) -> Result<Pool> {
        let processes = self.processes.unwrap_or_else(identity::cpu_count);
        if processes == 0 {
            return Err(Error::invalid("a pool needs at least 1 process, and 0 were asked for"));
        }
        if processes > MAX_PROCESSES {
            return Err(Error::invalid(format!(
                "a pool has at most {MAX_PROCESSES} processes, and {processes} were asked for"
            )));
        }
        if self.tasks_per_child == 0 {
            return Err(Error::invalid(
                "a worker that is replaced after 0 calls never runs any: max_tasks_per_child is \
                                       at least 1",
            ));
        }
        let choose = |index| {
            let choose = |options, each: &EachWorker| each.0(index, options);
            let options = self.each_worker.iter().fold(self.options.clone(), choose);
            options.check().map(|()| options)
        };
        let options = (0..processes).map(choose).collect::<Result<Vec<_>>>()?;
        if let Wish { timeout: Some(timeout), soft_timeout: Some(soft), .. } = self.wish
            && soft >= timeout
        {
            return Err(Error::invalid(format!(
                "a call would be killed after {timeout:?}, before it is told to stop after {soft:?}: make soft_timeout \
                 shorter than timeout"
            )));
        }
        let asks_for_more = |wish: &Wish| *wish != Wish { timeout: wish.timeout, ..Wish::NONE };
        if self.initializer.as_ref().and_then(|call| call.wish.as_deref()).is_some_and(asks_for_more) {
            return Err(Error::invalid(
                "an initializer runs once, before all calls: of the limits, only `timeout` holds for it",
            ));
        }
        let initializer_timeout = self
            .initializer
            .as_ref()
            .and_then(|call| call.wish.as_ref().and_then(|wish| wish.timeout).or(call.task.wish().timeout));
        let initializer = self.initializer.map(named).transpose()?;
        let backend = self.backend;
        if backend != Backend::Processes {
            registry::check()?;
            if options.iter().any(WorkerOptions::change_the_process) || self.sandbox.is_some() {
                return Err(Error::invalid(format!(
                    "`Backend::{backend:?}` runs calls in this process, whose environment, directory and rights no pool \
                     changes: leave out `env`, `env_remove`, `current_dir` and `sandbox`, or use `Backend::Processes`"
                )));
            }
        }
        let mut bells = None;
        let (staff, seats, transport) = match backend {
            Backend::Processes => {
                let confinement = self.sandbox.as_ref().map(Sandbox::resolve).transpose()?;
                bells = some_bells(self.transport)?;
                let mut launch = Launch {
                    program: self.executable,
                    start_timeout: self.start_timeout,
                    initializer_timeout,
                    bells: bells.clone(),
                    confinement,
                    capture: self.capture_stderr,
                    ..Launch::new()?
                };
                launch.share_relay()?;
                (Staff::Processes(Box::new(launch)), processes, if bells.is_some() { RING } else { CHANNEL })
            }
            Backend::Inline => {
                let call = initializer.as_ref().map(|(call, ..)| call.clone());
                let inline = Inline::new(call, self.tasks_per_child).map_err(|error| {
                    let reason = error.to_string();
                    Error::new(Kind::PoolFailed { reason, cause: Some(Box::new(error)) })
                })?;
                (Staff::Inline(inline), 0, LOCAL)
            }
            Backend::Threads => (Staff::Threads { plan: None, initializer_timeout }, processes, LOCAL),
            Backend::Faults(seed) => {
                let plan = Some(Arc::new(Plan::new(seed)));
                (Staff::Threads { plan, initializer_timeout }, processes, FAULTY)
            }
        };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let limits = dispatcher::Limits {
            tasks_per_child: self.tasks_per_child,
            // The memory of threads cannot be told apart.
            memory_per_child: if backend == Backend::Processes { self.memory_per_child } else { u64::MAX },
            age_per_child: nanos(self.age_per_child),
            retry_delay: nanos(self.retry_delay),
            weigh_every: nanos(WEIGH_EVERY).max(nanos(WEIGH_ONE) * processes as u64),
            ..transport
        };
        let core = Core {
            dispatcher: Dispatcher::new(seats, limits),
            stations: (0..seats).map(|_| None).collect(),
            clock_at: None,
            phase: (false, processes),
        };
        let records = self
            .dossiers
            .map(|dir| {
                DossierKeeper::new(&dir, program::replay_command)
                    .map_err(|error| Error::os(format!("cannot keep dossiers in {:?}", dir.display()), error))
            })
            .transpose()?;
        let shared = Arc::new_cyclic(|itself| Shared {
            seats: processes,
            name: self.name.unwrap_or_else(default_name),
            staff,
            options,
            initializer,
            core: Mutex::new(core),
            changed: Condvar::new(),
            clock: Condvar::new(),
            has_clock: false.into(),
            collector: bells.map(|bells| Collector::new(bells, processes)),
            jobs: AtomicU64::new(1),
            callbacks: Arc::new(Callbacks::default()),
            began: os::monotonic(),
            wish: self.wish,
            records,
            itself: itself.clone(),
        });
        // From here on, dropping the pool cleans up.
        let pool = Pool { shared, attendants: Mutex::default() };
        for seat in 0..seats {
            let attendant = supervisor::spawn(pool.shared.clone(), seat).map_err(|error| {
                let error = Error::os(format!("cannot start the thread for worker {} of {processes}", seat + 1), error);
                pool.shared.tell(|dispatcher, _| dispatcher.abandon(seat..processes, &error));
                error
            })?;
            lock(&pool.attendants).push(attendant);
        }
        let shared = &pool.shared;
        if shared.collector.is_some() {
            let collector = Collector::spawn(shared.clone())
                .map_err(|error| Error::os("cannot start the thread that listens to the workers", error))?;
            lock(&pool.attendants).push(collector);
        }
        if seats == 0 {
            return Ok(pool);
        }
        let mut core = lock(&shared.core);
        while !core.dispatcher.ever_ready() && !core.dispatcher.is_over() {
            core = shared.changed.wait(core).unwrap_or_else(PoisonError::into_inner);
        }
        let failure = core.dispatcher.failure().cloned();
        drop(core);
        failure.map_or(Ok(pool), Err)
    }
}

/// What workers behind rings ring; None if there are to be no rings, or cannot be.
fn some_bells(transport: Option<Transport>) -> Result<Option<Arc<ring::Bells>>> {
    let bells = match transport {
        Some(Transport::Channel) => None,
        Some(Transport::Ring) => {
            Some(ring::Bells::new().map_err(|error| Error::os("cannot share memory with workers", error))?)
        }
        // The other way works also where memory is short, or comes in pages of another size.
        None => ring::Bells::new().and_then(|bells| ring::RingMemory::new().map(|_| bells)).ok(),
    };
    Ok(bells.map(Arc::new))
}

fn named(call: RawCall) -> Result<(NamedCall, Regions, StateType)> {
    let state = call.task.state().unwrap_or_else(StateType::of::<()>);
    let arguments = call.arguments?;
    Ok((NamedCall { task: call.task.name().to_owned(), arguments: arguments.bytes.to_vec() }, arguments.regions, state))
}

fn default_name() -> String {
    static POOLS: AtomicU64 = AtomicU64::new(0);
    format!("Pool-{}", POOLS.fetch_add(1, Ordering::Relaxed) + 1)
}
