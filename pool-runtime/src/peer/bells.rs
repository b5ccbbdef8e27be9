//! How the threads of a pool sleep until a worker reports.
//!
//! Threads, and workers that share memory with this process, ring a word of memory. Workers behind sockets do not ring:
//! a thread sleeps on the sockets themselves, and on an alarm for everything else.
//!
//! A process can do more to a word of its memory than ring it: it can have the kernel move those who sleep there to
//! another word (`FUTEX_REQUEUE`), or keep them from being woken (`FUTEX_LOCK_PI`). So each seat has a page of its own,
//! as long as the kernel can watch so many, and what threads of this process ring lies where no other process reaches.

use crate::os::{Bell, BellWatch, Poller};
use crate::peer::Peer;
use crate::transport::ring::{BellPage, LEADER};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) enum Bells {
    Words(Box<BellWords>),
    /// For the collector and for the leader.
    Sockets([Poller; 2]),
}

/// Words of memory, one for the collector and one for the leader in each place.
pub(crate) struct BellWords {
    /// What threads of this process ring. None where the kernel cannot watch several words: they ring the workers' then.
    own: Option<[OwnBell; 2]>,
    /// What workers ring: the page of a seat is at its number, modulo how many there are.
    pages: Box<[Arc<BellPage>]>,
    /// The processor that the pages name; `u32::MAX` is none.
    leader: AtomicU32,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnBell(Bell);

/// How often the bells had been rung when they were looked at.
pub(crate) enum Seen<'b> {
    /// The own bell, and all.
    Several(u32, BellWatch<'b>),
    One(u32),
}

/// The longest sleep on memory that a worker can name.
const LONGEST: Duration = Duration::from_secs(1);

impl Bells {
    /// For workers that are threads of this process.
    pub(crate) fn of_threads() -> Self {
        Self::words(Some(Default::default()), Box::default())
    }

    /// For workers that share memory with this process, at so many seats. Fails if there is no memory or handle left.
    pub(crate) fn of_memory(seats: usize) -> io::Result<Self> {
        let own = BellWatch::is_supported().then(Default::default);
        let pages = if own.is_some() { seats.clamp(1, BellWatch::MOST - 1) } else { 1 };
        let pages = (0..pages).map(|_| BellPage::new().map(Arc::new)).collect::<io::Result<_>>()?;
        Ok(Self::words(own, pages))
    }

    fn words(own: Option<[OwnBell; 2]>, pages: Box<[Arc<BellPage>]>) -> Self {
        Self::Words(Box::new(BellWords { own, pages, leader: AtomicU32::new(u32::MAX) }))
    }

    /// For workers that are reached through sockets. Fails if the system has no descriptors left.
    pub(crate) fn of_sockets() -> io::Result<Self> {
        Ok(Self::Sockets([Poller::new()?, Poller::new()?]))
    }

    /// Whether a thread that sleeps has to name all workers that may report.
    pub(crate) fn are_sockets(&self) -> bool {
        matches!(self, Self::Sockets(_))
    }

    /// What the worker at a seat rings, if that is memory it shares with this process.
    pub(crate) fn page(&self, seat: usize) -> Option<&Arc<BellPage>> {
        match self {
            Self::Words(words) if !words.pages.is_empty() => Some(&words.pages[seat % words.pages.len()]),
            _ => None,
        }
    }

    /// Wakes the thread of this mark, for threads of this process.
    pub(crate) fn ring(&self, mark: u32) {
        match self {
            Self::Words(words) => match &words.own {
                Some(own) => own[usize::from(mark == LEADER)].0.ring(),
                None => words.pages[0].ring(mark),
            },
            Self::Sockets(alarms) => alarms[usize::from(mark == LEADER)].ring(),
        }
    }

    /// For [`wait`](Self::wait), to be read before looking for reports.
    pub(crate) fn seen(&self, mark: u32) -> Seen<'_> {
        match self {
            Self::Words(words) => words.seen(mark),
            // An alarm stays rung.
            Self::Sockets(_) => Seen::One(0),
        }
    }

    /// A thread listens on this processor.
    pub(crate) fn lead_on(&self, cpu: u32) {
        if let Self::Words(words) = self
            && words.leader.load(Ordering::Relaxed) != cpu
        {
            words.leader.store(cpu, Ordering::Relaxed);
            words.pages.iter().for_each(|page| page.lead_on(cpu));
        }
    }

    /// Sleeps until the bell is rung or one of these peers reports, at most for `patience`. Without such a limit, workers
    /// that share memory do not end the sleep. May return early.
    pub(crate) fn wait<'p>(
        &'p self,
        mark: u32,
        seen: &Seen<'_>,
        patience: Option<Duration>,
        peers: impl Iterator<Item = &'p Peer>,
    ) {
        match self {
            Self::Words(words) => words.wait(mark, seen, patience),
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

impl BellWords {
    fn seen(&self, mark: u32) -> Seen<'_> {
        let Some(own) = &self.own else { return Seen::One(self.pages[0].seen(mark)) };
        let own = &own[usize::from(mark == LEADER)].0;
        if self.pages.is_empty() {
            return Seen::One(own.seen());
        }
        let all = [own].into_iter().chain(self.pages.iter().map(|page| page.bell(mark)));
        Seen::Several(own.seen(), BellWatch::of(all))
    }

    fn wait(&self, mark: u32, seen: &Seen<'_>, patience: Option<Duration>) {
        match (&self.own, seen, patience) {
            (Some(_), Seen::Several(_, all), Some(patience)) => all.wait(patience),
            (Some(own), Seen::Several(seen, _) | Seen::One(seen), patience) => {
                own[usize::from(mark == LEADER)].0.wait(*seen, patience);
            }
            (None, Seen::One(seen), patience) => {
                self.pages[0].wait(mark, *seen, Some(patience.map_or(LONGEST, |patience| patience.min(LONGEST))));
            }
            (None, Seen::Several(..), _) => unreachable!("several words are seen only where they can be watched"),
        }
    }
}
