//! Workers, and how this side reaches them. Only `peer.rs` matches on the kind of a worker, and only `source.rs` on what
//! starts one.
//!
//! ```text
//!   Source ──start──▶ Peer ──greet──▶ send, stop, take back, look, kill, bring, serve … ──await_end──▶ bury ──▶ Loss
//! ```
//!
//! | peer | reached through | file |
//! |---|---|---|
//! | [`Peer::Ring`] | a process, through rings of shared memory | `ringed.rs` |
//! | [`Peer::Channel`] | a process, through ipc-channel's sockets | `framed.rs` |
//! | [`Peer::Thread`] | a thread of this process, through queues; for tests | `framed.rs`, `thread.rs`, `faults.rs` |
//! | none | the thread that submits, for debuggers | `inline.rs` |
//!
//! A process is started in `spawn.rs`, greeted in `handshake.rs` and examined after its death in `autopsy.rs`. A thread
//! runs the same [`Duty`](crate::worker::Duty), so what cannot be sent fails there, too. Nothing in this folder knows
//! the pool, decides which call goes where, or waits for a user's task.

pub(crate) mod autopsy;
mod bells;
pub(crate) mod faults;
mod framed;
pub(crate) mod handshake;
mod inline;
mod lifeline;
#[expect(clippy::module_inception, reason = "it has `Peer`")]
mod peer;
pub(crate) mod relay;
mod ringed;
mod sink;
mod source;
pub(crate) mod spawn;
mod thread;

use autopsy::{TIME_TO_DIE, TIME_TO_EXIT};
pub(crate) use bells::Bells;
use faults::{Faults, Plan};
use framed::Framed;
use handshake::{InitializerCall, StartFailure};
pub(crate) use inline::Inline;
use lifeline::Lifeline;
pub(crate) use peer::Peer;
use ringed::Ringed;
pub(crate) use sink::{Answer, Glance, Sent, Sink};
pub(crate) use source::Source;
use spawn::{Launch, Launched};
use thread::WorkerThread;
