//! How many items each process has taken off a queue and not yet said to be done: who waits for all of them learns when
//! some never will be.
//!
//! An entry is one word: the number of the process among those that have the memory, and the count. A process counts up its
//! own entry while it has the lock of the end where items are taken, so whoever has that lock sees all that were taken.

use crate::memory::presence::LAST_NUMBER;
use crate::memory::region::Region;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bits of the count.
const COUNT: u64 = (1 << 40) - 1;

const _: () = assert!(LAST_NUMBER as u64 <= u64::MAX >> 40);

/// The entries of all processes.
pub(super) struct Hands<'q> {
    pub(super) entries: &'q [AtomicU64],
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

    /// The entry of this process. None: as many processes as there are entries have items in hand.
    pub(super) fn own(&self) -> Option<&AtomicU64> {
        let mine = |entry: &&AtomicU64| owner(entry.load(Ordering::Relaxed)) == self.me;
        self.entries.iter().find(mine).or_else(|| self.entries.iter().find(|entry| self.claim(entry)))
    }

    fn claim(&self, entry: &AtomicU64) -> bool {
        let found = entry.load(Ordering::Relaxed);
        let is_free = found == 0 || (found & COUNT == 0 && !self.lives(found));
        is_free && entry.compare_exchange(found, u64::from(self.me) << 40, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// One item is done: this process's, or else one of a process that has ended, or else another's. False if nobody has
    /// one.
    pub(super) fn put_down(&self) -> bool {
        let is_own = |entry: u64| owner(entry) == self.me;
        self.put_down_of(is_own) || self.put_down_of(|entry| !self.lives(entry)) || self.put_down_of(|_| true)
    }

    fn put_down_of(&self, chosen: impl Fn(u64) -> bool) -> bool {
        self.entries.iter().any(|entry| {
            let fewer = |found: u64| (found & COUNT > 0 && chosen(found)).then(|| found - 1);
            entry.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok()
        })
    }

    /// Whether a process that lives has items in hand.
    pub(super) fn are_busy(&self) -> bool {
        self.entries
            .iter()
            .map(|entry| entry.load(Ordering::Relaxed))
            .any(|entry| entry & COUNT > 0 && self.lives(entry))
    }

    /// Forgets what processes that have ended had in hand.
    pub(super) fn forget_dead(&self) {
        for entry in self.entries {
            let gone = |found: u64| (found & COUNT > 0 && !self.lives(found)).then_some(found & !COUNT);
            let _ = entry.fetch_update(Ordering::Relaxed, Ordering::Relaxed, gone);
        }
    }
}
