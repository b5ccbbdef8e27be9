//! What a peer and a pool say to each other beside calls.

use crate::memory::Split;

/// What becomes of a frame that is sent.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is on its way, or in a backlog that whoever listens goes on with.
    Done,
    /// It is in a backlog: [`flush`](Peer::flush) is to follow, without locks.
    Unflushed,
    /// The worker has written over the memory that it shares.
    Corrupt,
}

/// What a question to a worker comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer<T> {
    Now(T),
    /// It comes among the worker's reports.
    #[expect(dead_code, reason = "for workers that share no memory with this process")]
    Later,
    /// What should answer is corrupt, and nobody can tell what runs there: the worker is to be killed.
    Corrupt,
}

/// What a worker is doing, by its status page. Times are those of the system's monotonic clock; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Glance {
    /// The number of the latest call that it has started.
    pub(crate) claimed: u32,
    /// When it started that, if it is limited in time, and until when that asks to be let run.
    pub(crate) started: u64,
    pub(crate) extended: u64,
    /// How many bytes of memory are its own, if that was asked for and can be told.
    pub(crate) memory: Option<u64>,
}

/// Whom the reports of a worker are passed on to.
pub(crate) trait Sink {
    /// Takes records off the beginning of the stream. Returns how many bytes of what is left of it are records that
    /// were taken.
    ///
    /// # Errors
    ///
    /// What they say makes no sense: the worker is to be killed for this.
    fn records(&mut self, stream: &mut Vec<u8>) -> Result<usize, String>;

    /// Takes the value of the call of this number.
    ///
    /// # Errors
    ///
    /// As [`records`](Self::records).
    fn split(&mut self, number: u32, split: Split) -> Result<(), String>;
}
