//! Decides which worker runs which call, when calls are taken back, and what a worker's death means: a state machine
//! that sees neither arguments nor results.
//!
//! ```text
//!             submit                    Send
//!   work  ──────────────▶ waiting ──────────────▶ in flight at a seat ──reported──▶ Values, Failed
//!                            ▲                      │        │
//!                            ├──── not started ─────┘        └─started, worker lost──▶ Failed
//!                            │  (taken back, or its worker lost)             │
//!                            └───────────── delayed ◀── may be retried ──────┘
//! ```
//!
//! Calls that were submitted together wait, are sent and are reported as ranges, so that ten million calls cost no more
//! than a few thousand ranges.
//!
//! Every method is an event. What it decides is queued as [`Dispatcher::effect`]s, which the caller carries out. No
//! method makes a system call, reads a clock, or knows a process or a user's type: time is an argument, so that tests
//! can produce every order of events.
//!
//! A *seat* is a worker's place in the pool. Each worker at a seat has its own *epoch*, and events of an earlier epoch
//! are ignored. The calls of a seat are numbered in the order in which they are sent and started: after a death, the
//! number of the latest one that started tells which are lost and which are sent again.
//!
//! Invariants, which the simulation checks after each event: a call is in exactly one place and ends once; no two
//! attempts at it overlap; an idle seat has nothing in flight; no seat is idle while a call could be sent.

mod calls;
mod durations;
mod events;
mod feed;
mod limits;
mod machine;
mod questions;
mod queue;
mod range;
mod seat;
mod watch;
mod weigh;
mod workers;

pub use events::PoolStats;
pub(crate) use events::{
    AfterStarts, CallFailure, Effect, Ended, Excess, FailedStart, How, MILLISECOND, NEVER, Observation, Parting, Reach,
    Refusal, Reported, Retirement, Start, Ticket, Time, Why, Work, nanos,
};
pub(crate) use limits::Limits;
pub(crate) use machine::Dispatcher;
pub(crate) use range::{CallRange, Flight, is_after};
pub(crate) use seat::{Phase, Seat};

use seat::{Condemned, Front, Left, SeatWorker, Silence, Unreported};

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
