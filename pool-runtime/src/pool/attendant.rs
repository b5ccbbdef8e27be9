//! The attendants: one thread for each seat, which keeps a worker there.
//!
//! ```text
//!   may start? ──▶ start ──▶ greet ──▶ wait for its end ──▶ bury ──▶ tell the dispatcher ──▶ may start? …
//!        └── wait: back-off
//! ```
//!
//! An attendant only waits for its own worker. It never runs user code, and never blocks on sending. In a pool without a
//! listener, it also reads its worker's reports.

use crate::dossier::{Dossier, Loss};
use crate::error::{Error, Kind};
use crate::job::Deferral;
use crate::locks::{lock, sleep_on};
use crate::os;
use crate::peer::Peer;
use crate::peer::handshake::StartFailure;
use crate::pool::dispatcher::{FailedStart, Phase, Start};
use crate::pool::reports::ReportReader;
use crate::pool::{Heard, Inner, Station};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Is called when the first worker of a seat was started, or could not be, before anything else happens to it.
pub(super) type Begun = Box<dyn FnOnce(Result<&mut Peer, &Error>) + Send>;

/// Starts the attendant of a seat. `then` is called when no more workers follow.
///
/// The attendant itself starts the processes: the kernel ends a process with the thread that has started it, and this one
/// lives as long.
pub(super) fn spawn(
    inner: Arc<Inner>,
    seat: usize,
    name: String,
    begun: Option<Begun>,
    then: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // A pool may have hundreds of these threads, and none needs a deep stack.
    os::spawn_thread(name, Some(1 << 18), move || {
        os::block_all_signals();
        inner.guard("attends to a worker", seat..seat + 1, || attend(&inner, seat, begun));
        then();
    })
}

fn attend(inner: &Inner, seat: usize, mut begun: Option<Begun>) {
    while let Some(epoch) = next_epoch(inner, seat) {
        let mut started = start(inner, seat);
        if let Some(begun) = begun.take() {
            begun(started.as_mut().map_err(|error| &*error));
        }
        match started {
            Ok(peer) => accompany(inner, &Station::new(seat, epoch, peer)),
            Err(error) => start_failed(inner, seat, epoch, error, false),
        }
    }
}

fn start(inner: &Inner, seat: usize) -> Result<Peer, Error> {
    let name = format!("{}-{}", inner.name, seat + 1);
    let initializer = inner.initializer.as_ref().map(|prelude| &prelude.call);
    let bells = inner.listener.as_ref().map(|listener| &listener.bells);
    inner.source.start(seat, name, &inner.options[seat], initializer, bells)
}

fn start_failed(inner: &Inner, seat: usize, epoch: u32, error: Error, for_good: bool) {
    let failed = FailedStart { for_good, may_pass: error.may_pass() };
    inner.tell_core(|core, now| {
        // One that was killed meanwhile was not to start.
        if core.dispatcher.seat(seat).phase() == Phase::Starting {
            inner.log_start_failed(seat, epoch, core.dispatcher.counts().waiting > 0, &error);
        }
        core.trouble = Some(error);
        core.dispatcher.start_failed(seat, epoch, failed, now);
    });
}

/// From the greeting of a worker to its end.
fn accompany(inner: &Inner, station: &Arc<Station>) {
    let (seat, epoch, peer) = (station.seat, station.epoch, &station.peer);
    inner.seat(seat, Some(station.clone()));
    // Terminating the pool killed only the workers that existed then.
    if lock(&inner.core).dispatcher.seat(seat).phase() != Phase::Starting {
        peer.kill();
    }
    let initializer = inner.initializer.as_ref().map(|prelude| (&prelude.call, &*prelude.regions));
    if let Err(StartFailure { error, for_good, .. }) = peer.greet((inner.hello)(seat, epoch), initializer) {
        inner.seat(seat, None);
        start_failed(inner, seat, epoch, error, for_good);
        return keep_until_dead(station);
    }
    inner.tell_core(|core, now| {
        let dispatcher = &mut core.dispatcher;
        let replaces = dispatcher.seat(seat).was_lost;
        dispatcher.ready(seat, epoch, now);
        if dispatcher.seat(seat).phase() == Phase::Ready {
            inner.log_started(station, replaces);
        }
        if inner.single {
            dispatcher.close(now);
        }
    });
    inner.notify();
    let mut heard = Heard { inner, station, reader: ReportReader::Attendant };
    let fault = match &inner.listener {
        Some(_) => peer.await_end(),
        None => peer.listen(&mut heard),
    };
    let (leaving, generation) = {
        let core = lock(&inner.core);
        let seat = core.dispatcher.seat(seat);
        // A process may close what it was given, and go on without it.
        (inner.single || seat.phase() == Phase::Leaving, seat.worker.generation)
    };
    if !peer.dies_within(AT_ONCE) {
        let known = Arc::new(peer.sketch());
        inner.tell(|dispatcher, now| dispatcher.overdue(seat, epoch, &known, now));
    }
    let loss = {
        let _deferral = Deferral::new();
        Arc::new(Loss { seat, ..peer.bury(fault, leaving, generation, &mut heard) })
    };
    let claimed = peer.reached();
    if !loss.lives {
        inner.seat(seat, None);
    }
    inner.tell_core(|core, now| {
        core.trouble = Some(Error::new(Kind::Lost(Dossier::of_process(loss.clone()))));
        core.dispatcher.lost(seat, epoch, &loss, claimed, now);
    });
    if loss.lives {
        // Until here, it was still found, to keep the memory of calls that it may still run.
        inner.seat(seat, None);
    }
    keep_until_dead(station);
}

/// A process that was killed ends at once; if not, nobody is to wait for it.
const AT_ONCE: Duration = Duration::from_millis(250);

/// What a process shares with this one is kept until it is dead, and then it is reaped, without anyone waiting for it.
fn keep_until_dead(station: &Arc<Station>) {
    if station.peer.has_ended() {
        return;
    }
    let kept = station.clone();
    let reaper = os::spawn_thread("pool-reaper".to_owned(), Some(1 << 16), move || {
        os::block_all_signals();
        kept.peer.await_death();
    });
    if reaper.is_err() {
        // Without a thread, it stays for ever.
        std::mem::forget(station.clone());
    }
}

/// Waits until a worker may be started at the seat. None if no more workers follow.
fn next_epoch(inner: &Inner, seat: usize) -> Option<u32> {
    let mut core = lock(&inner.core);
    loop {
        let now = inner.now();
        match core.dispatcher.next_start(seat, now) {
            Start::Now { epoch } => return Some(epoch),
            Start::NotBefore(time) => {
                let until = Instant::now().checked_add(Duration::from_nanos(time - now));
                core = sleep_on(&inner.changed, core, until).unwrap_or_else(|| lock(&inner.core));
            }
            Start::Never => {
                let is_finished = core.dispatcher.is_finished();
                if is_finished {
                    inner.notify();
                }
                drop(core);
                if is_finished {
                    inner.log_ended();
                }
                return None;
            }
        }
    }
}
