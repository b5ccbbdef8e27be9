//! What memory is kept for reuse: how much, how long, and whether any is.
//!
//! It is kept only while something calls [`trim`](super::trim): the listener of each pool, and the loop of a worker.

use crate::locks::lock;
use crate::os;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// After this time without use, memory is freed.
pub(super) const UNUSED: Duration = Duration::from_secs(10);

/// Pieces of memory that are kept for reuse, within limits; the oldest come first.
pub(super) struct Kept<T> {
    pub(super) pieces: Vec<Piece<T>>,
    most: usize,
    most_bytes: usize,
    pub(super) is_free: fn(&T) -> bool,
    /// The process that has it; 0 is none yet.
    pid: u32,
}

pub(super) struct Piece<T> {
    pub(super) memory: T,
    pub(super) size: usize,
    pub(super) used: Instant,
}

impl<T> Kept<T> {
    /// At most so many pieces, of so many bytes together.
    pub(super) const fn new(most: usize, most_bytes: usize, is_free: fn(&T) -> bool) -> Self {
        Self { pieces: Vec::new(), most, most_bytes, is_free, pid: 0 }
    }

    /// In a forked child, forgets shared memory, which it has not inherited.
    pub(super) fn forget_in_forks(&mut self) {
        let pid = os::current_pid();
        if std::mem::replace(&mut self.pid, pid) != pid {
            self.pieces.drain(..).for_each(std::mem::forget);
        }
    }

    /// Removes the oldest free pieces until one of this size can be added. None if that is not possible.
    ///
    /// What is removed is to be dropped without the lock.
    pub(super) fn make_room(&mut self, size: usize) -> Option<Vec<Piece<T>>> {
        let left = self.most_bytes.checked_sub(size)?;
        let mut removed = Vec::new();
        while self.pieces.len() >= self.most || self.pieces.iter().map(|piece| piece.size).sum::<usize>() > left {
            let unneeded = self.pieces.iter().position(|piece| (self.is_free)(&piece.memory))?;
            removed.push(self.pieces.remove(unneeded));
        }
        Some(removed)
    }

    pub(super) fn add(&mut self, memory: T, size: usize) {
        self.pieces.push(Piece { memory, size, used: Instant::now() });
    }

    /// Frees what was not used for so long. Returns whether something is left.
    pub(super) fn trim(kept: &Mutex<Self>, unused: Duration) -> bool {
        let mut kept = lock(kept);
        let is_free = kept.is_free;
        let is_old = |piece: &mut Piece<T>| is_free(&piece.memory) && piece.used.elapsed() >= unused;
        let old: Vec<_> = kept.pieces.extract_if(.., is_old).collect();
        let more = !kept.pieces.is_empty();
        drop(kept);
        drop(old);
        more
    }
}

static POOLS: AtomicUsize = AtomicUsize::new(0);
static IN_WORKER: AtomicBool = AtomicBool::new(false);

/// A pool has started whose listener calls [`trim`](super::trim).
pub(crate) fn pool_began() {
    POOLS.fetch_add(1, Ordering::Relaxed);
}

/// Such a pool has ended. Returns whether it was the last one.
pub(super) fn pool_ended() -> bool {
    POOLS.fetch_sub(1, Ordering::Relaxed) == 1
}

/// Whether this process is a worker that calls [`trim`](super::trim) when it is idle.
pub(crate) fn set_in_worker(is_worker: bool) {
    IN_WORKER.store(is_worker, Ordering::Relaxed);
}

/// Whether the arena's segments may be kept.
pub(super) fn has_pools() -> bool {
    POOLS.load(Ordering::Relaxed) > 0
}

/// Whether vectors' memory may be kept.
pub(super) fn may_keep() -> bool {
    has_pools() || IN_WORKER.load(Ordering::Relaxed)
}
