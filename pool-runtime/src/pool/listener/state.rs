//! The listener's state: what is read without a lock, and in [`Listening`] what the core's lock protects.

use crate::locks::lock;
use crate::peer::Bells;
use crate::pool::Station;
use crate::transport::ring::{COLLECTOR, LAZY, LEADER, Spin};
use crate::{memory, os};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Seats in a word.
const BITS: usize = u64::BITS as usize;

/// Who listens, and who of them sleeps. Part of the core, under its lock.
#[derive(Debug, Default)]
pub(in crate::pool) struct Listening {
    /// A caller leads.
    pub(super) leads: bool,
    pub(super) leader: Rest,
    pub(super) collector: Rest,
    /// The collector sleeps on the workers' sockets.
    pub(super) collector_watches: bool,
}

impl Listening {
    /// Does a caller lead, and not sleep?
    pub(in crate::pool) fn is_led_awake(&self) -> bool {
        self.leads && self.leader == Rest::Awake
    }
}

/// How a listener rests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Rest {
    #[default]
    Awake,
    /// It sleeps, or is about to, until its bell rings.
    Sleeps,
    /// It sleeps for a limited time; workers ring only when they run dry.
    Naps,
    /// The collector sleeps until a thread of this process rings: nothing was in flight for a while.
    Idle,
}

impl Rest {
    /// The flag of a mark for this rest.
    pub(super) fn laziness(self) -> u32 {
        if self == Self::Naps { LAZY } else { 0 }
    }
}

pub(in crate::pool) struct PoolListener {
    pub(in crate::pool) bells: Arc<Bells>,
    /// All workers by seat, and how often that has changed.
    stations: Mutex<Stations>,
    pub(super) changes: AtomicU64,
    /// A bit for each seat: calls are in flight, or frames wait for room. It may be set without need, but never missing.
    /// It changes under the core's lock, and is read without.
    busy: Box<[AtomicU64]>,
    /// How many threads wait while another one leads.
    pub(super) followers: AtomicUsize,
    pub(super) spin: Mutex<Spin>,
    processors: usize,
    /// More threads want to run than there are processors, so none may spin. Changes and is read as `busy`.
    pub(super) crowded: AtomicBool,
}

pub(super) type Stations = Arc<[Option<Arc<Station>>]>;

impl PoolListener {
    pub(in crate::pool) fn new(bells: Arc<Bells>, seats: usize) -> Self {
        memory::pool_began();
        Self {
            bells,
            stations: Mutex::new(Arc::new([])),
            changes: AtomicU64::new(0),
            busy: (0..seats.div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect(),
            followers: AtomicUsize::new(0),
            spin: Mutex::new(Spin::new()),
            processors: os::cpu_count(),
            crowded: AtomicBool::new(false),
        }
    }

    pub(in crate::pool) fn set_stations(&self, stations: &[Option<Arc<Station>>]) {
        for station in stations.iter().flatten() {
            station.peer.set_crowded(self.crowded.load(Ordering::Relaxed));
        }
        let before = std::mem::replace(&mut *lock(&self.stations), stations.iter().cloned().collect());
        self.changes.fetch_add(1, Ordering::Release);
        drop(before);
    }

    pub(super) fn stations(&self) -> Stations {
        lock(&self.stations).clone()
    }

    /// Wakes the listeners, as the pool is over or its workers have changed.
    pub(in crate::pool) fn wake_all(&self) {
        self.bells.ring(COLLECTOR);
        self.bells.ring(LEADER);
    }

    /// Called under the core's lock, before a frame is sent: the worker's reports are to wake a sleeping listener.
    pub(in crate::pool) fn before_sending(&self, listening: &mut Listening, station: &Station) {
        let (word, bit) = (&self.busy[station.seat / BITS], 1 << (station.seat % BITS));
        if word.load(Ordering::Relaxed) & bit == 0 {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        let (rest, mark) = match listening.leads {
            true => (listening.leader, LEADER),
            false => (listening.collector, COLLECTOR),
        };
        if rest == Rest::Awake {
            return;
        }
        station.peer.arm(mark | rest.laziness());
        if mark == COLLECTOR && !self.hears_workers(listening) {
            self.bells.ring(COLLECTOR);
        }
    }

    /// Whether a report can wake the collector, which sleeps.
    pub(super) fn hears_workers(&self, listening: &Listening) -> bool {
        listening.collector != Rest::Idle && (listening.collector_watches || !self.bells.are_sockets())
    }

    /// Called under the core's lock when no call is in flight at a seat any more.
    pub(in crate::pool) fn is_through(&self, station: &Station) {
        if !station.peer.is_blocked() {
            self.busy[station.seat / BITS].fetch_and(!(1 << (station.seat % BITS)), Ordering::Relaxed);
        }
    }

    /// Called under the core's lock when the number of busy seats may have changed.
    pub(in crate::pool) fn adapt(&self, busy_seats: usize, stations: &[Option<Arc<Station>>]) {
        let crowded = self.processors == 1 || busy_seats + 1 > self.processors;
        if self.crowded.load(Ordering::Relaxed) != crowded {
            self.crowded.store(crowded, Ordering::Relaxed);
            stations.iter().flatten().for_each(|station| station.peer.set_crowded(crowded));
        }
    }

    /// The workers that may have reports.
    pub(super) fn busy<'s>(&'s self, stations: &'s Stations) -> impl Iterator<Item = &'s Station> {
        // Polling would report the closed socket of an idle worker again and again, unless it is read.
        let all = if self.bells.are_sockets() { u64::MAX } else { 0 };
        let seats = self.busy.iter().enumerate().flat_map(move |(word, bits)| {
            let mut left = bits.load(Ordering::Relaxed) | all;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(word * BITS + bit)
            })
        });
        seats.filter_map(|seat| stations.get(seat)?.as_deref())
    }

    /// Has workers ring the bell of this mark when they report.
    pub(super) fn arm(&self, stations: &Stations, mark: u32) {
        self.busy(stations).for_each(|station| station.peer.arm(mark));
        if mark & LAZY == 0 && !self.bells.are_sockets() {
            // Workers check for a mark after a report without a barrier of their own.
            memory::execute_barriers();
        }
    }

    /// Whether there is something to read or to send.
    pub(super) fn has_work(&self, stations: &Stations) -> bool {
        self.busy(stations).any(|station| station.peer.has_reports() || station.peer.may_go_on())
    }
}

impl Drop for PoolListener {
    fn drop(&mut self) {
        memory::pool_ended();
    }
}
