//! What the tests share.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test uses a part of this")]

mod backends;
mod deaths;
mod futures;
pub mod hostile;
mod logged;
mod numbers;
mod processes;
mod programs;
pub mod regions;
mod signals;
mod sockets;
mod transports;

pub(crate) use backends::on_every_backend;
pub use backends::*;
pub use deaths::*;
pub use futures::*;
pub use logged::*;
pub use numbers::*;
pub use processes::*;
pub use programs::*;
pub use signals::*;
pub use sockets::*;
pub(crate) use transports::over_every_transport;
pub use transports::*;

use std::time::{Duration, Instant};

/// How long an event may be late before the test fails: far longer than it takes on an overloaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Does a backtrace end at the frame of a signal? musl says nothing about how its own is unwound.
pub const END_AT_SIGNALS: bool = cfg!(target_env = "musl");

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `work` on a thread, where pools use the same transport as here, if one was chosen, and returns its value;
/// panics if it hangs.
#[track_caller]
pub fn returns<R: Send + 'static>(what: &str, work: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = std::sync::mpsc::channel();
    let transport = chosen();
    std::thread::spawn(move || {
        sender.send(match transport {
            Some(transport) => over(transport, work),
            None => work(),
        })
    });
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{what}: {error}"))
}
