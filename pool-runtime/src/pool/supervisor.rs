//! The attendants: one thread for each seat, which sees to it that there is a worker.
//!
//! ```text
//!   may start? ──▶ start ──▶ greet ──▶ listen … gone ──▶ reap ──▶ tell the dispatcher ──▶ may start? …
//!        └── wait: back-off          └── nonsense: kill
//! ```
//!
//! An attendant only waits for its own worker. It never runs user code, and never blocks on sending.

use crate::{
    dossier::Loss,
    error::Error,
    os, panic,
    peer::launch::{self, LAST_BREATH, Launched},
    pool::{
        backend::{Occupant, Staff},
        dispatcher::Start,
        ear::Ear,
        outbox::Outbox,
        ringline::RingLine,
        shared::{Line, Shared, Station},
        threads,
    },
    sync::lock,
};
use std::{
    io,
    sync::{Arc, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

/// Nothing deep happens on these threads, and a pool may have hundreds.
const STACK: usize = 1 << 18;

pub(super) fn spawn(shared: Arc<Shared>, seat: usize) -> io::Result<JoinHandle<()>> {
    let name = format!("pool-seat-{}", seat + 1);
    std::thread::Builder::new().name(name).stack_size(STACK).spawn(move || {
        os::block_all_signals();
        // Nothing here should panic; if it does, nobody must wait for this seat.
        if let Err(panic) = panic::catch(|| attend(&shared, seat)) {
            let error = Error::invalid(format!("the thread that attends to a worker panicked {panic}"));
            shared.tell(|dispatcher, _| dispatcher.abandon(seat..seat + 1, &error));
            shared.changed.notify_all();
        }
    })
}

fn attend(shared: &Arc<Shared>, seat: usize) {
    while let Some(epoch) = next_epoch(shared, seat) {
        let launch = match &shared.staff {
            Staff::Processes(launch) => launch,
            Staff::Threads { plan, initializer_timeout } => {
                threads::attend(shared, plan.as_ref(), *initializer_timeout, seat, epoch);
                continue;
            }
            // Nobody sits there.
            Staff::Inline(_) => return,
        };
        let mut launched = match launch.start(&shared.options[seat]) {
            Ok(launched) => launched,
            Err(error) => {
                shared.tell(|dispatcher, now| dispatcher.start_failed(seat, epoch, error, false, now));
                continue;
            }
        };
        let line = match &launched.rings {
            Some(memory) => Line::Ring(RingLine::new(memory.clone())),
            None => Line::Channel(Outbox::new(launched.outlet.clone())),
        };
        let station = Arc::new(Station {
            seat,
            epoch,
            occupant: Occupant::Process { child: launched.child.clone(), courier: launched.attacher.clone() },
            page: launched.page.clone(),
            ear: Ear::new(launched.inlet.clone()),
            line,
        });
        shared.seat(seat, Some(station.clone()));
        // A pool that was terminated before the process could be found had nobody to kill.
        if !lock(&shared.core).dispatcher.is_starting(seat) {
            let _ = launched.child.kill();
        }
        let name = format!("{}-{}", shared.name, seat + 1);
        let hello = launch::hello(name, false, epoch, false, shared.options[seat].place());
        let greeted = launched.greet(hello, shared.initializer.as_ref().map(|(call, regions, _)| (call, &**regions)));
        match greeted {
            Ok(()) => {
                shared.tell(|dispatcher, now| dispatcher.ready(seat, epoch, now));
                shared.changed.notify_all();
                launched.works();
                let fault = station.ear.attend(|received| shared.hear(&station, received));
                let leaving = lock(&shared.core).dispatcher.is_leaving(seat);
                let mut loss = bury(&launched, fault, leaving);
                if let Line::Ring(line) = &station.line {
                    // What it wrote before its end counts; and what was wrong with that says why it was killed.
                    loss.fault = line.serve_last(shared, &station).or(loss.fault);
                }
                let claimed = launched.page.claimed();
                shared.seat(seat, None);
                let loss = Arc::new(loss);
                shared.tell(|dispatcher, now| dispatcher.lost(seat, epoch, &loss, claimed, now));
            }
            Err(failure) => {
                launched.drain();
                shared.seat(seat, None);
                shared.tell(|dispatcher, now| {
                    dispatcher.start_failed(seat, epoch, failure.error, failure.for_good, now);
                });
            }
        }
    }
}

/// Waits until a process may be started at the seat. None when none ever will be.
fn next_epoch(shared: &Shared, seat: usize) -> Option<u32> {
    let mut core = lock(&shared.core);
    loop {
        let now = shared.now();
        core = match core.dispatcher.next_start(seat, now) {
            Start::Now { epoch } => return Some(epoch),
            Start::NotBefore(time) => {
                let left = Duration::from_nanos(time - now);
                shared.changed.wait_timeout(core, left).unwrap_or_else(PoisonError::into_inner).0
            }
            Start::Never => {
                if core.dispatcher.is_finished() {
                    shared.changed.notify_all();
                    shared.clock.notify_all();
                    shared.look();
                }
                return None;
            }
        };
    }
}

/// Waits for the end of a process that is not heard any more, and finds out how it ended.
///
/// One that is `leaving` by itself may take its time: it joins the processes that it has started.
fn bury(launched: &Launched, fault: Option<String>, leaving: bool) -> Loss {
    let child = &launched.child;
    let fault = fault.or_else(|| {
        // Its channel is closed: it is exiting, or it has closed descriptors that are not its own.
        (!leaving && !child.wait_timeout(Some(LAST_BREATH))).then(|| "closed its connection".to_owned())
    });
    if fault.is_some() {
        let _ = child.kill();
    }
    launched.examine(fault)
}
