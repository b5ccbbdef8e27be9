//! The transport over ipc-channel: one channel each way, made by the parent for one worker.
//!
//! ```text
//!   parent                                            worker
//!   ChannelSender ── IpcBytesSender ═══ socket ═══▶ IpcBytesReceiver ── ChannelReceiver     calls
//!   ChannelReceiver ─ IpcBytesReceiver ◀══ socket ═══ IpcBytesSender ── ChannelSender       reports
//! ```
//!
//! This module works around what ipc-channel 0.23 does not do well:
//!
//! - A frame larger than one packet would go through a socket of its own, whose reading end the sender holds open
//!   itself: if the reader dies, the sender waits for ever. So frames are cut into [fragments](Fragment) of one packet.
//! - Its rendezvous, the one-shot server, leaves directories behind, needs a short writable path and has no timeout. So
//!   the worker inherits its ends; [`Link`] finds their sockets.
//! - It trusts the lengths in a packet: wrong ones make it allocate without limit, panic, or wait for a rest that never
//!   comes. So the parent checks each packet's head before it lets ipc-channel receive it.
//! - It keeps, or panics over, handles that come with a packet. So a packet with handles is refused before they are
//!   received.
//! - Sending to a dead peer raises `SIGPIPE`; receiving fails with `EINTR`. Both are handled in this module.

use crate::locks::lock;
use crate::memory::region::Region;
use crate::os::{self, Child, Handle, HandleRef, Link, SharedSocket};
use crate::transport::{Admit, Frame, Inlet, Outlet, Received, Unsent};
use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender};
use ipc_channel::platform::OsIpcSender;
use std::collections::TryReserveError;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use zeroize::{Zeroize as _, Zeroizing};

/// The head of every fragment, after [`MARK`].
struct Fragment {
    left: u64,
    total: u64,
}

const MARK: u64 = u64::from_le_bytes(*b"\xf3pool\r\n\x01");
const HEAD: usize = 32;
const NO_MESSAGE: &str = "sent bytes that are no message";

/// The longest fragment. The kernel allows more, which would only make larger allocations.
static LONGEST: OnceLock<usize> = OnceLock::new();

/// The longest fragment, once a channel was made.
fn longest() -> usize {
    *LONGEST.get().expect("a channel was made")
}

/// Has ipc-channel find out how long its packets may be. It needs two sockets for that, and panics without, for good.
fn find_longest() -> io::Result<()> {
    if LONGEST.get().is_none() {
        drop(ipc::bytes_channel().map_err(os::no_channel)?);
        LONGEST.get_or_init(|| OsIpcSender::get_max_fragment_size().min(1 << 17));
    }
    Ok(())
}

/// Parts of a frame but the last are as long as possible, by the sender's default of a socket's buffer. A worker that sends
/// a long one byte by byte would keep whoever reads it busy.
fn shortest_part() -> usize {
    (longest() - HEAD).min(1 << 12)
}

/// So much of a frame is received at a time though the deadline has come.
const MOST_OVERDUE: usize = 1 << 24;

/// The largest frame that is sent without waiting for the other side: a few of them fit into the socket's buffer.
pub(crate) const UNHINDERED: usize = 1 << 16;

/// The longest frame of the handshake that is accepted from a worker: why its initializer failed.
const MOST_OF_AN_ANSWER: u64 = 1 << 26;

impl Fragment {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(bytemuck::bytes_of(&[MARK, self.left, self.total, 0]));
    }

    fn read(fragment: &[u8]) -> Result<(Self, &[u8]), String> {
        let (head, rest) = fragment.split_first_chunk::<HEAD>().ok_or(NO_MESSAGE)?;
        match bytemuck::cast::<_, [u64; 4]>(*head) {
            [MARK, left, total, _] => Ok((Self { left, total }, rest)),
            _ => Err(NO_MESSAGE.into()),
        }
    }
}

pub(crate) struct Pair {
    pub(crate) sender: ChannelSender,
    pub(crate) receiver: ChannelReceiver,
    worker_receiver: Link<IpcBytesReceiver>,
    worker_sender: Link<IpcBytesSender>,
}

impl Pair {
    pub(crate) fn new() -> io::Result<Self> {
        let both = || Ok((high_channel()?, high_channel()?));
        let ((sender, worker_receiver), (worker_sender, receiver)) = os::at_high_numbers(both)?;
        sender.never_wait()?;
        let (sender, receiver) = (ChannelSender(Mutex::new(sender)), ChannelReceiver::new(receiver));
        Ok(Self { sender, receiver, worker_receiver, worker_sender })
    }

    /// The worker's ends, to be inherited: first the one that it reads.
    pub(crate) fn worker_ends(&self) -> [HandleRef<'_>; 2] {
        [self.worker_receiver.handle(), self.worker_sender.handle()]
    }
}

/// The worker's two ends, made from the sockets that it has inherited.
pub(crate) fn inherited(reads: Handle, writes: Handle) -> io::Result<(ChannelSender, ChannelReceiver)> {
    let (sender, receiver) = os::at_high_numbers(high_channel)?;
    receiver.replace(reads)?;
    sender.replace(writes)?;
    Ok((ChannelSender(Mutex::new(sender)), ChannelReceiver::new(receiver)))
}

/// A channel with high numbers, and never with those of standard streams that the program has closed: prints would go
/// into it. Its descriptors stay where they are, as [`Link`] knows them by number: call it
/// [`at_high_numbers`](os::at_high_numbers).
fn high_channel() -> io::Result<(Link<IpcBytesSender>, Link<IpcBytesReceiver>)> {
    // Another thread closes a low number after all low ones were taken: what then gets it is kept until a channel has
    // none. Where there are only low ones left, they are not all used up.
    const TRIES: usize = 8;
    let mut low = Vec::new();
    let failed = loop {
        match channel() {
            Ok((sender, receiver)) if sender.is_high() && receiver.is_high() => return Ok((sender, receiver)),
            Ok(channel) => low.push(channel),
            Err(error) => break error,
        }
        if low.len() == TRIES {
            break io::Error::other("all low numbers are those of standard streams");
        }
    };
    let not_standard = |(sender, receiver): &(Link<IpcBytesSender>, Link<IpcBytesReceiver>)| {
        !sender.is_standard() && !receiver.is_standard()
    };
    low.into_iter().find(not_standard).ok_or(failed)
}

fn channel() -> io::Result<(Link<IpcBytesSender>, Link<IpcBytesReceiver>)> {
    find_longest()?;
    let (sender, receiver) = ipc::bytes_channel().map_err(os::no_channel)?;
    Ok((Link::new(sender)?, Link::new(receiver)?))
}

/// Locked while a frame is sent, so that the fragments of two frames do not mix.
pub(crate) struct ChannelSender(Mutex<Link<IpcBytesSender>>);

/// The socket of a [`ChannelSender`], which alone writes to it.
pub(crate) type SharedOutlet = SharedSocket<ChannelSender>;

impl ChannelSender {
    /// Its socket, which can be closed while a thread waits for room in it.
    pub(crate) fn socket(sender: &Arc<Self>) -> SharedOutlet {
        let number = lock(&sender.0).number();
        SharedSocket::new(sender.clone(), number)
    }
}

impl Outlet for ChannelSender {
    fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.write(frame, true, &mut Vec::new())
    }

    fn send_secret(&self, frame: &[u8]) -> io::Result<()> {
        self.write(frame, true, &mut Zeroizing::new(Vec::new()))
    }

    fn try_send_with(&self, frame: Vec<u8>, held: Vec<Arc<Region>>) -> Result<(), Unsent> {
        match self.write(&frame, false, &mut Vec::new()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err((frame, held)),
            // If it fails otherwise, the other side is gone.
            _ => Ok(()),
        }
    }

    fn unhindered(&self) -> usize {
        UNHINDERED
    }
}

impl ChannelSender {
    /// Sends a frame. Without room, waits for it, or fails before anything is sent of a frame that fits into one
    /// fragment. The buffer, which is empty, has the last fragment in it afterwards, and grows only at the beginning.
    fn write(&self, frame: &[u8], waits: bool, fragment: &mut Vec<u8>) -> io::Result<()> {
        let room = longest() - HEAD;
        let channel = lock(&self.0);
        let held = os::SigpipeHeld::new();
        fragment.reserve_exact(HEAD + frame.len().min(room));
        let mut rest = frame;
        loop {
            let (now, later) = rest.split_at(rest.len().min(room));
            fragment.clear();
            Fragment { left: later.len() as u64, total: frame.len() as u64 }.write(fragment);
            fragment.extend_from_slice(now);
            match channel.send(fragment) {
                Ok(()) if later.is_empty() => return Ok(()),
                Ok(()) => rest = later,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What has begun is finished: half a frame is none.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && (waits || rest.len() < frame.len()) => {
                    os::wait_writable(channel.handle())?;
                }
                Err(error) => {
                    if error.kind() == io::ErrorKind::BrokenPipe {
                        held.peer_was_gone();
                    }
                    return Err(error);
                }
            }
        }
    }
}

pub(crate) struct ChannelReceiver {
    channel: Link<IpcBytesReceiver>,
    /// The other process, whose death is noticed too: if a child of it has inherited the other end, the channel stays open.
    alarm: Option<Arc<Child>>,
    /// The part of a frame that has arrived, and the length of the whole.
    unfinished: Vec<u8>,
    total: u64,
    most: u64,
    /// Whether no copy of what arrives is to be left in memory.
    is_secret: bool,
    /// The least length of a part but the last.
    shortest: usize,
}

impl ChannelReceiver {
    fn new(channel: Link<IpcBytesReceiver>) -> Self {
        let (unfinished, shortest) = (Vec::new(), shortest_part());
        Self { channel, alarm: None, unfinished, total: 0, most: u64::MAX, is_secret: false, shortest }
    }

    /// Shares it, and its socket with threads that only wait for what comes there. It is [`Gone`](Received::Gone) also
    /// when `process`, which is at the other end, dies.
    pub(crate) fn share(self, process: Arc<Child>) -> (Arc<Mutex<Box<dyn Inlet>>>, SharedInlet) {
        let watching = Self { alarm: Some(process), most: MOST_OF_AN_ANSWER, ..self };
        let number = watching.channel.number();
        let owner: Arc<Mutex<Box<dyn Inlet>>> = Arc::new(Mutex::new(Box::new(watching)));
        (owner.clone(), SharedSocket::new(owner, number))
    }

    /// Waits for a frame with something secret in it. Who has read it [overwrites](Frame::overwrite) it; there is no
    /// other copy of it.
    pub(crate) fn receive_secret(&mut self) -> Received {
        self.is_secret = true;
        let received = self.receive(None);
        self.is_secret = false;
        received
    }

    /// Another handle of the socket, to wait for the other side to go.
    pub(crate) fn duplicate(&self) -> io::Result<Handle> {
        self.channel.duplicate()
    }

    /// Waits for a sound packet. The error is what is received instead.
    fn await_packet(&self, deadline: Option<Instant>) -> Result<(), Received> {
        let socket = self.channel.handle();
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let (mut readable, ended) = match &self.alarm {
                Some(alarm) => os::wait_readable([socket, alarm.sentinel()], left).map(|[now, ended]| (now, ended)),
                None => os::wait_readable([socket], left).map(|[now]| (now, false)),
            }
            .map_err(cannot_listen)?;
            if ended {
                // A child of it may have the other end, and send for ever: from now on, only what has arrived is read.
                self.channel.shut_down();
                // It may have sent its last packet between the two looks of one poll.
                [readable] = os::wait_readable([socket], Some(Duration::ZERO)).map_err(cannot_listen)?;
            }
            match readable {
                true if self.is_sound() => return Ok(()),
                true => return Err(Received::Garbled(NO_MESSAGE.into())),
                false if ended => return Err(Received::Gone),
                false if deadline.is_some_and(|deadline| deadline <= Instant::now()) => return Err(Received::Nothing),
                false => {}
            }
        }
    }

    /// The next fragment. The error is what is received instead.
    fn fragment(&self, deadline: Option<Instant>) -> Result<Vec<u8>, Received> {
        loop {
            // Without an alarm and a deadline, there is nothing but the channel to wait for.
            if self.alarm.is_some() || deadline.is_some() {
                self.await_packet(deadline)?;
            }
            // ipc-channel asserts where it could return an error: bytes that it did not write itself make it panic.
            match panic::catch_unwind(AssertUnwindSafe(|| self.channel.recv())) {
                Ok(Ok(fragment)) => return Ok(fragment),
                Ok(Err(IpcError::Disconnected)) => return Err(Received::Gone),
                Ok(Err(IpcError::Io(error))) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(IpcError::Io(error))) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(Received::Gone);
                }
                Ok(Err(error)) => return Err(cannot_listen(error)),
                Err(_) => return Err(Received::Garbled(NO_MESSAGE.into())),
            }
        }
    }

    /// Whether the next packet is as ipc-channel sends it: no handles, and its head has both its lengths right.
    fn is_sound(&self) -> bool {
        match self.channel.peek() {
            Ok(packet) if packet.has_handles => false,
            Ok(packet) => {
                let [length, rest] = bytemuck::cast::<_, [u64; 2]>(packet.head);
                // At the end of the channel, there is no packet.
                // Of one that is longer than its own, ipc-channel would wait for a rest that never comes.
                packet.length == 0
                    || length == packet.length as u64
                        && length.checked_sub(packet.head.len() as u64) == Some(rest)
                        && rest <= longest() as u64
            }
            // Receiving it will return the error.
            Err(_) => true,
        }
    }

    /// Adds a fragment to its frame. Returns the frame once it is whole.
    #[cfg(test)]
    fn assemble(&mut self, fragment: Vec<u8>) -> Result<Option<Frame>, String> {
        self.assemble_admitted(fragment, &mut |_, _| Ok(()))
    }

    fn assemble_admitted(&mut self, mut fragment: Vec<u8>, admit: &mut Admit<'_>) -> Result<Option<Frame>, String> {
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
        } else if rest.is_empty() || head.left > 0 && rest.len() < self.shortest {
            return Err("sent a part of a message that is too short".into());
        }
        if first {
            admit(rest, head.total)?;
        }
        // Not reserved for the length that is announced: the buffer grows with what arrives.
        self.total = head.total;
        let room = self.make_room(rest.len());
        room.map_err(|_| format!("sent a message of {} bytes, for which there is no memory", head.total))?;
        self.unfinished.extend_from_slice(rest);
        if self.is_secret {
            fragment.zeroize();
        }
        Ok((head.left == 0).then(|| Frame::new(std::mem::take(&mut self.unfinished), 0)))
    }

    /// Makes room for so many more bytes.
    fn make_room(&mut self, more: usize) -> Result<(), TryReserveError> {
        let (length, room) = (self.unfinished.len(), self.unfinished.capacity());
        if !self.is_secret || room - length >= more {
            return self.unfinished.try_reserve(more);
        }
        // A buffer that grows leaves a copy behind.
        let mut larger = Vec::new();
        larger.try_reserve_exact(length.saturating_add(more).max(room.saturating_mul(2)))?;
        larger.extend_from_slice(&self.unfinished);
        drop(Zeroizing::new(std::mem::replace(&mut self.unfinished, larger)));
        Ok(())
    }
}

fn cannot_listen(error: impl std::fmt::Display) -> Received {
    Received::Garbled(format!("cannot be listened to ({error})"))
}

/// The socket of a [`ChannelReceiver`], which alone reads from it.
pub(crate) type SharedInlet = SharedSocket<Mutex<Box<dyn Inlet>>>;

impl Inlet for ChannelReceiver {
    fn works(&mut self) {
        self.most = u64::MAX;
    }

    fn receive(&mut self, deadline: Option<Instant>) -> Received {
        self.receive_admitted(deadline, &mut |_, _| Ok(()))
    }

    fn receive_admitted(&mut self, deadline: Option<Instant>, admit: &mut Admit<'_>) -> Received {
        let mut overdue = 0;
        loop {
            let before = self.unfinished.len();
            let assembled =
                self.fragment(deadline).and_then(|part| self.assemble_admitted(part, admit).map_err(Received::Garbled));
            match assembled {
                Ok(Some(frame)) => return Received::Frame(frame),
                // What has arrived of it is kept.
                Ok(None) if overdue > MOST_OVERDUE => return Received::Nothing,
                Ok(None) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                    overdue += self.unfinished.len() - before;
                }
                Ok(None) => {}
                Err(instead) => return instead,
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
    fn what_finds_no_room_is_given_back_and_arrives_later() {
        let Pair { sender, worker_receiver, .. } = Pair::new().unwrap();
        let frame = |number: u32| vec![number as u8; 1 << 10];
        let mut sent = 0;
        // Nobody reads: with a send that waits, this would never end.
        let (unsent, _) = loop {
            match sender.try_send_with(frame(sent), Vec::new()) {
                Ok(()) => sent += 1,
                Err(unsent) => break unsent,
            }
            assert!(sent < 100_000, "it has no end");
        };
        assert!(sent > 16 && unsent == frame(sent), "after {sent} frames");
        let mut receiver = ChannelReceiver::new(worker_receiver);
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(&unsent).unwrap());
            for number in 0..=sent {
                let Received::Frame(received) = receiver.receive(None) else { panic!("frame {number} is missing") };
                assert!(*received == frame(number)[..], "frame {number}");
            }
        });
    }

    #[test]
    fn a_secret_of_any_length_arrives_and_its_buffer_is_made_once() {
        let Pair { sender, worker_receiver, .. } = Pair::new().unwrap();
        let mut receiver = ChannelReceiver::new(worker_receiver);
        for length in [100, longest() - HEAD, longest(), 3 * longest() + 7] {
            let frame: Vec<u8> = (0..length).map(|at| (at * 31 + at / 251) as u8).collect();
            let mut buffer = Vec::new();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    sender.send_secret(&frame).unwrap();
                    sender.write(&frame, true, &mut buffer).unwrap();
                });
                for _ in 0..2 {
                    let Received::Frame(received) = receiver.receive_secret() else { panic!("{length} bytes") };
                    assert!(*received == frame[..], "{length} bytes");
                }
            });
            assert!(buffer.capacity() == HEAD + length.min(longest() - HEAD) && !receiver.is_secret);
        }
    }

    #[test]
    fn an_answer_is_not_as_long_as_a_result_may_be() {
        let mut receiver = Pair::new().unwrap().receiver;
        receiver.most = 100;
        let fragment = |total: u64| {
            let mut fragment = Vec::new();
            let part = vec![7; (total as usize).min(shortest_part())];
            Fragment { left: total - part.len() as u64, total }.write(&mut fragment);
            fragment.extend_from_slice(&part);
            fragment
        };
        assert!(receiver.assemble(fragment(101)).unwrap_err().contains("too long for an answer"));
        assert!(receiver.assemble(fragment(7)).unwrap().is_some());
        receiver.works();
        assert!(receiver.assemble(fragment(1 << 40)).unwrap().is_none());
    }

    /// One that takes very many parts, or that ipc-channel would not receive as a whole.
    #[test]
    fn no_part_is_too_short_or_too_long() {
        let Pair { mut receiver, worker_sender, .. } = Pair::new().unwrap();
        receiver.works();
        let part = |length: usize| {
            let mut part = Vec::new();
            Fragment { left: 1 << 20, total: (1 << 20) + length as u64 }.write(&mut part);
            part.resize(HEAD + length, 0);
            part
        };
        for length in [0, 1, shortest_part() - 1] {
            worker_sender.send(&part(length)).unwrap();
            let Received::Garbled(why) = receiver.receive(None) else { panic!("{length} bytes were received") };
            assert!(why.contains("too short"), "{why}");
        }
        worker_sender.send(&part(longest() - HEAD + 1)).unwrap();
        let Received::Garbled(why) = receiver.receive(Some(Instant::now())) else { panic!("it was received") };
        assert_eq!(why, NO_MESSAGE);
    }

    /// Whoever reads from several workers has time for the others.
    #[test]
    fn a_long_message_is_received_a_part_at_a_time() {
        let Pair { mut receiver, worker_sender, .. } = Pair::new().unwrap();
        receiver.works();
        let frame: Vec<u8> = (0..MOST_OVERDUE as u64 / 2).flat_map(u64::to_ne_bytes).collect();
        let sender = ChannelSender(Mutex::new(worker_sender));
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(&frame).unwrap());
            let (mut times, mut waits) = (0, 0);
            let received = loop {
                // It is waited for here, and not in `receive`.
                assert!(os::wait_readable([receiver.channel.handle()], None).unwrap()[0]);
                let before = receiver.unfinished.len();
                match receiver.receive(Some(Instant::now())) {
                    Received::Frame(frame) => break frame,
                    Received::Nothing => {}
                    other => panic!("{other:?}"),
                }
                let more = receiver.unfinished.len() - before;
                assert!(more <= MOST_OVERDUE + 2 * longest(), "{more} bytes at a time");
                if more > MOST_OVERDUE { times += 1 } else { waits += 1 }
            };
            assert!(times + waits > 2, "{times} {waits}");
            assert!(*received == frame[..]);
        });
    }
}
