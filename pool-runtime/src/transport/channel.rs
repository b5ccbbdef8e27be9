//! The transport over ipc-channel: one channel each way, made by the parent, for as long as the worker lives.
//!
//! ```text
//!   parent                                            worker
//!   ChannelSender ── IpcBytesSender ═══ socket ═══▶ IpcBytesReceiver ── ChannelReceiver     calls
//!   ChannelReceiver ─ IpcBytesReceiver ◀══ socket ═══ IpcBytesSender ── ChannelSender       reports
//! ```
//!
//! What ipc-channel 0.23 does not do well, this module does not let it do:
//!
//! - A frame larger than one packet would go through a socket of its own, whose reading end the sender holds open
//!   itself: if the reader dies, the sender waits for ever. Frames are cut here into [fragments](Fragment) of one packet.
//! - Its rendezvous, the one-shot server, leaves directories behind, needs a short writable path and has no time-out.
//!   The worker's ends are passed at its start instead; [`Link`] finds their sockets.
//! - It believes what the other side says of a packet: wrong numbers make it allocate without limit, panic, or wait for
//!   a rest that never comes. The parent looks at each packet's head before it lets ipc-channel receive it.
//! - It keeps, or panics over, handles that come with a packet. No packet has any here: one that does is refused
//!   before they are received.
//! - Sending to a dead peer raises `SIGPIPE`; receiving fails with `EINTR`. Both stay in here.

use crate::os::{self, Child, Handle, HandleRef, Link, SharedSocket};
use crate::transport::{Frame, Inlet, Outlet, Received};
use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender};
use ipc_channel::platform::OsIpcSender;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

/// The head of every fragment: a mark, how many bytes of the frame come after this fragment, and how many it has in all.
struct Fragment {
    left: u64,
    total: u64,
}

const MARK: u64 = u64::from_le_bytes(*b"\xf3pool\r\n\x01");
const HEAD: usize = 32;

/// The longest fragment. What the kernel allows beyond this would only make larger allocations.
static LONGEST: LazyLock<usize> = LazyLock::new(|| OsIpcSender::get_max_fragment_size().min(1 << 17));

/// A frame of at most this size goes through even if the other side does not read just now: a few of them fit into the
/// socket's buffer.
pub(crate) const UNHINDERED: usize = 1 << 16;

/// What a worker may send before it works, in one frame: the longest is why its initializer failed.
const MOST_OF_AN_ANSWER: u64 = 1 << 26;

impl Fragment {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&MARK.to_le_bytes());
        to.extend_from_slice(&self.left.to_le_bytes());
        to.extend_from_slice(&self.total.to_le_bytes());
        to.resize(to.len().next_multiple_of(HEAD), 0);
    }

    fn read(fragment: &[u8]) -> Result<(Self, &[u8]), String> {
        let word = |at: usize| fragment.get(at..at + 8).and_then(|word| word.try_into().ok()).map(u64::from_le_bytes);
        match (word(0), word(8), word(16), fragment.get(HEAD..)) {
            (Some(MARK), Some(left), Some(total), Some(rest)) => Ok((Self { left, total }, rest)),
            _ => Err("sent bytes that are no message".into()),
        }
    }
}

/// Both ends of both channels. The worker's are on their way to another process.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) sender: ChannelSender,
    pub(crate) receiver: ChannelReceiver,
    worker_receiver: Link<IpcBytesReceiver>,
    worker_sender: Link<IpcBytesSender>,
}

impl Pair {
    pub(crate) fn new() -> io::Result<Self> {
        let (sender, worker_receiver) = above_standard_channel()?;
        let (worker_sender, receiver) = above_standard_channel()?;
        let (sender, receiver) = (ChannelSender::new(sender), ChannelReceiver::new(receiver));
        Ok(Self { sender, receiver, worker_receiver, worker_sender })
    }

    /// The worker's ends, to be inherited: first that which it reads.
    pub(crate) fn worker_ends(&self) -> [HandleRef<'_>; 2] {
        [self.worker_receiver.handle(), self.worker_sender.handle()]
    }
}

/// The worker's two ends, made from the sockets that it was started with.
pub(crate) fn inherited(reads: Handle, writes: Handle) -> io::Result<(ChannelSender, ChannelReceiver)> {
    let (_, receiver) = above_standard_channel()?;
    receiver.replace(reads)?;
    let (sender, _) = above_standard_channel()?;
    sender.replace(writes)?;
    Ok((ChannelSender::new(sender), ChannelReceiver::new(receiver)))
}

/// A channel that does not take the place of a standard stream, should the program have closed those: whatever is
/// printed would go into the channel.
fn above_standard_channel() -> io::Result<(Link<IpcBytesSender>, Link<IpcBytesReceiver>)> {
    let mut below = Vec::new();
    loop {
        let (sender, receiver) = ipc::bytes_channel()?;
        let (sender, receiver) = (Link::new(sender)?, Link::new(receiver)?);
        if !sender.is_standard() && !receiver.is_standard() {
            return Ok((sender, receiver));
        }
        below.push((sender, receiver));
    }
}

/// The end that sends.
#[derive(Debug)]
pub(crate) struct ChannelSender {
    /// Locked for as long as a frame takes: the fragments of two frames must not mix.
    channel: Mutex<Link<IpcBytesSender>>,
}

impl ChannelSender {
    fn new(channel: Link<IpcBytesSender>) -> Self {
        Self { channel: Mutex::new(channel) }
    }
}

impl Outlet for ChannelSender {
    fn send(&self, frame: &[u8]) -> io::Result<()> {
        let room = *LONGEST - HEAD;
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let held = os::SigpipeHeld::new();
        let mut fragment = Vec::with_capacity(HEAD + frame.len().min(room));
        let mut rest = frame;
        loop {
            let (now, later) = rest.split_at(rest.len().min(room));
            fragment.clear();
            Fragment { left: later.len() as u64, total: frame.len() as u64 }.write(&mut fragment);
            fragment.extend_from_slice(now);
            loop {
                match channel.send(&fragment) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        if error.kind() == io::ErrorKind::BrokenPipe {
                            held.peer_was_gone();
                        }
                        return Err(error);
                    }
                }
            }
            if later.is_empty() {
                return Ok(());
            }
            rest = later;
        }
    }

    fn unhindered(&self) -> usize {
        UNHINDERED
    }
}

/// The end that receives.
#[derive(Debug)]
pub(crate) struct ChannelReceiver {
    channel: Link<IpcBytesReceiver>,
    /// The other process, whose end is to be noticed: the channel alone does not tell, if a process of its own holds
    /// the other end open.
    alarm: Option<Arc<Child>>,
    /// What has arrived of a frame.
    unfinished: Vec<u8>,
    total: u64,
    /// The longest frame that makes sense just now.
    most: u64,
}

impl ChannelReceiver {
    fn new(channel: Link<IpcBytesReceiver>) -> Self {
        Self { channel, alarm: None, unfinished: Vec::new(), total: 0, most: u64::MAX }
    }

    /// Also ends when `process` does.
    pub(crate) fn watch(&mut self, process: Arc<Child>) {
        self.alarm = Some(process);
        self.most = MOST_OF_AN_ANSWER;
    }

    /// Shares it, and its socket with those who only wait for something to come, or for the other side to go.
    pub(crate) fn share(self) -> (Arc<Mutex<Box<dyn Inlet>>>, SharedInlet) {
        let number = self.channel.number();
        let owner: Arc<Mutex<Box<dyn Inlet>>> = Arc::new(Mutex::new(Box::new(self)));
        (owner.clone(), SharedSocket::new(owner, number))
    }

    /// Another handle of the socket, to see the other side go.
    pub(crate) fn duplicate(&self) -> io::Result<Handle> {
        self.channel.duplicate()
    }

    /// Whether there is a fragment to receive now; whether there can be more later.
    fn wait(&self, deadline: Option<Instant>) -> io::Result<(bool, bool)> {
        let socket = self.channel.handle();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let [readable, ended] = match &self.alarm {
            Some(alarm) => os::wait_readable([socket, alarm.sentinel()], left)?,
            None => return Ok((os::wait_readable([socket], left)?[0], true)),
        };
        if ended && !readable {
            // It may have sent its last words between the two looks of one poll.
            let [readable] = os::wait_readable([socket], Some(std::time::Duration::ZERO))?;
            return Ok((readable, false));
        }
        Ok((readable, true))
    }

    /// Whether the packet that is next is one that ipc-channel sent, whole: it states its own length, head included,
    /// and the length of what follows the head; and nothing but bytes is in it.
    fn is_sound(&self) -> bool {
        match self.channel.peek() {
            Ok(packet) if packet.has_handles => false,
            // The end of the channel, not a packet.
            Ok(packet) if packet.length == 0 => true,
            Ok(packet) => {
                let length = packet.length as u64;
                let word = |at| packet.head[at..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
                word(0) == length && length.checked_sub(packet.head.len() as u64) == Some(word(8))
            }
            // Receiving it properly will tell.
            Err(_) => true,
        }
    }

    /// Adds a fragment to the frame it belongs to. Returns the frame if it is whole.
    fn assemble(&mut self, fragment: Vec<u8>) -> Result<Option<Frame>, String> {
        let (head, rest) = Fragment::read(&fragment)?;
        let so_far = self.unfinished.len() as u64 + rest.len() as u64;
        let first = self.unfinished.is_empty();
        if head.total > self.most {
            return Err("sent a message that is too long for an answer".into());
        }
        if (!first && head.total != self.total) || so_far.checked_add(head.left) != Some(head.total) {
            return Err("sent parts of a message that do not fit together".into());
        }
        if first && head.left == 0 {
            return Ok(Some(Frame::new(fragment, HEAD)));
        }
        if rest.is_empty() {
            return Err("sent a part of a message that is empty".into());
        }
        // What is announced is not believed: the room grows with what arrives, doubling.
        self.total = head.total;
        self.unfinished.extend_from_slice(rest);
        Ok((head.left == 0).then(|| Frame::new(std::mem::take(&mut self.unfinished), 0)))
    }
}

/// The socket of a [`ChannelReceiver`], from which only that one reads.
pub(crate) type SharedInlet = SharedSocket<Mutex<Box<dyn Inlet>>>;

impl Inlet for ChannelReceiver {
    fn works(&mut self) {
        self.most = u64::MAX;
    }

    fn receive(&mut self, deadline: Option<Instant>) -> Received {
        loop {
            // Without an alarm and a deadline there is nothing but the channel to wait for.
            if self.alarm.is_some() || deadline.is_some() {
                match self.wait(deadline) {
                    Ok((true, _)) if !self.is_sound() => {
                        return Received::Garbled("sent bytes that are no message".into());
                    }
                    Ok((true, _)) => {}
                    Ok((false, false)) => return Received::Gone,
                    Ok((false, true)) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                        return Received::Nothing;
                    }
                    Ok((false, true)) => continue,
                    Err(error) => return Received::Garbled(format!("cannot be listened to ({error})")),
                }
            }
            // ipc-channel asserts where it could return an error: bytes that it did not write itself make it panic.
            let received = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.channel.recv()));
            let fragment = match received {
                Ok(Ok(fragment)) => fragment,
                Ok(Err(IpcError::Disconnected)) => return Received::Gone,
                Ok(Err(IpcError::Io(error))) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(Err(IpcError::Io(error))) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Received::Gone;
                }
                Ok(Err(error)) => return Received::Garbled(format!("cannot be listened to ({error})")),
                Err(_) => return Received::Garbled("sent bytes that are no message".into()),
            };
            match self.assemble(fragment) {
                Ok(Some(frame)) => return Received::Frame(frame),
                Ok(None) => {}
                Err(fault) => return Received::Garbled(fault),
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_not_as_long_as_a_result_may_be() {
        let mut receiver = Pair::new().unwrap().receiver;
        receiver.most = 100;
        let fragment = |total: u64| {
            let mut fragment = Vec::new();
            Fragment { left: total - 7, total }.write(&mut fragment);
            fragment.extend_from_slice(b"7 bytes");
            fragment
        };
        assert!(receiver.assemble(fragment(101)).unwrap_err().contains("too long for an answer"));
        assert!(receiver.assemble(fragment(7)).unwrap().is_some());
        receiver.works();
        assert!(receiver.assemble(fragment(1 << 40)).unwrap().is_none());
    }
}
