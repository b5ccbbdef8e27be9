//! What all threads of a pool share: how events get to the dispatcher, and its decisions to the workers and callers.

use super::{
    dispatcher::{Batch, Dispatcher, Effect, Time},
    ear::{self, Ear},
    outbox::{Outbox, Outgoing},
};
use crate::{
    error::{Error, Result},
    job::{Callbacks, Home, Origin, Raw, Slot, lock},
    launch::Launch,
    os::{Child, StatusPage},
    protocol::{FromWorker, NamedCall},
    task::{RawCall, StateType, TaskInfo},
    transport::Received,
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Whom to tell how the calls of a batch end.
pub(crate) trait Sink: Send + Sync {
    fn finish(&self, index: u32, result: Result<Vec<u8>>);
}

/// What all threads of a pool share.
pub(crate) struct Shared {
    pub(super) name: String,
    pub(super) launch: Launch,
    pub(super) initializer: Option<(NamedCall, StateType)>,
    pub(super) dispatcher: Mutex<Dispatcher<Arc<dyn Sink>>>,
    /// Something has changed that somebody waits for: a seat may be started, a pool is ready, or over.
    pub(super) changed: Condvar,
    /// The clock's: the next tick has changed.
    pub(super) clock: Condvar,
    pub(super) has_clock: AtomicBool,
    pub(super) seats: Vec<Mutex<Option<Arc<Station>>>>,
    pub(super) jobs: AtomicU64,
    pub(super) callbacks: Arc<Callbacks>,
    pub(super) began: Instant,
    pub(super) itself: Weak<Self>,
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
    pub(super) epoch: u32,
    pub(super) child: Arc<Child>,
    pub(super) page: Arc<StatusPage>,
    pub(super) outbox: Outbox,
    pub(super) ear: Ear,
}

impl Shared {
    pub(super) fn now(&self) -> Time {
        self.began.elapsed().as_nanos() as Time
    }

    pub(super) fn station(&self, seat: usize, epoch: u32) -> Option<Arc<Station>> {
        lock(&self.seats[seat]).clone().filter(|station| station.epoch == epoch)
    }

    /// Brings an event to the dispatcher, and carries out what it decides.
    pub(super) fn tell<R>(&self, event: impl FnOnce(&mut Dispatcher<Arc<dyn Sink>>, Time) -> R) -> R {
        let mut todo = Todo::default();
        let told = self.decide(event, &mut todo);
        self.carry_out(todo, None);
        told
    }

    /// Lets the dispatcher decide. What is to be sent is put into the outboxes while it is locked: see [`Outbox`].
    fn decide<R>(&self, event: impl FnOnce(&mut Dispatcher<Arc<dyn Sink>>, Time) -> R, todo: &mut Todo) -> R {
        let mut dispatcher = lock(&self.dispatcher);
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
        // From then on, any event may be what somebody waits for.
        if dispatcher.is_over() {
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
        // Last, as it wakes others, and may run an executor's code: the workers do not wait for that.
        let mut finished = Vec::new();
        while let Some(effect) = todo.effects.pop_front() {
            match effect {
                finish @ Effect::Finish { .. } => finished.push(finish),
                Effect::TakeBack { seat, epoch, generation } => {
                    let Some(station) = self.station(seat, epoch) else { continue };
                    match station.page.take_back(generation) {
                        Some(claimed) => {
                            self.decide(|dispatcher, now| dispatcher.taken_back(seat, epoch, claimed, now), &mut todo);
                        }
                        // It writes its page without end: it has gone mad, and what it runs is anybody's guess.
                        None => {
                            let _ = station.child.kill();
                        }
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
                    // The worker is idle, or it would not be sent something large: it reads.
                    station.outbox.flush(true);
                }
            }
        }
        for effect in finished {
            if let Effect::Finish { batch, index, result } = effect {
                batch.sink.finish(index, result);
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
    pub(super) fn check(&self, task: &'static TaskInfo) -> Result<()> {
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
    pub(super) fn single(&self, call: RawCall, sink: Arc<dyn Sink>) -> Result<Batch<Arc<dyn Sink>>> {
        let arguments = call.arguments?;
        self.check(call.task)?;
        let first_job = self.jobs.fetch_add(1, Ordering::Relaxed);
        Ok(Batch { task: call.task.name(), first_job, ends: vec![arguments.len()], arguments, sink })
    }

    /// Runs a call, and listens to its worker meanwhile if nobody else does: see [`ear`].
    pub(super) fn run(&self, call: RawCall, slot: &Arc<Slot>) -> Result<()> {
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
    pub(super) fn hear(&self, seat: usize, received: Received) -> Result<bool, ear::End> {
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
