//! What an attendant does where its worker is a thread: as [`supervisor`](super::supervisor) with a process.

use crate::{
    peer::{Hired, faults::Plan},
    pool::{
        backend::Occupant,
        ear::Ear,
        outbox::Outbox,
        shared::{Line, Shared, Station},
    },
    sync::lock,
};
use std::{sync::Arc, time::Duration};

/// Has a thread work at a seat, until it ends or is abandoned.
pub(super) fn attend(
    shared: &Arc<Shared>,
    plan: Option<&Arc<Plan>>,
    initializer_timeout: Option<Duration>,
    seat: usize,
    epoch: u32,
) {
    let initializer = shared.initializer.as_ref().map(|(call, ..)| call.clone());
    let mut hired = match Hired::hire(format!("{}-{}", shared.name, seat + 1), initializer, plan.cloned()) {
        Ok(hired) => hired,
        Err(error) => {
            shared.tell(|dispatcher, now| dispatcher.start_failed(seat, epoch, error, false, now));
            return;
        }
    };
    let station = Arc::new(Station {
        seat,
        epoch,
        occupant: Occupant::Thread(hired.thread.clone()),
        page: hired.page.clone(),
        ear: Ear::new(hired.inlet.clone()),
        line: Line::Channel(Outbox::new(hired.outlet.clone())),
    });
    shared.seat(seat, Some(station.clone()));
    // A pool that was terminated before there was a thread had nobody to abandon.
    if !lock(&shared.core).dispatcher.is_starting(seat) {
        hired.thread.kill();
    }
    if let Err((error, for_good)) = hired.greet(initializer_timeout) {
        shared.seat(seat, None);
        shared.tell(|dispatcher, now| dispatcher.start_failed(seat, epoch, error, for_good, now));
        return;
    }
    shared.tell(|dispatcher, now| dispatcher.ready(seat, epoch, now));
    shared.changed.notify_all();
    let fault = station.ear.attend(|received| shared.hear(&station, received));
    // A thread that is abandoned lives on, and must not start what others are about to.
    let generation = lock(&shared.core).dispatcher.generation(seat);
    let _ = hired.page.take_back(generation);
    let loss = Arc::new(hired.bury(fault));
    let claimed = hired.page.claimed();
    shared.seat(seat, None);
    shared.tell(|dispatcher, now| dispatcher.lost(seat, epoch, &loss, claimed, now));
}
