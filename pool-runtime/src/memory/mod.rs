//! Bytes and the memory that they lie in: what every encoding, transport and call is made of.
//!
//! | file | |
//! |---|---|
//! | [`few`] | up to fifteen bytes, in two registers |
//! | [`payload`] | the bytes of one call's arguments, or of its result |
//! | [`packed`] | the arguments of many calls, one behind the other |
//! | [`region`] | shared memory that every process knows by a number |
//! | [`attach`] | what brings regions to a worker and has them released |
//! | [`arena`] | regions for large arguments, which are used again |
//! | [`cache`] | memory of large vectors, which is used again |
//! | [`janitor`] | whether memory is kept for that; [`trim`] gives it back |
//! | [`page`] | the status page, which a worker shares with its parent |
//! | [`claim`] | which calls have started, as both agree there |
//! | [`view`] | a reference that keeps alive what it refers to |
//!
//! Nothing in it knows how a value is encoded, what a call is, or who runs it.

pub(crate) mod arena;
pub(crate) mod attach;
pub(crate) mod cache;
mod claim;
mod few;
mod janitor;
pub(crate) mod packed;
mod page;
pub(crate) mod payload;
pub(crate) mod region;
mod view;

pub(crate) use arena::Hold;
pub(crate) use cache::Block;
pub(crate) use claim::{CallId, execute_barriers};
pub use few::Few;
pub(crate) use janitor::{pool_began, set_in_worker};
pub(crate) use page::{StatusPage, WORDS};
pub(crate) use payload::Split;
pub(crate) use view::View;

use std::time::Duration;

/// Plain data starts at multiples of this many bytes from the start of a payload.
pub(crate) const ALIGN: usize = 16;

/// Gives back memory that is kept for reuse, and was not used for a while. Says whether there is more.
pub(crate) fn trim() -> bool {
    arena::trim(janitor::UNUSED) | cache::trim(janitor::UNUSED)
}

/// Gives back all that is kept for reuse.
pub(crate) fn release() {
    arena::trim(Duration::ZERO);
    cache::trim(Duration::ZERO);
}

/// A pool has ended: with the last one, nothing is kept.
pub(crate) fn pool_ended() {
    if janitor::pool_ended() {
        release();
    }
}
