//! Both ends of a queue: bytes are put at the one and taken at the other, by any processes.
//!
//! ```text
//!   head of the memory                         who writes it
//!   capacity                                   its maker, once
//!   closed                                     who closes, with the lock of the put end
//!   done                                       who takes, with the lock of the get end
//!   items, room, idle                          who waits for an item, for room, for all to be done
//!   polls                                      who waits for several things at once
//!   orphans, hands                             who takes: see hands.rs
//!   the rest, and the items                    see objects/messages/log.rs
//!
//!   a socket of packets, both of whose ends every process has
//!   one ─▶ other   handles of items            see objects/messages/handles.rs
//!   other ─▶ one   nudges for who waits for several things at once
//! ```
//!
//! A process that ends at any instruction has put or taken a whole item, or none, and keeps no lock. What it has taken is
//! lost with it; who waits for all items to be done is told.

use super::hands::Hands;
use crate::error::{Error, Kind, Result};
use crate::memory::parking::{self, Futex, Waiter};
use crate::memory::region::Region;
use crate::objects::messages::{
    Boarding, CarriedHandles, Content, Landing, Limit, LogGuard, MessageLog, Patience, Peeled, PeerSide, drop_strays,
    watch,
};
use crate::os::{Handle, HandleRef, Outgoing, passing};
use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Where things are in the head, in bytes. What different threads write is apart.
pub(super) const CAPACITY: usize = 64;
const CLOSED: usize = 256;
const ITEMS: usize = 512;
/// On the same line: who puts an item looks at both.
const POLLS: usize = 516;
const ROOM: usize = 640;
const IDLE: usize = 768;
pub(super) const DONE: usize = 896;
pub(super) const ORPHANS: usize = 904;
pub(super) const HANDS: usize = 1024;

/// So many processes can have items in hand.
pub(super) const MOST_HANDS: usize = 1024;

/// A queue, as a process has it.
pub(super) struct Ends {
    log: MessageLog,
    /// The two ends of the socket.
    sockets: [Arc<Region>; 2],
}

const FULL: &str = "the queue is full";
const EMPTY: &str = "the queue is empty";
const HELD_UP: &str = "the queue is held up by a process that does not go on";
const NOT_DONE: &str = "not all items of the queue are done";
const FULL_OF_HANDLES: &str = "the queue has no room for more handles: others have to be taken off it first";

/// How long to wait where the system itself has no room for handles: nobody tells when that is over.
const PAUSE: Duration = Duration::from_millis(5);

/// An item that was taken off.
pub(super) struct TakenItem {
    pub(super) bytes: Vec<u8>,
    /// To be held until the bytes are decoded. Or why they are lost, and with them the item.
    pub(super) handles: Result<Vec<Arc<Region>>, String>,
}

/// Wakes who waits for several things at once: it polls the socket.
struct Nudging<'q>(&'q Handle);

impl Futex<AtomicU32> for Nudging<'_> {
    fn sleep(&self, _: &AtomicU32, _: u32, _: Duration) -> bool {
        false
    }

    fn wake(&self, _: &AtomicU32, _: u32) {
        // If there is no room for another nudge, those that are there wake them.
        let _ = passing::send(self.0, &Outgoing::Nudge);
    }
}

/// Who brings about what is waited for at this word.
fn who_brings(word: usize) -> PeerSide {
    if word == ROOM { PeerSide::Taker } else { PeerSide::Putter }
}

impl Ends {
    pub(super) fn of(region: Arc<Region>, sockets: [Arc<Region>; 2]) -> Result<Self, String> {
        Ok(Self { log: MessageLog::of(region, "queue", HELD_UP)?, sockets })
    }

    /// In new memory. A capacity of 0 is none.
    pub(super) fn new(region: Arc<Region>, sockets: [Arc<Region>; 2], capacity: u64) -> Result<Self, String> {
        let ends = Self::of(region, sockets)?;
        ends.long(CAPACITY).store(capacity, Ordering::Relaxed);
        Ok(ends)
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        self.log.region()
    }

    pub(super) fn sockets(&self) -> &[Arc<Region>; 2] {
        &self.sockets
    }

    /// Where handles are sent, and where they are received.
    fn socket(&self, end: usize) -> &Handle {
        self.sockets[end].memory().open_file()
    }

    pub(super) fn close(&self) {
        // With the lock, so that what is being put is there before it is closed, as a rule. A process that was stopped in the
        // middle of that does not keep anybody from closing.
        let _puts = self.log.lock_put(&mut Patience::None.into());
        self.word(CLOSED).store(1, Ordering::Release);
        for waits in [ITEMS, ROOM] {
            parking::wake(self.word(waits), u32::MAX, &**self.region());
        }
        parking::wake(self.word(POLLS), u32::MAX, &Nudging(self.socket(1)));
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU32 {
        self.log.word(at)
    }

    #[inline]
    pub(super) fn long(&self, at: usize) -> &AtomicU64 {
        self.log.long(at)
    }

    pub(super) fn hands(&self) -> Result<Hands<'_>> {
        let me = self.region().number().map_err(|error| Error::os("cannot take part in a queue", error))?;
        let entries = self.log.longs(HANDS, MOST_HANDS);
        Ok(Hands { entries, orphans: self.long(ORPHANS), region: self.region(), me })
    }

    #[inline]
    pub(super) fn capacity(&self) -> u64 {
        self.long(CAPACITY).load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.word(CLOSED).load(Ordering::Acquire) != 0
    }

    /// The number of items, as it was at one moment. While others are busy, it may be too large.
    #[inline]
    pub(super) fn length(&self) -> u64 {
        self.log.length()
    }

    #[inline]
    fn has_room(&self) -> bool {
        let capacity = self.capacity();
        capacity == 0 || self.length() < capacity
    }

    /// Waits until `ready`: first without sleeping, if it pays. Returns false if it is not ready at the deadline.
    fn wait(&self, waiter: &mut Waiter, word: usize, ready: impl FnMut() -> bool) -> bool {
        let ready = RefCell::new(ready);
        let look = || ready.borrow_mut()();
        watch(&self.log, who_brings(word), look, || waiter.wait(self.word(word), &**self.region(), look))
    }

    /// Wakes one who waits on this word.
    fn pass_on(&self, word: usize) {
        if parking::has_sleepers(self.word(word)) {
            self.log.note_processor(who_brings(word));
        }
        parking::wake(self.word(word), 1, &**self.region());
    }

    /// There is an item: wakes one who waits for it, and all who wait for several things at once.
    fn tell_of_item(&self) {
        self.pass_on(ITEMS);
        parking::wake_others(self.word(POLLS), u32::MAX, &Nudging(self.socket(1)));
    }

    pub(super) fn put(&self, item: &[u8], handles: &[Arc<Region>], patience: Patience) -> Result<()> {
        let (mut limit, mut waiter) = (Limit::from(patience), None::<Waiter>);
        let (mut boarding, mut passed_on_at) = (Boarding::Done, 0);
        loop {
            if self.is_closed() {
                return Err(Error::new(Kind::QueueClosed));
            }
            if self.has_room() && (boarding == Boarding::Done || self.may_board(handles.len())) {
                let lock = self.log.lock_put(&mut limit)?;
                if !self.has_room() || self.is_closed() {
                    continue;
                }
                let carried = if handles.is_empty() { None } else { Some(CarriedHandles::new(handles)) };
                boarding =
                    carried.as_ref().map_or(Ok(Boarding::Done), |carried| self.board(carried, handles, &mut limit))?;
                if boarding == Boarding::Done {
                    let written = self.write(&lock, item, carried.as_ref());
                    drop(lock);
                    if written.is_ok() {
                        self.tell_of_item();
                    }
                    // Several may have made room, and have woken this one alone.
                    if waiter.is_some_and(|waiter| waiter.has_slept) && self.has_room() {
                        self.pass_on(ROOM);
                    }
                    return written;
                }
                drop(lock);
            }
            let full = if boarding == Boarding::Done { FULL } else { FULL_OF_HANDLES };
            if limit.is_none() {
                return Err(limit.over(full));
            }
            if boarding != Boarding::Done {
                // Of an empty queue, nobody takes anything that would make room.
                let has_nobody = boarding == Boarding::Refused || self.length() == 0;
                let pause = if has_nobody { PAUSE } else { Duration::ZERO };
                if waiter.is_some() {
                    // It was woken for room that it cannot use, and another may.
                    self.pass_on(ROOM);
                }
                thread::sleep(limit.pause(pause).ok_or_else(|| limit.over(full))?);
            }
            let waiter = waiter.get_or_insert_with(|| Waiter::new(limit.deadline()));
            let mut may_board = || {
                let may_board = boarding == Boarding::Done || self.may_board(handles.len());
                // Another may have room enough: it is woken in place of this one, once for what was taken.
                if !may_board && std::mem::replace(&mut passed_on_at, self.log.gets()) != self.log.gets() {
                    self.pass_on(ROOM);
                }
                may_board
            };
            if !self.wait(waiter, ROOM, || self.has_room() && may_board() || self.is_closed()) {
                return Err(limit.over(full));
            }
        }
    }

    /// Whether there is room for so many handles, or there is as soon as somebody has looked after the socket.
    fn may_board(&self, handles: usize) -> bool {
        self.length() == 0 || passing::room(self.socket(0)).is_ok_and(|(room, _)| handles <= room)
    }

    /// Sends the handles of an item, for who has the lock of the put end.
    #[cold]
    fn board(&self, carried: &CarriedHandles, handles: &[Arc<Region>], limit: &mut Limit) -> Result<Boarding> {
        let fail = |error| Error::os("cannot put handles on a queue", error);
        let mut boarding = carried.send(handles, self.socket(0)).map_err(fail)?;
        if matches!(boarding, Boarding::Full | Boarding::Refused) && self.length() == 0 {
            // All that is in the socket was left by processes that have ended, or by this one when it was refused halfway;
            // or an item was just taken.
            let _gets = self.log.lock_get(limit)?;
            if self.length() == 0 {
                drop_strays(self.socket(1), &[], &mut || {});
            }
            boarding = carried.send(handles, self.socket(0)).map_err(fail)?;
        }
        if boarding == Boarding::TooMany {
            return Err(Error::invalid(format!("an item with {} handles is too much for a queue", handles.len())));
        }
        Ok(boarding)
    }

    fn write(&self, lock: &LogGuard<'_>, item: &[u8], carried: Option<&CarriedHandles>) -> Result<()> {
        let words = carried.map(CarriedHandles::words).unwrap_or_default();
        // What a queue without limit does not need is not looked at.
        let checked = if self.capacity() == 0 { Ok(()) } else { self.log.check_gets(lock) };
        let written = checked.and_then(|()| self.log.write(lock, Content { bytes: item, handles: &words }));
        written.map_err(|error| Error::os(format!("cannot put an item of {} bytes on a queue", item.len()), error))
    }

    /// Puts an item, and does something while it has the lock, before the item is there.
    #[cfg(all(test, not(loom)))]
    pub(super) fn put_around(&self, item: &[u8], middle: impl FnOnce()) {
        let lock = self.log.lock_put(&mut Patience::Endless.into()).unwrap();
        middle();
        self.write(&lock, item, None).unwrap();
        drop(lock);
        self.tell_of_item();
    }

    /// The first item. None: the queue is closed and empty.
    pub(super) fn get(&self, patience: Patience) -> Result<Option<TakenItem>> {
        let (mut limit, mut waiter) = (Limit::from(patience), None::<Waiter>);
        let (mut is_unsettled, mut is_complete) = (false, false);
        loop {
            if self.length() > 0 {
                let puts = if is_unsettled { Some(self.log.lock_put(&mut limit)?) } else { None };
                let lock = self.log.lock_get(&mut limit)?;
                if self.length() == 0 {
                    continue;
                }
                let Some((taken, had_handles)) = self.take(&lock, puts.is_some())? else {
                    is_unsettled = true;
                    continue;
                };
                drop((lock, puts));
                if self.capacity() > 0 || had_handles {
                    self.pass_on(ROOM);
                }
                // Several may have been put, and have woken this one alone.
                if waiter.is_some_and(|waiter| waiter.has_slept) && self.length() > 0 {
                    self.pass_on(ITEMS);
                }
                return Ok(Some(taken));
            }
            if is_complete {
                return Ok(None);
            }
            if self.is_closed() {
                // It may have been closed while an item was put, which had begun before. None is after that.
                drop(self.log.lock_put(&mut limit)?);
                is_complete = true;
                continue;
            }
            if limit.is_none() {
                return Err(limit.over(EMPTY));
            }
            let waiter = waiter.get_or_insert_with(|| Waiter::new(limit.deadline()));
            if !self.wait(waiter, ITEMS, || self.length() > 0 || self.is_closed()) {
                return Err(limit.over(EMPTY));
            }
        }
    }

    /// Takes the first item, for who has the lock of the get end, or of `both` ends; and tells whether it had handles.
    /// None: it needs both.
    #[inline]
    fn take(&self, lock: &LogGuard<'_>, both: bool) -> Result<Option<(TakenItem, bool)>> {
        let hands = self.hands()?;
        let too_many = || Error::invalid(format!("more than {MOST_HANDS} processes have items of a queue in hand"));
        let hand = hands.own().ok_or_else(too_many)?;
        let item = self.log.read(lock).map_err(|error| Error::os("cannot take an item off a queue", error))?;
        let handles = match &item.handles {
            None => Ok(Vec::new()),
            Some(carried) => match self.land(lock, carried, both) {
                Landing::Landed(handles) => handles,
                Landing::Unsettled => return Ok(None),
            },
        };
        self.log.take(lock, &item);
        hands.take(hand);
        let Peeled { bytes, handles: carried, .. } = item;
        Ok(Some((TakenItem { bytes, handles }, carried.is_some())))
    }

    #[cold]
    fn land(&self, lock: &LogGuard<'_>, carried: &CarriedHandles, both: bool) -> Landing {
        if both {
            drop_strays(self.socket(1), &self.log.all_handles(lock), &mut || {});
        }
        carried.receive(self.socket(1), both, &mut || {})
    }

    pub(super) fn clear(&self) -> Result<usize> {
        let lock = self.log.lock_get(&mut Patience::Endless.into())?;
        let mut cleared = 0;
        self.log.clear(&lock, |handles| {
            self.long(DONE).fetch_add(1, Ordering::Relaxed);
            cleared += 1;
            if let Some(handles) = handles {
                handles.drop_rest(self.socket(1));
            }
        });
        drop(lock);
        for waits in [ROOM, IDLE] {
            parking::wake(self.word(waits), u32::MAX, &**self.region());
        }
        Ok(cleared)
    }

    /// What becomes readable when there may be an item, after it was [asked](Self::ask_to_be_told) for.
    pub(super) fn poll_handle(&self) -> HandleRef<'_> {
        self.sockets[0].memory().handle()
    }

    /// Whether there is an item, or there will be none.
    pub(super) fn is_ready(&self) -> bool {
        self.length() > 0 || self.is_closed()
    }

    /// From now on, the [handle](Self::poll_handle) tells of the next item.
    pub(super) fn ask_to_be_told(&self) {
        parking::announce(self.word(POLLS));
    }

    /// It has told, and there is no item.
    pub(super) fn was_told(&self) {
        // As many nudges as a socket has room for: others may send meanwhile.
        for _ in 0..1 << 12 {
            match passing::try_receive(self.socket(0)) {
                // A corrupt packet is gone, and there may be others.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Ok(Some(_)) => {}
                // Somebody has shut the socket down, and it tells of that for ever.
                Ok(None) => {
                    thread::sleep(PAUSE);
                    break;
                }
                Err(_) => break,
            }
        }
        parking::announce_again(self.word(POLLS), || self.is_ready(), &Nudging(self.socket(1)));
    }

    pub(super) fn done(&self, patience: Patience) -> Result<()> {
        let hands = self.hands()?;
        let lock = self.log.lock_get(&mut patience.into())?;
        if !hands.are_full() {
            return Err(Error::invalid("`task_done` was called more often than items were taken off the queue"));
        }
        // First: of a process that ends in between, an item would be missed that is done.
        self.long(DONE).fetch_add(1, Ordering::Release);
        hands.put_down();
        drop(lock);
        parking::wake(self.word(IDLE), u32::MAX, &**self.region());
        Ok(())
    }

    fn unfinished(&self) -> u64 {
        let done = self.long(DONE).load(Ordering::Acquire);
        self.log.puts().saturating_sub(done)
    }

    pub(super) fn join(&self, patience: Patience) -> Result<()> {
        let mut limit = Limit::from(patience);
        let (mut waiter, mut lost) = (Waiter::new(limit.deadline()), Ok(0));
        // Between two naps somebody may have ended.
        let waited = waiter.wait(self.word(IDLE), &**self.region(), || {
            self.unfinished() == 0 || {
                lost = self.lost(&mut limit);
                !matches!(lost, Ok(0))
            }
        });
        match lost? {
            0 if waited => Ok(()),
            0 => Err(limit.over(NOT_DONE)),
            lost => {
                parking::wake(self.word(IDLE), u32::MAX, &**self.region());
                Err(Error::new(Kind::ItemsLost(lost)))
            }
        }
    }

    /// How many items will never be done, if there are no others left. They are forgotten.
    fn lost(&self, limit: &mut Limit) -> Result<u64> {
        let hands = self.hands()?;
        if self.length() > 0 || hands.are_busy() {
            return Ok(0);
        }
        let _lock = self.log.lock_get(limit)?;
        if self.length() > 0 || hands.are_busy() {
            return Ok(0);
        }
        // Of those that were taken: with the lock, nobody takes another one, nor says that one is done.
        let lost = self.log.gets().saturating_sub(self.long(DONE).load(Ordering::Relaxed));
        self.long(DONE).fetch_add(lost, Ordering::Relaxed);
        hands.forget_dead();
        Ok(lost)
    }
}
