//! The pool: the handle that users hold, and what its threads share.
//!
//! ```text
//!  any user's thread                                              worker process
//!    apply, map … ──submit──▶ ┌────────────┐ ──Send──▶ outbox ═══════▶ call
//!                             │ dispatcher │
//!  attendant of a seat ─────▶ └────────────┘ ──Finish─▶ slot ──▶ get, poll, callback
//!    report, lost, ready                                    ◀═══════ report
//!  clock: tick
//! ```
//!
//! - Whoever brings an event locks the [dispatcher](dispatcher), lets it decide, and carries out the effects after
//!   unlocking: there is no thread through which all calls would have to pass.
//! - One *attendant* thread per seat starts the worker, listens to it, notices its death and replaces it
//!   ([supervisor]). It runs no user code. A caller that blocks until a worker answers takes its place meanwhile, to
//!   save a wake-up ([ear]).
//! - The clock thread exists only once a worker has kept others waiting; an idle pool's threads all sleep.
//!
//! Frames for one worker are put into its [outbox](Outbox) under the dispatcher's lock, so that they leave in the order
//! in which the dispatcher numbered the calls; whoever finds nobody sending sends what is there.

mod builder;
pub(crate) mod dispatcher;
mod ear;
mod map;
mod supervisor;

pub use builder::PoolBuilder;
pub use map::Imap;

use crate::{
    error::{Error, Result},
    job::{Callbacks, Home, Job, Origin, Raw, Results, Slot, lock},
    launch::Launch,
    os::{Child, StatusPage},
    protocol::{CallsFrame, FromWorker, NamedCall, stop_frame},
    task::{RawCall, StateType, Task, TaskCall, TaskInfo},
    transport::{Outlet, Received},
};
use dispatcher::{Batch, Dispatcher, Effect, Flight, Time};
use ear::Ear;
use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Condvar, Mutex, PoisonError, TryLockError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Workers: processes of this program that run the calls given to them.
///
/// All methods take `&self`; a pool can be shared between threads. Dropping it terminates it.
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
///     let pool = Pool::new(2)?;
///     assert_eq!(pool.apply(square::call(3))?, 9);
///     assert_eq!(pool.map(square::call, 1..=4)?, [1, 4, 9, 16]);
///     let job = pool.apply_async(square::call(5));
///     assert_eq!(job.get()?, 25);
///     pool.close();
///     pool.join()
/// }
/// ```
pub struct Pool {
    shared: Arc<Shared>,
    attendants: Mutex<Vec<JoinHandle<()>>>,
}

/// Whom to tell how the calls of a batch end.
pub(crate) trait Sink: Send + Sync {
    fn finish(&self, index: u32, result: Result<Vec<u8>>);
}

/// What all threads of a pool share.
pub(crate) struct Shared {
    name: String,
    launch: Launch,
    initializer: Option<(NamedCall, StateType)>,
    dispatcher: Mutex<Dispatcher<Arc<dyn Sink>>>,
    /// Something has changed that somebody waits for: a seat may be started, a pool is ready, or over.
    changed: Condvar,
    /// The clock's: the next tick has changed.
    clock: Condvar,
    has_clock: std::sync::atomic::AtomicBool,
    seats: Vec<Mutex<Option<Arc<Station>>>>,
    jobs: AtomicU64,
    callbacks: Arc<Callbacks>,
    began: Instant,
    itself: Weak<Self>,
}

/// What is left to do after the dispatcher has decided.
#[derive(Default)]
struct Todo {
    effects: VecDeque<Effect<Arc<dyn Sink>>>,
    /// Those with something to send.
    stations: Vec<Arc<Station>>,
}

/// What leads to the process at a seat.
pub(crate) struct Station {
    epoch: u32,
    child: Arc<Child>,
    page: Arc<StatusPage>,
    outbox: Outbox,
    ear: Ear,
}

/// The frames for one worker, in order.
struct Outbox {
    queue: Mutex<VecDeque<Outgoing>>,
    outlet: Mutex<Arc<dyn Outlet>>,
}

enum Outgoing {
    Calls { generation: u32, calls: Vec<Flight<Arc<dyn Sink>>> },
    Stop,
}

impl Outgoing {
    fn to_frame(&self) -> Vec<u8> {
        match self {
            Self::Stop => stop_frame(),
            Self::Calls { generation, calls } => {
                let mut frame = CallsFrame::new(*generation);
                for call in calls {
                    frame.push(call.header(), call.batch.task, call.batch.arguments(call.index));
                }
                frame.into_frame()
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Stop => 0,
            Self::Calls { calls, .. } => calls.iter().map(|call| call.batch.arguments(call.index).len()).sum(),
        }
    }
}

impl Outbox {
    fn new(outlet: Arc<dyn Outlet>) -> Self {
        Self { queue: Mutex::new(VecDeque::new()), outlet: Mutex::new(outlet) }
    }

    fn put(&self, outgoing: Outgoing) {
        lock(&self.queue).push_back(outgoing);
    }

    /// Sends what is there, unless somebody else is just doing so. Returns false, with the work undone, if it would
    /// have to wait for the worker to read.
    fn flush(&self, may_wait: bool) -> bool {
        loop {
            let outlet = match self.outlet.try_lock() {
                Ok(outlet) => outlet,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Whoever is sending looks again before leaving.
                Err(TryLockError::WouldBlock) => return true,
            };
            loop {
                let mut queue = lock(&self.queue);
                let Some(next) = queue.front() else { break };
                if !may_wait && next.bytes() > outlet.unhindered() {
                    return false;
                }
                let Some(next) = queue.pop_front() else { break };
                drop(queue);
                // The process is gone if this fails; its attendant notices, and nothing is lost.
                let _ = outlet.send(&next.to_frame());
            }
            drop(outlet);
            if lock(&self.queue).is_empty() {
                return true;
            }
        }
    }
}

impl Shared {
    fn now(&self) -> Time {
        self.began.elapsed().as_nanos() as Time
    }

    fn station(&self, seat: usize, epoch: u32) -> Option<Arc<Station>> {
        lock(&self.seats[seat]).clone().filter(|station| station.epoch == epoch)
    }

    /// Brings an event to the dispatcher, and carries out what it decides.
    fn tell<R>(&self, event: impl FnOnce(&mut Dispatcher<Arc<dyn Sink>>, Time) -> R) -> R {
        let mut todo = Todo::default();
        let told = self.decide(event, &mut todo);
        self.carry_out(todo, None);
        told
    }

    /// Lets the dispatcher decide. What is to be sent is put into the outboxes while it is locked: see [`Outbox`].
    fn decide<R>(&self, event: impl FnOnce(&mut Dispatcher<Arc<dyn Sink>>, Time) -> R, todo: &mut Todo) -> R {
        let mut dispatcher = lock(&self.dispatcher);
        let was_over = dispatcher.is_over();
        let tick = dispatcher.next_tick();
        let told = event(&mut dispatcher, self.now());
        while let Some(effect) = dispatcher.effect() {
            let (seat, epoch, outgoing) = match effect {
                Effect::Send { seat, epoch, generation, calls } => (seat, epoch, Outgoing::Calls { generation, calls }),
                Effect::Stop { seat, epoch } => (seat, epoch, Outgoing::Stop),
                other => {
                    todo.effects.push_back(other);
                    continue;
                }
            };
            if let Some(station) = self.station(seat, epoch) {
                station.outbox.put(outgoing);
                todo.stations.push(station);
            }
        }
        if dispatcher.is_over() != was_over || dispatcher.is_finished() {
            self.changed.notify_all();
            self.clock.notify_all();
        }
        if dispatcher.next_tick() != tick {
            self.wind_clock();
        }
        told
    }

    /// `led` is the worker whose answer the calling thread is going to wait for, and listen to itself.
    fn carry_out(&self, mut todo: Todo, led: Option<&Arc<Station>>) {
        while let Some(effect) = todo.effects.pop_front() {
            match effect {
                Effect::Finish { batch, index, result } => batch.sink.finish(index, result),
                Effect::TakeBack { seat, epoch, generation } => {
                    if let Some(station) = self.station(seat, epoch) {
                        let claimed = station.page.take_back(generation);
                        self.decide(|dispatcher, now| dispatcher.taken_back(seat, epoch, claimed, now), &mut todo);
                    }
                }
                Effect::Kill { seat, epoch } => {
                    if let Some(station) = self.station(seat, epoch) {
                        // It cannot fail for a child of ours.
                        let _ = station.child.kill();
                        station.ear.summon();
                    }
                }
                Effect::Send { .. } | Effect::Stop { .. } => {}
            }
        }
        for station in todo.stations {
            let is_led = led.is_some_and(|led| Arc::ptr_eq(led, &station));
            if !is_led {
                station.ear.summon();
            }
            if !station.outbox.flush(is_led) {
                // A large argument takes as long as the worker takes to read it, which is not this thread's time.
                let worker = station.clone();
                let sender = std::thread::Builder::new().name("pool-sender".into()).spawn(move || {
                    crate::os::block_all_signals();
                    worker.outbox.flush(true);
                });
                if sender.is_err() {
                    station.outbox.flush(true);
                }
            }
        }
    }

    /// Wakes the clock for an earlier tick; makes it, the first time.
    fn wind_clock(&self) {
        if self.has_clock.swap(true, Ordering::Relaxed) {
            self.clock.notify_all();
            return;
        }
        let Some(shared) = self.itself.upgrade() else { return };
        let made = std::thread::Builder::new().name("pool-clock".into()).spawn(move || {
            crate::os::block_all_signals();
            shared.keep_time();
        });
        if made.is_err() {
            self.has_clock.store(false, Ordering::Relaxed);
        }
    }

    fn keep_time(&self) {
        loop {
            let mut dispatcher = lock(&self.dispatcher);
            loop {
                if dispatcher.is_finished() {
                    return;
                }
                let now = self.now();
                dispatcher = match dispatcher.next_tick() {
                    Some(at) if at <= now => break,
                    Some(at) => {
                        let left = Duration::from_nanos(at - now);
                        self.clock.wait_timeout(dispatcher, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => self.clock.wait(dispatcher).unwrap_or_else(PoisonError::into_inner),
                };
            }
            drop(dispatcher);
            self.tell(Dispatcher::tick);
        }
    }

    /// Refuses a call that no worker of this pool could run.
    fn check(&self, task: &'static TaskInfo) -> Result<()> {
        let Some(wanted) = task.state() else { return Ok(()) };
        let made = self.initializer.as_ref().map(|(_, state)| *state).filter(|state| !state.is_unit());
        if made == Some(wanted) {
            return Ok(());
        }
        let made = made.map_or("this pool has no initializer that makes one".to_owned(), |made| {
            format!("this pool's initializer makes `{}`", made.name())
        });
        Err(Error::invalid(format!(
            "asks for a worker state `{}`, but {made}: give the pool an initializer that returns it",
            wanted.name()
        ))
        .of_task(task.name()))
    }

    /// Makes a batch of one encoded call.
    fn single(&self, call: RawCall, sink: Arc<dyn Sink>) -> Result<Batch<Arc<dyn Sink>>> {
        let arguments = call.arguments?;
        self.check(call.task)?;
        let first_job = self.jobs.fetch_add(1, Ordering::Relaxed);
        Ok(Batch { task: call.task.name(), first_job, ends: vec![arguments.len()], arguments, sink })
    }

    /// Runs a call, and listens to its worker meanwhile if nobody else does: see [`ear`].
    fn run(&self, call: RawCall, slot: &Arc<Slot>) -> Result<()> {
        let batch = self.single(call, slot.clone())?;
        let mut todo = Todo::default();
        let at = self.decide(
            |dispatcher, now| dispatcher.submit(batch, now).map(|ticket| dispatcher.alone_at(ticket)),
            &mut todo,
        )?;
        let led = at.and_then(|(seat, epoch)| Some((seat, self.station(seat, epoch)?)));
        let lead = led.as_ref().and_then(|(seat, station)| Some((*seat, station, station.ear.lead()?)));
        self.carry_out(todo, lead.as_ref().map(|(_, station, _)| *station));
        if let Some((seat, _, lead)) = lead {
            lead.listen(|| slot.is_finished(), |received| self.hear(seat, received));
        }
        Ok(())
    }

    /// Passes on what a worker says. Returns whether it has more to say, or what its end is.
    fn hear(&self, seat: usize, received: Received) -> Result<bool, ear::End> {
        let frame = match received {
            Received::Frame(frame) => frame,
            Received::Gone => return Err(None),
            Received::Garbled(fault) => return Err(Some(fault)),
            Received::Nothing => return Ok(true),
        };
        match FromWorker::from_frame(&frame) {
            Ok(FromWorker::Report(report)) => {
                drop(frame);
                let heard = self
                    .tell(|dispatcher, now| dispatcher.report(seat, report, now).map(|()| dispatcher.is_busy(seat)));
                heard.map_err(|fault| Some(fault.to_owned()))
            }
            Ok(_) => Err(Some("sent a message out of turn".into())),
            Err(garbled) => Err(Some(garbled.to_string())),
        }
    }
}

impl Home for Shared {
    fn cancel(&self, job: &Origin) -> bool {
        self.tell(|dispatcher, now| {
            let mut any = false;
            for ticket in &job.tickets {
                any |= dispatcher.cancel(*ticket, true, now);
            }
            any
        })
    }

    fn callbacks(&self) -> &Arc<Callbacks> {
        &self.callbacks
    }
}

impl Sink for Slot {
    fn finish(&self, _: u32, result: Result<Vec<u8>>) {
        Slot::finish(self, Raw::One(result));
    }
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkerState {
    /// Its process is on its way.
    Starting,
    /// It waits for work.
    Idle,
    /// It has work.
    Busy,
    /// It is about to end.
    Stopping,
}

/// A worker, as [`Pool::workers`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its process id.
    pub pid: u32,
    /// What it is doing.
    pub state: WorkerState,
    /// How many calls were finished at its place in the pool, by it and by those before it.
    pub jobs_done: u64,
}

/// How many calls are where, as [`Pool::stats`] counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Calls that wait in this process.
    pub waiting: usize,
    /// Calls that were sent to a worker and have not ended.
    pub running: usize,
    /// Calls that ended with a value.
    pub done: u64,
    /// Calls that ended with an error.
    pub failed: u64,
}

impl Pool {
    /// A pool of `processes` workers.
    ///
    /// # Errors
    ///
    /// As [`PoolBuilder::build`].
    pub fn new(processes: usize) -> Result<Self> {
        Self::builder().processes(processes).build()
    }

    /// A pool with options.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// Runs a call, and waits for its result.
    ///
    /// # Errors
    ///
    /// What became of the call; see [`Error`].
    pub fn apply<C: TaskCall>(&self, call: C) -> Result<C::Output> {
        let call = call.into_raw();
        let task = call.task.name();
        let slot = Arc::new(Slot::default());
        self.shared.run(call, &slot).map_err(|error| error.of_task(task))?;
        let origin = Origin { id: 0, task, tickets: Vec::new() };
        Job::one::<C::Task>(slot, self.shared.clone(), origin).get()
    }

    /// Submits a call, and returns at once. A call that cannot be submitted is a job that has failed.
    pub fn apply_async<C: TaskCall>(&self, call: C) -> Job<C::Output> {
        let call = call.into_raw();
        let task = call.task.name();
        let slot = Arc::new(Slot::default());
        let submitted = self.shared.single(call, slot.clone()).and_then(|batch| {
            let id = batch.first_job;
            self.shared.tell(|dispatcher, now| dispatcher.submit(batch, now)).map(|ticket| (id, ticket))
        });
        let (id, tickets) = match submitted {
            Ok((id, ticket)) => (id, vec![ticket]),
            Err(error) => {
                slot.finish(Raw::One(Err(error.of_task(task))));
                (self.shared.jobs.fetch_add(1, Ordering::Relaxed), Vec::new())
            }
        };
        Job::one::<C::Task>(slot, self.shared.clone(), Origin { id, task, tickets })
    }

    /// Makes a call of each input with `f`, here, runs them all, and waits for their results, which come in the order
    /// of the inputs.
    ///
    /// `f` is `name::call` for a task with one parameter, or a closure that returns a call.
    ///
    /// # Errors
    ///
    /// The failure of the first input, in their order, whose call failed. The other calls run all the same.
    ///
    /// # Panics
    ///
    /// If `inputs` or `f` panics. Calls that wait are cancelled then.
    pub fn map<I, F, C>(&self, f: F, inputs: I) -> Result<Vec<C::Output>>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> C,
        C: TaskCall,
    {
        self.map_async(f, inputs).get()
    }

    /// As [`map`](Self::map), but returns as soon as all inputs have been read. The job's result is that of `map`.
    ///
    /// # Panics
    ///
    /// If `inputs` or `f` panics. Calls that wait are cancelled then.
    pub fn map_async<I, F, C>(&self, f: F, inputs: I) -> Job<Vec<C::Output>>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> C,
        C: TaskCall,
    {
        map::map_async(&self.shared, f, inputs)
    }

    /// An iterator over the results, in the order of the inputs. It reads `inputs` as results are taken, a little
    /// ahead: an input without end works.
    ///
    /// An input or a closure that panics does so again when all results before it have been taken. What still waits
    /// when the iterator is dropped is cancelled.
    pub fn imap<I, F, C>(&self, f: F, inputs: I) -> Imap<'_, I::IntoIter, F, C>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> C,
        C: TaskCall,
    {
        Imap::new(self, f, inputs.into_iter(), true)
    }

    /// As [`imap`](Self::imap), but the results come in the order in which they are ready.
    pub fn imap_unordered<I, F, C>(&self, f: F, inputs: I) -> Imap<'_, I::IntoIter, F, C>
    where
        I: IntoIterator,
        F: FnMut(I::Item) -> C,
        C: TaskCall,
    {
        Imap::new(self, f, inputs.into_iter(), false)
    }

    /// Takes no more work. What was submitted is finished; then the workers exit.
    pub fn close(&self) {
        self.shared.tell(|dispatcher, _| dispatcher.close());
    }

    /// Stops now: workers are killed, and jobs that have not ended end with an error that says so.
    pub fn terminate(&self) {
        self.shared.tell(|dispatcher, _| dispatcher.terminate());
    }

    /// Waits until all workers have exited and all callbacks have run.
    ///
    /// # Errors
    ///
    /// The pool was neither closed nor terminated, and so would never end; or its workers could not start.
    pub fn join(&self) -> Result<()> {
        let mut dispatcher = lock(&self.shared.dispatcher);
        if !dispatcher.is_over() {
            return Err(Error::invalid("cannot join a pool that takes work: close or terminate it first"));
        }
        while !dispatcher.is_finished() {
            dispatcher = self.shared.changed.wait(dispatcher).unwrap_or_else(PoisonError::into_inner);
        }
        let failure = dispatcher.failure().cloned();
        drop(dispatcher);
        self.join_attendants();
        self.shared.callbacks.wait_idle();
        failure.map_or(Ok(()), Err)
    }

    fn join_attendants(&self) {
        for attendant in std::mem::take(&mut *lock(&self.attendants)) {
            // An attendant runs no user code that could panic.
            let _ = attendant.join();
        }
    }

    /// How many workers the pool has.
    pub fn processes(&self) -> usize {
        self.shared.seats.len()
    }

    /// The workers whose processes exist just now.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let dispatcher = lock(&self.shared.dispatcher);
        let worker = |(seat, station): (usize, &Mutex<Option<Arc<Station>>>)| {
            let station = lock(station).clone()?;
            let (ready, busy, jobs_done) = dispatcher.seat(seat);
            let state = match (ready, busy) {
                (true, true) => WorkerState::Busy,
                (true, false) => WorkerState::Idle,
                (false, _) if dispatcher.is_starting(seat) => WorkerState::Starting,
                (false, _) => WorkerState::Stopping,
            };
            Some(WorkerInfo { pid: station.child.pid(), state, jobs_done })
        };
        self.shared.seats.iter().enumerate().filter_map(worker).collect()
    }

    /// How many calls are where.
    pub fn stats(&self) -> PoolStats {
        let dispatcher::Counts { waiting, running, done, failed } = lock(&self.shared.dispatcher).counts();
        PoolStats { waiting, running, done, failed }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let abandoned = self.shared.tell(|dispatcher, _| dispatcher.terminate());
        if abandoned > 0 {
            tracing::warn!(
                "pool `{}` was dropped with {abandoned} calls that had not ended: close and join it to let them finish",
                self.shared.name
            );
        }
        self.join_attendants();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.shared.name)
            .field("processes", &self.processes())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Gathers the results of all batches of a map.
struct Gathering {
    state: Mutex<Gathered>,
    slot: Arc<Slot>,
}

#[derive(Default)]
struct Gathered {
    batches: Vec<Results>,
    /// Calls without a result.
    missing: usize,
    all_submitted: bool,
}

impl Gathering {
    fn update(&self, change: impl FnOnce(&mut Gathered)) {
        let mut state = lock(&self.state);
        change(&mut state);
        if state.missing == 0 && state.all_submitted {
            let batches = std::mem::take(&mut state.batches);
            drop(state);
            self.slot.finish(Raw::Many(batches));
        }
    }
}

/// One batch of a gathering.
struct Part {
    gathering: Arc<Gathering>,
    position: usize,
}

impl Sink for Part {
    fn finish(&self, index: u32, result: Result<Vec<u8>>) {
        self.gathering.update(|gathered| {
            gathered.batches[self.position].set(index, result);
            gathered.missing -= 1;
        });
    }
}

/// What a map and its like need to know of a task at run time.
fn task_of<C: TaskCall>() -> &'static TaskInfo {
    <C::Task as crate::task::Registered>::info()
}

/// Decodes results of the task of `C`.
fn decode_of<C: TaskCall>() -> crate::job::Decode<C::Output> {
    <C::Task as Task>::decode
}
