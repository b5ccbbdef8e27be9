//! Bytes, and the memory that holds them: the base of every encoding, transport and call.
//!
//! | file | |
//! |---|---|
//! | [`short`] | up to fifteen bytes, in two registers |
//! | [`payload`] | the bytes of one call's arguments, or of its result |
//! | [`packed`] | the arguments of many calls in one buffer |
//! | [`referred`] | what bytes refer to, while a thread encodes or decodes them |
//! | [`region`] | shared memory that every process knows by a number |
//! | [`attach`] | brings regions to a worker and has them released |
//! | [`arena`] | regions for large arguments, which are reused |
//! | [`cache`] | memory of large vectors, which is reused |
//! | [`janitor`] | how much memory is kept for reuse, and how long; [`trim`] frees it |
//! | [`page`] | the status page, which a worker shares with its parent |
//! | [`claim`] | which calls have started, agreed on through the page |
//! | [`parking`] | sleeping until something has changed in shared memory |
//! | [`presence`] | which processes that have some memory live |
//! | [`robust`] | a lock in shared memory, which no process that ends can keep |
//! | [`upward`] | brings the regions of results to the parent |
//! | [`versioned`] | a value in shared memory that is whole at every instruction |
//! | [`view`] | a reference that keeps alive what it refers to |
//!
//! It must never know how a value is encoded, what a call is, or who runs it.

pub(crate) mod arena;
pub(crate) mod attach;
pub(crate) mod cache;
mod claim;
mod janitor;
pub(crate) mod packed;
mod page;
pub(crate) mod parking;
pub(crate) mod payload;
pub(crate) mod presence;
pub(crate) mod referred;
pub(crate) mod region;
pub(crate) mod robust;
mod short;
pub(crate) mod upward;
pub(crate) mod versioned;
mod view;

pub(crate) use arena::Hold;
pub(crate) use cache::Block;
pub(crate) use claim::{CallId, execute_barriers};
pub(crate) use janitor::{pool_began, set_in_worker};
pub(crate) use packed::{Packed, PackedSlice};
pub(crate) use page::{PageGlance, StatusPage, WORDS};
pub(crate) use payload::{Payload, Split, joined};
pub(crate) use region::{Region, Regions};
pub use short::ShortBytes;
pub(crate) use upward::{Arrivals, Upward};
pub(crate) use view::View;

use janitor::{Kept, UNUSED};
use std::time::Duration;

/// Plain data starts at multiples of this many bytes from the start of a payload.
pub(crate) const ALIGN: usize = 16;

/// Frees memory that is kept for reuse and was not used for a while. Returns whether some is left.
pub(crate) fn trim() -> bool {
    Kept::trim(&arena::ARENA, UNUSED) | Kept::trim(&cache::CACHE, UNUSED)
}

/// Frees all memory that is kept for reuse.
pub(crate) fn release() {
    Kept::trim(&arena::ARENA, Duration::ZERO);
    Kept::trim(&cache::CACHE, Duration::ZERO);
}

/// A pool has ended: with the last one, the memory is freed.
pub(crate) fn pool_ended() {
    if janitor::pool_ended() {
        release();
    }
}
