//! The pool: the handle that users hold, and what its threads share.
//!
//! ```text
//!  any user's thread                                                        worker process
//!    apply, map … ──submit──▶ ┌────────────┐ ──Send──▶ peer ═════════════════▶ call
//!                             │ dispatcher │
//!  attendant of a seat ─────▶ └────────────┘ ──Ended──▶ slot ──▶ get, poll, callback
//!    ready, lost                   ▲
//!  clock: tick                     └──reported── listener ◀═════════════════ report
//! ```
//!
//! | file | |
//! |---|---|
//! | [`handle`] | `Pool`, as users hold it; [`builder`] its options, [`build`] how it is made, [`backend`] what runs calls |
//! | [`inner`] | what the threads share; the one lock; the ways in |
//! | [`dispatcher`] | decides, as a state machine without I/O |
//! | [`effects`] | does what was decided |
//! | [`reports`] | what workers say, on its way to the dispatcher and to those who wait |
//! | [`listener`] | the one that hears all workers: a caller that waits, or the collector's thread |
//! | [`attendant`] | the thread of each seat: starts its worker, waits for its end, replaces it |
//! | [`submission`], [`batch`] | calls that were submitted together |
//! | [`map`], [`imap`] | many inputs to calls, and their results back |
//! | [`clock`], [`inline`], [`station`], [`dossiers`] | the time; calls that run at once; who sits where; lost calls |

mod attendant;
mod backend;
mod batch;
mod build;
mod builder;
mod clock;
pub(crate) mod dispatcher;
mod dossiers;
mod effects;
mod handle;
mod imap;
mod inline;
mod inner;
mod listener;
mod map;
mod reports;
mod single;
mod station;
mod submission;

pub use backend::Backend;
pub use builder::{PoolBuilder, Transport};
pub use handle::{Pool, PoolStats, WorkerInfo, WorkerState};
pub use imap::Imap;
pub(crate) use single::Single;
