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
//!
//! Nothing in it knows how a value is encoded, what a call is, or who runs it.

pub(crate) mod arena;
pub(crate) mod attach;
pub(crate) mod cache;
mod few;
pub(crate) mod packed;
pub(crate) mod payload;
pub(crate) mod region;

pub(crate) use arena::{Hold, doom, pool_began, pool_ended, trim};
pub(crate) use cache::{Block, drop_spare, trim_spare, worker_began};
pub use few::Few;

/// Plain data starts at multiples of this many bytes from the start of a payload.
pub(crate) const ALIGN: usize = 16;
