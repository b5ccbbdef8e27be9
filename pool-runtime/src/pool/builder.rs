//! The options of a pool, each with its default.

use crate::options::{RestartPolicy, WorkerOptions, surroundings};
use crate::peer::spawn::START_TIMEOUT;
use crate::policy::Wish;
use crate::pool::Backend;
use crate::sandbox::Sandbox;
use crate::task::{Call, Initializer, RawCall};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

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
pub(super) struct EachWorker(pub(super) Box<dyn Fn(usize, WorkerOptions) -> WorkerOptions + Send + Sync>);

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
/// | [`restarts`](Self::restarts) | given up after 5 failures in a row |
/// | [`executable`](Self::executable) | this program |
/// | [`backend`](Self::backend) | [`Processes`](Backend::Processes) |
/// | [`sandbox`](Self::sandbox) | none: workers may do what this process may |
/// | [`capture_stderr`](Self::capture_stderr) | true |
/// | [`dossiers`](Self::dossiers) | none are written |
/// | [`transport`](Self::transport) | [`Ring`](Transport::Ring), or [`Channel`](Transport::Channel) if memory cannot be shared |
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct PoolBuilder {
    pub(super) processes: Option<usize>,
    pub(super) name: Option<String>,
    pub(super) tasks_per_child: u64,
    pub(super) initializer: Option<RawCall>,
    pub(super) options: WorkerOptions,
    pub(super) each_worker: Vec<EachWorker>,
    pub(super) start_timeout: Duration,
    pub(super) executable: Option<PathBuf>,
    pub(super) transport: Option<Transport>,
    pub(super) backend: Backend,
    pub(super) wish: Wish,
    pub(super) retry_delay: Duration,
    pub(super) memory_per_child: u64,
    pub(super) age_per_child: Duration,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) capture_stderr: bool,
    pub(super) dossiers: Option<PathBuf>,
    pub(super) restarts: RestartPolicy,
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
            restarts: RestartPolicy::default(),
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

    surroundings!("the workers", "start");

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

    /// When a worker that could not be started is started again, and when that is given up.
    pub fn restarts(mut self, policy: RestartPolicy) -> Self {
        self.restarts = policy;
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
    /// [guide](crate::guide::deaths).
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
}
