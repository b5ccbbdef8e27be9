//! The pool: its handle, and what its threads share.
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
//! | [`handle`] | `Pool`; its options ([`builder`]), how it is made ([`build`]), what runs its calls ([`backend`]) |
//! | [`map`], [`imap`] | `Pool`'s methods for many inputs |
//! | [`inner`] | what the threads share, behind one lock; the entry points for calls |
//! | [`dispatcher`] | decides, as a state machine without I/O |
//! | [`effects`] | carries out what was decided |
//! | [`reports`] | brings reports to the dispatcher and to submissions |
//! | [`listener`] | reads from all workers: a caller that waits, or the collector's thread |
//! | [`attendant`] | the thread of each seat: starts its worker, waits for its end, replaces it |
//! | [`bound`], [`room`] | how many calls may wait, and who waits until there is room |
//! | [`submission`], [`batch`], [`regions`] | calls that were submitted together; the memory that each refers to |
//! | [`logged`] | what is said through `tracing` |
//! | [`clock`], [`inline`], [`station`], [`dossiers`] | time; calls that run at once; the worker at a seat; lost calls |

mod attendant;
mod backend;
mod batch;
mod bound;
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
mod logged;
mod map;
mod regions;
mod reports;
mod room;
mod single;
mod station;
mod submission;

pub use backend::Backend;
pub use builder::{PoolBuilder, Transport};
pub use dispatcher::PoolStats;
pub use handle::{Pool, WorkerInfo, WorkerState};
pub use imap::{Imap, IndexedImap};
pub(crate) use single::{ReturnedBytes, Single};

// For the files of this folder.
use batch::Gatherer;
use bound::{Bound, Load};
use inner::{Core, Inner, Prelude};
use listener::state::{Listening, PoolListener};
use regions::RegionsOfCalls;
use reports::Heard;
use station::Station;
use submission::{ALL_CALLS, CallsFrame, Outcome, Submission};
