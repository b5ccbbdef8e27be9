//! What leads to the worker at a seat.

use crate::memory::region::Region;
use crate::peer::Peer;
use crate::sync::lock;
use std::sync::{Arc, Mutex};

#[derive(Debug)]
pub(crate) struct Station {
    pub(super) seat: usize,
    pub(super) epoch: u32,
    pub(super) peer: Peer,
    /// What calls lend the worker that it may still run, though they have ended. It goes with the station, when the
    /// worker is gone.
    held: Mutex<Vec<Arc<Region>>>,
}

impl Station {
    pub(super) fn new(seat: usize, epoch: u32, peer: Peer) -> Arc<Self> {
        Arc::new(Self { seat, epoch, peer, held: Mutex::default() })
    }

    /// Keeps these as long as the worker may be there.
    pub(super) fn hold(&self, regions: &[Arc<Region>]) {
        lock(&self.held).extend_from_slice(regions);
    }
}
