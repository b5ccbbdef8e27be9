//! The one listener, which hears every worker of a pool: a caller that waits for a result, or, if none does, the
//! collector's thread. States, counters, protocol and proof are in the README beside this file.

pub(super) mod state;

use crate::job::{Awaited, Deferral, SHORT_NAP};
use crate::pool::dispatcher::Time;
use crate::pool::inner::{Core, Inner};
use crate::pool::listener::state::{Listener, Rest, Stations};
use crate::pool::reports::Heard;
use crate::sync::lock;
use crate::transport::ring::{COLLECTOR, LEADER};
use crate::{memory, os};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A shorter nap costs more than it is worth.
const SHORTEST_NAP: Duration = Duration::from_micros(60);
/// So many calls that ended since the collector looked are many.
const MANY: u64 = 16;
/// No listener sleeps longer while calls are on their way: should a corrupt worker have kept its bell from ringing for
/// others, they are late, not lost.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A caller that listens.
#[must_use]
pub(super) struct Lead<'p> {
    inner: &'p Inner,
    listener: &'p Listener,
}

/// Starts the collector's thread.
pub(super) fn spawn_collector(inner: Arc<Inner>) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("pool-collector".into()).stack_size(1 << 18).spawn(move || {
        os::block_all_signals();
        if let Some(listener) = &inner.listener {
            inner.guard("listens to the workers", 0..inner.seats, || collect(&inner, listener));
        }
    })
}

/// Reads what the workers have said, and sends what there is room for again. Returns whether there was anything to read.
/// A listener waits for somebody else who reads just now; who merely helps does not.
fn serve(inner: &Inner, listener: &Listener, stations: &Stations, listens: bool) -> bool {
    let _deferral = Deferral::new();
    let mut any = false;
    for station in listener.busy(stations) {
        if station.peer.wants_service() {
            any |= station.peer.serve(&mut Heard { inner, station }, listens);
        }
    }
    any
}

/// How long a listener may sleep while nobody wakes it.
fn nap_within(core: &Core, inner: &Inner, patience: Duration) -> Option<Duration> {
    let rest = core.dispatcher.rest(inner.now(), patience.as_nanos() as Time)?;
    Some(Duration::from_nanos(rest).max(SHORTEST_NAP))
}

fn rest_of(nap: Option<Duration>) -> Rest {
    if nap.is_some() { Rest::Naps } else { Rest::Sleeps }
}

/// The collector's thread.
fn collect(inner: &Inner, listener: &Listener) {
    let bells = &listener.bells;
    let (mut ended, mut unneeded) = (0, 0);
    loop {
        let seen = bells.seen(COLLECTOR);
        let stations = listener.stations();
        // Where those who submit look after the workers themselves, there is nothing left to do here.
        unneeded = if serve(inner, listener, &stations, true) { 0 } else { (unneeded + 1).min(2) };
        let (mut patience, mut watches) = (None, false);
        {
            let mut core = lock(&inner.core);
            if core.dispatcher.is_finished() {
                return;
            }
            let before = std::mem::replace(&mut ended, core.dispatcher.ended());
            let leads = core.listening.leads;
            if ended - before >= MANY && !leads {
                // There will be more in no time: a bell for each would cost more than they do.
                patience = Some(SHORT_NAP * (1 << unneeded));
            } else {
                let nap = nap_within(&core, inner, SHORT_NAP);
                watches = !leads && core.dispatcher.any_in_flight();
                core.listening.collector = if watches { rest_of(nap) } else { Rest::Sleeps };
                core.listening.collector_watches = !leads;
                if watches {
                    bells.lead_on(os::current_cpu());
                    patience = Some(nap.unwrap_or(LONGEST_SLEEP));
                    listener.arm(&stations, COLLECTOR | core.listening.collector.laziness());
                }
            }
        }
        if patience.is_none_or(|patience| patience == LONGEST_SLEEP) && memory::trim() {
            patience = Some(LONGEST_SLEEP);
        }
        if !watches || !listener.has_work(&stations) {
            let watched = lock(&inner.core).listening.collector_watches;
            let sockets = listener.busy(&stations).filter(|_| watched && bells.are_sockets());
            bells.wait(COLLECTOR, seen, patience, sockets.map(|station| &station.peer));
        }
        // Those that have gone meanwhile are not to be kept by somebody who sleeps.
        drop(stations);
        lock(&inner.core).listening.collector = Rest::Awake;
    }
}

impl Inner {
    /// The calling thread listens from now on, if nobody else does. What is returned is not to be dropped while the
    /// core is locked.
    pub(super) fn lead(&self, core: &mut Core) -> Option<Lead<'_>> {
        let listener = self.listener.as_ref()?;
        (!std::mem::replace(&mut core.listening.leads, true)).then(|| Lead { inner: self, listener })
    }

    /// A thread that submits many calls looks after the workers itself, if no other caller does.
    pub(super) fn help(&self) {
        if let Some(listener) = &self.listener
            && !lock(&self.core).listening.leads
        {
            serve(self, listener, &listener.stations(), false);
        }
    }

    /// The leader is to see whether what it waits for is done.
    pub(super) fn wake_leader(&self) {
        if let Some(listener) = &self.listener
            && lock(&self.core).listening.leader != Rest::Awake
        {
            listener.bells.ring(LEADER);
        }
    }

    /// Waits until `what` is done, at most until `deadline`: listens to the workers, or sleeps while somebody else
    /// does.
    pub(super) fn wait_for(&self, what: &dyn Awaited, deadline: Option<Instant>) {
        let Some(listener) = &self.listener else { return what.sleep(deadline) };
        while !what.is_done() {
            // Wakes others when this thread does not lead any more.
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

    /// Sleeps until another thread has found what this one waits for.
    fn follow(&self, listener: &Listener, what: &dyn Awaited, deadline: Option<Instant>) {
        listener.followers.fetch_add(1, Ordering::Relaxed);
        if lock(&self.core).listening.leader == Rest::Naps {
            // It may be taking a longer nap than suits this thread.
            listener.bells.ring(LEADER);
        }
        what.sleep(deadline);
        listener.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lead<'_> {
    /// Listens until `what` is done, at most until `deadline`; or until there are others whom this thread has to wake,
    /// which it cannot while it leads.
    pub(super) fn until(self, what: &dyn Awaited, deadline: Option<Instant>) {
        let (inner, listener) = (self.inner, self.listener);
        let mut spin = lock(&listener.spin);
        let over = || what.is_done() || deadline.is_some_and(|deadline| deadline <= Instant::now());
        let mut changes = listener.changes.load(Ordering::Acquire);
        let mut stations = listener.stations();
        let mut any = serve(inner, listener, &stations, true);
        while !over() && !Deferral::has_any() {
            let now = listener.changes.load(Ordering::Acquire);
            if std::mem::replace(&mut changes, now) != now {
                stations = listener.stations();
            }
            if any {
                any = serve(inner, listener, &stations, true);
                continue;
            }
            let cpu = os::current_cpu();
            listener.bells.lead_on(cpu);
            let may_spin = !listener.crowded.load(Ordering::Relaxed)
                && !listener.bells.are_sockets()
                && !listener.busy(&stations).any(|station| station.peer.is_on(cpu));
            if !may_spin || !spin.wait(|| listener.any_unread(&stations) || what.is_done()) {
                let began = Instant::now();
                if self.sleep(&over, what.patience(), deadline) {
                    spin.slept(began.elapsed());
                }
            }
            any = serve(inner, listener, &stations, true);
        }
    }

    /// The leader's sleep. Returns whether it was one without a nap.
    fn sleep(&self, over: &dyn Fn() -> bool, patience: Duration, deadline: Option<Instant>) -> bool {
        let (inner, listener) = (self.inner, self.listener);
        let seen = listener.bells.seen(LEADER);
        let (stations, nap);
        {
            let mut core = lock(&inner.core);
            stations = listener.stations();
            let alone = listener.followers.load(Ordering::Relaxed) == 0;
            nap = nap_within(&core, inner, if alone { patience } else { SHORT_NAP });
            core.listening.leader = rest_of(nap);
            listener.arm(&stations, LEADER | core.listening.leader.laziness());
        }
        fence(Ordering::SeqCst);
        if !listener.has_work(&stations) && !over() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let patience = nap.unwrap_or(LONGEST_SLEEP);
            let patience = left.map_or(patience, |left| left.min(patience));
            let peers = listener.busy(&stations).map(|station| &station.peer);
            listener.bells.wait(LEADER, seen, Some(patience), peers);
        }
        let mut core = lock(&inner.core);
        core.listening.leader = Rest::Awake;
        listener.busy(&stations).for_each(|station| station.peer.disarm());
        drop(core);
        nap.is_none()
    }
}

impl Drop for Lead<'_> {
    /// The leader leaves: where something is on its way and the collector sleeps, it is the collector's now.
    fn drop(&mut self) {
        let (inner, listener) = (self.inner, self.listener);
        let (stations, unwatched) = {
            let mut core = lock(&inner.core);
            core.listening.leads = false;
            if !core.dispatcher.any_in_flight() || core.listening.collector == Rest::Awake {
                return;
            }
            let stations = listener.stations();
            listener.arm(&stations, COLLECTOR | core.listening.collector.laziness());
            (stations, listener.bells.are_sockets() && !core.listening.collector_watches)
        };
        if listener.has_work(&stations) || unwatched {
            listener.bells.ring(COLLECTOR);
        }
    }
}
