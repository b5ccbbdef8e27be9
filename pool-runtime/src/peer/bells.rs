//! How the threads of a pool sleep until a worker has something to say.
//!
//! Workers that share memory with this process, and threads of it, ring a word of memory. Behind sockets nobody rings:
//! whoever sleeps does so on the sockets themselves, and on an alarm for all else.

use crate::os::Poller;
use crate::peer::Peer;
use crate::transport::ring::{self, LEADER};
use std::io;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(crate) enum Bells {
    Words(Arc<ring::BellPage>),
    /// Of the collector, and of the leader.
    Sockets([Poller; 2]),
}

impl Bells {
    /// For workers that are reached through sockets.
    ///
    /// # Errors
    ///
    /// The system has no descriptors left.
    pub(crate) fn of_sockets() -> io::Result<Self> {
        Ok(Self::Sockets([Poller::new()?, Poller::new()?]))
    }

    /// Does whoever sleeps have to know all workers that may say something?
    pub(crate) fn are_sockets(&self) -> bool {
        matches!(self, Self::Sockets(_))
    }

    /// Wakes whoever sleeps by this mark.
    pub(crate) fn ring(&self, mark: u32) {
        match self {
            Self::Words(bells) => bells.ring(mark),
            Self::Sockets(alarms) => alarms[usize::from(mark == LEADER)].ring(),
        }
    }

    /// To be read before looking at what is waited for.
    pub(crate) fn seen(&self, mark: u32) -> u32 {
        match self {
            Self::Words(bells) => bells.seen(mark),
            // An alarm stays rung.
            Self::Sockets(_) => 0,
        }
    }

    /// Somebody listens, on this processor.
    pub(crate) fn lead_on(&self, cpu: u32) {
        if let Self::Words(bells) = self {
            bells.lead_on(cpu);
        }
    }

    /// Sleeps until the bell is rung, or one of these peers has something to say, at most for `patience`; may return
    /// early.
    pub(crate) fn wait<'p>(
        &'p self,
        mark: u32,
        seen: u32,
        patience: Option<Duration>,
        peers: impl Iterator<Item = &'p Peer>,
    ) {
        match self {
            Self::Words(bells) => bells.wait(mark, seen, patience),
            Self::Sockets(alarms) => {
                let alarm = &alarms[usize::from(mark == LEADER)];
                if alarm.wait(peers.filter_map(Peer::socket), patience).is_err() {
                    // For a lack of kernel memory, which passes.
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}
