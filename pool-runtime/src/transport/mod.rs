//! How frames travel between two processes.
//!
//! A transport carries whole frames of any size, in order, each way; it knows nothing of what is in them. Above it
//! nobody knows which one is used: a worker is reached through an [`Outlet`] and heard through an [`Inlet`].
//!
//! | | |
//! |---|---|
//! | [`channel`] | ipc-channel: a socket each way |
//! | [`ring`] | shared memory: a ring of bytes each way |
//! | [`local`] | no process is left: a queue each way, between two threads |

pub(crate) mod channel;
pub(crate) mod local;
pub(crate) mod ring;

pub(crate) use ring::Append;

use crate::memory::region::Region;
use std::sync::Arc;
use std::time::Instant;
use std::{fmt, io};

/// Where frames go in. Shared between threads; the frames of two threads do not mix.
pub(crate) trait Outlet: Send + Sync + fmt::Debug {
    /// Sends a frame. Blocks while the other side does not read and what lies between is full.
    ///
    /// # Errors
    ///
    /// The other side is gone, or the system is out of something.
    fn send(&self, frame: &[u8]) -> io::Result<()>;

    /// As [`send`](Self::send); where the other side is in this process, it keeps `held` for as long as it is busy with
    /// the frame. Elsewhere there is nothing to keep.
    fn send_with(&self, frame: Vec<u8>, held: Vec<Arc<Region>>) -> io::Result<()> {
        drop(held);
        self.send(&frame)
    }

    /// How many bytes a frame may have to be sent without waiting for the other side to read, as long as no more than a
    /// handful of frames are under way.
    fn unhindered(&self) -> usize;
}

/// What comes out of an [`Inlet`].
#[derive(Debug)]
pub(crate) enum Received {
    /// A frame.
    Frame(Frame),
    /// Nothing more will come: the other side is gone, and all that it sent has been received.
    Gone,
    /// Nothing came in time.
    Nothing,
    /// Something came that is no frame.
    Garbled(String),
}

/// Where frames come out. For one thread.
pub(crate) trait Inlet: Send + fmt::Debug {
    /// The next frame; waits for it at most until `deadline`.
    fn receive(&mut self, deadline: Option<Instant>) -> Received;

    /// The other side works from now on: what it sends may be of any length.
    fn works(&mut self) {}
}

/// A frame as it arrived: some bytes of a transport may stand before it.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    start: usize,
}

impl Frame {
    pub(crate) fn new(bytes: Vec<u8>, start: usize) -> Self {
        debug_assert!(start <= bytes.len());
        Self { bytes, start }
    }
}

impl std::ops::Deref for Frame {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}
