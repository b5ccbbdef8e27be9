//! The listener, which reads from all workers of a pool: a caller that waits for a result, or else the collector's
//! thread. The README beside this file has its states, counters, protocol and proof.

pub(super) mod state;

use crate::job::{Awaited, Deferral, SHORT_NAP};
use crate::locks::lock;
use crate::pool::dispatcher::{Dispatcher, Time};
use crate::pool::listener::state::{Rest, Stations};
use crate::pool::reports::ReportReader;
use crate::pool::{Core, Heard, Inner, PoolListener, Station};
use crate::transport::ring::{COLLECTOR, LEADER};
use crate::{memory, os};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Waking from a shorter nap costs more than it gains.
const SHORTEST_NAP: Duration = Duration::from_micros(60);
/// The collector naps if so many calls have ended since it last looked.
const MANY: u64 = 16;
/// The longest sleep while calls are in flight: a corrupt worker that suppresses a bell delays others, but loses nothing.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A caller that listens.
#[must_use]
pub(super) struct Lead<'p> {
    inner: &'p Inner,
    listener: &'p PoolListener,
}

pub(super) fn spawn_collector(inner: Arc<Inner>) -> std::io::Result<JoinHandle<()>> {
    os::spawn_thread("pool-collector", Some(1 << 18), move || {
        os::block_all_signals();
        if let Some(listener) = &inner.listener {
            inner.guard("listens to the workers", 0..inner.seats, || collect(&inner, listener));
        }
    })
}

/// Reads reports, and sends frames that there is room for again. Returns whether there was anything to read. If another
/// thread is reading, a listener waits for it, and a helper does not.
fn serve(inner: &Inner, listener: &PoolListener, stations: &Stations, reader: ReportReader) -> bool {
    let _deferral = Deferral::new();
    let serve =
        |station: &Station| station.peer.serve(&mut Heard { inner, station, reader }, reader != ReportReader::Helper);
    let wanting = listener.busy(stations).filter(|station| station.peer.wants_service());
    if !listener.bells.are_sockets() {
        return wanting.fold(false, |any, station| any | serve(station));
    }
    // One system call for all sockets, and not one for each.
    let open: Vec<_> = wanting.filter_map(|station| Some((station, station.peer.socket()?))).collect();
    let readable = os::are_readable(open.iter().map(|(_, socket)| *socket));
    open.iter()
        .zip(readable)
        .filter(|(_, readable)| *readable)
        .fold(false, |any, ((station, _), _)| any | serve(station))
}

/// How a listener with this patience may rest, and how long at most.
fn rest_within(core: &Core, inner: &Inner, patience: Duration) -> (Rest, Duration) {
    match core.dispatcher.rest(inner.now(), patience.as_nanos() as Time) {
        Some(nap) => (Rest::Naps, Duration::from_nanos(nap).max(SHORTEST_NAP)),
        None => (Rest::Sleeps, LONGEST_SLEEP),
    }
}

fn collect(inner: &Inner, listener: &PoolListener) {
    let bells = &listener.bells;
    let (mut ended, mut unneeded, mut quiet) = (0, 0, 0_u32);
    loop {
        let stations = listener.stations();
        // Submitters that help may leave nothing to read.
        unneeded = if serve(inner, listener, &stations, ReportReader::Collector) { 0 } else { (unneeded + 1).min(2) };
        let seen = bells.seen(COLLECTOR);
        let (mut patience, watches, until_tick);
        {
            let mut core = lock(&inner.core);
            if core.dispatcher.is_finished() {
                return;
            }
            let tick = core.dispatcher.next_tick().filter(|_| !core.has_clock);
            until_tick = tick.map(|tick| tick.saturating_sub(inner.now()));
            if until_tick == Some(0) {
                drop(core);
                inner.catch_up();
                inner.tell(Dispatcher::tick);
                continue;
            }
            let before = std::mem::replace(&mut ended, core.dispatcher.ended());
            let (leads, in_flight) = (core.listening.leads, core.dispatcher.any_in_flight());
            quiet = if in_flight || ended != before { 0 } else { quiet.saturating_add(1) };
            if !leads && listener.busy(&stations).any(|station| station.peer.has_more()) {
                continue;
            }
            if ended - before >= MANY && !leads {
                // More will follow soon, and a bell for each would cost more than they do.
                (patience, watches) = (Some(SHORT_NAP * (1 << unneeded)), false);
            } else {
                watches = !leads && in_flight;
                core.listening.collector_watches = !leads;
                let (rest, longest) = match () {
                    () if watches => rest_within(&core, inner, SHORT_NAP),
                    () if bells.are_sockets() => (Rest::Sleeps, Duration::MAX),
                    () if quiet > 0 => (Rest::Idle, Duration::MAX),
                    // To be woken for each call of an occasional few would cost more than it gains.
                    () => (Rest::Sleeps, LONGEST_SLEEP),
                };
                core.listening.collector = rest;
                patience = (longest < Duration::MAX).then_some(longest);
                if watches {
                    bells.lead_on(os::current_cpu());
                    listener.arm(&stations, COLLECTOR | rest.laziness());
                }
            }
        }
        if patience.is_none_or(|patience| patience == LONGEST_SLEEP) && memory::trim() {
            patience = Some(LONGEST_SLEEP);
        }
        if let Some(left) = until_tick.map(Duration::from_nanos) {
            patience = Some(patience.map_or(left, |patience| patience.min(left)));
        }
        if !watches || !listener.has_work(&stations) {
            let watched = bells.are_sockets() && lock(&inner.core).listening.collector_watches;
            // Without sockets to watch, it keeps no worker alive that ends meanwhile.
            let stations = if watched { stations } else { Stations::default() };
            bells.wait(COLLECTOR, &seen, patience, listener.busy(&stations).map(|station| &station.peer));
        }
        lock(&inner.core).listening.collector = Rest::Awake;
    }
}

impl Inner {
    /// The calling thread leads from now on, if no other does. The result must not be dropped while the core is locked.
    pub(super) fn lead(&self, core: &mut Core) -> Option<Lead<'_>> {
        let listener = self.listener.as_ref()?;
        (!std::mem::replace(&mut core.listening.leads, true)).then(|| Lead { inner: self, listener })
    }

    /// Reads reports, unless another caller leads. For threads that submit many calls.
    pub(super) fn help(&self) {
        // Looking at a socket is a system call: it costs more than this gains.
        if let Some(listener) = self.listener.as_ref().filter(|listener| !listener.bells.are_sockets())
            && self.made_in.is_here()
            && !lock(&self.core).listening.leads
        {
            serve(self, listener, &listener.stations(), ReportReader::Helper);
        }
    }

    /// Reads what reports there are, whoever listens. For the clock, before a limit is over.
    pub(super) fn catch_up(&self) {
        if let Some(listener) = &self.listener {
            serve(self, listener, &listener.stations(), ReportReader::Helper);
        }
    }

    /// Has a sleeping leader check whether what it waits for is done.
    pub(super) fn wake_leader(&self) {
        if let Some(listener) = &self.listener
            && lock(&self.core).listening.leader != Rest::Awake
        {
            listener.bells.ring(LEADER);
        }
    }

    /// Waits until `what` is done, at most until `deadline`: leads, or sleeps while another thread does.
    pub(super) fn wait_for(&self, what: &dyn Awaited, deadline: Option<Instant>) {
        let Some(listener) = &self.listener else { return what.sleep(deadline) };
        while !what.is_done() {
            // Wakers run when this thread does not lead any more.
            let _deferral = Deferral::new();
            let lead = self.lead(&mut lock(&self.core));
            match lead {
                Some(lead) => lead.until(what, deadline),
                None => self.follow(listener, what, deadline),
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return;
            }
        }
    }

    fn follow(&self, listener: &PoolListener, what: &dyn Awaited, deadline: Option<Instant>) {
        listener.followers.fetch_add(1, Ordering::Relaxed);
        if lock(&self.core).listening.leader == Rest::Naps {
            // Its nap may be longer than this thread's patience.
            listener.bells.ring(LEADER);
        }
        what.sleep(deadline);
        listener.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lead<'_> {
    /// Listens until `what` is done, at most until `deadline`, or until a `Waker` was deferred, which cannot run while this
    /// thread leads.
    pub(super) fn until(self, what: &dyn Awaited, deadline: Option<Instant>) {
        let (inner, listener) = (self.inner, self.listener);
        let mut spin = lock(&listener.spin);
        let over = || what.is_done() || deadline.is_some_and(|deadline| deadline <= Instant::now());
        let mut changes = listener.changes.load(Ordering::Acquire);
        let mut stations = listener.stations();
        let mut any = serve(inner, listener, &stations, ReportReader::Leader);
        while !over() && !Deferral::has_any() {
            let now = listener.changes.load(Ordering::Acquire);
            if std::mem::replace(&mut changes, now) != now {
                stations = listener.stations();
            }
            if any {
                any = serve(inner, listener, &stations, ReportReader::Leader);
                continue;
            }
            let cpu = os::current_cpu();
            listener.bells.lead_on(cpu);
            let may_spin = !listener.crowded.load(Ordering::Relaxed)
                && !listener.bells.are_sockets()
                && !listener.busy(&stations).any(|station| station.peer.is_on(cpu));
            let any_unread = || listener.busy(&stations).any(|station| station.peer.has_reports());
            if !may_spin || !spin.wait(|| any_unread() || what.is_done()) {
                let began = Instant::now();
                if self.sleep(&over, what.patience(), deadline) {
                    spin.slept(began.elapsed());
                }
            }
            any = serve(inner, listener, &stations, ReportReader::Leader);
        }
    }

    /// Sleeps or naps. Returns whether it slept.
    fn sleep(&self, over: &dyn Fn() -> bool, patience: Duration, deadline: Option<Instant>) -> bool {
        let (inner, listener) = (self.inner, self.listener);
        let seen = listener.bells.seen(LEADER);
        let (stations, rest, mut longest);
        {
            let mut core = lock(&inner.core);
            stations = listener.stations();
            let alone = listener.followers.load(Ordering::Relaxed) == 0;
            (rest, longest) = rest_within(&core, inner, if alone { patience } else { SHORT_NAP });
            if let Some(left) = inner.until_tick(&mut core) {
                longest = longest.min(left);
            }
            core.listening.leader = rest;
            listener.arm(&stations, LEADER | rest.laziness());
        }
        fence(Ordering::SeqCst);
        if !listener.has_work(&stations) && !over() {
            let left = deadline.map_or(longest, |deadline| deadline.saturating_duration_since(Instant::now()));
            let peers = listener.busy(&stations).map(|station| &station.peer);
            listener.bells.wait(LEADER, &seen, Some(left.min(longest)), peers);
        }
        let mut core = lock(&inner.core);
        core.listening.leader = Rest::Awake;
        core.led_until = None;
        listener.busy(&stations).for_each(|station| station.peer.disarm());
        drop(core);
        rest == Rest::Sleeps
    }
}

impl Drop for Lead<'_> {
    /// Hands over to the collector if calls are in flight and it sleeps.
    fn drop(&mut self) {
        let (inner, listener) = (self.inner, self.listener);
        let (stations, unwatched) = {
            let mut core = lock(&inner.core);
            core.listening.leads = false;
            inner.leave_to_clock(&mut core);
            if !core.dispatcher.any_in_flight() || core.listening.collector == Rest::Awake {
                return;
            }
            let stations = listener.stations();
            listener.arm(&stations, COLLECTOR | core.listening.collector.laziness());
            (stations, !listener.hears_workers(&core.listening))
        };
        if listener.has_work(&stations) || unwatched {
            listener.bells.ring(COLLECTOR);
        }
    }
}
