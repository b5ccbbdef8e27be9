//! How many items each process has taken off a queue and not yet said to be done: who waits for all of them learns when
//! some never will be.
//!
//! An entry is one word: the number of the process among those that have the memory, and the count. Only who has the lock of
//! the end where items are taken writes any of this, or relies on what is in it.

use crate::memory::presence::LAST_NUMBER;
use crate::memory::region::Region;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bits of the count.
const COUNT: u64 = (1 << 40) - 1;

const _: () = assert!(LAST_NUMBER as u64 <= u64::MAX >> 40);

/// The entries of all processes.
pub(super) struct Hands<'q> {
    pub(super) entries: &'q [AtomicU64],
    /// What processes had in hand that have ended, and whose entry was given to another one.
    pub(super) orphans: &'q AtomicU64,
    pub(super) region: &'q Region,
    /// The number of this process.
    pub(super) me: u32,
}

fn owner(entry: u64) -> u32 {
    (entry >> 40) as u32
}

impl Hands<'_> {
    fn lives(&self, entry: u64) -> bool {
        owner(entry) == self.me || !self.region.memory().is_vacant(owner(entry))
    }

    /// The first entry that is chosen, and what is in it.
    fn find(&self, chosen: impl Fn(u64) -> bool) -> Option<(&AtomicU64, u64)> {
        self.entries.iter().map(|entry| (entry, entry.load(Ordering::Relaxed))).find(|(_, found)| chosen(*found))
    }

    /// The entry of this process. None: as many processes as there are entries live and have items in hand.
    pub(super) fn own(&self) -> Option<&AtomicU64> {
        if let Some((entry, _)) = self.find(|entry| owner(entry) == self.me) {
            return Some(entry);
        }
        let is_free = |entry| entry == 0 || (entry & COUNT == 0 && !self.lives(entry));
        let (entry, found) = self.find(is_free).or_else(|| self.find(|entry| !self.lives(entry)))?;
        let orphans = self.orphans.load(Ordering::Relaxed).saturating_add(found & COUNT);
        self.orphans.store(orphans, Ordering::Relaxed);
        entry.store(u64::from(self.me) << 40, Ordering::Relaxed);
        Some(entry)
    }

    /// One item more is in the hands of this process.
    pub(super) fn take(&self, own: &AtomicU64) {
        let found = own.load(Ordering::Relaxed);
        if found & COUNT < COUNT {
            own.store(found + 1, Ordering::Relaxed);
        }
    }

    /// Whether anybody has, or had, an item in hand that is not done.
    pub(super) fn are_full(&self) -> bool {
        self.orphans.load(Ordering::Relaxed) > 0 || self.find(|entry| entry & COUNT > 0).is_some()
    }

    /// One item is done: this process's, or else one of a process that has ended, or else another's.
    pub(super) fn put_down(&self) {
        let own = || self.find(|entry| entry & COUNT > 0 && owner(entry) == self.me);
        let dead = || self.find(|entry| entry & COUNT > 0 && !self.lives(entry));
        if let Some((entry, found)) = own().or_else(dead) {
            return entry.store(found - 1, Ordering::Relaxed);
        }
        let orphans = self.orphans.load(Ordering::Relaxed);
        match self.find(|entry| entry & COUNT > 0) {
            _ if orphans > 0 => self.orphans.store(orphans - 1, Ordering::Relaxed),
            Some((entry, found)) => entry.store(found - 1, Ordering::Relaxed),
            None => {}
        }
    }

    /// Whether a process that lives has items in hand.
    pub(super) fn are_busy(&self) -> bool {
        self.find(|entry| entry & COUNT > 0 && self.lives(entry)).is_some()
    }

    /// Forgets what processes that have ended had in hand.
    pub(super) fn forget_dead(&self) {
        self.orphans.store(0, Ordering::Relaxed);
        while let Some((entry, found)) = self.find(|entry| entry & COUNT > 0 && !self.lives(entry)) {
            entry.store(found & !COUNT, Ordering::Relaxed);
        }
    }
}
