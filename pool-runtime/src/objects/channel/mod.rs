//! [`channel`] and [`pipe`]: messages from any processes to any processes, with an end that is noticed.
//!
//! This is what a user sees: messages are encoded and decoded here, and `ends.rs` moves bytes. How a channel lies in
//! memory, and how its two ends wait for each other, is said there; `pipe.rs` is a channel in each direction.

mod ends;
mod pipe;

pub use pipe::{Pipe, pipe};

use crate::error::{Error, Kind, Result};
use crate::memory::cache;
use crate::memory::referred::came_with;
use crate::memory::region::register;
use crate::objects::messages::{Patience, SameEncoding, decode, encode, socket_pair};
use crate::objects::reference::{self, WithFiles};
use crate::os::{HandleRef, Memory};
use ends::{ChannelEnd, ChannelSide, MOST_UNREAD, ReceivedBytes};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A channel between processes: what goes into the [`Sender`] comes out of the [`Receiver`], each message once, whole and
/// in order.
///
/// Both ends can be cloned, and travel as values do: as arguments, inside of other values, on a [`Queue`](crate::Queue),
/// or through another channel. Any number of processes may have each of them. When the last sender is gone, whoever
/// receives gets what is left and then `None`; when the last receiver is gone, sending is an error
/// ([`Error::is_disconnected`]). It does not matter how they went: a process that is killed holds nothing.
///
/// ```no_run
/// use pool_runtime::{Process, Result, Sender, channel, pool_main, task};
///
/// #[task]
/// fn count_to(n: u32, numbers: Sender<u32>) {
///     (1..=n).for_each(|number| numbers.send(&number).unwrap());
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let (sender, receiver) = channel()?;
///     let process = Process::new(count_to::call(10, sender)).start()?;
///     assert_eq!(receiver.iter().sum::<Result<u32>>()?, 55);
///     process.join()
/// }
/// ```
///
/// # When the end comes
///
/// An end is gone when nobody holds it, and the process that made the channel is one of those that do: it drops its copy
/// once it has passed it on, as above by moving it into the call. A call's arguments are held as long as it may have to be
/// run again, which is until it has ended; so is a message until it was received. A process that holds both ends never sees
/// that the other one is gone.
///
/// # Memory
///
/// It lies in shared memory: while nobody has to wait, a message costs no system call, but for one every 20 µs by which a
/// sender looks whether there are receivers. More than one MiB that was not yet received makes senders wait; a message of
/// any length is sent if no more than that is unread before it. Each process that has an end has three open files for it.
///
/// # Errors
///
/// There is not enough memory, or the process has too many open files.
pub fn channel<T>() -> Result<(Sender<T>, Receiver<T>)> {
    let memory = Memory::sparse().map_err(|error| Error::os("cannot make shared memory for a channel", error))?;
    let region = register(memory);
    let [one, other] = socket_pair("a channel")?;
    let end = |socket, side| ChannelEnd::of(region.clone(), socket, side).map(Arc::new).map_err(Error::invalid);
    let sender = Sender { end: end(one, ChannelSide::Sends)?, messages: PhantomData };
    Ok((sender, Receiver { end: end(other, ChannelSide::Receives)?, messages: PhantomData }))
}

/// The end of a [`channel`] where messages go in.
pub struct Sender<T> {
    end: Arc<ChannelEnd>,
    messages: PhantomData<fn(T)>,
}

/// The end of a [`channel`] where messages come out. If it has clones, each message goes to one of them.
pub struct Receiver<T> {
    end: Arc<ChannelEnd>,
    messages: PhantomData<fn() -> T>,
}

impl<T> Sender<T> {
    /// Sends a message, and waits while more than one MiB is unread. What is sent is a `&T`, or something that is encoded
    /// in the same way: a `&str` for a `String`, a slice for a `Vec`.
    ///
    /// ```
    /// let (sender, receiver) = pool_runtime::channel::<Vec<u8>>()?;
    /// sender.send(&b"hello"[..])?;
    /// sender.send(&vec![])?;
    /// drop(sender);
    /// assert_eq!(receiver.recv()?.as_deref(), Some(&b"hello"[..]));
    /// assert_eq!(receiver.recv()?.as_deref(), Some(&b""[..]));
    /// assert_eq!(receiver.recv()?, None);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// No receiver is left ([`Error::is_disconnected`]); the message cannot be encoded, or there is no memory for it.
    /// Nothing of it was sent.
    pub fn send<B: SameEncoding<T> + ?Sized>(&self, message: &B) -> Result<()> {
        self.send_within(message, Patience::Endless)
    }

    /// As [`send`](Self::send), without waiting for room. It waits for others who are sending at this moment, at most for a
    /// tenth of a second.
    ///
    /// # Errors
    ///
    /// The channel is full ([`Error::is_would_block`]); or as [`send`](Self::send).
    pub fn try_send<B: SameEncoding<T> + ?Sized>(&self, message: &B) -> Result<()> {
        self.send_within(message, Patience::None)
    }

    /// As [`send`](Self::send), waiting for no longer than this.
    ///
    /// # Errors
    ///
    /// The channel is full all the time ([`Error::is_timeout`]); or as [`send`](Self::send).
    pub fn send_timeout<B: SameEncoding<T> + ?Sized>(&self, message: &B, timeout: Duration) -> Result<()> {
        self.send_within(message, Patience::For(timeout))
    }

    fn send_within<B: SameEncoding<T> + ?Sized>(&self, message: &B, patience: Patience) -> Result<()> {
        let (bytes, handles) = encode(message)
            .map_err(|error| Error::new(Kind::EncodeMessage { peer: "a channel".into(), why: error.to_string() }))?;
        let sent = self.end.send(&bytes, &handles, patience);
        cache::recycle(bytes);
        sent
    }
}

impl<T: DeserializeOwned + 'static> Receiver<T> {
    /// Receives the first message, and waits for one if there is none. `None`: no sender is left, and all that was sent
    /// was received.
    ///
    /// # Errors
    ///
    /// The message is not a `T`, or there is no memory for it; or handles in it were lost with a process that was killed
    /// while it received them. The message is gone, and the next one is first.
    pub fn recv(&self) -> Result<Option<T>> {
        self.recv_within(Patience::Endless)
    }

    /// As [`recv`](Self::recv), without waiting for a message. It waits for others who are receiving one at this moment, at
    /// most for a tenth of a second.
    ///
    /// # Errors
    ///
    /// There is no message, and a sender is left ([`Error::is_would_block`]); or as [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<T>> {
        self.recv_within(Patience::None)
    }

    /// As [`recv`](Self::recv), waiting for no longer than this.
    ///
    /// # Errors
    ///
    /// There is no message all the time, and a sender is left ([`Error::is_timeout`]); or as [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        self.recv_within(Patience::For(timeout))
    }

    fn recv_within(&self, patience: Patience) -> Result<Option<T>> {
        let Some(ReceivedBytes { bytes, handles }) = self.end.receive(patience)? else { return Ok(None) };
        let lost = |why: String| Error::new(Kind::DecodeMessage { peer: "a channel".into(), why });
        // Held until all is decoded.
        let handles = handles.map_err(lost)?;
        let (message, bytes) = came_with(&handles, || decode(bytes)).map_err(|error| lost(error.to_string()))?;
        cache::recycle(bytes);
        Ok(Some(message))
    }

    /// The messages, as [`recv`](Self::recv) gets them, until no sender is left and all were received.
    pub fn iter(&self) -> ReceivedItems<'_, T> {
        ReceivedItems(self)
    }
}

impl<T> Receiver<T> {
    /// Waits until there is a message, for no longer than this. True: [`recv`](Self::recv) will not wait, if nobody else
    /// receives the message. That is so at the end, too.
    ///
    /// # Errors
    ///
    /// None at present. That of a [`Connection`](crate::connection::Connection::poll), which is used in the same way, has
    /// some.
    pub fn poll(&self, timeout: Duration) -> Result<bool> {
        Ok(self.end.poll(if timeout.is_zero() { Patience::None } else { Patience::For(timeout) }))
    }

    /// Whether there is a message, or there will be none.
    pub(crate) fn is_ready(&self) -> bool {
        self.end.is_ready()
    }

    pub(crate) fn has_message(&self) -> bool {
        self.end.has_message()
    }

    /// What becomes readable when there may be a message, after it was [asked](Self::ask_to_be_told) for,
    /// or no sender is left.
    pub(crate) fn poll_handle(&self) -> HandleRef<'_> {
        self.end.handle()
    }

    /// From now on, the [handle](Self::poll_handle) tells of the next message.
    pub(crate) fn ask_to_be_told(&self) {
        self.end.ask_to_be_told();
    }

    /// It has told, and there is no message.
    pub(crate) fn was_told(&self) {
        self.end.was_told();
    }
}

/// The messages of a channel, as they are received: see [`Receiver::iter`].
#[derive(Debug)]
pub struct ReceivedItems<'r, T>(&'r Receiver<T>);

impl<T: DeserializeOwned + 'static> Iterator for ReceivedItems<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        self.0.recv().transpose()
    }
}

impl<'r, T: DeserializeOwned + 'static> IntoIterator for &'r Receiver<T> {
    type Item = Result<T>;
    type IntoIter = ReceivedItems<'r, T>;

    fn into_iter(self) -> ReceivedItems<'r, T> {
        self.iter()
    }
}

macro_rules! implement_end {
    ($end:ident, $name:literal, $side:expr) => {
        /// The same end: it is gone when all clones are.
        impl<T> Clone for $end<T> {
            fn clone(&self) -> Self {
                Self { end: self.end.clone(), messages: PhantomData }
            }
        }

        impl<T> fmt::Debug for $end<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }

        /// Only where handles travel: writes which channel it is.
        impl<T> Serialize for $end<T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                reference::send_with_files($name, self.end.region(), [self.end.socket_region()], serializer)
            }
        }

        /// Only where handles travel: finds the channel that was passed to this process.
        impl<'de, T> Deserialize<'de> for $end<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let WithFiles { region, files } = reference::receive_with_files($name, deserializer)?;
                let [socket] = <[_; 1]>::try_from(files).map_err(|_| de::Error::custom("an end has one socket"))?;
                let end = ChannelEnd::of(region, socket, $side).map_err(de::Error::custom)?;
                Ok(Self { end: Arc::new(end), messages: PhantomData })
            }
        }
    };
}

implement_end!(Sender, "Sender", ChannelSide::Sends);
implement_end!(Receiver, "Receiver", ChannelSide::Receives);

// What is documented.
const _: () = assert!(MOST_UNREAD == 1 << 20);

#[cfg(all(test, not(loom)))]
mod tests;
