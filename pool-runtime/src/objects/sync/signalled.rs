//! State that processes change under a lock, and words on which they sleep until it has changed.
//!
//! ```text
//!   state    a `Committed`: a process that ends at any instruction leaves the old or the new state
//!   words    each counts events: who changes the state adds one afterwards, and wakes who sleeps on it
//! ```
//!
//! Who waits reads a word, looks at the state, and sleeps while the word is the same, so no event is missed. Who changes
//! the state may end before it wakes anybody, so nobody sleeps for longer than a nap without looking again. Nobody has the
//! lock while it sleeps.

use crate::error::{Error, Result};
use crate::memory::View;
use crate::memory::region::Region;
use crate::objects::Plain;
use crate::objects::committed::{Committed, in_new_memory_with_room};
use crate::os;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const FIRST_NAP: Duration = Duration::from_millis(5);
const LONGEST_NAP: Duration = Duration::from_millis(80);

/// Some state, and so many words after it.
pub(super) struct Signalled<S> {
    committed: Committed<S>,
    words: View<[AtomicU32], Region>,
}

/// How long somebody sleeps before it looks again, and until when it waits.
pub(super) struct Naps {
    deadline: Option<Instant>,
    next: Duration,
}

impl Naps {
    /// Without a deadline, it waits for ever.
    pub(super) fn until(deadline: Option<Instant>) -> Self {
        Self { deadline, next: FIRST_NAP }
    }

    pub(super) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// How long the next nap is.
    fn length(&self) -> Duration {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        left.map_or(self.next, |left| left.min(self.next))
    }

    fn lengthen(&mut self) {
        self.next = LONGEST_NAP.min(2 * self.next);
    }

    /// Sleeps for a short nap where there is no word to sleep on. Returns false: it is time to look who has ended.
    pub(super) fn rest(&mut self) -> bool {
        std::thread::sleep(self.length().min(FIRST_NAP));
        false
    }
}

/// When so much time has passed. None: a time that the clock cannot reach never comes.
pub(super) fn after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

impl<S: Plain> Signalled<S> {
    /// In new memory, which is for `what`. The last `room` bytes of it begin at [`end`](Self::end).
    pub(super) fn new(what: &str, state: S, words: usize, room: usize) -> Result<Self> {
        let room = Self::end(words) - Committed::<S>::END + room;
        let committed = in_new_memory_with_room(what, state, room)?;
        Self::with_words(committed, words).map_err(Error::invalid)
    }

    /// In memory that a process has just got.
    pub(super) fn found(region: &Arc<Region>, words: usize) -> Result<Self, String> {
        Self::with_words(Committed::found(region)?, words)
    }

    fn with_words(committed: Committed<S>, words: usize) -> Result<Self, String> {
        let first = Committed::<S>::END / 4;
        let words = View::new(committed.region().clone(), |region| {
            region
                .memory()
                .words()
                .get(first..first + words)
                .ok_or("the shared memory is too short for what it is to hold")
        })?;
        Ok(Self { committed, words })
    }

    /// Where the words end: a multiple of eight.
    pub(super) fn end(words: usize) -> usize {
        (Committed::<S>::END + 4 * words).next_multiple_of(8)
    }

    /// The state, without waiting for who changes it.
    pub(super) fn state(&self) -> S {
        self.committed.get()
    }

    /// Has `change` change the state. Afterwards, [`wake`](Self::wake) whoever is concerned.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        self.committed.change(change)
    }

    /// How many events there were. It is to be read before the state is looked at.
    pub(super) fn seen(&self, word: usize) -> u32 {
        self.words[word].load(Ordering::Acquire)
    }

    /// Counts an event, and wakes all who sleep on the word.
    pub(super) fn wake(&self, word: usize) {
        self.words[word].fetch_add(1, Ordering::Release);
        os::wake_sleepers(&self.words[word], u32::MAX);
    }

    /// Sleeps for a nap, or until there is another event than those `seen`. Returns false if the nap is over, and it is
    /// time to look who has ended.
    pub(super) fn sleep(&self, word: usize, seen: u32, naps: &mut Naps) -> bool {
        let is_woken = os::sleep_while(&self.words[word], seen, Some(naps.length()));
        if !is_woken {
            naps.lengthen();
        }
        is_woken
    }

    /// Those of these processes that have certainly ended.
    pub(super) fn ended(&self, owners: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut owners: Vec<_> = owners.into_iter().collect();
        owners.sort_unstable();
        owners.dedup();
        owners.retain(|owner| self.committed.region().memory().is_vacant(*owner));
        owners
    }
}

impl<S> Signalled<S> {
    pub(super) fn region(&self) -> &Arc<Region> {
        self.committed.region()
    }

    /// The number of this process.
    ///
    /// # Panics
    ///
    /// In a forked process that cannot [draw a number](Region::number).
    pub(super) fn number(&self) -> u32 {
        self.committed.number()
    }

    /// Whether this is the process with this number, and not one that was forked from it.
    pub(super) fn is_this_process(&self, number: u32) -> bool {
        self.committed.is_this_process(number)
    }
}

impl<S> Clone for Signalled<S> {
    fn clone(&self) -> Self {
        Self { committed: self.committed.clone(), words: self.words.clone() }
    }
}
