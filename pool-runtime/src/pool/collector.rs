//! Who listens to the workers behind rings: a caller that waits for a result, or, if none does, the collector's thread.
//!
//! ```text
//!              a caller waits                       its result is there
//!   nobody ──────────────────▶ it leads: reads all ─────────────────────▶ nobody
//!     │                        rings, spins, sleeps
//!     │  a worker reports, and no one leads
//!     └──────▶ its bell wakes the collector: reads all rings until nothing is on its way, then sleeps
//! ```
//!
//! A blocking call so needs no third thread: the caller that leads finds its own result in the ring, and everybody
//! else's on the way. Other callers that wait meanwhile sleep until it is found for them. When the leader leaves and
//! something is still on its way, the collector's bell is armed, in its place.
//!
//! To sleep, a listener *arms* each ring with its mark, looks at all of them once more, and sleeps on its word of the
//! pool's [`Bells`]. A worker rings for the mark that it finds, once. Whoever sends to a ring while all listeners sleep
//! arms it for them, under the dispatcher's lock, under which the listeners say that they go to sleep.
//!
//! Where many short calls are on their way, a bell for each report would cost more than the calls: a listener then naps
//! for part of the time that the workers have work for, and a worker rings only when it runs dry. A thread that submits
//! many calls reads the rings itself now and then.

use crate::{
    job::{Awaited, Deferral, SHORT_NAP},
    memory::{self, payload},
    os,
    pool::{
        dispatcher::Time,
        ringline::RingLine,
        shared::{Core, Line, Shared, Station},
    },
    sync::lock,
    transport::ring::{Bells, COLLECTOR, LAZY, LEADER, Spin},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A shorter nap costs more than it is worth.
const SHORTEST_NAP: Duration = Duration::from_micros(60);
/// Seats in a word.
const BITS: usize = u64::BITS as usize;
/// So many calls that ended since the collector looked are many.
const MANY: u64 = 16;
/// No listener sleeps longer while calls are on their way: should a worker gone mad have kept its bell from ringing for
/// others, they are late, not lost.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

pub(super) struct Collector {
    bells: Arc<Bells>,
    /// All workers there are, by seat.
    stations: Mutex<Stations>,
    /// How often that has changed.
    changes: AtomicU64,
    /// For each seat a bit: there are calls in flight, or frames that wait for room. It may be set for nothing, but is
    /// never missing. Changes under the dispatcher's lock.
    busy: Box<[AtomicU64]>,
    /// A caller leads. Changes only under the dispatcher's lock.
    leads: AtomicBool,
    /// The listeners that sleep, or are about to. Set only under the dispatcher's lock.
    leader_sleeps: AtomicBool,
    collector_sleeps: AtomicBool,
    /// Those of them that wake soon by themselves: for the others, a ring that is armed lazily could be silent for
    /// ever.
    leader_naps: AtomicBool,
    collector_naps: AtomicBool,
    /// How many threads wait while another one leads.
    followers: AtomicUsize,
    /// The leader's patience.
    spin: Mutex<Spin>,
    processors: usize,
    /// More threads want to run than there are processors: nobody is to spin.
    crowded: AtomicBool,
}

type Stations = Arc<[Option<Arc<Station>>]>;

/// A caller that listens.
pub(super) struct Lead<'c> {
    collector: &'c Collector,
    shared: &'c Shared,
}

impl Collector {
    pub(super) fn new(bells: Arc<Bells>, seats: usize) -> Self {
        memory::pool_began();
        Self {
            bells,
            stations: Mutex::new(Arc::new([])),
            busy: (0..seats.div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect(),
            changes: AtomicU64::new(0),
            leads: AtomicBool::new(false),
            leader_sleeps: AtomicBool::new(false),
            collector_sleeps: AtomicBool::new(false),
            leader_naps: AtomicBool::new(false),
            collector_naps: AtomicBool::new(false),
            followers: AtomicUsize::new(0),
            spin: Mutex::new(Spin::new()),
            processors: os::cpu_count(),
            crowded: AtomicBool::new(false),
        }
    }

    pub(super) fn spawn(shared: Arc<Shared>) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("pool-collector".into()).stack_size(1 << 18).spawn(move || {
            os::block_all_signals();
            let Some(collector) = &shared.collector else { return };
            shared.guard("listens to the workers", || collector.collect(&shared));
        })
    }

    /// The workers have changed.
    pub(super) fn set_stations(&self, core: &Core) {
        let stations: Stations = core.stations.iter().cloned().collect();
        for station in stations.iter().flatten() {
            if let Line::Ring(line) = &station.line {
                line.memory().set_crowded(self.crowded.load(Ordering::Relaxed));
            }
        }
        *lock(&self.stations) = stations;
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn stations(&self) -> Stations {
        lock(&self.stations).clone()
    }

    /// Something else than a report is to be looked at: the pool is over, say.
    pub(super) fn look(&self) {
        self.bells.ring(COLLECTOR);
        self.tell_leader();
    }

    /// The leader is to see whether what it waits for is done.
    pub(super) fn tell_leader(&self) {
        fence(Ordering::SeqCst);
        if self.leader_sleeps.load(Ordering::Relaxed) {
            self.bells.ring(LEADER);
        }
    }

    /// Called under the dispatcher's lock, before something is sent to a worker.
    pub(super) fn before_sending(&self, seat: usize, line: &RingLine) {
        let (word, bit) = (&self.busy[seat / BITS], 1 << (seat % BITS));
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        let (sleeps, naps, mark) = match self.leads.load(Ordering::Relaxed) {
            true => (&self.leader_sleeps, &self.leader_naps, LEADER),
            false => (&self.collector_sleeps, &self.collector_naps, COLLECTOR),
        };
        if sleeps.load(Ordering::Relaxed) {
            line.memory().arm(mark | laziness(naps.load(Ordering::Relaxed)));
        }
    }

    /// Called under the dispatcher's lock: no call is in flight at a seat any more.
    pub(super) fn is_through(&self, seat: usize, line: &RingLine) {
        if !line.is_blocked() {
            self.busy[seat / BITS].fetch_and(!(1 << (seat % BITS)), Ordering::Relaxed);
        }
    }

    /// The workers that have something to say, or may have.
    fn busy<'s>(&'s self, stations: &'s Stations) -> impl Iterator<Item = (&'s Station, &'s RingLine)> {
        let seats = self.busy.iter().enumerate().flat_map(|(word, bits)| {
            let mut left = bits.load(Ordering::Relaxed);
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(word * BITS + bit)
            })
        });
        seats.filter_map(|seat| {
            let station = stations.get(seat)?.as_deref()?;
            match &station.line {
                Line::Ring(line) => Some((station, line)),
                Line::Channel(_) => None,
            }
        })
    }

    fn arm(&self, stations: &Stations, mark: u32) {
        self.busy(stations).for_each(|(_, line)| line.memory().arm(mark));
        if mark & LAZY == 0 {
            // A worker that has just said something looks for a mark without a barrier of its own.
            memory::execute_barriers();
        }
    }

    fn any_unread(&self, stations: &Stations) -> bool {
        self.busy(stations).any(|(_, line)| line.memory().has_reports())
    }

    /// Is there something to read, or to be sent on?
    fn has_work(&self, stations: &Stations) -> bool {
        self.busy(stations).any(|(_, line)| line.memory().has_reports() || line.is_blocked())
    }

    /// Reads what the workers have said, and sends what there is room for again. Returns whether there was anything to
    /// read. A listener waits for somebody else who reads just now; who merely helps does not.
    fn serve(&self, shared: &Shared, stations: &Stations, listens: bool) -> bool {
        let _deferral = Deferral::new();
        let mut any = false;
        for (station, line) in self.busy(stations) {
            if line.memory().has_reports() || line.is_blocked() {
                any |= line.serve(shared, station, listens);
            }
        }
        any
    }

    /// Called under the dispatcher's lock, after something has changed: are there more threads than processors?
    pub(super) fn adapt(&self, core: &mut Core) {
        let crowded = self.processors == 1 || core.dispatcher.busy_seats() + 1 > self.processors;
        if self.crowded.load(Ordering::Relaxed) != crowded {
            self.crowded.store(crowded, Ordering::Relaxed);
            for station in core.stations.iter().flatten() {
                if let Line::Ring(line) = &station.line {
                    line.memory().set_crowded(crowded);
                }
            }
        }
    }

    /// Called under the dispatcher's lock: the calling thread listens from now on, if nobody else does. What it returns
    /// is not to be dropped under that lock.
    pub(super) fn lead<'c>(&'c self, shared: &'c Shared) -> Option<Lead<'c>> {
        (!self.leads.swap(true, Ordering::Relaxed)).then(|| Lead { collector: self, shared })
    }

    /// A thread that submits calls looks after the workers, if no other caller does.
    pub(super) fn help(&self, shared: &Shared) {
        if !self.leads.load(Ordering::Relaxed) {
            self.serve(shared, &self.stations(), false);
        }
    }

    /// Waits until `what` is done, at most until `deadline`: listens to the workers, or sleeps while somebody else
    /// does.
    pub(super) fn wait(&self, shared: &Shared, what: &dyn Awaited, deadline: Option<Instant>) {
        while !what.is_done() {
            // Wakes others when this thread does not lead any more.
            let _deferral = Deferral::new();
            let lead = {
                let _core = lock(&shared.core);
                self.lead(shared)
            };
            match lead {
                Some(lead) => lead.until(what, deadline),
                None => self.follow(what, deadline),
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return;
            }
        }
    }

    /// Sleeps until another thread has found what this one waits for.
    fn follow(&self, what: &dyn Awaited, deadline: Option<Instant>) {
        self.followers.fetch_add(1, Ordering::Relaxed);
        if self.leader_naps.load(Ordering::Relaxed) {
            // It may be taking a longer nap than suits this thread.
            self.tell_leader();
        }
        what.sleep(deadline);
        self.followers.fetch_sub(1, Ordering::Relaxed);
    }

    /// The collector's thread.
    fn collect(&self, shared: &Shared) {
        let (mut ended, mut unneeded) = (0, 0);
        loop {
            let seen = self.bells.seen(COLLECTOR);
            let stations = self.stations();
            // Where those who submit look after the workers themselves, there is nothing left to do here.
            unneeded = if self.serve(shared, &stations, true) { 0 } else { (unneeded + 1).min(2) };
            let (mut patience, mut watches) = (None, false);
            {
                let core = lock(&shared.core);
                if core.dispatcher.is_finished() {
                    return;
                }
                let before = std::mem::replace(&mut ended, core.dispatcher.ended());
                let leads = self.leads.load(Ordering::Relaxed);
                if ended - before >= MANY && !leads {
                    // There will be more in no time: a bell for each would cost more than they do.
                    patience = Some(SHORT_NAP * (1 << unneeded));
                } else {
                    let nap = nap_within(&core, shared, SHORT_NAP);
                    watches = !leads && core.dispatcher.any_in_flight();
                    self.collector_sleeps.store(true, Ordering::Relaxed);
                    self.collector_naps.store(watches && nap.is_some(), Ordering::Relaxed);
                    if watches {
                        self.bells.lead_on(os::current_cpu());
                        patience = Some(nap.unwrap_or(LONGEST_SLEEP));
                        self.arm(&stations, COLLECTOR | laziness(nap.is_some()));
                    }
                }
            }
            if patience.is_none_or(|patience| patience == LONGEST_SLEEP)
                && (memory::trim() | memory::trim_spare() | payload::trim())
            {
                patience = Some(LONGEST_SLEEP);
            }
            let asleep = !watches || !self.has_work(&stations);
            // Those that have gone meanwhile are not to be kept by somebody who sleeps.
            drop(stations);
            if asleep {
                self.bells.wait(COLLECTOR, seen, patience);
            }
            let _core = lock(&shared.core);
            self.collector_sleeps.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        memory::pool_ended();
    }
}

impl Lead<'_> {
    /// Listens until `what` is done, at most until `deadline`; or until there are others whom this thread has to wake,
    /// which it cannot while it leads.
    pub(super) fn until(self, what: &dyn Awaited, deadline: Option<Instant>) {
        let (collector, shared) = (self.collector, self.shared);
        let mut spin = lock(&collector.spin);
        let over = || what.is_done() || deadline.is_some_and(|deadline| deadline <= Instant::now());
        let mut changes = collector.changes.load(Ordering::Acquire);
        let mut stations = collector.stations();
        let mut any = collector.serve(shared, &stations, true);
        while !over() && !Deferral::has_any() {
            let now = collector.changes.load(Ordering::Acquire);
            if std::mem::replace(&mut changes, now) != now {
                stations = collector.stations();
            }
            if any {
                any = collector.serve(shared, &stations, true);
                continue;
            }
            let here = os::current_cpu();
            collector.bells.lead_on(here);
            let may_spin = !collector.crowded.load(Ordering::Relaxed)
                && !collector.busy(&stations).any(|(_, line)| line.memory().worker_is_on(here));
            if !may_spin || !spin.wait(|| collector.any_unread(&stations) || what.is_done()) {
                let began = Instant::now();
                if collector.sleep(shared, &over, what.patience(), deadline) {
                    spin.slept(began.elapsed());
                }
            }
            any = collector.serve(shared, &stations, true);
        }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.collector.leave(self.shared);
    }
}

impl Collector {
    /// The leader's sleep. Returns whether it was one without a nap.
    fn sleep(&self, shared: &Shared, over: &dyn Fn() -> bool, patience: Duration, deadline: Option<Instant>) -> bool {
        let seen = self.bells.seen(LEADER);
        let (stations, nap);
        {
            let core = lock(&shared.core);
            self.leader_sleeps.store(true, Ordering::Relaxed);
            stations = self.stations();
            let alone = self.followers.load(Ordering::Relaxed) == 0;
            nap = nap_within(&core, shared, if alone { patience } else { SHORT_NAP });
            self.leader_naps.store(nap.is_some(), Ordering::Relaxed);
            self.arm(&stations, LEADER | laziness(nap.is_some()));
        }
        fence(Ordering::SeqCst);
        if !self.has_work(&stations) && !over() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let patience = nap.unwrap_or(LONGEST_SLEEP);
            self.bells.wait(LEADER, seen, Some(left.map_or(patience, |left| left.min(patience))));
        }
        let _core = lock(&shared.core);
        self.leader_sleeps.store(false, Ordering::Relaxed);
        self.busy(&stations).for_each(|(_, line)| line.memory().disarm());
        nap.is_none()
    }

    /// The leader leaves.
    fn leave(&self, shared: &Shared) {
        let stations = {
            let core = lock(&shared.core);
            self.leads.store(false, Ordering::Relaxed);
            if !core.dispatcher.any_in_flight() || !self.collector_sleeps.load(Ordering::Relaxed) {
                return;
            }
            let stations = self.stations();
            self.arm(&stations, COLLECTOR | laziness(self.collector_naps.load(Ordering::Relaxed)));
            stations
        };
        if self.has_work(&stations) {
            self.bells.ring(COLLECTOR);
        }
    }
}

/// How long a listener may sleep while nobody wakes it.
fn nap_within(core: &Core, shared: &Shared, patience: Duration) -> Option<Duration> {
    let rest = core.dispatcher.rest(shared.now(), patience.as_nanos() as Time)?;
    Some(Duration::from_nanos(rest).max(SHORTEST_NAP))
}

/// For a listener that naps, workers are to ring only when they run dry.
fn laziness(naps: bool) -> u32 {
    if naps { LAZY } else { 0 }
}
