//! The frames for one worker, on their way out, in the order in which the dispatcher numbered the calls in them.
//!
//! They are put in while the dispatcher is locked, which keeps the order, and sent after it is unlocked, by whoever
//! comes first: sending may take a while, and others must be able to go on.

use crate::{
    memory::region::Region,
    pool::{
        dispatcher::Flight,
        shared::{Submission, write_calls},
    },
    protocol::stop_frame,
    sync::lock,
    transport::Outlet,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, TryLockError},
};

/// The frames for one worker, in order.
pub(super) struct Outbox {
    queue: Mutex<VecDeque<Outgoing>>,
    outlet: Mutex<Arc<dyn Outlet>>,
}

pub(super) enum Outgoing {
    Calls {
        generation: u32,
        flights: Vec<Flight<dyn Submission>>,
        /// What the other side is to hold meanwhile.
        held: Vec<Arc<Region>>,
    },
    Stop,
}

impl Outgoing {
    fn to_frame(&self) -> Vec<u8> {
        match self {
            Self::Stop => stop_frame(),
            Self::Calls { generation, flights, .. } => {
                let mut frame = Vec::with_capacity(self.bytes());
                write_calls(&mut frame, *generation, flights.iter());
                frame
            }
        }
    }

    fn held(self) -> Vec<Arc<Region>> {
        match self {
            Self::Stop => Vec::new(),
            Self::Calls { held, .. } => held,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Stop => 0,
            Self::Calls { flights, .. } => flights.iter().map(|flight| flight.work.size(flight.next..flight.end)).sum(),
        }
    }
}

impl Outbox {
    pub(super) fn new(outlet: Arc<dyn Outlet>) -> Self {
        Self { queue: Mutex::new(VecDeque::new()), outlet: Mutex::new(outlet) }
    }

    pub(super) fn put(&self, outgoing: Outgoing) {
        lock(&self.queue).push_back(outgoing);
    }

    /// Sends what is there, unless somebody else is just doing so. Returns false, with the work undone, if it would
    /// have to wait for the worker to read.
    pub(super) fn flush(&self, may_wait: bool) -> bool {
        loop {
            let outlet = match self.outlet.try_lock() {
                Ok(outlet) => outlet,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Whoever is sending looks again before leaving.
                Err(TryLockError::WouldBlock) => return true,
            };
            loop {
                let mut queue = lock(&self.queue);
                let Some(next) = queue.front() else { break };
                if !may_wait && next.bytes() > outlet.unhindered() {
                    return false;
                }
                let Some(next) = queue.pop_front() else { break };
                drop(queue);
                // The process is gone if this fails; its attendant notices, and nothing is lost.
                let _ = outlet.send_with(next.to_frame(), next.held());
            }
            drop(outlet);
            if lock(&self.queue).is_empty() {
                return true;
            }
        }
    }
}
