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
pub(crate) mod packed;
mod page;
pub(crate) mod payload;
pub(crate) mod region;
mod view;

pub(crate) use arena::{Hold, doom, pool_began, pool_ended, trim};
pub(crate) use cache::{Block, drop_spare, trim_spare, worker_began};
pub(crate) use claim::{CallId, execute_barriers};
pub use few::Few;
pub(crate) use page::{StatusPage, WORDS};
pub(crate) use view::View;

/// Plain data starts at multiples of this many bytes from the start of a payload.
pub(crate) const ALIGN: usize = 16;
