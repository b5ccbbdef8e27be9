//! The two ends of a channel: bytes go in at the one and come out at the other.
//!
//! ```text
//!   head of the memory                         who writes it
//!   messages, room                             who waits for a message, for room
//!   sent                                       who sends, with the lock of the put end
//!   departures                                 who drops a receiver
//!   the rest, and the messages                 see objects/messages/log.rs
//!
//!   a socket of packets: every sender has one end, every receiver the other
//!   sender ─▶ receiver    handles of messages (objects/messages/handles.rs), nudges for who waits for a message
//!   receiver ─▶ sender    nudges for who waits for room
//! ```
//!
//! The kernel knows who holds which end, so it tells when no holder of the other end is left, however the last one went.
//! Whoever waits therefore sleeps on the socket, by the protocol of `memory/parking.rs`: it leaves a mark, looks once
//! more, and sleeps; who finds the mark sends a nudge.
//!
//! Neither side can nudge its own, so a nudge has to wake all who sleep at an end, and stays in the socket as long as there
//! is something to be had. It is taken off by whoever is about to sleep and finds it: with both locks, when there is
//! certainly nothing to be had, and with a new mark before it gives them back. So while anybody sleeps and there is
//! something for it, there is a mark or a nudge. What else is in the socket at that moment is of no message: it was sent by
//! processes that ended before their message was there.

use crate::error::{Error, Kind, Result};
use crate::memory::View;
use crate::memory::parking::{self, Futex, Waiter};
use crate::memory::region::Region;
use crate::objects::messages::{
    Boarding, CarriedHandles, Content, Landing, Limit, LogGuard, MessageLog, Patience, PeerSide, drop_strays, watch,
};
use crate::os::{self, Handle, HandleRef, Outgoing, passing};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Where things are in the head, in bytes.
pub(super) const MESSAGES: usize = 512;
/// The number of messages once more, for who waits without sleeping: the line with the lock is not taken away from a sender
/// that is at work.
pub(super) const SENT: usize = 576;
pub(super) const ROOM: usize = 640;
/// Written rarely, and read by who sends: beside nothing that changes often.
const DEPARTURES: usize = 768;

/// A sender that has just looked whether there are receivers does not look again for so long, in nanoseconds, unless one
/// was dropped: it costs more than to send. That one was killed is not to be known so soon.
const TRUST: u64 = 20_000;

/// While more than so many bytes are unread, who sends waits.
pub(super) const MOST_UNREAD: u64 = 1 << 20;

const FULL: &str = "the channel is full";
const EMPTY: &str = "the channel has no message";
const HELD_UP: &str = "the channel is held up by a process that does not go on";

/// How long to wait where nobody tells when to go on.
const PAUSE: Duration = Duration::from_millis(5);

/// One end of a channel, as a process has it.
pub(super) struct ChannelEnd {
    log: MessageLog,
    socket: Arc<Region>,
    /// The other end was gone: it stays so.
    is_gone: AtomicBool,
    /// Of a sender: when it has looked for receivers, and how many had been dropped.
    looked_at: AtomicU64,
    departures_seen: AtomicU32,
    /// Up to where messages are known to have been taken.
    taken: AtomicU64,
    /// Behind the socket, which is closed first.
    _departure: Option<Departure>,
}

/// Tells senders to look whether there are receivers.
struct Departure(View<AtomicU32, Region>);

impl Drop for Departure {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Which end of a channel it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelSide {
    Sends,
    Receives,
}

/// A message that was received.
pub(super) struct ReceivedBytes {
    pub(super) bytes: Vec<u8>,
    /// To be held until the bytes are decoded. Or why they are lost, and with them the message.
    pub(super) handles: Result<Vec<Arc<Region>>, String>,
}

/// Who brings about what is waited for at this word.
fn who_brings(word: usize) -> PeerSide {
    if word == ROOM { PeerSide::Taker } else { PeerSide::Putter }
}

/// How one who waits at an end sleeps, and is woken from the other one.
struct AtSocket<'e, I> {
    end: &'e ChannelEnd,
    word: usize,
    /// Whether there is nothing to be had.
    is_idle: I,
}

impl<I: Fn() -> bool> Futex<AtomicU32> for AtSocket<'_, I> {
    fn sleep(&self, _: &AtomicU32, _: u32, nap: Duration) -> bool {
        let (end, socket) = (self.end, self.end.handle());
        // Something may be there from before, and whoever finds it looks again.
        let is_settled = match passing::peek(end.socket()) {
            Ok(Some(_)) => end.settle(self.word, &self.is_idle, nap),
            Ok(None) => {
                if passing::sleep_on(socket, nap) {
                    end.is_gone.store(true, Ordering::Release);
                }
                true
            }
            Err(_) => false,
        };
        if !is_settled {
            thread::sleep(nap.min(PAUSE));
        }
        true
    }

    fn wake(&self, _: &AtomicU32, _: u32) {
        self.end.nudge();
    }
}

impl ChannelEnd {
    pub(super) fn of(region: Arc<Region>, socket: Arc<Region>, side: ChannelSide) -> Result<Self, String> {
        let log = MessageLog::of(region.clone(), "channel", HELD_UP)?;
        let departures =
            View::new(region, |region| region.memory().words().get(DEPARTURES / 4).ok_or("it has no head"))?;
        let departure = (side == ChannelSide::Receives).then_some(Departure(departures));
        let (is_gone, looked_at, departures_seen, taken) = Default::default();
        Ok(Self { log, socket, is_gone, looked_at, departures_seen, taken, _departure: departure })
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        self.log.region()
    }

    pub(super) fn socket_region(&self) -> &Arc<Region> {
        &self.socket
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn log(&self) -> &MessageLog {
        &self.log
    }

    fn socket(&self) -> &Handle {
        self.socket.memory().open_file()
    }

    /// What becomes readable when whoever [asked](Self::ask_to_be_told) should look again, or the other end is gone.
    pub(super) fn handle(&self) -> HandleRef<'_> {
        self.socket.memory().handle()
    }

    /// Lets all who sleep at the other end look.
    fn nudge(&self) {
        // If there is no room for another packet, those that are there wake them.
        let _ = passing::send(self.socket(), &Outgoing::Nudge);
    }

    /// Whether the other end was gone when somebody last looked.
    #[inline]
    fn was_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// Whether nobody holds the other end. What was sent before is there to be read.
    fn is_disconnected(&self) -> bool {
        if !self.was_gone() && passing::is_hung_up(self.handle()) {
            self.is_gone.store(true, Ordering::Release);
        }
        self.was_gone()
    }

    /// Whether nobody holds the other end, for who sends.
    #[inline]
    fn has_no_receiver(&self) -> bool {
        let (now, departures) = (os::monotonic(), self.log.word(DEPARTURES).load(Ordering::Acquire));
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        let is_recent = now.wrapping_sub(looked_at) < TRUST;
        if is_recent && departures == self.departures_seen.load(Ordering::Relaxed) && !self.was_gone() {
            return false;
        }
        self.departures_seen.store(departures, Ordering::Relaxed);
        self.looked_at.store(now, Ordering::Relaxed);
        self.is_disconnected()
    }

    #[inline]
    fn has_room(&self) -> bool {
        let Some(put) = self.log.put_position() else { return false };
        let is_little = |taken: u64| put.saturating_sub(taken) <= MOST_UNREAD;
        // What was last known may be enough: to look costs more, while the other side is busy.
        is_little(self.taken.load(Ordering::Relaxed)) || {
            let taken = self.log.get_position().unwrap_or(0);
            self.taken.store(taken, Ordering::Relaxed);
            is_little(taken)
        }
    }

    /// Takes off what is in the socket, if there is nothing to be had at this end. Returns false if others keep a lock for
    /// so long.
    fn settle(&self, word: usize, is_idle: impl Fn() -> bool, patience: Duration) -> bool {
        let mut limit = Limit::from(Patience::For(patience));
        let Ok(_puts) = self.log.lock_put(&mut limit) else { return false };
        let Ok(_gets) = self.log.lock_get(&mut limit) else { return false };
        if is_idle() {
            drop_strays(self.socket(), &[], &mut || {});
            parking::announce(self.log.word(word));
            if word == MESSAGES {
                // There may be room for handles now.
                self.tell(ROOM);
            }
        }
        true
    }

    /// Waits until `ready`, or the other end is gone: first without sleeping, if it pays, as long as there is no `hint` that
    /// it may be. Returns false if it is not ready at the deadline.
    fn wait(&self, waiter: &mut Waiter, word: usize, hint: impl Fn() -> bool, ready: impl Fn() -> bool) -> bool {
        watch(&self.log, who_brings(word), hint, || {
            let at_socket = AtSocket { end: self, word, is_idle: || !ready() };
            waiter.wait(self.log.word(word), &at_socket, || ready() || self.was_gone())
        })
    }

    /// Wakes who waits at the other end.
    #[inline]
    fn tell(&self, word: usize) {
        if parking::has_sleepers(self.log.word(word)) {
            self.log.note_processor(who_brings(word));
        }
        parking::wake(self.log.word(word), u32::MAX, &AtSocket { end: self, word, is_idle: || true });
    }

    pub(super) fn send(&self, message: &[u8], handles: &[Arc<Region>], patience: Patience) -> Result<()> {
        let (mut limit, mut waiter) = (Limit::from(patience), None::<Waiter>);
        let mut boarding = Boarding::Done;
        loop {
            if self.has_no_receiver() {
                return Err(Error::new(Kind::Disconnected));
            }
            if self.has_room() && (boarding == Boarding::Done || self.may_board(handles.len())) {
                let lock = self.log.lock_put(&mut limit)?;
                let carried = if handles.is_empty() { None } else { Some(CarriedHandles::new(handles)) };
                boarding = carried.as_ref().map_or(Ok(Boarding::Done), |carried| self.board(carried, handles))?;
                if boarding == Boarding::Done {
                    let written = self.write(&lock, message, carried.as_ref());
                    drop(lock);
                    if written.is_ok() {
                        self.tell(MESSAGES);
                    }
                    return written;
                }
                drop(lock);
            }
            if limit.is_none() {
                return Err(limit.over(FULL));
            }
            if boarding == Boarding::Refused {
                thread::sleep(limit.pause(PAUSE).ok_or_else(|| limit.over(FULL))?);
            }
            let waiter = waiter.get_or_insert_with(|| Waiter::new(limit.deadline()));
            let may_board = || boarding == Boarding::Done || self.may_board(handles.len());
            let ready = || self.has_room() && may_board();
            if !self.wait(waiter, ROOM, ready, ready) {
                return Err(limit.over(FULL));
            }
        }
    }

    /// Whether there is room for so many handles.
    fn may_board(&self, handles: usize) -> bool {
        passing::room(self.socket()).is_ok_and(|(room, _)| handles <= room)
    }

    #[cold]
    fn board(&self, carried: &CarriedHandles, handles: &[Arc<Region>]) -> Result<Boarding> {
        match carried.send(handles, self.socket()) {
            Ok(Boarding::TooMany) => {
                Err(Error::invalid(format!("a message with {} handles is too much for a channel", handles.len())))
            }
            Ok(boarding) => Ok(boarding),
            Err(_) if self.is_disconnected() => Err(Error::new(Kind::Disconnected)),
            Err(error) => Err(Error::os("cannot send handles through a channel", error)),
        }
    }

    fn write(&self, lock: &LogGuard<'_>, message: &[u8], carried: Option<&CarriedHandles>) -> Result<()> {
        let words = carried.map(CarriedHandles::words).unwrap_or_default();
        let checked = self.log.check_taken(lock, self.taken.load(Ordering::Relaxed));
        let written = checked.and_then(|()| self.log.write(lock, Content { bytes: message, handles: &words }));
        self.log.word(SENT).store(self.log.puts() as u32, Ordering::Release);
        written.map_err(|error| Error::os(format!("cannot send a message of {} bytes", message.len()), error))
    }

    /// The first message. None: there is none, and no sender is left.
    pub(super) fn receive(&self, patience: Patience) -> Result<Option<ReceivedBytes>> {
        let (mut limit, mut waiter) = (Limit::from(patience), None::<Waiter>);
        let mut is_unsettled = false;
        loop {
            // Read first: what was sent before the last sender went is there when it is gone.
            let (was_gone, sent) = (self.was_gone(), self.sent());
            if self.log.length() > 0 {
                let puts = if is_unsettled { Some(self.log.lock_put(&mut limit)?) } else { None };
                let lock = self.log.lock_get(&mut limit)?;
                if self.log.length() == 0 {
                    continue;
                }
                let Some(received) = self.take(&lock, puts.is_some())? else {
                    is_unsettled = true;
                    continue;
                };
                drop((lock, puts));
                self.tell(ROOM);
                return Ok(Some(received));
            }
            if was_gone {
                return Ok(None);
            }
            if limit.is_none() {
                if self.is_disconnected() {
                    continue;
                }
                return Err(limit.over(EMPTY));
            }
            let waiter = waiter.get_or_insert_with(|| Waiter::new(limit.deadline()));
            if !self.wait(waiter, MESSAGES, || self.sent() != sent, || self.has_message()) && !self.is_disconnected() {
                return Err(limit.over(EMPTY));
            }
        }
    }

    /// Takes the first message, for who has the lock of the get end, or of `both` ends. None: it needs both.
    #[inline]
    fn take(&self, lock: &LogGuard<'_>, both: bool) -> Result<Option<ReceivedBytes>> {
        let message = self.log.read(lock).map_err(|error| Error::os("cannot receive a message", error))?;
        let handles = match &message.handles {
            None => Ok(Vec::new()),
            Some(carried) => match self.land(lock, carried, both) {
                Landing::Landed(handles) => handles,
                Landing::Unsettled => return Ok(None),
            },
        };
        self.log.take(lock, &message);
        Ok(Some(ReceivedBytes { bytes: message.bytes, handles }))
    }

    #[cold]
    fn land(&self, lock: &LogGuard<'_>, carried: &CarriedHandles, both: bool) -> Landing {
        let mut is_nudged = false;
        if both {
            drop_strays(self.socket(), &self.log.all_handles(lock), &mut || is_nudged = true);
        }
        let landing = carried.receive(self.socket(), both, &mut || is_nudged = true);
        if is_nudged {
            // Others may still sleep, and are told of the next message.
            parking::announce(self.log.word(MESSAGES));
        }
        landing
    }

    /// Waits until there is a message, or no sender is left. False: neither is so at the deadline.
    pub(super) fn poll(&self, patience: Patience) -> bool {
        if self.is_ready() {
            return true;
        }
        let mut limit = Limit::from(patience);
        !limit.is_none() && {
            let mut waiter = Waiter::new(limit.deadline());
            self.wait(&mut waiter, MESSAGES, || self.has_message(), || self.has_message()) || self.is_ready()
        }
    }

    /// Whether there is a message, or there will be none.
    pub(super) fn is_ready(&self) -> bool {
        self.log.length() > 0 || self.is_disconnected()
    }

    #[inline]
    fn sent(&self) -> u32 {
        self.log.word(SENT).load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn has_message(&self) -> bool {
        self.log.length() > 0
    }

    /// From now on, the [handle](Self::handle) tells of the next message.
    pub(super) fn ask_to_be_told(&self) {
        parking::announce(self.log.word(MESSAGES));
    }

    /// It has told, and there is no message.
    pub(super) fn was_told(&self) {
        if passing::peek(self.socket()).is_ok_and(|foremost| foremost.is_some())
            && !self.settle(MESSAGES, || self.log.length() == 0, PAUSE)
        {
            thread::sleep(PAUSE);
        }
    }
}
