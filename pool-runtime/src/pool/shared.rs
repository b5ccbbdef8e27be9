//! What all threads of a pool share: how events get to the dispatcher, and its decisions to the workers and callers.

use crate::{
    dossier::keep::DossierKeeper,
    error::{Error, Result},
    job::{Awaited, Callbacks, Deferral, Home, Raw, Slot, Split},
    memory::{
        StatusPage,
        packed::Part,
        region::{Region, Regions},
    },
    options::WorkerOptions,
    os,
    policy::{Policy, SharedPolicy, Wish},
    pool::{
        backend::{Occupant, Staff},
        collector::Collector,
        dispatcher::{Dispatcher, Effect, Flight, Seen, Ticket, Time, Work},
        dossiers,
        ear::Ear,
        outbox::{Outbox, Outgoing},
        ringline::RingLine,
    },
    protocol::{CallsWriter, NamedCall, RecordHead},
    sync::lock,
    task::{RawCall, StateType, TaskInfo},
    transport::Append,
};
use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

/// Calls that were submitted together: what they are made of, and whom to tell how they end.
pub(crate) trait Submission: Work + Send + Sync {
    /// Shows the arguments of some of them.
    fn with_arguments(&self, calls: Range<u32>, see: &mut dyn FnMut(Part<'_>));

    /// Shows the shared memory of which the arguments speak, if they do.
    fn with_regions(&self, see: &mut dyn FnMut(&[Arc<Region>]));

    /// So many have ended with values, whose records these are.
    fn values(&self, first: u32, count: u32, records: &[u8]);

    /// One has ended with a large value, whose record is all there is in these bytes.
    fn large_value(&self, index: u32, record: Vec<u8>) {
        self.values(index, 1, &record);
    }

    /// As [`values`](Self::values), of one whose plain data is in memory of its own.
    fn split_value(&self, index: u32, split: Split) {
        let (before, data) = (&split.before, split.data.bytes());
        let head = RecordHead::bulk(0, before.len(), data.len(), split.data.align());
        let mut record = [&*head, before, data].concat();
        record.pad(8);
        self.values(index, 1, &record);
    }

    fn fail(&self, index: u32, error: Error);
}

/// Names nothing that could be cancelled.
const NO_TICKET: Ticket = Ticket::MAX;

/// A thread that submits calls looks after the workers after each so many.
const HELP_EVERY: u64 = 32;

/// What all threads of a pool share.
pub(crate) struct Shared {
    pub(super) seats: usize,
    pub(super) name: String,
    /// What fills the seats.
    pub(super) staff: Staff,
    /// What each worker's process is started with, by seat.
    pub(super) options: Vec<WorkerOptions>,
    pub(super) initializer: Option<(NamedCall, Regions, StateType)>,
    pub(super) core: Mutex<Core>,
    /// Something has changed that somebody waits for: a seat may be started, a pool is ready, or over.
    pub(super) changed: Condvar,
    /// The clock's: the next tick has changed.
    pub(super) clock: Condvar,
    pub(super) has_clock: AtomicBool,
    /// For workers that are reached through rings.
    pub(super) collector: Option<Collector>,
    pub(super) jobs: AtomicU64,
    pub(super) callbacks: Arc<Callbacks>,
    /// When the pool's time begins, by the system's monotonic clock.
    pub(super) began: u64,
    /// What all calls may take, if neither they nor their tasks say otherwise.
    pub(super) wish: Wish,
    /// Where calls are kept that were lost with their workers.
    pub(super) records: Option<DossierKeeper>,
    pub(super) itself: Weak<Self>,
}

/// What is decided, and about whom.
pub(super) struct Core {
    pub(super) dispatcher: Dispatcher<dyn Submission>,
    /// What leads to the processes, by seat.
    pub(super) stations: Vec<Option<Arc<Station>>>,
    /// When the clock wakes, if it does by itself.
    pub(super) clock_at: Option<Time>,
    /// Whether the pool is over, and at how many seats there is, or is to be, a process: what was told last.
    pub(super) phase: (bool, usize),
}

/// What leads to the process at a seat.
pub(crate) struct Station {
    pub(super) seat: usize,
    pub(super) epoch: u32,
    pub(super) occupant: Occupant,
    pub(super) page: Arc<StatusPage>,
    /// Over ipc-channel; with rings, its end alone is heard there.
    pub(super) ear: Ear,
    pub(super) line: Line,
}

/// How calls get there.
pub(super) enum Line {
    Channel(Outbox),
    Ring(RingLine),
}

/// What is left to do after the dispatcher has decided.
#[derive(Default)]
pub(super) struct Todo {
    pub(super) effects: VecDeque<Effect<dyn Submission>>,
    /// Those with something to send over a channel.
    stations: Vec<Arc<Station>>,
}

impl Core {
    pub(super) fn station(&self, seat: usize, epoch: u32) -> Option<&Arc<Station>> {
        self.stations[seat].as_ref().filter(|station| station.epoch == epoch)
    }
}

/// Writes the calls of some flights as a frame.
pub(super) fn write_calls<'f>(
    to: &mut impl Append,
    generation: u32,
    flights: impl Iterator<Item = &'f Flight<dyn Submission>>,
) {
    let mut writer = CallsWriter::new(to, generation);
    for flight in flights {
        let calls = flight.next..flight.end;
        flight.work.with_arguments(calls.clone(), &mut |part| {
            writer.chunk(flight.header(), calls.len() as u32, flight.work.task(), part);
        });
    }
}

impl Shared {
    pub(super) fn now(&self) -> Time {
        os::monotonic().saturating_sub(self.began)
    }

    /// How many seats there are.
    pub(super) fn seats(&self) -> usize {
        self.seats
    }

    /// No call comes any more from this thread.
    pub(super) fn leave(&self) {
        if let Staff::Inline(inline) = &self.staff {
            inline.leave();
        }
    }

    /// A thread that submits many calls looks after the workers itself.
    pub(super) fn help(&self) {
        if let Some(collector) = &self.collector {
            collector.help(self);
        }
    }

    /// Puts somebody at a seat, or nobody.
    pub(super) fn seat(&self, seat: usize, station: Option<Arc<Station>>) {
        let mut core = lock(&self.core);
        core.stations[seat] = station;
        if let Some(collector) = &self.collector {
            collector.set_stations(&core);
        }
    }

    /// Whoever listens is to see that something else has changed.
    pub(super) fn look(&self) {
        if let Some(collector) = &self.collector {
            collector.look();
        }
    }

    /// Brings an event to the dispatcher, and carries out what it decides.
    pub(super) fn tell<R>(&self, event: impl FnOnce(&mut Dispatcher<dyn Submission>, Time) -> R) -> R {
        let mut todo = Todo::default();
        let told = self.decide(&mut todo, |core, now| event(&mut core.dispatcher, now));
        self.carry_out(todo, None);
        told
    }

    /// Lets the dispatcher decide. What is to be sent is sent, or put into the outboxes, while it is locked, so that it
    /// leaves in the order in which the dispatcher numbered the calls.
    pub(super) fn decide<R>(&self, todo: &mut Todo, event: impl FnOnce(&mut Core, Time) -> R) -> R {
        let mut core = lock(&self.core);
        let told = event(&mut core, self.now());
        self.settle(core, todo);
        told
    }

    /// Sorts what was decided while the dispatcher was locked.
    pub(super) fn settle(&self, mut core: MutexGuard<'_, Core>, todo: &mut Todo) {
        while let Some(effect) = core.dispatcher.effect() {
            let (seat, epoch) = match effect {
                Effect::Send { seat, epoch, .. } | Effect::Stop { seat, epoch } => (seat, epoch),
                other => {
                    todo.effects.push_back(other);
                    continue;
                }
            };
            let Some(station) = core.station(seat, epoch) else { continue };
            let mut held = Vec::new();
            if let Effect::Send { first, last, .. } = effect {
                for flight in core.dispatcher.flights(seat, first, last) {
                    flight.work.with_regions(&mut |regions| station.occupant.bring(regions, &mut held));
                }
            }
            match &station.line {
                Line::Ring(line) => {
                    if let Some(collector) = &self.collector {
                        collector.before_sending(seat, line);
                    }
                    let sent = match effect {
                        Effect::Send { generation, first, last, .. } => {
                            line.send(generation, || core.dispatcher.flights(seat, first, last))
                        }
                        _ => line.stop(),
                    };
                    if sent.is_err() {
                        // Its attendant finds out why.
                        station.occupant.kill();
                    }
                }
                Line::Channel(outbox) => {
                    outbox.put(match effect {
                        Effect::Send { generation, first, last, .. } => {
                            let flights = core.dispatcher.flights(seat, first, last).cloned().collect();
                            Outgoing::Calls { generation, flights, held }
                        }
                        _ => Outgoing::Stop,
                    });
                    todo.stations.push(station.clone());
                }
            }
        }
        // Whoever waits for the end, or for a seat to be started, is told of each step of it.
        let is_over = core.dispatcher.is_over();
        let phase = (is_over, if is_over { core.dispatcher.open_seats() } else { self.seats });
        if std::mem::replace(&mut core.phase, phase) != phase {
            self.changed.notify_all();
            self.clock.notify_all();
            self.look();
        }
        if let Some(tick) = core.dispatcher.next_tick()
            && core.clock_at.is_none_or(|at| tick < at)
        {
            core.clock_at = Some(tick).filter(|_| self.wind_clock());
        }
        if let Some(collector) = &self.collector {
            collector.adapt(&mut core);
        }
    }

    /// `led` is the worker whose answer the calling thread is going to wait for, and listen to itself.
    pub(super) fn carry_out(&self, mut todo: Todo, led: Option<&Arc<Station>>) {
        // Last, as it wakes others, and may run an executor's code: the workers do not wait for that.
        let mut failed = Vec::new();
        while let Some(effect) = todo.effects.pop_front() {
            match effect {
                Effect::Failed { work, index, error } => failed.push((work, index, error)),
                Effect::TakeBack { seat, epoch, generation } => {
                    let Some(station) = lock(&self.core).station(seat, epoch).cloned() else { continue };
                    match station.page.take_back(generation) {
                        Some(claimed) => {
                            let (running, _, extended) = station.page.running();
                            self.decide(&mut todo, |core, now| {
                                let dispatcher = &mut core.dispatcher;
                                dispatcher.extended(seat, epoch, running, extended.saturating_sub(self.began), now);
                                dispatcher.taken_back(seat, epoch, claimed, now);
                            });
                        }
                        // It writes its page without end: it has gone mad, and what it runs is anybody's guess.
                        None => station.occupant.kill(),
                    }
                }
                Effect::Kill { seat, epoch } => {
                    if let Some(station) = lock(&self.core).station(seat, epoch).cloned() {
                        station.occupant.kill();
                        station.ear.summon();
                    }
                }
                Effect::Look { seat, epoch, memory } => {
                    let Some(station) = lock(&self.core).station(seat, epoch).cloned() else { continue };
                    let seen = self.look_at(&station, memory);
                    self.decide(&mut todo, |core, now| core.dispatcher.seen(seat, epoch, seen, now));
                }
                // Values are told where they were read; the rest was done while the dispatcher was locked.
                Effect::Values { .. } | Effect::Send { .. } | Effect::Stop { .. } => {}
            }
        }
        for station in todo.stations {
            let Line::Channel(outbox) = &station.line else { continue };
            let is_led = led.is_some_and(|led| Arc::ptr_eq(led, &station));
            if !is_led {
                station.ear.summon();
            }
            if !outbox.flush(is_led) {
                // A large argument takes as long as the worker takes to read it, which is not this thread's time.
                let worker = station.clone();
                let sender = std::thread::Builder::new().name("pool-sender".into()).spawn(move || {
                    os::block_all_signals();
                    if let Line::Channel(outbox) = &worker.line {
                        outbox.flush(true);
                    }
                });
                if sender.is_err() {
                    // The worker is idle, or it would not be sent something large: it reads.
                    outbox.flush(true);
                }
            }
        }
        if failed.is_empty() {
            return;
        }
        for (work, index, mut error) in failed {
            if let Some(records) = &self.records {
                dossiers::keep(records, self, &*work, index, &mut error);
            }
            work.fail(index, error);
        }
        self.ended();
    }

    /// What a worker is doing, and how much memory it has.
    fn look_at(&self, station: &Station, memory: bool) -> Seen {
        let (claimed, started, extended) = station.page.running();
        let time = |nanos: u64| (nanos != 0).then(|| nanos.saturating_sub(self.began));
        let memory = memory.then(|| station.occupant.memory()).flatten();
        Seen { claimed, started: time(started), extended: time(extended), memory }
    }

    /// Calls have ended: whoever waits for that and listens, listens in vain.
    pub(super) fn ended(&self) {
        if let Some(collector) = &self.collector {
            collector.tell_leader();
        }
    }

    /// The whole work of a thread of the pool. Nothing there should panic; if it does, nobody must wait for ever.
    pub(super) fn guard(&self, does: &str, work: impl FnOnce()) {
        if let Err(panic) = crate::panic::catch(work) {
            let error = Error::invalid(format!("the thread of the pool that {does} panicked {panic}"));
            self.tell(|dispatcher, _| dispatcher.abandon(0..self.seats, &error));
            self.changed.notify_all();
        }
    }

    /// Refuses a call that no worker of this pool could run.
    pub(super) fn check(&self, task: &'static TaskInfo) -> Result<()> {
        let Some(wanted) = task.state() else { return Ok(()) };
        let made = self.initializer.as_ref().map(|(.., state)| *state).filter(|state| !state.is_unit());
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

    /// What a call may take.
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

    /// Hands calls to the dispatcher: the one way in for all of them. `then` looks at what it has decided, before the
    /// effects are carried out.
    fn enter<R>(
        &self,
        todo: &mut Todo,
        work: Arc<dyn Submission>,
        calls: u32,
        then: impl FnOnce(&mut Core, Ticket) -> R,
    ) -> Result<R> {
        if let Staff::Inline(inline) = &self.staff {
            self.run_here(inline, &work, calls)?;
            return Ok(then(&mut lock(&self.core), NO_TICKET));
        }
        self.decide(todo, |core, now| core.dispatcher.submit(work, calls, now).map(|ticket| then(core, ticket)))
    }

    /// Submits calls that nobody waits for just now.
    pub(super) fn submit_all(&self, work: Arc<dyn Submission>, calls: u32) -> Result<Ticket> {
        let mut todo = Todo::default();
        let ticket = self.enter(&mut todo, work, calls, |_, ticket| ticket);
        self.carry_out(todo, None);
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

    /// Runs a call, and listens to the workers meanwhile if nobody else does: see [`super::ear`] and
    /// [`super::collector`].
    pub(super) fn run(&self, slot: &Arc<Slot>) -> Result<()> {
        let work: Arc<dyn Submission> = slot.clone();
        let mut todo = Todo::default();
        // Wakes others when this thread does not lead any more.
        let deferral = Deferral::new();
        if let Some(collector) = &self.collector {
            // From here on, no bell needs to be rung for what this thread will see.
            let lead = self.enter(&mut todo, work, 1, |_, _| collector.lead(self))?;
            self.carry_out(todo, None);
            if let Some(lead) = lead {
                lead.until(&**slot, None);
            }
            drop(deferral);
            collector.wait(self, &**slot, None);
            return Ok(());
        }
        let led = self.enter(&mut todo, work, 1, |core, ticket| {
            let at = core.dispatcher.alone_at(ticket);
            at.and_then(|(seat, epoch)| core.station(seat, epoch).cloned())
        })?;
        let lead = led.as_ref().and_then(|station| Some((station, station.ear.lead()?)));
        self.carry_out(todo, lead.as_ref().map(|(station, _)| *station));
        if let Some((station, lead)) = lead {
            let done = || slot.is_finished() || Deferral::has_any();
            lead.listen(done, |received| self.hear(station, received));
            if !slot.is_finished() {
                station.ear.summon();
            }
        }
        Ok(())
    }
}

impl Home for Shared {
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
        match &self.collector {
            Some(collector) => collector.wait(self, what, deadline),
            None => what.sleep(deadline),
        }
    }

    fn callbacks(&self) -> &Arc<Callbacks> {
        &self.callbacks
    }
}

impl Work for Slot {
    fn task(&self) -> &'static str {
        Slot::task(self)
    }

    fn first_job(&self) -> u64 {
        self.job
    }

    fn size(&self, calls: Range<u32>) -> usize {
        Slot::size(self) * calls.len()
    }

    fn policy(&self) -> &Policy {
        Slot::policy(self)
    }
}

impl Submission for Slot {
    fn with_arguments(&self, _: Range<u32>, see: &mut dyn FnMut(Part<'_>)) {
        Slot::with_arguments(self, |bytes| see(Part::single(bytes)));
    }

    fn with_regions(&self, see: &mut dyn FnMut(&[Arc<Region>])) {
        Slot::with_regions(self, see);
    }

    fn values(&self, _: u32, _: u32, record: &[u8]) {
        self.value(record);
    }

    fn large_value(&self, _: u32, record: Vec<u8>) {
        Slot::large_value(self, record);
    }

    fn split_value(&self, _: u32, split: Split) {
        self.finish(Raw::Split(Box::new(split)));
    }

    fn fail(&self, _: u32, error: Error) {
        Slot::fail(self, error);
    }
}
