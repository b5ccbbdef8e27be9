//! The worker at a seat.

use crate::locks::lock;
use crate::memory::Region;
use crate::peer::Peer;
use std::sync::{Arc, Mutex};

pub(crate) struct Station {
    pub(super) seat: usize,
    pub(super) epoch: u32,
    pub(super) peer: Peer,
    /// Regions of calls that have ended here, but may still run in the worker. Freed with the station, after its death.
    held: Mutex<Vec<Arc<Region>>>,
}

impl Station {
    pub(super) fn new(seat: usize, epoch: u32, peer: Peer) -> Arc<Self> {
        Arc::new(Self { seat, epoch, peer, held: Mutex::default() })
    }

    pub(super) fn hold(&self, regions: &[Arc<Region>]) {
        lock(&self.held).extend_from_slice(regions);
    }
}
