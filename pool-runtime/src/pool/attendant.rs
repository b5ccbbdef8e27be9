//! The attendants: one thread for each seat, which sees to it that there is a worker. A [`Process`](crate::Process) is a
//! seat with one job.
//!
//! ```text
//!   may start? ──▶ start ──▶ greet ──▶ wait for its end ──▶ bury ──▶ tell the dispatcher ──▶ may start? …
//!        └── wait: back-off
//! ```
//!
//! An attendant only waits for its own worker. It never runs user code, and never blocks on sending. Where a pool has no
//! listener, it hears its worker meanwhile.

use crate::dossier::{Dossier, Loss, Stage};
use crate::error::{Error, Kind};
use crate::job::Deferral;
use crate::os;
use crate::peer::Peer;
use crate::peer::handshake::StartFailure;
use crate::pool::dispatcher::{FailedStart, Phase, Start};
use crate::pool::inner::Inner;
use crate::pool::reports::Heard;
use crate::pool::station::Station;
use crate::sync::{lock, sleep_on};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nothing deep happens on these threads, and a pool may have hundreds.
const STACK: usize = 1 << 18;

/// Starts the attendant of a seat. Its first worker may be on its way already.
///
/// `then` is called when no worker will be there any more.
pub(super) fn spawn(
    inner: Arc<Inner>,
    seat: usize,
    name: String,
    first: Option<Peer>,
    then: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
        os::block_all_signals();
        inner.guard("attends to a worker", seat..seat + 1, || attend(&inner, seat, first));
        then();
    })
}

fn attend(inner: &Inner, seat: usize, mut first: Option<Peer>) {
    while let Some(epoch) = next_epoch(inner, seat) {
        let started = match first.take() {
            Some(peer) => Ok(peer),
            None => start(inner, seat),
        };
        match started {
            Ok(peer) => accompany(inner, &Station::new(seat, epoch, peer)),
            Err(error) => start_failed(inner, seat, epoch, error, false),
        }
    }
}

fn start(inner: &Inner, seat: usize) -> Result<Peer, Error> {
    let name = format!("{}-{}", inner.name, seat + 1);
    let initializer = inner.initializer.as_ref().map(|prelude| &prelude.call);
    let bells = inner.listener.as_ref().map(|listener| listener.bells());
    inner.source.start(name, &inner.options[seat], initializer, bells)
}

fn start_failed(inner: &Inner, seat: usize, epoch: u32, error: Error, for_good: bool) {
    let failed = FailedStart { for_good, may_pass: error.may_pass() };
    inner.tell_core(|core, now| {
        core.trouble = Some(error);
        core.dispatcher.start_failed(seat, epoch, failed, now);
    });
}

/// From the greeting of a worker to its end.
fn accompany(inner: &Inner, station: &Arc<Station>) {
    let (seat, epoch, peer) = (station.seat, station.epoch, &station.peer);
    inner.seat(seat, Some(station.clone()));
    // A pool that was terminated before there was a worker had nobody to kill.
    if lock(&inner.core).dispatcher.seat(seat).phase() != Phase::Starting {
        peer.kill();
    }
    let initializer = inner.initializer.as_ref().map(|prelude| (&prelude.call, &*prelude.regions));
    if let Err(StartFailure { mut error, for_good, died }) = peer.greet((inner.hello)(seat, epoch), initializer) {
        inner.seat(seat, None);
        // A process that was signalled meanwhile did not fail to start: it was told to end.
        let signalled = inner.single
            && died
            && peer
                .process()
                .and_then(|process| process.child.status())
                .is_some_and(|status| status.signal().is_some());
        if let Some(process) = peer.process().filter(|_| signalled) {
            let loss = Loss { stage: Stage::Idle, ..process.examine(None) };
            error = Error::new(Kind::Lost(Dossier::of_process(loss)));
        }
        return start_failed(inner, seat, epoch, error, for_good);
    }
    inner.tell(|dispatcher, now| {
        dispatcher.ready(seat, epoch, now);
        if inner.single {
            dispatcher.close();
        }
    });
    inner.notify();
    let mut heard = Heard { inner, station };
    let fault = match &inner.listener {
        Some(_) => peer.await_end(),
        None => peer.listen(&mut heard),
    };
    let (leaving, generation) = {
        let core = lock(&inner.core);
        let seat = core.dispatcher.seat(seat);
        (seat.phase() == Phase::Leaving, seat.worker.generation)
    };
    let loss = {
        let _deferral = Deferral::new();
        Arc::new(peer.bury(fault, leaving, generation, &mut heard))
    };
    let claimed = peer.claimed();
    inner.seat(seat, None);
    lost(inner, station, &loss, claimed);
}

fn lost(inner: &Inner, station: &Station, loss: &Arc<Loss>, claimed: u32) {
    inner.tell_core(|core, now| {
        core.trouble = Some(Error::new(Kind::Lost(Dossier::of_process(loss.clone()))));
        core.dispatcher.lost(station.seat, station.epoch, loss, claimed, now);
    });
}

/// Waits until a worker may be started at the seat. None when none ever will be.
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
                if core.dispatcher.is_finished() {
                    inner.notify();
                }
                return None;
            }
        }
    }
}
