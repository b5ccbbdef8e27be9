//! What all threads of a pool share, and the entry points for calls.
//!
//! A thread with an event locks the [`Core`], tells the dispatcher, takes its effects, and
//! [carries them out](super::effects). No task, decoding or callback runs while the core is locked.

use crate::dossier::keep::DossierKeeper;
use crate::error::{Error, Kind, Result};
use crate::identity::MadeIn;
use crate::job::{Awaited, Callbacks, Deferral, Home, Slot};
use crate::locks::{lock, sleep_on};
use crate::logging::LogSubscriber;
use crate::memory::Regions;
use crate::options::WorkerOptions;
use crate::peer::Source;
use crate::policy::{Policy, SharedPolicy, Wish};
use crate::pool::dispatcher::{Dispatcher, Reach, Refusal, Ticket, Time, Work, is_after};
use crate::pool::{Bound, Listening, PoolListener, Station, Submission};
use crate::protocol::{Hello, NamedCall};
use crate::task::{Encoded, RawCall, StateType, TaskInfo};
use crate::{os, panic};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) struct Inner {
    pub(super) name: String,
    /// In a child that was forked from it, nothing below is touched: the threads are missing there.
    pub(super) made_in: MadeIn,
    /// How many workers the user asked for; there are none where calls run at once.
    pub(super) seats: usize,
    /// Has one seat and one job, and is closed as soon as its worker is ready.
    pub(super) single: bool,
    pub(super) source: Source,
    /// By seat.
    pub(super) options: Vec<WorkerOptions>,
    /// Makes the greeting of the worker at a seat, of an epoch.
    pub(super) hello: Box<dyn Fn(usize, u32) -> Hello + Send + Sync>,
    pub(super) initializer: Option<Prelude>,
    pub(super) core: Mutex<Core>,
    /// A seat may be filled, or the pool is ready or over.
    pub(super) changed: Condvar,
    /// The next tick has changed.
    pub(super) clock: Condvar,
    /// None for the seat of a [`Process`](crate::Process), whose attendant listens, and where there are no workers.
    pub(super) listener: Option<PoolListener>,
    pub(super) jobs: AtomicU64,
    /// None if any number of calls may wait.
    pub(super) bound: Option<Bound>,
    /// Whether the pool takes no more calls, without the core's lock: set when a change of its phase is carried out.
    pub(super) over: AtomicBool,
    pub(super) callbacks: Arc<Callbacks>,
    /// The pool's time counts from this time of the system's monotonic clock.
    pub(super) began: u64,
    /// The pool's limits, which those of tasks and calls override.
    pub(super) wish: Wish,
    pub(super) keeper: Option<DossierKeeper>,
    /// How long a worker that was told to leave may take, as the user is told.
    pub(super) exit_grace: Duration,
    /// How many bytes a result may have, if nothing else says.
    pub(super) max_result: u64,
    /// Users were told that the pool was built, and not yet that it has ended.
    pub(super) is_told: AtomicBool,
    /// Of the thread that has made the pool.
    pub(super) subscriber: LogSubscriber,
    /// The workers are in a sandbox.
    pub(super) confined: bool,
    pub(super) itself: Weak<Self>,
}

/// The initializer, which every worker runs before its first call.
pub(super) struct Prelude {
    pub(super) call: NamedCall,
    pub(super) regions: Regions,
    /// The type that it returns.
    pub(super) state: StateType,
}

/// The dispatcher and all that its decisions depend on, under one lock.
pub(super) struct Core {
    pub(super) dispatcher: Dispatcher<dyn Submission>,
    /// The workers, by seat.
    pub(super) stations: Vec<Option<Arc<Station>>>,
    pub(super) listening: Listening,
    /// The clock's thread exists.
    pub(super) has_clock: bool,
    /// Its thread, until somebody waits for it.
    pub(super) clock: Option<JoinHandle<()>>,
    /// When the sleep of the clock ends by itself.
    pub(super) clock_at: Option<Time>,
    /// When the sleep of a leader ends that keeps the time.
    pub(super) led_until: Option<Time>,
    /// Whether the pool is over, and how many seats are open, as of the last notification.
    pub(super) phase: (bool, usize),
    /// Why the latest start failed, or the latest worker died.
    pub(super) trouble: Option<Error>,
    /// Why the pool has failed.
    pub(super) failure: Option<Error>,
    /// Why no more workers are started at a seat, though the pool goes on.
    pub(super) given_up: Option<Error>,
    /// How many threads wait until there is room for their calls: see [`room`](super::room).
    pub(super) blocked: usize,
}

impl Core {
    pub(super) fn new(dispatcher: Dispatcher<dyn Submission>, seats: usize) -> Self {
        Self {
            dispatcher,
            stations: vec![None; seats],
            listening: Listening::default(),
            has_clock: false,
            clock: None,
            clock_at: None,
            led_until: None,
            phase: (false, seats),
            trouble: None,
            failure: None,
            given_up: None,
            blocked: 0,
        }
    }

    pub(super) fn station(&self, seat: usize, epoch: u32) -> Option<&Arc<Station>> {
        self.stations[seat].as_ref().filter(|station| station.epoch == epoch)
    }

    pub(super) fn refusal(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Closed => Error::new(Kind::Closed("closed")),
            Refusal::Terminated => Error::new(Kind::Closed("terminated")),
            Refusal::Failed => self.failed(),
        }
    }

    pub(super) fn failed(&self) -> Error {
        self.failure.clone().unwrap_or_else(|| Error::invalid("was not run: the pool has failed"))
    }
}

impl Inner {
    #[inline]
    pub(super) fn now(&self) -> Time {
        os::monotonic().saturating_sub(self.began)
    }

    /// Fails if the pool takes no more calls of this task.
    pub(super) fn accepts(&self, task: &'static TaskInfo) -> Result<()> {
        self.made_in.check("pool").map_err(|error| error.of_task(task.name()))?;
        let core = lock(&self.core);
        core.dispatcher.accepts().map_err(|refusal| core.refusal(refusal).of_task(task.name()))
    }

    /// Fills a seat, or empties it.
    pub(super) fn seat(&self, seat: usize, station: Option<Arc<Station>>) {
        let mut core = lock(&self.core);
        let before = std::mem::replace(&mut core.stations[seat], station);
        if let Some(listener) = &self.listener {
            listener.set_stations(&core.stations);
        }
        drop(core);
        drop(before);
    }

    /// Wakes all waiting threads, as the state of the pool has changed.
    pub(super) fn notify(&self) {
        self.changed.notify_all();
        self.clock.notify_all();
        if let Some(listener) = &self.listener {
            listener.wake_all();
        }
    }

    /// Runs the whole work of a thread of the pool. It should not panic; if it does, these seats are given up, so that
    /// nothing waits for them for ever.
    pub(super) fn guard(&self, does: &str, seats: std::ops::Range<usize>, work: impl FnOnce()) {
        if let Err(panic) = panic::catch(work) {
            self.abandon(seats, Error::invalid(format!("the thread of the pool that {does} panicked {panic}")));
        }
    }

    /// Gives up these seats, as they have no attendant.
    pub(super) fn abandon(&self, seats: std::ops::Range<usize>, error: Error) {
        lock(&self.core).failure.get_or_insert(error);
        self.tell(|dispatcher, _| dispatcher.abandon(seats));
        self.notify();
    }

    /// Refuses tasks whose state no worker of this pool has, and all in a forked child.
    pub(super) fn check(&self, task: &'static TaskInfo) -> Result<()> {
        self.made_in.check("pool").map_err(|error| error.of_task(task.name()))?;
        let Some(wanted) = task.state() else { return Ok(()) };
        let made =
            self.initializer.as_ref().map(|prelude| prelude.state).filter(|state| *state != StateType::of::<()>());
        if made == Some(wanted) {
            return Ok(());
        }
        let made = made.map_or("this pool has no initializer that makes one".to_owned(), |made| {
            format!("this pool's initializer makes `{}`", made.name)
        });
        Err(Error::invalid(format!(
            "asks for a worker state `{}`, but {made}: give the pool an initializer that returns it",
            wanted.name
        ))
        .of_task(task.name()))
    }

    #[inline]
    pub(super) fn policy(&self, call: Option<&Wish>, task: &'static TaskInfo) -> SharedPolicy {
        if call.is_none() && task.wish == Wish::NONE && self.wish == Wish::NONE {
            return SharedPolicy::default();
        }
        SharedPolicy::new(Policy::of(call, &task.wish, &self.wish))
    }

    /// Arguments as the workers of this pool may be given them.
    #[inline]
    pub(super) fn accept(&self, arguments: Encoded, task: &'static TaskInfo) -> Result<Encoded> {
        if self.confined && !arguments.regions.is_empty() { arguments.set_apart(task) } else { Ok(arguments) }
    }

    /// How many bytes the result of a call may have.
    #[inline]
    pub(super) fn max_result(&self, work: &dyn Submission) -> u64 {
        self.said_max_result(work).min(work.result_bound())
    }

    /// The same as the user said it, whatever its type allows.
    #[inline]
    pub(super) fn said_max_result(&self, work: &dyn Submission) -> u64 {
        work.policy().max_result.unwrap_or(self.max_result)
    }

    #[inline]
    pub(super) fn slot(&self, call: RawCall) -> Result<Arc<Slot>> {
        let arguments = self.accept(call.arguments?, call.task)?;
        self.check(call.task)?;
        let job = self.jobs.fetch_add(1, Ordering::Relaxed);
        let policy = self.policy(call.wish.as_deref(), call.task);
        Ok(Arc::new(Slot::of_call(call.task, job, arguments, policy)))
    }

    /// Refuses limits that cannot be kept.
    #[inline]
    fn check_limits(&self, policy: &Policy) -> Result<()> {
        if policy.memory == u64::MAX || !self.source.has_processes() {
            return Ok(());
        }
        os::check_memory_is_seen().map_err(Error::memory_unseen)
    }

    /// Submits calls, once there is room for them. All but those of [`run`](Self::run) and
    /// [`try_submit`](Self::try_submit) enter through this.
    pub(super) fn submit_all(&self, work: Arc<dyn Submission>, calls: u32) -> Result<Ticket> {
        if let Some(ended) = self.before_submitting(&work, calls)? {
            return Ok(ended);
        }
        let core = self.core_with_room(&*work, calls);
        self.submit_in(core, work, calls)
    }

    /// Submits a call, if there is room for it.
    pub(super) fn try_submit(&self, slot: Arc<Slot>) -> Result<Ticket> {
        let (task, work) = (Work::task(&*slot), slot as Arc<dyn Submission>);
        if let Some(ended) = self.before_submitting(&work, 1)? {
            return Ok(ended);
        }
        let core = self.core_if_room(&*work).map_err(|error| error.of_task(task))?;
        self.submit_in(core, work, 1)
    }

    /// Where calls run on the thread that submits them, this runs them.
    #[inline]
    fn before_submitting(&self, work: &Arc<dyn Submission>, calls: u32) -> Result<Option<Ticket>> {
        let task = work.task();
        self.made_in.check("pool").map_err(|error| error.of_task(task))?;
        self.check_limits(work.policy()).map_err(|error| error.of_task(task))?;
        let Source::Inline(inline) = &self.source else { return Ok(None) };
        // The calls have ended: the ticket is none that could be cancelled.
        self.run_inline(inline, work, calls).map(|()| Some(Ticket::MAX))
    }

    #[inline]
    fn submit_in(&self, core: MutexGuard<'_, Core>, work: Arc<dyn Submission>, calls: u32) -> Result<Ticket> {
        let task = work.task();
        let (submitted, todo) = self.decide_in(core, |core, now| {
            core.dispatcher.submit(work, calls, now).map_err(|refusal| core.refusal(refusal).of_task(task))
        });
        self.carry_out(todo);
        submitted
    }

    /// Runs a call. The calling thread leads if no other does.
    pub(super) fn run(&self, slot: &Arc<Slot>) -> Result<()> {
        self.made_in.check("pool")?;
        if self.listener.is_none() {
            return self.submit_all(slot.clone(), 1).map(drop);
        }
        self.check_limits(slot.policy.get())?;
        // Wakers run when this thread does not lead any more.
        let deferral = Deferral::new();
        // Leads before the call is sent, so that its report rings no bell.
        let core = self.core_with_room(&**slot, 1);
        let (lead, todo) = self.decide_in(core, |core, now| {
            let submitted = core.dispatcher.submit(slot.clone(), 1, now);
            submitted.map_err(|refusal| core.refusal(refusal)).map(|_| self.lead(core))
        });
        self.carry_out(todo);
        if let Some(lead) = lead? {
            lead.until(&**slot, None);
        }
        drop(deferral);
        self.wait_for(&**slot, None);
        Ok(())
    }

    /// Waits until the dispatcher has reached a phase, at most until `deadline`, and returns why the pool has failed, if
    /// it has. False if it has not reached that phase.
    pub(super) fn await_phase(
        &self,
        deadline: Option<Instant>,
        reached: impl Fn(&Dispatcher<dyn Submission>) -> bool,
    ) -> Result<bool> {
        let mut core = lock(&self.core);
        while !reached(&core.dispatcher) {
            let Some(awake) = sleep_on(&self.changed, core, deadline) else { return Ok(false) };
            core = awake;
        }
        // One that was terminated after it had failed ends as it was told to.
        if core.dispatcher.accepts() == Err(Refusal::Failed) { Err(core.failed()) } else { Ok(true) }
    }

    /// Waits until every worker takes calls, or one never will, or the pool is over.
    pub(super) fn await_all_ready(&self, deadline: Option<Instant>) -> Result<()> {
        const STARTING: &str = "the workers of the pool have not all started yet: they go on starting, and can be waited \
                                for again (`wait_ready`)";
        let began = Instant::now();
        let mut core = lock(&self.core);
        loop {
            match core.dispatcher.accepts() {
                Ok(()) => {}
                Err(Refusal::Failed) => return Err(core.failed()),
                Err(Refusal::Closed) => return Err(Error::new(Kind::StartsEnded("closed"))),
                Err(Refusal::Terminated) => return Err(Error::new(Kind::StartsEnded("terminated"))),
            }
            if core.dispatcher.are_all_ready() {
                return Ok(());
            }
            if core.dispatcher.open_seats() < self.seats {
                let why = core.given_up.clone().or(core.failure.clone());
                let why = why.unwrap_or_else(|| Error::invalid("the thread of a worker has ended"));
                return Err(Error::new(Kind::SeatFailed { reason: why.to_string(), cause: Box::new(why) }));
            }
            let what = STARTING;
            core = sleep_on(&self.changed, core, deadline)
                .ok_or_else(|| Error::new(Kind::Waited { what, time: began.elapsed() }))?;
        }
    }
}

impl Home for Inner {
    fn check(&self) -> Result<()> {
        self.made_in.check("pool")
    }

    fn cancel(&self, tickets: &[u64]) -> bool {
        self.made_in.is_here() && self.tell(|dispatcher, now| dispatcher.cancel(tickets, Reach::Running, now))
    }

    fn cancel_waiting(&self, tickets: &[u64]) -> bool {
        if !self.made_in.is_here() {
            return false;
        }
        let question = self.tell(|dispatcher, now| dispatcher.withdraw(tickets, now));
        loop {
            if let Some(any) = lock(&self.core).dispatcher.was_withdrawn(question) {
                return any;
            }
            // Another thread was already taking calls back from that worker, and is about to tell what it found.
            std::thread::yield_now();
        }
    }

    fn is_running(&self, tickets: &[u64]) -> bool {
        if !self.made_in.is_here() {
            return false;
        }
        let core = lock(&self.core);
        core.dispatcher.seats_of(tickets).any(|(seat, epoch, first)| {
            core.station(seat, epoch).is_some_and(|station| !is_after(first, station.peer.claimed()))
        })
    }

    fn wait(&self, what: &dyn Awaited, deadline: Option<Instant>) {
        self.wait_for(what, deadline);
    }

    fn callbacks(&self) -> &Arc<Callbacks> {
        &self.callbacks
    }

    fn subscriber(&self) -> &LogSubscriber {
        &self.subscriber
    }
}
