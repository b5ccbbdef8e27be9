//! How frames travel between two processes.
//!
//! A transport carries whole frames of any size, in order, each way; it knows nothing of their content. The layers above
//! do not know which transport is used: they send through an [`Outlet`] and receive through an [`Inlet`].
//!
//! | | |
//! |---|---|
//! | [`channel`] | ipc-channel: a socket each way |
//! | [`ring`] | shared memory: a ring of bytes each way, with ends of its own kind |
//! | [`local`] | two threads of one process: a queue each way |

pub(crate) mod channel;
#[cfg(all(test, not(loom)))]
mod conformance;
pub(crate) mod local;
pub(crate) mod ring;

use crate::memory::region::Region;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use zeroize::Zeroize as _;

/// The sending end of a transport.
///
/// - A frame arrives whole or not at all, whatever its size: also an empty one.
/// - The frames of one thread arrive in the order in which they were sent; those of several threads do not mix.
/// - Sending blocks only while the other side does not read and the transport is full. A few frames of at most
///   [`unhindered`](Self::unhindered) bytes never fill it.
/// - Once the other side is gone, sending is an error: never a signal, a panic, or a wait without an end.
/// - What was sent before this end is closed arrives.
pub(crate) trait Outlet: Send + Sync {
    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// The other side is gone, or the system has no resources left.
    fn send(&self, frame: &[u8]) -> io::Result<()>;

    /// As [`send`](Self::send), for a frame with something secret in it: no copy of it is left in memory.
    fn send_secret(&self, frame: &[u8]) -> io::Result<()> {
        self.send(frame)
    }

    /// As [`send`](Self::send). If the other side is in this process, it keeps `held` while it works on the frame.
    fn send_with(&self, frame: Vec<u8>, held: Vec<Arc<Region>>) -> io::Result<()> {
        drop(held);
        self.send(&frame)
    }

    /// As [`send_with`](Self::send_with), for a frame that is [unhindered](Self::unhindered). Never waits: returns what it
    /// was given if there is no room, as the other side has not read what it was sent before.
    fn try_send_with(&self, frame: Vec<u8>, held: Vec<Arc<Region>>) -> Result<(), Unsent> {
        // If this fails, the other side is gone.
        let _ = self.send_with(frame, held);
        Ok(())
    }

    /// The largest frame, in bytes, that is sent without waiting for the other side to read, as long as only a few are
    /// in flight.
    fn unhindered(&self) -> usize {
        usize::MAX
    }
}

/// A frame that was not sent, and what the other side keeps while it works on it.
pub(crate) type Unsent = (Vec<u8>, Vec<Arc<Region>>);

/// The receiving end of a transport, for one thread.
///
/// - It returns the frames that were sent, with the same bytes and in the same order.
/// - It waits for the next frame until the deadline, or for ever without one. A deadline in the past is a mere look,
///   which does not miss a frame that has arrived.
/// - [`Gone`](Received::Gone) comes only after all frames that were sent, and then every time.
/// - No input makes it panic, hang, or allocate much more memory than has arrived.
pub(crate) trait Inlet: Send {
    /// The next frame; waits for it at most until `deadline`.
    fn receive(&mut self, deadline: Option<Instant>) -> Received;

    /// As [`receive`](Self::receive). Of a frame that comes in parts, `admit` sees the first one and the length of the
    /// whole, before anything is kept: its error is what is received instead.
    fn receive_admitted(&mut self, deadline: Option<Instant>, admit: &mut Admit<'_>) -> Received {
        let _ = admit;
        self.receive(deadline)
    }

    /// The other side is past the handshake: its frames may be of any length.
    fn works(&mut self) {}
}

/// Decides whether a frame may come that begins like this and is so long.
pub(crate) type Admit<'a> = dyn FnMut(&[u8], u64) -> Result<(), String> + 'a;

/// What an [`Inlet`] has received.
#[derive(Debug)]
pub(crate) enum Received {
    Frame(Frame),
    /// The other side is gone, and all that it sent has been received.
    Gone,
    /// Nothing came in time.
    Nothing,
    /// Something that is no frame.
    Garbled(String),
}

/// A received frame, behind the bytes that a transport may have put before it.
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

    /// For a frame with something secret in it that was read.
    pub(crate) fn overwrite(&mut self) {
        self.bytes.zeroize();
        self.start = 0;
    }
}

impl std::ops::Deref for Frame {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Where a frame is written: a vector, or the memory of a ring.
pub(crate) trait Append {
    fn put(&mut self, bytes: &[u8]);
    /// Adds zeros up to a multiple of so many bytes.
    fn pad(&mut self, to: usize);
}

impl Append for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn pad(&mut self, to: usize) {
        self.resize(self.len().next_multiple_of(to), 0);
    }
}
