//! What all threads of a pool share, and the ways in.
//!
//! Whoever brings an event locks the [`Core`], tells the dispatcher, takes out what it wants done, and carries it out:
//! see [`effects`](super::effects). No task, decoding or callback runs while the core is locked.

use crate::dossier::keep::DossierKeeper;
use crate::error::{Error, Kind, Result};
use crate::job::{Awaited, Callbacks, Deferral, Home, Slot};
use crate::memory::region::Regions;
use crate::options::WorkerOptions;
use crate::peer::Source;
use crate::policy::{Policy, SharedPolicy, Wish};
use crate::pool::dispatcher::{Dispatcher, Refusal, Ticket, Time};
use crate::pool::listener::state::{Listener, Listening};
use crate::pool::station::Station;
use crate::pool::submission::Submission;
use crate::protocol::{Hello, NamedCall};
use crate::sync::{lock, sleep_on};
use crate::task::{RawCall, StateType, TaskInfo};
use crate::{os, panic};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Instant;

pub(crate) struct Inner {
    pub(super) name: String,
    /// How many seats there are; where calls run at once, how many workers the user asked for.
    pub(super) seats: usize,
    /// It is the seat of a process with one job: it is closed as soon as its worker is ready.
    pub(super) single: bool,
    pub(super) source: Source,
    /// What each worker's process is started with, by seat.
    pub(super) options: Vec<WorkerOptions>,
    /// How the worker of this epoch at a seat is greeted.
    pub(super) hello: Box<dyn Fn(usize, u32) -> Hello + Send + Sync>,
    pub(super) initializer: Option<Prelude>,
    pub(super) core: Mutex<Core>,
    /// Something has changed that somebody waits for: a seat may be filled, the pool is ready, or over.
    pub(super) changed: Condvar,
    /// The clock's: the next tick has changed.
    pub(super) clock: Condvar,
    /// None where each attendant listens to its own worker, or there are no workers.
    pub(super) listener: Option<Listener>,
    pub(super) jobs: AtomicU64,
    pub(super) callbacks: Arc<Callbacks>,
    /// When the pool's time begins, by the system's monotonic clock.
    pub(super) began: u64,
    /// The limits of calls for which neither they nor their tasks say otherwise.
    pub(super) wish: Wish,
    /// Keeps calls that were lost with their workers.
    pub(super) keeper: Option<DossierKeeper>,
    pub(super) itself: Weak<Self>,
}

/// What every worker runs before its first call.
pub(super) struct Prelude {
    pub(super) call: NamedCall,
    pub(super) regions: Regions,
    /// The type of the state that it makes.
    pub(super) state: StateType,
}

/// What is decided, and about whom: all of it under one lock.
pub(super) struct Core {
    pub(super) dispatcher: Dispatcher<dyn Submission>,
    /// What leads to the workers, by seat.
    pub(super) stations: Vec<Option<Arc<Station>>>,
    pub(super) listening: Listening,
    /// The clock's thread exists.
    pub(super) has_clock: bool,
    /// When the clock wakes, if it does by itself.
    pub(super) clock_at: Option<Time>,
    /// Whether the pool is over, and at how many seats there is, or is to be, a worker: as told last.
    pub(super) phase: (bool, usize),
    /// Why the latest start failed, or the latest worker died.
    pub(super) trouble: Option<Error>,
    /// Why the pool has failed, if it has.
    pub(super) failure: Option<Error>,
}

/// Names nothing that could be cancelled.
const NO_TICKET: Ticket = Ticket::MAX;

/// A thread that submits calls looks after the workers after each so many.
const HELP_EVERY: u64 = 32;

impl Core {
    pub(super) fn new(dispatcher: Dispatcher<dyn Submission>, seats: usize) -> Self {
        Self {
            dispatcher,
            stations: (0..seats).map(|_| None).collect(),
            listening: Listening::default(),
            has_clock: false,
            clock_at: None,
            phase: (false, seats),
            trouble: None,
            failure: None,
        }
    }

    pub(super) fn station(&self, seat: usize, epoch: u32) -> Option<&Arc<Station>> {
        self.stations[seat].as_ref().filter(|station| station.epoch == epoch)
    }

    /// What a user is told whose call is not taken.
    pub(super) fn refusal(&self, refusal: Refusal) -> Error {
        match refusal {
            Refusal::Closed => Error::new(Kind::Closed("closed")),
            Refusal::Terminated => Error::new(Kind::Closed("terminated")),
            Refusal::Failed => self.failed(),
        }
    }

    /// Why the pool has failed.
    pub(super) fn failed(&self) -> Error {
        self.failure.clone().unwrap_or_else(|| Error::invalid("was not run: the pool has failed"))
    }
}

impl Inner {
    pub(super) fn now(&self) -> Time {
        os::monotonic().saturating_sub(self.began)
    }

    /// Puts somebody at a seat, or nobody.
    pub(super) fn seat(&self, seat: usize, station: Option<Arc<Station>>) {
        let mut core = lock(&self.core);
        let before = std::mem::replace(&mut core.stations[seat], station);
        if let Some(listener) = &self.listener {
            listener.set_stations(&core.stations);
        }
        drop(core);
        drop(before);
    }

    /// Tells the user's side that something has changed: waiting threads look again.
    pub(super) fn notify(&self) {
        self.changed.notify_all();
        self.clock.notify_all();
        if let Some(listener) = &self.listener {
            listener.wake_all();
        }
    }

    /// The whole work of a thread of the pool. Nothing there should panic; if it does, nobody must wait for ever for
    /// these seats.
    pub(super) fn guard(&self, does: &str, seats: std::ops::Range<usize>, work: impl FnOnce()) {
        if let Err(panic) = panic::catch(work) {
            let error = Error::invalid(format!("the thread of the pool that {does} panicked {panic}"));
            self.abandon(seats, error);
        }
    }

    /// Nobody attends to these seats any more.
    pub(super) fn abandon(&self, seats: std::ops::Range<usize>, error: Error) {
        lock(&self.core).failure.get_or_insert(error);
        self.tell(|dispatcher, _| dispatcher.abandon(seats));
        self.notify();
    }

    /// Refuses a call that no worker of this pool could run.
    pub(super) fn check(&self, task: &'static TaskInfo) -> Result<()> {
        let Some(wanted) = task.state() else { return Ok(()) };
        let made = self.initializer.as_ref().map(|prelude| prelude.state).filter(|state| !state.is_unit());
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

    /// The limits of a call.
    #[inline]
    pub(super) fn policy(&self, call: Option<&Wish>, task: &'static TaskInfo) -> SharedPolicy {
        if call.is_none() && *task.wish() == Wish::NONE && self.wish == Wish::NONE {
            return SharedPolicy::default();
        }
        SharedPolicy::new(Policy::of(call, task.wish(), &self.wish))
    }

    /// Makes the slot of a call, in which its arguments lie until it has ended.
    pub(super) fn slot(&self, call: RawCall) -> Result<Arc<Slot>> {
        let arguments = call.arguments?;
        self.check(call.task)?;
        let job = self.jobs.fetch_add(1, Ordering::Relaxed);
        let policy = self.policy(call.wish.as_deref(), call.task);
        Ok(Arc::new(Slot::of_call(call.task, job, arguments.bytes, arguments.regions, policy)))
    }

    /// Submits calls that nobody waits for just now: the way in for all calls but those that [`run`](Self::run).
    pub(super) fn submit_all(&self, work: Arc<dyn Submission>, calls: u32) -> Result<Ticket> {
        let task = work.task();
        if let Source::Inline(inline) = &self.source {
            return self.run_inline(inline, &work, calls).map(|()| NO_TICKET);
        }
        let ticket = self.tell_core(|core, now| {
            core.dispatcher.submit(work, calls, now).map_err(|refusal| core.refusal(refusal).of_task(task))
        });
        ticket
    }

    /// Submits a call that nobody waits for just now.
    pub(super) fn submit(&self, slot: &Arc<Slot>) -> Result<Ticket> {
        let ticket = self.submit_all(slot.clone(), 1)?;
        if slot.job.is_multiple_of(HELP_EVERY) {
            self.help();
        }
        Ok(ticket)
    }

    /// Runs a call, and listens to the workers meanwhile if nobody else does.
    pub(super) fn run(&self, slot: &Arc<Slot>) -> Result<()> {
        if self.listener.is_none() {
            return self.submit_all(slot.clone(), 1).map(drop);
        }
        // Wakes others when this thread does not lead any more.
        let deferral = Deferral::new();
        // It leads from before the call is sent: no bell needs to be rung for what this thread will see.
        let (lead, todo) = self.decide(|core, now| {
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

    /// Waits until the pool is through, and says why it has failed, if it has.
    pub(super) fn join(&self) -> Result<()> {
        let mut core = lock(&self.core);
        while !core.dispatcher.is_finished() {
            core = sleep_on(&self.changed, core, None).unwrap_or_else(|| lock(&self.core));
        }
        core.failure.clone().map_or(Ok(()), Err)
    }
}

impl Home for Inner {
    fn cancel(&self, tickets: &[u64]) -> bool {
        self.tell(|dispatcher, now| {
            let mut any = false;
            for ticket in tickets {
                any |= dispatcher.cancel(*ticket, true, now);
            }
            any
        })
    }

    fn wait(&self, what: &dyn Awaited, deadline: Option<Instant>) {
        self.wait_for(what, deadline);
    }

    fn callbacks(&self) -> &Arc<Callbacks> {
        &self.callbacks
    }
}
