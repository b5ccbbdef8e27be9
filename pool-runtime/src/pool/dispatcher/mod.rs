//! Decides: which call goes to which worker, when one is taken back, what a death means. A state machine that sees
//! neither arguments nor results.
//!
//! ```text
//!             submit                    Send
//!   work  ──────────────▶ waiting ──────────────▶ in flight at a seat ──reported──▶ Values, Failed
//!                            ▲                      │        │
//!                            └───── not started ────┘        └─started, worker lost──▶ Failed
//!                          (taken back, or its worker lost)
//! ```
//!
//! Calls that were submitted together stay together as far as they can: a range of them waits, is in flight and is
//! reported as one, so that ten million calls cost as much here as a few thousand ranges.
//!
//! Every method is an event; what is to be done about it is left in [`Dispatcher::effects`], and the caller carries it
//! out. Nothing here makes a system call, reads a clock, knows a process or a user's type: time comes in as a number,
//! and so unit tests and simulations can drive it through every order of events.
//!
//! A *seat* is a worker's place in the pool. Processes come and go at a seat; each has its own *epoch*, and an event of
//! an earlier epoch is ignored. The calls of a seat are numbered in the order in which they are sent; a worker starts
//! them in that order, and the number of the latest one that has started says, after a death, what is lost and what is
//! merely to be sent elsewhere.
//!
//! Invariants, which the simulation in the tests checks after each event: a call is in exactly one place, ends once and
//! runs at most once; a seat that is idle has nothing in flight; nobody is idle while a call waits.

mod calls;
mod durations;
mod events;
mod feed;
mod inline;
mod limits;
mod machine;
mod questions;
mod queue;
mod range;
mod seat;
mod watch;
mod workers;

pub(crate) use events::{
    AfterStarts, CallFailure, CallLoss, Counts, Effect, Ended, Excess, FailedStart, How, Observation, Refusal, Report,
    Start, Ticket, Time, Why, Work,
};
pub(crate) use limits::Limits;
pub(crate) use machine::Dispatcher;
pub(crate) use range::Flight;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
