//! What a peer and a pool tell each other besides calls.

use crate::memory::Split;

#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is on its way, or in a backlog that the listener goes on with.
    Done,
    /// It is in a backlog: [`flush`](Peer::flush) has to follow, without locks.
    Unflushed,
    /// The worker has written over the memory that it shares.
    Corrupt,
}

/// The answer to a question about a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    Now(T),
    /// It comes among the worker's reports, as the worker shares no memory with this process.
    #[expect(dead_code, reason = "every peer that exists shares a status page")]
    Later,
    /// The status page is corrupt, so nothing tells what runs: the worker has to be killed.
    Corrupt,
}

/// What a worker is doing, by its status page. Times are those of the system's monotonic clock; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Glance {
    /// The number of the latest call that it has started.
    pub(crate) claimed: u32,
    /// When that started, if its time is limited.
    pub(crate) started: u64,
    /// Until when the task has asked to run.
    pub(crate) extended: u64,
    /// How many bytes of memory of its own the process has, or has had during this call, if that was asked for and is
    /// known.
    pub(crate) memory: Option<u64>,
    /// How many it had together with what it could share, and since when that is known.
    pub(crate) whole: Option<(u64, u64)>,
    /// The latest generation that the worker knows, if it had to find out about one.
    pub(crate) heard: u32,
    /// It waits for processes that it has started.
    pub(crate) joins: bool,
}

/// Receives the reports of a worker.
pub(crate) trait Sink {
    /// Takes records from the beginning of the stream. Returns how many bytes of the remaining stream are records that
    /// were taken. Fails if a record makes no sense: the worker has to be killed for this.
    fn records(&mut self, stream: &mut Vec<u8>) -> Result<usize, String>;

    /// Hears of a frame of so many bytes that is longer than one packet, and begins like this. Fails if such a frame must
    /// not come: the worker has to be killed for this, and no more is kept of it.
    fn announced(&mut self, beginning: &[u8], length: u64) -> Result<(), String>;

    /// Takes the value of the call of this number. Fails as [`records`](Self::records).
    fn split(&mut self, number: u32, split: Split) -> Result<(), String>;
}
