//! The options of a pool, each with its default.

use crate::options::{RestartPolicy, WorkerOptions, surroundings};
use crate::peer::spawn::START_TIMEOUT;
use crate::policy::Wish;
use crate::pool::Backend;
use crate::pool::dispatcher::{Limits, nanos};
use crate::sandbox::Sandbox;
use crate::task::{Call, Initializer, RawCall};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How calls and results travel between this process and the workers.
///
/// Results are the same with each; a call over shared memory takes a fraction of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// Ring buffers in shared memory: no system call while both processes are busy.
    Ring,
    /// Messages of ipc-channel: one or two system calls and a wake-up for each.
    Channel,
}

/// Chooses the options of one worker.
pub(super) struct EachWorker(pub(super) Box<dyn Fn(usize, WorkerOptions) -> WorkerOptions + Send + Sync>);

impl fmt::Debug for EachWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EachWorker")
    }
}

/// Makes a [`Pool`](crate::Pool) with options.
///
/// | option | default |
/// |---|---|
/// | [`processes`](Self::processes) | [`cpu_count`](crate::cpu_count) |
/// | [`name`](Self::name) | `Pool-1`, `Pool-2`, … |
/// | [`max_tasks_per_child`](Self::max_tasks_per_child), [`max_memory_per_child`](Self::max_memory_per_child), [`max_age_per_child`](Self::max_age_per_child) | no limit |
/// | [`exit_grace`](Self::exit_grace), [`terminate_grace`](Self::terminate_grace) | 5 s; none |
/// | [`timeout`](Self::timeout), [`soft_timeout`](Self::soft_timeout), [`memory`](Self::memory) | no limit |
/// | [`max_result`](Self::max_result) | no limit; in a sandbox, its memory or 1 GiB |
/// | [`max_waiting`](Self::max_waiting), [`max_waiting_bytes`](Self::max_waiting_bytes) | no limit |
/// | [`retries`](Self::retries), [`retry_delay`](Self::retry_delay) | none; 100 ms before the first |
/// | [`initializer`](Self::initializer) | none |
/// | [`env`](Self::env), [`current_dir`](Self::current_dir), [`nice`](Self::nice), [`cpus`](Self::cpus), [`scheduler`](Self::scheduler); [`each_worker`](Self::each_worker) | those of this process; in a sandbox, see [`inherit_env`](Sandbox::inherit_env) |
/// | [`start_timeout`](Self::start_timeout) | 60 s |
/// | [`restarts`](Self::restarts) | given up after 5 failures in a row |
/// | [`executable`](Self::executable) | this program |
/// | [`backend`](Self::backend) | [`Processes`](Backend::Processes) |
/// | [`sandbox`](Self::sandbox) | none: workers have the rights of this process |
/// | [`capture_stderr`](Self::capture_stderr) | true |
/// | [`dossiers`](Self::dossiers) | none are written |
/// | [`transport`](Self::transport) | [`Ring`](Transport::Ring), or [`Channel`](Transport::Channel) if memory cannot be shared |
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct PoolBuilder {
    pub(super) processes: Option<usize>,
    pub(super) name: Option<String>,
    pub(super) limits: Limits,
    pub(super) initializer: Option<RawCall>,
    pub(super) options: WorkerOptions,
    pub(super) each_worker: Vec<EachWorker>,
    pub(super) start_timeout: Duration,
    pub(super) executable: Option<PathBuf>,
    pub(super) transport: Option<Transport>,
    pub(super) backend: Backend,
    pub(super) wish: Wish,
    pub(super) sandbox: Option<Sandbox>,
    pub(super) capture_stderr: bool,
    pub(super) dossiers: Option<PathBuf>,
    pub(super) restarts: RestartPolicy,
    pub(super) max_waiting: Option<usize>,
    pub(super) max_waiting_bytes: Option<u64>,
}

/// Methods that set one option each.
macro_rules! setters {
    ($($(#[$doc:meta])* pub fn $name:ident($value:ident: $of:ty) => $($field:ident).+ = $set:expr;)*) => {
        impl PoolBuilder {
            $(
                $(#[$doc])*
                pub fn $name(mut self, $value: $of) -> Self {
                    self.$($field).+ = $set;
                    self
                }
            )*
        }
    };
}

impl PoolBuilder {
    pub(super) fn new() -> Self {
        Self {
            processes: None,
            name: None,
            limits: Limits { retry_delay: 100_000_000, exit_grace: 5_000_000_000, ..Limits::NONE },
            initializer: None,
            options: WorkerOptions::default(),
            each_worker: Vec::new(),
            start_timeout: START_TIMEOUT,
            executable: None,
            transport: None,
            backend: Backend::Processes,
            wish: Wish::NONE,
            sandbox: None,
            capture_stderr: true,
            dossiers: None,
            restarts: RestartPolicy::default(),
            max_waiting: None,
            max_waiting_bytes: None,
        }
    }
}

setters! {
    /// The number of workers; at least 1.
    pub fn processes(processes: usize) => processes = Some(processes);

    /// The pool's name, with which the names of its workers begin.
    pub fn name(name: impl Into<String>) => name = Some(name.into());

    /// After how many calls a worker is replaced; at least 1. Limits leaks.
    pub fn max_tasks_per_child(tasks: u64) => limits.tasks_per_child = tasks;

    /// A worker with more bytes of private memory than this is replaced after its current call. Limits leaks of any kind.
    pub fn max_memory_per_child(bytes: u64) => limits.memory_per_child = bytes;

    /// A worker that is older than this is replaced after its current call, but not before its first one.
    pub fn max_age_per_child(age: Duration) => limits.age_per_child = nanos(age);

    /// How long a worker may take to exit that has run its last call: because the pool was closed, or because the worker
    /// is [replaced](Self::max_tasks_per_child). Then it is killed, with a warning in the log. What its calls returned
    /// has arrived by then.
    ///
    /// In this time the state that the [initializer](Self::initializer) made is dropped, and then what the program has
    /// registered with `atexit` runs. The worker's seat is empty meanwhile: the next one starts when this one is gone, as
    /// both would use the same files, ports or devices. Time in which the worker joins a [`Process`](crate::Process) that
    /// its calls have started does not count. `Duration::MAX` is no limit; the default is 5 s.
    ///
    /// A worker that is a thread is abandoned instead.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// # use std::time::{Duration, Instant};
    /// /// Its end takes long.
    /// struct Upload;
    ///
    /// impl Drop for Upload {
    ///     fn drop(&mut self) {
    ///         std::thread::sleep(Duration::from_secs(60));
    ///     }
    /// }
    ///
    /// #[task(initializer)]
    /// fn connect() -> Upload {
    ///     Upload
    /// }
    ///
    /// #[task]
    /// fn double(n: u32) -> u32 {
    ///     2 * n
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let grace = Duration::from_millis(100);
    ///     let pool = Pool::builder().processes(1).initializer(connect::call()).exit_grace(grace).build()?;
    ///     assert_eq!(pool.apply(double::call(2))?, 4);
    ///     pool.close();
    ///     let began = Instant::now();
    ///     pool.join()?;
    ///     assert!(began.elapsed() < Duration::from_secs(30));
    ///     Ok(())
    /// }
    /// ```
    pub fn exit_grace(grace: Duration) => limits.exit_grace = nanos(grace);

    /// How long a worker that is to be killed has after a `SIGTERM`, before the `SIGKILL`: when the pool is terminated, a
    /// running job is cancelled, or a call exceeds its time. Zero, the default, kills at once; and so is killed who uses too
    /// much memory, as it might use ever more.
    ///
    /// A worker whose program, or a task of it, has installed a handler for `SIGTERM` can use the time to clean up;
    /// without one it ends at once. It starts no more calls, and if the present one returns, it exits in good order. The
    /// fate of its calls is not changed by that: they were lost to the kill. The seat of the worker is empty until it has
    /// ended, and [`join`](crate::Pool::join), or dropping the pool, waits for it.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// # use std::time::Duration;
    /// #[task]
    /// fn work() {
    ///     std::thread::sleep(Duration::from_secs(600));
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::builder().processes(1).terminate_grace(Duration::from_secs(5)).build()?;
    ///     let job = pool.apply_async(work::call());
    ///     pool.terminate();
    ///     pool.join()?;
    ///     assert!(job.get().unwrap_err().is_closed());
    ///     Ok(())
    /// }
    /// ```
    pub fn terminate_grace(grace: Duration) => limits.terminate_grace = nanos(grace);

    /// How long a call may take in its worker. Then the worker is killed and replaced, and the job fails with an error
    /// that [`is_timeout`](crate::Error::is_timeout), unless it is [retried](Self::retries).
    ///
    /// This, [`soft_timeout`](Self::soft_timeout), [`retries`](Self::retries) and [`memory`](Self::memory) are defaults:
    /// `#[task(timeout = "30s", retries = 2, memory = "512MiB")]` overrides the pool, and
    /// [`call.timeout(…)`](Call::timeout) and the like override both.
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
    ///     // This call has its own limit.
    ///     assert_eq!(pool.apply(sleep::call(300).timeout(Duration::MAX))?, 300);
    ///     Ok(())
    /// }
    /// ```
    pub fn timeout(limit: Duration) => wish.timeout = Some(limit);

    /// After how long a call is asked to stop: [`current_job().is_cancelled()`](crate::CurrentJob::is_cancelled) turns
    /// true. It must be shorter than the [`timeout`](Self::timeout), which kills a call that goes on. A task that makes
    /// progress can ask for more time with [`extend_deadline`](crate::CurrentJob::extend_deadline).
    pub fn soft_timeout(limit: Duration) => wish.soft_timeout = Some(limit);

    /// How often a call is retried after its worker was lost, or killed because the call took too long. It must be safe
    /// to run twice. A call that returned an error, panicked, or used too much memory is not retried.
    pub fn retries(retries: u32) => wish.retries = Some(retries);

    /// How long a call waits before its first [retry](Self::retries); then twice as long each time, up to 30 s.
    pub fn retry_delay(delay: Duration) => limits.retry_delay = nanos(delay);

    /// How many bytes of memory a worker may use while it runs a call. Beyond that, the worker is killed and replaced,
    /// and the job fails with an error that [`is_out_of_memory`](crate::Error::is_out_of_memory).
    ///
    /// The limit is for the whole worker, including what earlier calls and the initializer have left in memory, so it
    /// should be well above that; [`max_memory_per_child`](Self::max_memory_per_child) keeps it small. Only the worker's own
    /// memory in use counts: not the program itself, files, arguments in shared memory or [`Shared`](crate::Shared)
    /// slices, nor memory that was never touched. It is sampled about 100 times a second, less often with more than 40
    /// workers, so a call can exceed it briefly. A limit that no allocation exceeds is
    /// [`Sandbox::memory`](crate::Sandbox::memory).
    ///
    /// An idle worker that has more than any of the calls that it was given may use is killed and replaced too, with a
    /// warning in the log.
    pub fn memory(bytes: u64) => wish.memory = Some(bytes);

    /// How many calls may wait for a worker; at least 1. While there are so many, whoever submits another one waits until
    /// there is room: a program that submits calls faster than its workers run them does not fill its memory.
    ///
    /// A call waits until a worker runs it, also if it was sent to a busy worker ahead of time, and while it is to be
    /// [retried](Self::retries). One that runs does not count, so a pool of 4 workers with `max_waiting(10)` has up to 14
    /// calls that have not ended. (A worker that is about to be replaced counts as none: its last call waits too.)
    ///
    /// - [`apply`](crate::Pool::apply), [`apply_async`](crate::Pool::apply_async), [`map`](crate::Pool::map) and their like
    ///   wait for room, and read their inputs no faster. [`imap`](crate::Pool::imap) gives the results that it has before it
    ///   waits. If the pool is closed, terminated or has failed meanwhile, the call fails with the error for that.
    /// - [`try_apply_async`](crate::Pool::try_apply_async) refuses the call instead, with an error that
    ///   [`is_would_block`](crate::Error::is_would_block).
    /// - A callback ([`on_done`](crate::Job::on_done)) waits too, and those after it with it; the workers go on.
    /// - Nobody waits where room might come only from the thread that waits: a task that runs on a thread of the pool
    ///   ([`Backend::Threads`]), and what a `Waker` runs at once. Their calls are taken although there is no room.
    /// - With [`Backend::Inline`], no call ever waits.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// #[task]
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::builder().processes(2).max_waiting(100).build()?;
    ///     let (results, arrived) = std::sync::mpsc::channel();
    ///     for n in 0..1000 {
    ///         let results = results.clone();
    ///         // Waits while 100 calls wait.
    ///         drop(pool.apply_async(square::call(n)).on_done(move |result| {
    ///             let _ = results.send(result.as_ref().is_ok_and(|square| *square == n * n));
    ///         }));
    ///         assert!(pool.stats().waiting <= 100);
    ///     }
    ///     drop(results);
    ///     assert_eq!(arrived.iter().filter(|right| *right).count(), 1000);
    ///     Ok(())
    /// }
    /// ```
    pub fn max_waiting(calls: usize) => max_waiting = Some(calls);

    /// How many bytes the encoded arguments of the pool's calls may have while any call waits; at least 1. Beyond that,
    /// whoever submits a call waits for room, as with [`max_waiting`](Self::max_waiting), which can be combined with this.
    ///
    /// Arguments are kept until their call has ended, so those of calls that run count too. A call is always taken
    /// while none waits, however large it is: the workers have work, and no call is too large for the pool. Arguments in
    /// the memory of [`Shared`](crate::Shared) slices do not count.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// #[task]
    /// fn length(bytes: &[u8]) -> usize {
    ///     bytes.len()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::builder().processes(2).max_waiting_bytes(1 << 20).build()?;
    ///     let block = vec![0; 1 << 18];
    ///     let lengths = pool.map(|_| length::call(&block), 0..20)?;
    ///     assert_eq!(lengths.iter().sum::<usize>(), 20 << 18);
    ///     Ok(())
    /// }
    /// ```
    pub fn max_waiting_bytes(bytes: u64) => max_waiting_bytes = Some(bytes);

    /// How many bytes the encoded result of a call may have. A task that returns more has run, and its job fails with an
    /// error that [`is_result_too_large`](crate::Error::is_result_too_large); the worker goes on. `u64::MAX` is no limit.
    ///
    /// Without it, the limit of a worker in a [sandbox](Self::sandbox) is the sandbox's
    /// [`memory`](crate::Sandbox::memory), or 1 GiB if that is not limited; other workers have none. The result of a type
    /// whose encoding has a longest one, such as `u64`, `Option<bool>` or `[f32; 3]`, never has more bytes than that.
    /// Results of up to 16 bytes are always accepted.
    ///
    /// A worker does not only promise that: one that sends more than it may, whether the call's task says so or code
    /// that has taken the worker over, is killed before this process keeps any of it, and its call is lost. So `n` calls
    /// take no more than `n` times the limit of this process's memory, or 64 KiB: the texts of a panic or another failure
    /// together have at most the limit that was said for results, but 64 KiB in any case, and never more than 8 MiB. Longer
    /// ones are cut.
    ///
    /// As with the other limits, `#[task(max_result = "1MiB")]` overrides the pool, and
    /// [`call.max_result(…)`](Call::max_result) both.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// #[task]
    /// fn unpack(times: usize) -> String {
    ///     "all work and no play ".repeat(times)
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::builder().processes(1).max_result(1 << 20).build()?;
    ///     assert_eq!(pool.apply(unpack::call(2))?.len(), 42);
    ///     let error = pool.apply(unpack::call(100_000)).unwrap_err();
    ///     assert!(error.is_result_too_large());
    ///     // This call may return more.
    ///     assert_eq!(pool.apply(unpack::call(100_000).max_result(1 << 22))?.len(), 2_100_000);
    ///     Ok(())
    /// }
    /// ```
    pub fn max_result(bytes: u64) => wish.max_result = Some(bytes);
}

impl PoolBuilder {
    /// A call that each worker makes once, before all others. It returns the worker's state, which tasks with a
    /// `#[state]` parameter use.
    ///
    /// It has no time limit, unless it is given a [`timeout`](Call::timeout). If a task with a `#[state]` parameter
    /// panics, the state may be corrupt, so the worker is replaced.
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
        self.initializer = Some(call.raw);
        self
    }

    surroundings!("the workers", "start", options.);

    /// Gives each worker its own environment, directory, processors or priority. `choose` gets the worker's seat in the
    /// pool, counted from 0, and the options of all workers. A worker that replaces another has its seat.
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
}

setters! {
    /// When a worker that could not be started is tried again, and when the pool gives up.
    pub fn restarts(policy: RestartPolicy) => restarts = policy;

    /// How long a new process may take to become a worker, not counting its initializer.
    pub fn start_timeout(timeout: Duration) => start_timeout = timeout;

    /// The file to start as a worker: a copy of this program, or a wrapper that executes it. It must be the same build,
    /// and run as the same user and group.
    pub fn executable(path: impl Into<PathBuf>) => executable = Some(path.into());

    /// What the workers and their initializer may access: files, the network, how much memory.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, Sandbox, enter, task};
    /// #[task]
    /// fn decode(image: &[u8]) -> usize {
    ///     // If the parser is exploited, no file and no network is in reach.
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
    #[cfg(feature = "sandbox")]
    pub fn sandbox(sandbox: Sandbox) => sandbox = Some(sandbox);

    /// How calls and results travel.
    pub fn transport(transport: Transport) => transport = Some(transport);

    /// What runs the calls: worker processes, or this process, for tests and debuggers.
    pub fn backend(backend: Backend) => backend = backend;

    /// Whether the standard error of workers passes through a pipe, so that the [`Dossier`](crate::Dossier) of a dead
    /// worker has its last lines.
    ///
    /// Whole lines then arrive at this process's standard error a moment later, perhaps after newer lines of this
    /// process. If the program ends by [`exit`](std::process::exit) or a signal, without dropping the pool, unread output
    /// is lost. The pipe is no terminal, so workers print no colours. With `false`, workers inherit standard error, and
    /// dossiers have nothing of it.
    pub fn capture_stderr(capture: bool) => capture_stderr = capture;

    /// Writes a file into this directory for each call that is lost with its worker: the report of its
    /// [`Dossier`](crate::Dossier), and the call with its arguments, so that it can be run again, even in a debugger.
    ///
    /// The directory is created with the first file if it does not exist. Only its owner can read it and the files, which
    /// have all arguments and the [`Shared`](crate::Shared) slices that they refer to. A directory that belongs to
    /// another user, or into which others may write, such as `/tmp` itself, is an error when the pool is built: choose
    /// one of your own. So is one that others could replace, as a directory above it is another user's, or is one that
    /// others may write and that is not sticky; one behind another user's link; and one where the pool's own
    /// [sandbox](Self::sandbox) lets workers write. Some systems have a directory above that a group may write, such as
    /// `/var/log` (`root:syslog`, mode 775): then nothing below it will do, not even a directory of your own. Take one
    /// elsewhere, such as in `/var/lib` or `~/.local/state`, or have the administrator take that right away (`chmod g-w`).
    ///
    /// A file that cannot be written is a warning in the log. A call that had not begun gets no file.
    ///
    /// A pool writes at most 1000 files, with at most 1 GiB of arguments; beyond that, a file has the report alone. No
    /// worker uses more of either than it leaves for the others: at most half, if the pool has more than one.
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
    pub fn dossiers(dir: impl Into<PathBuf>) => dossiers = Some(dir.into());
}
