//! [`Pipe`]: a channel in each direction.

use super::ends::ReceivedBytes;
use super::{ReceivedItems, Receiver, Sender, channel};
use crate::error::{Error, Kind, Result};
use crate::memory::Payload;
use crate::memory::region::Region;
use crate::objects::SameEncoding;
use crate::objects::messages::Patience;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Two ends between which messages go both ways, as Python's `multiprocessing.Pipe`: a [`channel`] in each direction.
///
/// What one end sends is an `S` and what it receives an `R`; at the other end it is the other way round.
///
/// ```no_run
/// use pool_runtime::{Pipe, Process, Result, pipe, pool_main, task};
///
/// #[task]
/// fn answer(questions: Pipe<String, u32>) {
///     for question in &questions {
///         questions.send(format!("{} and 1", question.unwrap()).as_str()).unwrap();
///     }
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let (here, there) = pipe::<u32, String>()?;
///     let process = Process::new(answer::call(there)).start()?;
///     here.send(&5)?;
///     assert_eq!(here.recv()?.as_deref(), Some("5 and 1"));
///     drop(here);
///     process.join()
/// }
/// ```
///
/// # Errors
///
/// There is not enough memory, or the process has too many open files: a pipe is twelve while both ends are there.
pub fn pipe<S, R>() -> Result<(Pipe<S, R>, Pipe<R, S>)> {
    let (here, there) = (channel()?, channel()?);
    Ok((Pipe { sender: here.0, receiver: there.1 }, Pipe { sender: there.0, receiver: here.1 }))
}

/// One of the two ends of a [`pipe`], which sends an `S` and receives an `R`. It travels as values do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Pipe<S, R> {
    sender: Sender<S>,
    receiver: Receiver<R>,
}

impl<S, R> Pipe<S, R> {
    /// Its two directions, which may go to different threads or processes.
    ///
    /// ```
    /// let (here, there) = pool_runtime::pipe::<u8, u16>()?;
    /// let ((to, from), (back, forth)) = (here.split(), there.split());
    /// to.send(&1)?;
    /// back.send(&2)?;
    /// assert_eq!((forth.recv()?, from.recv()?), (Some(1), Some(2)));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn split(self) -> (Sender<S>, Receiver<R>) {
        (self.sender, self.receiver)
    }

    /// Sends bytes, and what they refer to.
    pub(in crate::objects) fn send_raw(&self, bytes: &[u8], handles: &[Arc<Region>]) -> Result<()> {
        self.sender.end.send(bytes, handles, Patience::Endless)
    }

    /// Waits for bytes, and what they refer to. None: the other end is gone.
    pub(in crate::objects) fn recv_raw(&self) -> Result<Option<Payload>> {
        let Some(ReceivedBytes { bytes, handles }) = self.receiver.end.receive(Patience::Endless)? else {
            return Ok(None);
        };
        let handles = handles.map_err(|why| Error::new(Kind::DecodeMessage { peer: "a pipe".into(), why }))?;
        let payload = if handles.is_empty() { Payload::Heap(bytes) } else { Payload::attached(bytes, handles.into()) };
        Ok(Some(payload))
    }

    /// Where it sends.
    pub fn sender(&self) -> &Sender<S> {
        &self.sender
    }

    /// Where it receives.
    pub fn receiver(&self) -> &Receiver<R> {
        &self.receiver
    }

    /// As [`Sender::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send<B: SameEncoding<S> + ?Sized>(&self, message: &B) -> Result<()> {
        self.sender.send(message)
    }

    /// As [`Sender::try_send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_send<B: SameEncoding<S> + ?Sized>(&self, message: &B) -> Result<()> {
        self.sender.try_send(message)
    }

    /// As [`Sender::send_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_timeout<B: SameEncoding<S> + ?Sized>(&self, message: &B, timeout: Duration) -> Result<()> {
        self.sender.send_timeout(message, timeout)
    }

    /// As [`Receiver::poll`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn poll(&self, timeout: Duration) -> Result<bool> {
        self.receiver.poll(timeout)
    }
}

impl<S, R: DeserializeOwned + 'static> Pipe<S, R> {
    /// As [`Receiver::recv`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv(&self) -> Result<Option<R>> {
        self.receiver.recv()
    }

    /// As [`Receiver::try_recv`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn try_recv(&self) -> Result<Option<R>> {
        self.receiver.try_recv()
    }

    /// As [`Receiver::recv_timeout`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<R>> {
        self.receiver.recv_timeout(timeout)
    }

    /// As [`Receiver::iter`].
    pub fn iter(&self) -> ReceivedItems<'_, R> {
        self.receiver.iter()
    }
}

impl<'p, S, R: DeserializeOwned + 'static> IntoIterator for &'p Pipe<S, R> {
    type Item = Result<R>;
    type IntoIter = ReceivedItems<'p, R>;

    fn into_iter(self) -> ReceivedItems<'p, R> {
        self.iter()
    }
}

/// The same end: it is gone when all clones are.
impl<S, R> Clone for Pipe<S, R> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), receiver: self.receiver.clone() }
    }
}
