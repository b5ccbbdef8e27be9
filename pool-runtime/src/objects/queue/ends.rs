//! Both ends of a queue: bytes are put at the one and taken at the other, by any processes.
//!
//! ```text
//!   head of the memory                         who writes it
//!   drawn                                      see memory/presence.rs
//!   capacity                                   its maker, once
//!   put: lock, number of items, position       who puts, with that lock
//!   backed                                     the same
//!   closed                                     who closes, with that lock
//!   get: lock, number of items, position       who takes, with that lock
//!   freed, done                                the same
//!   items, room, idle                          who waits for an item, for room, for all to be done
//!   orphans, hands                             the same: see hands.rs
//!   behind the head: the items                 see storage.rs
//! ```
//!
//! Each end has a lock, a number and a position that are changed together, by one store (`objects/committed.rs`). A put
//! copies the item behind the last one and then commits; a get copies the first one out and then commits. So a process that
//! ends at any instruction has put or taken a whole item, or none, and keeps no lock. What it has taken is lost with it; who
//! waits for all items to be done is told.
//!
//! The two ends do not wait for each other: each reads the other's number.

use super::hands::Hands;
use super::storage::{MappedPart, WINDOW, end_of};
use crate::error::{Error, Kind, Result};
use crate::locks::try_lock;
use crate::memory::parking::{self, Waiter};
use crate::memory::region::Region;
use crate::memory::{View, cache};
use crate::objects::committed::{Committed, Held};
use crate::os::SPARSE_HEAD;
use crate::transport::ring::Spin;
use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Where things are in the head, in bytes. What different threads write is apart.
pub(super) const CAPACITY: usize = 64;
pub(super) const PUT: usize = 128;
pub(super) const BACKED: usize = 192;
const CLOSED: usize = 256;
pub(super) const GET: usize = 384;
pub(super) const FREED: usize = 448;
const ITEMS: usize = 512;
const ROOM: usize = 640;
const IDLE: usize = 768;
pub(super) const DONE: usize = 896;
pub(super) const ORPHANS: usize = 904;
pub(super) const HANDS: usize = 1024;

/// So many processes can have items in hand.
pub(super) const MOST_HANDS: usize = 1024;

const NO_ROOM: &str = "the memory of a queue has no head";

/// A queue, as a process has it.
pub(super) struct Ends {
    region: Arc<Region>,
    words: View<[AtomicU32], Region>,
    longs: View<[AtomicU64], Region>,
    put: Committed<u64>,
    get: Committed<u64>,
    /// What this process has mapped at each end: for who has its lock.
    put_view: Mutex<MappedPart>,
    get_view: Mutex<MappedPart>,
}

/// The lock of an end is held as long as this lives.
struct EndGuard<'q> {
    end: &'q Committed<u64>,
    held: Held,
}

impl EndGuard<'_> {
    fn position(&self) -> u64 {
        self.end.value(&self.held)
    }

    /// One item more, up to this position.
    fn commit(&self, position: u64) {
        self.end.commit(&self.held, position);
    }
}

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.end.release(&self.held);
    }
}

/// How long somebody is ready to wait.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    Endless,
    None,
    For(Duration),
}

/// When that is over: the clock is read once, and only if there is something to wait for.
struct Limit {
    patience: Patience,
    deadline: Option<Option<Instant>>,
}

impl From<Patience> for Limit {
    fn from(patience: Patience) -> Self {
        Self { patience, deadline: None }
    }
}

impl Limit {
    fn deadline(&mut self) -> Option<Instant> {
        *self.deadline.get_or_insert_with(|| match self.patience {
            Patience::Endless => None,
            Patience::None => Some(Instant::now()),
            Patience::For(time) => Instant::now().checked_add(time),
        })
    }

    /// Who does not want to wait does so for those who are about to put or take another item.
    fn of_lock(&mut self) -> Option<Instant> {
        match self.patience {
            Patience::None => Instant::now().checked_add(GRACE),
            Patience::Endless | Patience::For(_) => self.deadline(),
        }
    }

    fn is_none(&self) -> bool {
        matches!(self.patience, Patience::None)
    }

    /// That it is over, and why it was waited.
    fn over(&self, what: &'static str) -> Error {
        Error::new(match self.patience {
            Patience::For(time) => Kind::Waited { what, time },
            Patience::None | Patience::Endless => Kind::Blocked { what },
        })
    }
}

const FULL: &str = "the queue is full";
const EMPTY: &str = "the queue is empty";
const HELD_UP: &str = "the queue is held up by a process that does not go on";
const NOT_DONE: &str = "not all items of the queue are done";

/// How long who does not want to wait waits for who is about to put or take another item.
const GRACE: Duration = Duration::from_millis(100);

thread_local! {
    /// What this thread has learned about waiting without sleeping.
    static SPIN: RefCell<Spin> = const { RefCell::new(Spin::new()) };
}

impl Ends {
    pub(super) fn of(region: Arc<Region>) -> Result<Self, String> {
        if !region.memory().is_sparse() {
            return Err("a queue cannot be restored: its items were not stored".into());
        }
        region.number().map_err(|error| format!("cannot take part in the queue: {error}"))?;
        let words = View::new(region.clone(), |region| Some(region.memory().words()).ok_or(NO_ROOM))?;
        let longs = View::new(region.clone(), |region| Some(region.memory().words()).ok_or(NO_ROOM))?;
        let (put, get) = (Committed::at(&region, PUT)?, Committed::at(&region, GET)?);
        Ok(Self { region, words, longs, put, get, put_view: Mutex::default(), get_view: Mutex::default() })
    }

    /// In new memory. A capacity of 0 is none.
    pub(super) fn new(region: Arc<Region>, capacity: u64) -> Result<Self, String> {
        let ends = Self::of(region)?;
        ends.long(CAPACITY).store(capacity, Ordering::Relaxed);
        Ok(ends)
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    pub(super) fn close(&self) {
        // With the lock, so that what is being put is there before it is closed. A process that was stopped in the middle
        // of that does not keep anybody from closing.
        let _puts = self.take_lock(&self.put, &mut Patience::None.into());
        self.word(CLOSED).store(1, Ordering::Release);
        for waits in [ITEMS, ROOM] {
            parking::wake(self.word(waits), u32::MAX, &*self.region);
        }
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU32 {
        &self.words[at / 4]
    }

    #[inline]
    pub(super) fn long(&self, at: usize) -> &AtomicU64 {
        &self.longs[at / 8]
    }

    pub(super) fn hands(&self) -> Result<Hands<'_>> {
        let me = self.region.number().map_err(|error| Error::os("cannot take part in a queue", error))?;
        Ok(Hands {
            entries: &self.longs[HANDS / 8..][..MOST_HANDS],
            orphans: self.long(ORPHANS),
            region: &self.region,
            me,
        })
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
        let mut taken = self.get.changes();
        for _ in 0..8 {
            let length = self.put.changes().saturating_sub(taken);
            let again = self.get.changes();
            if again == taken {
                return length;
            }
            taken = again;
        }
        self.put.changes().saturating_sub(taken)
    }

    #[inline]
    fn has_room(&self) -> bool {
        let capacity = self.capacity();
        capacity == 0 || self.length() < capacity
    }

    /// Waits until `ready`: first without sleeping, if it pays. Returns false if it is not ready at the deadline.
    fn wait(&self, waiter: &mut Waiter, word: usize, mut ready: impl FnMut() -> bool) -> bool {
        if SPIN.try_with(|spin| spin.borrow_mut().wait(&mut ready)).unwrap_or(false) {
            return true;
        }
        let began = Instant::now();
        let is_ready = waiter.wait(self.word(word), &*self.region, ready);
        let _ = SPIN.try_with(|spin| spin.borrow_mut().slept(began.elapsed()));
        is_ready
    }

    /// Wakes one who waits on this word.
    fn pass_on(&self, word: usize) {
        parking::wake(self.word(word), 1, &*self.region);
    }

    pub(super) fn put(&self, item: &[u8], patience: Patience) -> Result<()> {
        let (mut limit, mut waiter) = (Limit::from(patience), None::<Waiter>);
        loop {
            if self.is_closed() {
                return Err(Error::new(Kind::QueueClosed));
            }
            if self.has_room() {
                let lock = self.take_lock(&self.put, &mut limit)?;
                if !self.has_room() || self.is_closed() {
                    continue;
                }
                let written = self.write(&lock, item);
                drop(lock);
                if written.is_ok() {
                    self.pass_on(ITEMS);
                }
                // Several may have made room, and have woken this one alone.
                if waiter.is_some_and(|waiter| waiter.has_slept) && self.has_room() {
                    self.pass_on(ROOM);
                }
                return written;
            }
            if limit.is_none() {
                return Err(limit.over(FULL));
            }
            let waiter = waiter.get_or_insert_with(|| Waiter::new(limit.deadline()));
            if !self.wait(waiter, ROOM, || self.has_room() || self.is_closed()) {
                return Err(limit.over(FULL));
            }
        }
    }

    /// Takes the lock of an end. Who has it has it for a moment only, unless it was stopped in that moment.
    fn take_lock<'q>(&'q self, end: &'q Committed<u64>, limit: &mut Limit) -> Result<EndGuard<'q>> {
        self.region.number().map_err(|error| Error::os("a forked process cannot take part in a queue", error))?;
        let held = end.acquire_before(|| limit.of_lock()).ok_or_else(|| limit.over(HELD_UP))?;
        if held.is_poisoned {
            // Who had it has changed all or nothing.
            end.clear_poison();
        }
        Ok(EndGuard { end, held })
    }

    fn write(&self, lock: &EndGuard<'_>, item: &[u8]) -> Result<()> {
        let no_memory = |error| Error::os(format!("cannot put an item of {} bytes on a queue", item.len()), error);
        let position = lock.position();
        let end = end_of(position, item.len() as u64).ok_or_else(|| no_memory(corrupt()))?;
        let backed = self.long(BACKED).load(Ordering::Relaxed);
        if end > backed {
            // What is before the item is there, whatever others have written about that.
            let (missing, enough) = (backed.max(position / WINDOW * WINDOW), end.next_multiple_of(WINDOW));
            self.region.memory().back(HEAD + missing..HEAD + enough).map_err(no_memory)?;
            self.long(BACKED).store(enough, Ordering::Relaxed);
        }
        with(&self.put_view, |view| view.write(&self.region, position, item)).map_err(no_memory)?;
        lock.commit(end);
        Ok(())
    }

    /// The bytes of the first item. None: the queue is closed and empty.
    pub(super) fn get(&self, patience: Patience) -> Result<Option<Vec<u8>>> {
        let (mut limit, mut waiter) = (Limit::from(patience), None::<Waiter>);
        loop {
            // Read first: what is put before it is closed is there when it is closed.
            let is_closed = self.is_closed();
            if self.length() > 0 {
                let lock = self.take_lock(&self.get, &mut limit)?;
                if self.length() == 0 {
                    continue;
                }
                let taken = self.read(&lock);
                drop(lock);
                if taken.is_ok() && self.capacity() > 0 {
                    self.pass_on(ROOM);
                }
                // Several may have been put, and have woken this one alone.
                if waiter.is_some_and(|waiter| waiter.has_slept) && self.length() > 0 {
                    self.pass_on(ITEMS);
                }
                return taken.map(Some);
            }
            if is_closed {
                return Ok(None);
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

    fn read(&self, lock: &EndGuard<'_>) -> Result<Vec<u8>> {
        let fail = |error| Error::os("cannot take an item off a queue", error);
        let last = self.put.snapshot().ok_or_else(|| fail(corrupt()))?;
        let hands = self.hands()?;
        let too_many = || Error::invalid(format!("more than {MOST_HANDS} processes have items of a queue in hand"));
        let hand = hands.own().ok_or_else(too_many)?;
        let read = |view: &mut MappedPart| {
            let (length, end) = view.item(&self.region, lock.position(), last)?.ok_or_else(corrupt)?;
            let mut item = cache::take_recycled();
            item.try_reserve_exact(length as usize).map_err(|_| io::ErrorKind::OutOfMemory)?;
            view.read(&self.region, lock.position(), length, &mut item)?;
            Ok((item, end))
        };
        let (item, end) = with(&self.get_view, read).map_err(fail)?;
        self.take(lock, end);
        hands.take(hand);
        Ok(item)
    }

    /// Takes an item off, up to this position, and gives back memory that is behind it.
    fn take(&self, lock: &EndGuard<'_>, end: u64) {
        lock.commit(end);
        let (freed, free) = (self.long(FREED).load(Ordering::Relaxed), end / WINDOW * WINDOW);
        if free > freed {
            self.region.memory().discard(HEAD + freed..HEAD + free);
            self.long(FREED).store(free, Ordering::Relaxed);
        }
    }

    pub(super) fn clear(&self) -> Result<usize> {
        let lock = self.take_lock(&self.get, &mut Patience::Endless.into())?;
        let mut cleared = 0;
        // What is put meanwhile stays. There are no more items than there is memory.
        let last = self.put.snapshot().unwrap_or_default();
        let most = self.length().min(self.region.memory().resident() / 8);
        while cleared < most {
            let item = with(&self.get_view, |view| view.item(&self.region, lock.position(), last));
            let Ok(Some((_, end))) = item else { break };
            self.take(&lock, end);
            self.long(DONE).fetch_add(1, Ordering::Relaxed);
            cleared += 1;
        }
        drop(lock);
        for waits in [ROOM, IDLE] {
            parking::wake(self.word(waits), u32::MAX, &*self.region);
        }
        Ok(cleared as usize)
    }

    pub(super) fn done(&self) -> Result<()> {
        let hands = self.hands()?;
        let lock = self.take_lock(&self.get, &mut Patience::Endless.into())?;
        if !hands.are_full() {
            return Err(Error::invalid("`task_done` was called more often than items were taken off the queue"));
        }
        // First: of a process that ends in between, an item would be missed that is done.
        self.long(DONE).fetch_add(1, Ordering::Release);
        hands.put_down();
        drop(lock);
        parking::wake(self.word(IDLE), u32::MAX, &*self.region);
        Ok(())
    }

    fn unfinished(&self) -> u64 {
        let done = self.long(DONE).load(Ordering::Acquire);
        self.put.changes().saturating_sub(done)
    }

    pub(super) fn join(&self, patience: Patience) -> Result<()> {
        let mut limit = Limit::from(patience);
        let (mut waiter, mut lost) = (Waiter::new(limit.deadline()), Ok(0));
        // Between two naps somebody may have ended.
        let waited = waiter.wait(self.word(IDLE), &*self.region, || {
            self.unfinished() == 0 || {
                lost = self.lost(&mut limit);
                !matches!(lost, Ok(0))
            }
        });
        match lost? {
            0 if waited => Ok(()),
            0 => Err(limit.over(NOT_DONE)),
            lost => {
                parking::wake(self.word(IDLE), u32::MAX, &*self.region);
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
        let _lock = self.take_lock(&self.get, limit)?;
        if self.length() > 0 || hands.are_busy() {
            return Ok(0);
        }
        // Of those that were taken: with the lock, nobody takes another one, nor says that one is done.
        let lost = self.get.changes().saturating_sub(self.long(DONE).load(Ordering::Relaxed));
        self.long(DONE).fetch_add(lost, Ordering::Relaxed);
        hands.forget_dead();
        Ok(lost)
    }
}

/// What is behind the head.
pub(super) const HEAD: u64 = SPARSE_HEAD as u64;

/// Other processes have written what cannot be.
fn corrupt() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the memory of the queue is corrupt")
}

/// Uses what this process has mapped at one end. Who has the lock of that end is alone, but for a process that was forked
/// while another thread was there.
fn with<R>(view: &Mutex<MappedPart>, act: impl FnOnce(&mut MappedPart) -> R) -> R {
    match try_lock(view) {
        Some(mut view) => act(&mut view),
        None => act(&mut MappedPart::default()),
    }
}
