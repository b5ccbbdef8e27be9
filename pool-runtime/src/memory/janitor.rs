//! Whether memory is kept for reuse in this process: only while somebody gives back what is not used, which is the
//! collector of each pool, and the loop of a worker.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// What was not used for so long is given back.
pub(super) const UNUSED: Duration = Duration::from_secs(10);

static POOLS: AtomicUsize = AtomicUsize::new(0);
static IN_WORKER: AtomicBool = AtomicBool::new(false);

/// A pool has begun whose collector calls [`trim`](super::trim).
pub(crate) fn pool_began() {
    POOLS.fetch_add(1, Ordering::Relaxed);
}

/// It has ended. Says whether it was the last one.
pub(super) fn pool_ended() -> bool {
    POOLS.fetch_sub(1, Ordering::Relaxed) == 1
}

/// This process is a worker that calls [`trim`](super::trim) when it has nothing to do; or it is none any more.
pub(crate) fn set_in_worker(is_worker: bool) {
    IN_WORKER.store(is_worker, Ordering::Relaxed);
}

/// May segments of the arena be kept?
pub(super) fn has_pools() -> bool {
    POOLS.load(Ordering::Relaxed) > 0
}

/// May memory of vectors be kept?
pub(super) fn may_keep() -> bool {
    has_pools() || IN_WORKER.load(Ordering::Relaxed)
}
