//! Makes a pool from its options.

use crate::dossier::keep::DossierKeeper;
use crate::error::{Error, Result};
use crate::identity::{self, MadeIn};
use crate::job::Callbacks;
use crate::locks::lock;
use crate::logging::LogSubscriber;
use crate::options::WorkerOptions;
use crate::peer::faults::Plan;
use crate::peer::spawn::Launch;
use crate::peer::{Bells, Inline, Source, handshake};
use crate::policy::Wish;
use crate::pool::builder::EachWorker;
use crate::pool::dispatcher::{Dispatcher, Limits};
use crate::pool::{
    Backend, Bound, Core, Inner, Pool, PoolBuilder, PoolListener, Prelude, Submission, Transport, attendant, listener,
};
use crate::protocol::{Hello, NamedCall};
use crate::sandbox;
use crate::task::{RawCall, StateType};
use crate::transport::channel;
use crate::transport::ring::{self, RingMemory};
use crate::{os, program, registry};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

/// More processes are a mistake on any machine.
const MAX_PROCESSES: usize = 1 << 13;

/// How often the memory of a worker is sampled, in nanoseconds, where that matters; and per worker, as one sample takes
/// about 5 µs.
const WEIGH_EVERY: u64 = 10_000_000;
const WEIGH_ONE: u64 = 250_000;

/// Half of a ring may be in flight. A frame is read in place.
const RING: Limits = Limits {
    unhindered: 1 << 17,
    frame: ring::WHOLE - (1 << 13),
    frames: 1 << 12,
    calls: 1 << 13,
    shortest: 20,
    ..Limits::NONE
};

/// A socket holds a few hundred packets of any size. Sending one more would wait for the worker, which may itself wait
/// until its reports are read.
pub(super) const CHANNEL: Limits = Limits {
    unhindered: channel::UNHINDERED,
    frame: channel::UNHINDERED,
    frames: 16,
    calls: 1 << 10,
    shortest: 2_000,
    weigh_every: WEIGH_EVERY,
    ..Limits::NONE
};

/// A queue between threads holds anything.
const LOCAL: Limits = Limits { unhindered: usize::MAX, frame: usize::MAX, ..CHANNEL };

/// Workers are lost all the time. Each loss counts against all calls that the worker had, and a call that has lost too
/// many workers fails, so a worker has only a few.
const FAULTY: Limits = Limits { calls: 4, ..LOCAL };

/// What is different for each backend. No bells if there are no workers.
type Staff = (Source, Option<Bells>, Limits);

impl PoolBuilder {
    /// Starts the workers, and returns when the first of them takes calls.
    ///
    /// # Errors
    ///
    /// No workers, or too many; no entry point for them (see [`pool_main!`](crate::pool_main)); two tasks with one
    /// name; a daemonic process, processes nested too deep, or a program with more rights than its starter; workers
    /// that cannot start, or whose initializer fails; a sandbox with a path that does not exist, or one that the kernel
    /// cannot enforce; [`env`](Self::env), [`current_dir`](Self::current_dir) or [`sandbox`](Self::sandbox) with a
    /// [backend](Self::backend) without processes.
    pub fn build(mut self) -> Result<Pool> {
        let processes = self.processes.unwrap_or_else(identity::cpu_count);
        self.check(processes)?;
        let choose = |index| {
            let choose = |options, each: &EachWorker| each.0(index, options);
            let options = self.each_worker.iter().fold(self.options.clone(), choose);
            options.check().map(|()| options)
        };
        let options = (0..processes).map(choose).collect::<Result<Vec<_>>>()?;
        let timeout = |call: &RawCall| call.wish.as_ref().and_then(|wish| wish.timeout).or(call.task.wish.timeout);
        let initializer_timeout = self.initializer.as_ref().and_then(timeout);
        let confined = self.sandbox.is_some();
        let initializer = self.initializer.take().map(|call| prelude(call, confined)).transpose()?;
        if self.backend != Backend::Processes {
            self.check_in_process(&options)?;
            // The memory of threads cannot be told apart.
            self.limits.memory_per_child = u64::MAX;
        } else if self.limits.memory_per_child != u64::MAX || self.wish.memory.is_some_and(|bytes| bytes != u64::MAX) {
            os::check_memory_is_seen().map_err(Error::memory_unseen)?;
        }
        let (source, bells, limits) =
            self.staff(processes, initializer.as_ref().map(|prelude| &prelude.call), initializer_timeout)?;
        let seats = if bells.is_some() { processes } else { 0 };
        // What the transport and the sandbox limit; the rest is the user's choice.
        let Limits { unhindered, frame, frames, calls, shortest, memory, .. } = limits;
        let counts_bytes = self.max_waiting_bytes.is_some();
        let weigh_every = WEIGH_EVERY.max(WEIGH_ONE * processes as u64);
        let limits =
            Limits { weigh_every, unhindered, frame, frames, calls, shortest, memory, counts_bytes, ..self.limits };
        let keep_in = |dir: PathBuf| {
            let files = source.confinement().and_then(|confinement| confinement.files);
            if let Some(above) = files.as_ref().and_then(|files| files.writable_above(&dir)) {
                return Err(Error::invalid(format!(
                    "cannot keep dossiers in {:?}: the sandbox lets workers write to {:?}, and who writes a dossier \
                     decides what runs when it is replayed: choose a directory elsewhere",
                    dir.display(),
                    above.path.display()
                )));
            }
            let failed = |error| Error::os(format!("cannot keep dossiers in {:?}", dir.display()), error);
            DossierKeeper::new(&dir, program::replay_command, seats).map_err(failed)
        };
        let keeper = self.dossiers.map(keep_in).transpose()?;
        static POOLS: AtomicU64 = AtomicU64::new(1);
        let name = self.name.unwrap_or_else(|| format!("Pool-{}", POOLS.fetch_add(1, Ordering::Relaxed)));
        let (pool, places) = (name.clone(), options.iter().map(|of| of.place.clone()).collect::<Vec<_>>());
        let hello = move |seat: usize, epoch| {
            handshake::hello(format!("{pool}-{}", seat + 1), false, epoch, false, places[seat].clone())
        };
        let dispatcher = Dispatcher::new(seats, limits, self.restarts);
        let inner = Inner::new(source, options, hello, dispatcher);
        let inner = Arc::new_cyclic(|itself| Inner {
            name,
            initializer,
            listener: bells.map(|bells| PoolListener::new(Arc::new(bells), processes)),
            wish: self.wish,
            bound: Bound::new(self.max_waiting, self.max_waiting_bytes),
            keeper,
            exit_grace: Duration::from_nanos(limits.exit_grace),
            itself: itself.clone(),
            ..inner
        });
        // From here on, dropping the pool cleans up.
        let pool = Pool { inner, threads: Mutex::default(), detached: false };
        pool.start_threads(seats)?;
        if seats > 0 {
            pool.inner.await_phase(None, |dispatcher| dispatcher.ever_ready || dispatcher.is_over())?;
        }
        pool.inner.log_built();
        Ok(pool)
    }

    fn check(&self, processes: usize) -> Result<()> {
        let refuse = |why: String| Err(Error::invalid(why));
        if processes == 0 {
            return refuse("a pool needs at least 1 process, and 0 were asked for".into());
        }
        if processes > MAX_PROCESSES {
            return refuse(format!("a pool has at most {MAX_PROCESSES} processes, and {processes} were asked for"));
        }
        if self.limits.tasks_per_child == 0 {
            let why = "a worker that is replaced after 0 calls never runs any: max_tasks_per_child is at least 1";
            return refuse(why.into());
        }
        if self.max_waiting == Some(0) || self.max_waiting_bytes == Some(0) {
            let why = "a pool in which no call may wait takes none while its workers are busy: max_waiting and \
                       max_waiting_bytes are at least 1";
            return refuse(why.into());
        }
        if let Wish { timeout: Some(timeout), soft_timeout: Some(soft), .. } = self.wish
            && soft >= timeout
        {
            return refuse(format!(
                "a call would be killed after {timeout:?}, before it is told to stop after {soft:?}: make soft_timeout \
                 shorter than timeout"
            ));
        }
        let asks_for_more = |wish: &Wish| *wish != Wish { timeout: wish.timeout, ..Wish::NONE };
        if self.initializer.as_ref().and_then(|call| call.wish.as_deref()).is_some_and(asks_for_more) {
            return refuse("an initializer runs before any call, so of the limits only `timeout` applies to it".into());
        }
        Ok(())
    }

    /// Refuses options that only processes have.
    fn check_in_process(&self, options: &[WorkerOptions]) -> Result<()> {
        registry::check().map_err(Error::invalid)?;
        if options.iter().any(WorkerOptions::change_the_process) || self.sandbox.is_some() {
            return Err(Error::invalid(format!(
                "`Backend::{:?}` runs calls in this process, whose environment, directory and rights no pool changes: \
                 leave out `env`, `env_remove`, `current_dir` and `sandbox`, or use `Backend::Processes`",
                self.backend
            )));
        }
        Ok(())
    }

    fn staff(&self, seats: usize, initializer: Option<&NamedCall>, timeout: Option<Duration>) -> Result<Staff> {
        let threads = |plan, limits| {
            let source = Source::Threads { plan, initializer_timeout: timeout };
            (source, Some(Bells::of_threads()), limits)
        };
        match self.backend {
            Backend::Processes => {
                let words = some_bells(self.transport, seats)?;
                let mut launch = Launch {
                    program: self.executable.clone(),
                    start_timeout: self.start_timeout,
                    initializer_timeout: timeout,
                    capture: self.capture_stderr,
                    ..Launch::new()?
                };
                launch.confine(self.sandbox.as_ref())?;
                launch.share_relay()?;
                let (bells, limits) = match words {
                    Some((words, rings)) => {
                        launch.spare_rings = Mutex::new(Some(rings));
                        (words, RING)
                    }
                    None => {
                        let failed = |error| Error::os("cannot listen to workers", error);
                        (Bells::of_sockets().map_err(failed)?, CHANNEL)
                    }
                };
                let limits = Limits { memory: launch.weighed_memory(), ..limits };
                Ok((Source::Processes(Arc::new(launch)), Some(bells), limits))
            }
            Backend::Inline => {
                let failed = |error| Error::pool_failed(1, error);
                let inline = Inline::new(initializer.cloned(), self.limits.tasks_per_child).map_err(failed)?;
                Ok((Source::Inline(inline), None, LOCAL))
            }
            Backend::Threads => Ok(threads(None, LOCAL)),
            Backend::Faults(seed) => Ok(threads(Some(Arc::new(Plan::new(seed))), FAULTY)),
        }
    }
}

impl Inner {
    /// What pools and single processes share. The rest has its default.
    pub(super) fn new(
        source: Source,
        options: Vec<WorkerOptions>,
        hello: impl Fn(usize, u32) -> Hello + Send + Sync + 'static,
        dispatcher: Dispatcher<dyn Submission>,
    ) -> Self {
        let confinement = source.confinement();
        let (max_result, confined) = (sandbox::default_max_result(confinement.as_ref()), confinement.is_some());
        Self {
            name: String::new(),
            made_in: MadeIn::this_process(),
            seats: options.len(),
            single: false,
            source,
            hello: Box::new(hello),
            initializer: None,
            core: Mutex::new(Core::new(dispatcher, options.len())),
            options,
            changed: Condvar::new(),
            clock: Condvar::new(),
            listener: None,
            jobs: AtomicU64::new(1),
            bound: None,
            over: AtomicBool::new(false),
            callbacks: Arc::new(Callbacks::default()),
            began: os::monotonic(),
            wish: Wish::NONE,
            keeper: None,
            exit_grace: Duration::MAX,
            max_result,
            is_told: AtomicBool::new(false),
            subscriber: LogSubscriber::of_this_thread(),
            confined,
            itself: Weak::new(),
        }
    }
}

impl Pool {
    fn start_threads(&self, seats: usize) -> Result<()> {
        let inner = &self.inner;
        for seat in 0..seats {
            let name = format!("pool-seat-{}", seat + 1);
            let attendant = attendant::spawn(inner.clone(), seat, name, None, || {}).map_err(|error| {
                let error = Error::os(format!("cannot start the thread for worker {} of {seats}", seat + 1), error);
                inner.abandon(seat..seats, error.clone());
                error
            })?;
            lock(&self.threads).push(attendant);
        }
        // The attendants come first: starting processes takes longest.
        if let Source::Processes(launch) = &inner.source {
            launch.start_relay()?;
        }
        if inner.listener.is_some() {
            let collector = listener::spawn_collector(inner.clone())
                .map_err(|error| Error::os("cannot start the thread that listens to the workers", error))?;
            lock(&self.threads).push(collector);
        }
        Ok(())
    }
}

/// The bells of workers behind rings, at so many seats, and the rings of the first. None if rings are not wanted, or not
/// possible.
fn some_bells(transport: Option<Transport>, seats: usize) -> Result<Option<(Bells, RingMemory)>> {
    let memory = || Ok((Bells::of_memory(seats)?, RingMemory::new()?));
    match transport {
        Some(Transport::Channel) => Ok(None),
        Some(Transport::Ring) => {
            memory().map(Some).map_err(|error: io::Error| Error::os("cannot share memory with workers", error))
        }
        // A channel also works where memory is short, or pages have another size.
        None => Ok(memory().ok()),
    }
}

fn prelude(call: RawCall, confined: bool) -> Result<Prelude> {
    let state = call.task.state().unwrap_or_else(StateType::of::<()>);
    let arguments = call.arguments?;
    let arguments = if confined { arguments.set_apart(call.task)? } else { arguments };
    let call = NamedCall { task: call.task.name().to_owned(), arguments: arguments.bytes.to_vec() };
    Ok(Prelude { call, regions: arguments.regions, state })
}
