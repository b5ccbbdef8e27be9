//! How the threads of a pool sleep until a worker reports.
//!
//! Threads, and workers that share memory with this process, ring a word of memory. Workers behind sockets do not ring:
//! a thread sleeps on the sockets themselves, and on an alarm for everything else.

use crate::os::Poller;
use crate::peer::Peer;
use crate::transport::ring::{self, LEADER};
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub(crate) enum Bells {
    Words(Arc<ring::BellPage>),
    /// For the collector and for the leader.
    Sockets([Poller; 2]),
}

impl Bells {
    /// For workers that are reached through sockets. Fails if the system has no descriptors left.
    pub(crate) fn of_sockets() -> io::Result<Self> {
        Ok(Self::Sockets([Poller::new()?, Poller::new()?]))
    }

    /// Whether a thread that sleeps has to name all workers that may report.
    pub(crate) fn are_sockets(&self) -> bool {
        matches!(self, Self::Sockets(_))
    }

    pub(crate) fn ring(&self, mark: u32) {
        match self {
            Self::Words(bells) => bells.ring(mark),
            Self::Sockets(alarms) => alarms[usize::from(mark == LEADER)].ring(),
        }
    }

    /// A count for [`wait`](Self::wait), to be read before looking for reports.
    pub(crate) fn seen(&self, mark: u32) -> u32 {
        match self {
            Self::Words(bells) => bells.seen(mark),
            // An alarm stays rung.
            Self::Sockets(_) => 0,
        }
    }

    /// A thread listens on this processor.
    pub(crate) fn lead_on(&self, cpu: u32) {
        if let Self::Words(bells) = self {
            bells.lead_on(cpu);
        }
    }

    /// Sleeps until the bell is rung or one of these peers reports, at most for `patience`. May return early.
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
