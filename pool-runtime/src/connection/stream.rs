//! `Connection`: whole messages over a socket.
//!
//! | state | who touches it |
//! |---|---|
//! | `sending` | the thread that sends; others that want to wait for its message to be sent |
//! | `receiving` | the thread that receives; others that want to wait for its message to be there |
//!
//! The two are independent, so that both sides can send much while each has another thread that receives. No code of
//! the user's runs while one is locked.

use super::framing::{FirstWord, MessageHead};
use crate::codec::{CodecError, Reader, Writer};
use crate::error::{Error, Kind, Result};
use crate::locks::lock;
use crate::os::{HandleRef, Socket};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest message by default, in bytes.
const MAX_MESSAGE: u64 = 1 << 30;

/// Memory for a message is asked for as it arrives, and filled this much at a time.
const PART: usize = 1 << 20;

/// One end of a connection, which carries messages both ways: bytes, as CPython's `send_bytes` and `recv_bytes`, or
/// values.
///
/// It comes from [`Listener::accept`](super::Listener::accept) or [`Client::connect`](super::Client::connect). A
/// message arrives whole, in the order in which it was sent. Threads can share a connection: one can receive while
/// another one sends, and what several threads send does not mix. It is closed when it is dropped.
///
/// Sending waits while the peer does not read and the system's buffers are full. Two sides that both send messages of
/// megabytes before they receive wait for each other without an end, as in Python: let another thread receive.
///
/// A message may have up to 1 GiB: see [`set_max_message`](Self::set_max_message).
///
/// ```
/// use pool_runtime::connection::{Client, Listener};
/// use std::time::Duration;
///
/// # fn main() -> pool_runtime::Result<()> {
/// let listener = Listener::bind("127.0.0.1:0")?;
/// let address = listener.address().clone();
/// let client = std::thread::spawn(move || -> pool_runtime::Result<u64> {
///     let connection = Client::connect(address)?;
///     connection.send(&vec![1_u64, 2, 3])?;
///     Ok(connection.recv()?.expect("an answer"))
/// });
/// let connection = listener.accept()?;
/// if connection.poll(Duration::from_secs(10))? {
///     let numbers: Vec<u64> = connection.recv()?.expect("numbers");
///     connection.send(&numbers.iter().sum::<u64>())?;
/// }
/// assert_eq!(client.join().expect("no panic")?, 6);
/// // The client has dropped its end.
/// assert_eq!(connection.recv_bytes()?, None);
/// # Ok(())
/// # }
/// ```
pub struct Connection {
    socket: Socket,
    /// How the peer is called in messages.
    peer: String,
    address: Option<SocketAddr>,
    max_message: AtomicU64,
    sending: Mutex<Direction>,
    receiving: Mutex<Direction>,
}

/// Whether messages still begin where they should.
#[derive(Debug, Default)]
struct Direction {
    is_broken: bool,
}

impl Connection {
    pub(super) fn new(socket: Socket, peer: String, address: Option<SocketAddr>) -> Self {
        let max_message = AtomicU64::new(MAX_MESSAGE);
        Self { socket, peer, address, max_message, sending: Mutex::default(), receiving: Mutex::default() }
    }

    /// The address of the peer, if it is connected by TCP.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// let connection = Client::builder().no_authkey().connect(listener.address())?;
    /// assert!(connection.peer_address().is_some_and(|peer| peer.ip().is_loopback()));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// How many bytes a message may have, in both directions: 1 GiB by default. A longer one is not sent; one that the
    /// peer begins is an error, before memory is used for it, and nothing more can be received.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// let connection = Client::builder().no_authkey().connect(listener.address())?;
    /// connection.set_max_message(1000);
    /// let error = connection.send_bytes(&[0; 1001]).unwrap_err();
    /// assert!(error.to_string().contains("1001 bytes, and a message may have 1000"));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn set_max_message(&self, bytes: u64) {
        self.max_message.store(bytes, Ordering::Relaxed);
    }

    /// Sends a message, which may be empty. Waits while the peer does not read and the system's buffers are full.
    ///
    /// # Errors
    ///
    /// The peer is gone; or the message is longer than [`set_max_message`](Self::set_max_message) allows, and nothing
    /// was sent. That it was sent does not mean that it was received.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// let connection = Client::builder().no_authkey().connect(listener.address())?;
    /// connection.send_bytes(b"message")?;
    /// connection.send_bytes(b"")?;
    /// let served = listener.accept()?;
    /// assert_eq!(served.recv_bytes()?.as_deref(), Some(&b"message"[..]));
    /// assert_eq!(served.recv_bytes()?.as_deref(), Some(&b""[..]));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn send_bytes(&self, message: &[u8]) -> Result<()> {
        let (length, most) = (message.len() as u64, self.max_message.load(Ordering::Relaxed));
        if length > most {
            return Err(Error::invalid(format!(
                "cannot send {length} bytes to {}: it has {length} bytes, and a message may have {most}: send it in \
                 parts, or raise `set_max_message` on both sides",
                self.peer
            )));
        }
        let mut direction = lock(&self.sending);
        if direction.is_broken {
            return Err(self.broken("send to"));
        }
        self.socket.send_all([MessageHead::new(length).bytes(), message]).map_err(|error| {
            direction.is_broken = true;
            let why = match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ", as it has closed the connection",
                _ => "",
            };
            Error::os(format!("cannot send {length} bytes to {}{why}", self.peer), error)
        })
    }

    /// Sends a value to a Rust program, which calls [`recv`](Self::recv) for the same type. A Python program cannot
    /// read it: send it bytes.
    ///
    /// # Errors
    ///
    /// As [`send_bytes`](Self::send_bytes); or the value cannot be encoded ([`Error::is_encode`]).
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// let connection = Client::builder().no_authkey().connect(listener.address())?;
    /// connection.send(&("a pair", 7_u32))?;
    /// assert_eq!(listener.accept()?.recv()?, Some(("a pair".to_owned(), 7_u32)));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn send<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        let mut writer = Writer::new();
        writer.value(value).map_err(|why: CodecError| {
            Error::new(Kind::EncodeMessage { peer: self.peer.clone(), why: why.to_string() })
        })?;
        self.send_bytes(&writer.into_bytes())
    }

    /// Waits for the next message. `None`: the peer has closed the connection, or has ended, and all that it sent was
    /// received.
    ///
    /// # Errors
    ///
    /// The connection was reset: the peer has closed it, or has ended, without having read all that it was sent. With
    /// TCP, what the peer sent last may then be lost, so that this is no end like any other.
    ///
    /// Or it ended in the middle of a message; the message is longer than [`set_max_message`](Self::set_max_message)
    /// allows, or than there is memory for; or what arrives is no message. After any of these, nothing more can be
    /// received.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// Client::builder().no_authkey().connect(listener.address())?.send_bytes(b"the last one")?;
    /// let connection = listener.accept()?;
    /// assert_eq!(connection.recv_bytes()?.as_deref(), Some(&b"the last one"[..]));
    /// assert_eq!(connection.recv_bytes()?, None);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn recv_bytes(&self) -> Result<Option<Vec<u8>>> {
        let mut direction = lock(&self.receiving);
        if direction.is_broken {
            return Err(self.broken("receive from"));
        }
        let received = self.receive();
        direction.is_broken = received.is_err();
        received
    }

    /// Waits for the next message, and copies it into a buffer. Returns its length, or `None` as
    /// [`recv_bytes`](Self::recv_bytes) does.
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes); or the buffer is too short: the error then has the message
    /// ([`Error::into_message`]), and the next one can be received.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// let connection = Client::builder().no_authkey().connect(listener.address())?;
    /// connection.send_bytes(b"one")?;
    /// connection.send_bytes(b"three")?;
    /// let (served, mut buffer) = (listener.accept()?, [0; 4]);
    /// assert_eq!(served.recv_bytes_into(&mut buffer)?, Some(3));
    /// assert_eq!(&buffer[..3], b"one");
    /// let error = served.recv_bytes_into(&mut buffer).unwrap_err();
    /// assert_eq!(error.into_message().as_deref(), Some(&b"three"[..]));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        let Some(message) = self.recv_bytes()? else { return Ok(None) };
        match buffer.get_mut(..message.len()) {
            Some(start) => {
                start.copy_from_slice(&message);
                Ok(Some(message.len()))
            }
            None => Err(Error::new(Kind::BufferTooShort { room: buffer.len(), message })),
        }
    }

    /// Waits for the next value that a Rust program [sends](Self::send). `None` as [`recv_bytes`](Self::recv_bytes).
    ///
    /// # Errors
    ///
    /// As [`recv_bytes`](Self::recv_bytes); or the message is no value of this type ([`Error::is_decode`]), and the
    /// next one can be received. A value is checked as far as its type says: numbers of the same width are not told
    /// apart.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// let connection = Client::builder().no_authkey().connect(listener.address())?;
    /// connection.send_bytes(b"no value")?;
    /// let served = listener.accept()?;
    /// assert!(served.recv::<u16>().unwrap_err().is_decode());
    /// drop(connection);
    /// assert_eq!(served.recv::<u16>()?, None);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn recv<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let Some(message) = self.recv_bytes()? else { return Ok(None) };
        let mut reader = Reader::new(&message);
        let value = reader.value().and_then(|value| reader.finish().map(|()| value));
        value.map(Some).map_err(|why: CodecError| {
            Error::new(Kind::DecodeMessage { peer: self.peer.clone(), why: why.to_string() })
        })
    }

    /// Whether a message, or the end, is there to be received; waits at most so long. Zero only looks.
    ///
    /// It may be true when only the beginning of a message has arrived: receiving then waits for the rest.
    ///
    /// # Errors
    ///
    /// As the system says: it has no memory.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// # use std::time::Duration;
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// let connection = Client::builder().no_authkey().connect(listener.address())?;
    /// let served = listener.accept()?;
    /// assert!(!served.poll(Duration::ZERO)?);
    /// connection.send_bytes(b"")?;
    /// assert!(served.poll(Duration::from_secs(60))?);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn poll(&self, patience: Duration) -> Result<bool> {
        let readable = self.socket.await_readable(Instant::now().checked_add(patience));
        readable.map_err(|error| Error::os(format!("cannot wait for {}", self.peer), error))
    }

    /// Ends the connection, also for threads that wait in it: whoever receives finds its end, and whoever sends gets an
    /// error. Dropping a connection closes it, too.
    ///
    /// The peer receives what was sent before. But if this side has not read all that the peer had sent, and the
    /// connection is one of TCP, the peer may find it reset, and not get the last messages. Where they matter, have the
    /// peer answer them, or receive until its end, before you drop the connection.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// let connection = Client::builder().no_authkey().connect(listener.address())?;
    /// std::thread::scope(|scope| {
    ///     let receiver = scope.spawn(|| connection.recv_bytes());
    ///     connection.close();
    ///     assert!(matches!(receiver.join(), Ok(Ok(None))));
    /// });
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn close(&self) {
        self.socket.shut_down();
    }

    /// What is readable when there is something to receive, or the connection has ended.
    pub(crate) fn poll_handle(&self) -> HandleRef<'_> {
        self.socket.handle()
    }

    fn broken(&self, action: &str) -> Error {
        Error::invalid(format!(
            "cannot {action} {}: an earlier error has left the connection in the middle of a message; connect anew",
            self.peer
        ))
    }

    fn failed(&self, error: io::Error) -> Error {
        let why = match error.kind() {
            io::ErrorKind::ConnectionReset => {
                ", as the connection was reset: it has closed it, or has ended, and had not read all that it was sent; \
                 some of what it sent may be lost"
            }
            _ => "",
        };
        Error::os(format!("cannot receive from {}{why}", self.peer), error)
    }

    fn receive(&self) -> Result<Option<Vec<u8>>> {
        let mut first = [0; MessageHead::FIRST];
        if !self.fill(&mut first, true)? {
            return Ok(None);
        }
        let length = match FirstWord::from(first) {
            FirstWord::Length(length) => length,
            FirstWord::LengthFollows => {
                let mut length = [0; 8];
                self.fill(&mut length, false)?;
                u64::from_be_bytes(length)
            }
            FirstWord::Nonsense(word) => {
                return Err(Error::invalid(format!(
                    "cannot receive from {}: it sent {word} as the length of a message: does it speak another protocol?",
                    self.peer
                )));
            }
        };
        let most = self.max_message.load(Ordering::Relaxed);
        if length > most {
            return Err(Error::invalid(format!(
                "cannot receive from {}: it sends a message of {length} bytes, and a message may have {most}: send it in \
                 parts, or raise `set_max_message` on both sides",
                self.peer
            )));
        }
        let mut message = Vec::new();
        let mut missing = length;
        while missing > 0 {
            let (done, part) = (message.len(), missing.min(PART as u64) as usize);
            // As much again as has arrived: a length that is a lie costs no more than what was sent.
            let more = missing.min(done.max(PART) as u64) as usize;
            if message.capacity() - done < part && message.try_reserve_exact(more).is_err() {
                let why = io::Error::new(io::ErrorKind::OutOfMemory, format!("a message of {length} bytes"));
                return Err(self.failed(why));
            }
            message.resize(done + part, 0);
            self.fill(&mut message[done..], false)?;
            missing -= part as u64;
        }
        Ok(Some(message))
    }

    /// Fills all of it. False: the peer has closed the connection between two messages.
    fn fill(&self, buffer: &mut [u8], may_end: bool) -> Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.socket.receive(&mut buffer[filled..]) {
                Ok(0) if may_end && filled == 0 => return Ok(false),
                Ok(0) => {
                    let why =
                        io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended in the middle of a message");
                    return Err(self.failed(why));
                }
                Ok(read) => filled += read,
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(true)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}
