//! The bound of a pool's backlog, as data: how many calls may wait for a worker. [`room`](super::room) waits for it.

use crate::error::{Error, Kind};
use crate::pool::Submission;
use crate::pool::dispatcher::Dispatcher;
use std::fmt::Display;
use std::sync::Condvar;

/// The limits of a backlog. It is never changed.
pub(super) struct Bound {
    /// How many calls may wait.
    calls: usize,
    /// How many bytes the arguments of calls that have not ended may have, while any call waits.
    bytes: usize,
    /// There is room again, or the pool is over.
    pub(super) room: Condvar,
}

/// What is to be added to the backlog.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) calls: usize,
    pub(super) bytes: usize,
}

impl Bound {
    /// None if nothing is limited.
    pub(super) fn new(calls: Option<usize>, bytes: Option<u64>) -> Option<Self> {
        calls.or(bytes.map(|_| 0))?;
        let bytes = bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Some(Self { calls: calls.unwrap_or(usize::MAX), bytes, room: Condvar::new() })
    }

    /// How many calls can be submitted together, and how many bytes of arguments should be.
    pub(super) fn most_together(&self) -> Load {
        Load { calls: self.calls, bytes: self.bytes }
    }

    /// Why there is no room. Calls whose arguments are larger than the bound are admitted once none waits; nobody submits
    /// more calls together than may wait.
    pub(super) fn refuses(&self, dispatcher: &Dispatcher<dyn Submission>, load: Load) -> Option<Full> {
        let (waiting, bytes) = (dispatcher.backlog(), dispatcher.unended_bytes());
        match () {
            () if waiting.saturating_add(load.calls) > self.calls => Some(Full::Calls { waiting, limit: self.calls }),
            () if waiting > 0 && bytes.saturating_add(load.bytes) > self.bytes => {
                Some(Full::Bytes { bytes, limit: self.bytes })
            }
            () => None,
        }
    }
}

/// Which limit is reached.
pub(super) enum Full {
    Calls { waiting: usize, limit: usize },
    Bytes { bytes: usize, limit: usize },
}

impl Full {
    pub(super) fn into_error(self) -> Error {
        let say = |what: &dyn Display, option| {
            let text = format!(
                "cannot be submitted: {what} (`{option}`): take the result of a job first, or use `apply_async`, which \
                 waits for room"
            );
            Error::new(Kind::BacklogFull(text))
        };
        match self {
            Self::Calls { waiting, limit } => {
                say(&format_args!("{waiting} calls wait, and the pool's limit is {limit}"), "max_waiting")
            }
            Self::Bytes { bytes, limit } => say(
                &format_args!("the calls of the pool have {bytes} bytes of arguments, and its limit is {limit}"),
                "max_waiting_bytes",
            ),
        }
    }
}
