//! What queues and channels between processes stand on: messages that are put at one end and taken at the other.
//!
//! | file | |
//! |---|---|
//! | `log.rs` | both ends: their locks and positions; who ends at any instruction has put or taken all or nothing |
//! | `storage.rs` | where the messages lie |
//! | `encoding.rs` | a value as bytes, and the handles in it |
//! | `handles.rs` | the handles that messages have, which travel through a socket |
//! | `patience.rs` | how long somebody waits |
//! | `vigil.rs` | how somebody waits |
//!
//! It must never know who waits for what, nor how many messages there may be.

mod encoding;
mod handles;
mod log;
mod patience;
mod storage;
mod vigil;

pub use encoding::SameEncoding;
pub(super) use encoding::{decode, encode};
pub(super) use handles::{Boarding, CarriedHandles, Landing, drop_strays, socket_pair};
pub(super) use log::{Content, LogGuard, MessageLog, Peeled, PeerSide};
pub(super) use patience::{Limit, Patience};
pub(super) use vigil::watch;
#[cfg(all(test, not(loom)))]
pub(super) use {log::HEAD, log::layout, storage::WINDOW};
