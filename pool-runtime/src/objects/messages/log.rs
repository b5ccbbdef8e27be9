//! Both ends of what messages go through: bytes are put at the one and taken at the other, by any processes.
//!
//! ```text
//!   head of the memory                         who writes it
//!   drawn                                      see memory/presence.rs
//!   put: lock, number of messages, position    who puts, with that lock
//!   backed                                     the same
//!   put's processor                            who puts, and wakes a taker
//!   get: lock, number of messages, position    who takes, with that lock
//!   freed                                      the same
//!   get's processor                            who takes, and wakes a putter
//!   the rest                                   queue/ends.rs, channel/ends.rs
//!   behind the head: the messages              see storage.rs
//! ```
//!
//! Each end has a lock, a number and a position that are changed together, by one store (`objects/committed.rs`). A put
//! copies the message behind the last one and then commits; a get copies the first one out and then commits. So a process
//! that ends at any instruction has put or taken a whole message, or none, and keeps no lock.
//!
//! The two ends do not wait for each other: each reads the other's number. Who needs both locks takes that of the put end
//! first.

use super::handles::CarriedHandles;
use super::patience::Limit;
use super::storage::{MappedPart, NewItem, StoredItem, WINDOW, end_of};
use crate::error::{Error, Result};
use crate::locks::try_lock;
use crate::memory::region::Region;
use crate::memory::{View, cache};
use crate::objects::committed::{Committed, Held};
use crate::os::{self, SPARSE_HEAD};
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Where things are in the head, in bytes. What different threads write is apart.
pub(in crate::objects) mod layout {
    pub(in crate::objects) const PUT: usize = 128;
    pub(in crate::objects) const BACKED: usize = 192;
    pub(in crate::objects) const PUT_CPU: usize = 224;
    pub(in crate::objects) const GET: usize = 384;
    pub(in crate::objects) const FREED: usize = 448;
    pub(in crate::objects) const GET_CPU: usize = 480;
}

use layout::{BACKED, FREED, GET, GET_CPU, PUT, PUT_CPU};

const NO_ROOM: &str = "shared memory for messages has no head";

/// What messages go through, as a process has it.
pub(in crate::objects) struct MessageLog {
    /// What it is of, and how a message there is called.
    what: &'static str,
    held_up: &'static str,
    region: Arc<Region>,
    words: View<[AtomicU32], Region>,
    longs: View<[AtomicU64], Region>,
    put: Committed<u64>,
    get: Committed<u64>,
    /// What this process has mapped at each end: for who has its lock.
    put_view: Mutex<MappedPart>,
    get_view: Mutex<MappedPart>,
}

/// Where messages come from, or go.
#[derive(Clone, Copy)]
pub(in crate::objects) enum PeerSide {
    Putter,
    /// It makes room.
    Taker,
}

/// The lock of an end is held as long as this lives.
pub(in crate::objects) struct LogGuard<'l> {
    end: &'l Committed<u64>,
    held: Held,
}

impl LogGuard<'_> {
    fn position(&self) -> u64 {
        self.end.value(&self.held)
    }

    /// One message more, up to this position.
    fn commit(&self, position: u64) {
        self.end.commit(&self.held, position);
    }
}

impl Drop for LogGuard<'_> {
    fn drop(&mut self) {
        self.end.release(&self.held);
    }
}

/// A message that is to be put.
#[derive(Clone, Copy)]
pub(in crate::objects) struct Content<'m> {
    pub(in crate::objects) bytes: &'m [u8],
    /// What was sent before it, if it has handles.
    pub(in crate::objects) handles: &'m [u64],
}

/// A message that was copied out and not yet taken off.
pub(in crate::objects) struct Peeled {
    pub(in crate::objects) bytes: Vec<u8>,
    pub(in crate::objects) handles: Option<CarriedHandles>,
    pub(in crate::objects) end: u64,
}

impl MessageLog {
    pub(in crate::objects) fn of(
        region: Arc<Region>,
        what: &'static str,
        held_up: &'static str,
    ) -> Result<Self, String> {
        if !region.memory().is_sparse() {
            return Err(format!("a {what} cannot be restored: what was in it was not stored"));
        }
        region.number().map_err(|error| format!("cannot take part in the {what}: {error}"))?;
        let words = View::new(region.clone(), |region| Some(region.memory().words()).ok_or(NO_ROOM))?;
        let longs = View::new(region.clone(), |region| Some(region.memory().words()).ok_or(NO_ROOM))?;
        let (put, get) = (Committed::at(&region, PUT)?, Committed::at(&region, GET)?);
        let (put_view, get_view) = Default::default();
        Ok(Self { what, held_up, region, words, longs, put, get, put_view, get_view })
    }

    pub(in crate::objects) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    fn processor_of(&self, side: PeerSide) -> &AtomicU32 {
        self.word(match side {
            PeerSide::Putter => PUT_CPU,
            PeerSide::Taker => GET_CPU,
        })
    }

    /// Notes where this side runs, as it is about to wake the other one.
    #[cold]
    pub(in crate::objects) fn note_processor(&self, side: PeerSide) {
        self.processor_of(side).store(os::current_cpu().wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether that side was on this processor when it last woke somebody.
    pub(in crate::objects) fn is_beside(&self, side: PeerSide) -> bool {
        self.processor_of(side).load(Ordering::Relaxed) == os::current_cpu().wrapping_add(1)
    }

    #[inline]
    pub(in crate::objects) fn word(&self, at: usize) -> &AtomicU32 {
        &self.words[at / 4]
    }

    #[inline]
    pub(in crate::objects) fn long(&self, at: usize) -> &AtomicU64 {
        &self.longs[at / 8]
    }

    pub(in crate::objects) fn longs(&self, from: usize, count: usize) -> &[AtomicU64] {
        &self.longs[from / 8..][..count]
    }

    /// How many messages were ever put, and taken.
    #[inline]
    pub(in crate::objects) fn puts(&self) -> u64 {
        self.put.changes()
    }

    #[inline]
    pub(in crate::objects) fn gets(&self) -> u64 {
        self.get.changes()
    }

    /// The number of messages, as it was at one moment. While others are busy, it may be too large.
    #[inline]
    pub(in crate::objects) fn length(&self) -> u64 {
        let mut taken = self.gets();
        for _ in 0..8 {
            let length = self.puts().saturating_sub(taken);
            let again = self.gets();
            if again == taken {
                return length;
            }
            taken = again;
        }
        self.puts().saturating_sub(taken)
    }

    /// Where the next message is put. None: it changes all the time.
    #[inline]
    pub(in crate::objects) fn put_position(&self) -> Option<u64> {
        self.put.snapshot()
    }

    /// Up to where messages were taken. None: it changes all the time.
    #[inline]
    pub(in crate::objects) fn get_position(&self) -> Option<u64> {
        self.get.snapshot()
    }

    pub(in crate::objects) fn lock_put(&self, limit: &mut Limit) -> Result<LogGuard<'_>> {
        self.lock(&self.put, limit)
    }

    pub(in crate::objects) fn lock_get(&self, limit: &mut Limit) -> Result<LogGuard<'_>> {
        self.lock(&self.get, limit)
    }

    /// Takes the lock of an end. Who has it has it for a moment only, unless it was stopped in that moment.
    #[inline]
    fn lock<'l>(&'l self, end: &'l Committed<u64>, limit: &mut Limit) -> Result<LogGuard<'l>> {
        let fail = |error| Error::os(format!("a forked process cannot take part in a {}", self.what), error);
        self.region.number().map_err(fail)?;
        let held = end.acquire_before(|| limit.of_lock()).ok_or_else(|| limit.over(self.held_up))?;
        if held.is_poisoned {
            // Who had it has changed all or nothing.
            end.clear_poison();
        }
        Ok(LogGuard { end, held })
    }

    /// Puts a message, for who has the lock of the put end.
    pub(in crate::objects) fn write(&self, lock: &LogGuard<'_>, content: Content<'_>) -> io::Result<()> {
        let item = NewItem { words: content.handles, bytes: content.bytes };
        let position = lock.position();
        let end = end_of(position, item.length()).ok_or_else(|| self.corrupt())?;
        let backed = self.long(BACKED).load(Ordering::Relaxed);
        if end > backed {
            // What is before the message is there, whatever others have written about that.
            let (missing, enough) = (backed.max(position / WINDOW * WINDOW), end.next_multiple_of(WINDOW));
            self.region.memory().back(HEAD + missing..HEAD + enough)?;
            self.long(BACKED).store(enough, Ordering::Relaxed);
        }
        with(&self.put_view, |view| view.write(&self.region, position, item))?;
        lock.commit(end);
        Ok(())
    }

    /// For who has the lock of the put end: messages were taken up to this position at most. If more was taken than was
    /// put, nobody who puts would ever wait for room.
    pub(in crate::objects) fn check_taken(&self, lock: &LogGuard<'_>, taken: u64) -> io::Result<()> {
        if taken <= lock.position() { Ok(()) } else { Err(self.corrupt()) }
    }

    /// The same of the number of messages.
    pub(in crate::objects) fn check_gets(&self, _: &LogGuard<'_>) -> io::Result<()> {
        if self.gets() <= self.puts() { Ok(()) } else { Err(self.corrupt()) }
    }

    /// The first message, for who has the lock of the get end.
    pub(in crate::objects) fn read(&self, lock: &LogGuard<'_>) -> io::Result<Peeled> {
        let last = self.put.snapshot().ok_or_else(|| self.corrupt())?;
        let read = |view: &mut MappedPart| {
            let mut item = view.item(&self.region, lock.position(), last)?.ok_or_else(|| self.corrupt())?;
            let handles = self.handles(view, &mut item)?;
            let mut bytes = cache::take_recycled();
            bytes.try_reserve_exact(item.length as usize).map_err(|_| io::ErrorKind::OutOfMemory)?;
            os::prefer_huge_pages(bytes.spare_capacity_mut());
            view.read(&self.region, &item, &mut bytes)?;
            Ok(Peeled { bytes, handles, end: item.end })
        };
        with(&self.get_view, read)
    }

    #[inline]
    fn handles(&self, view: &mut MappedPart, item: &mut StoredItem) -> io::Result<Option<CarriedHandles>> {
        if !item.has_handles {
            return Ok(None);
        }
        let words = view.handles(&self.region, item)?.ok_or_else(|| self.corrupt())?;
        CarriedHandles::of(words).map(Some).ok_or_else(|| self.corrupt())
    }

    /// Takes off the first message, which was read, and gives back memory that is behind it.
    pub(in crate::objects) fn take(&self, lock: &LogGuard<'_>, message: &Peeled) {
        self.take_to(lock, message.end);
    }

    fn take_to(&self, lock: &LogGuard<'_>, end: u64) {
        lock.commit(end);
        let (freed, free) = (self.long(FREED).load(Ordering::Relaxed), end / WINDOW * WINDOW);
        if free > freed {
            self.region.memory().discard(HEAD + freed..HEAD + free);
            self.long(FREED).store(free, Ordering::Relaxed);
        }
    }

    /// Takes off the messages that are there now, without reading them, for who has the lock of the get end. It is told
    /// the handles of each.
    pub(in crate::objects) fn clear(&self, lock: &LogGuard<'_>, mut taken: impl FnMut(Option<CarriedHandles>)) {
        // What is put meanwhile stays.
        for _ in 0..self.most() {
            let Some((handles, end)) = self.stored(lock.position()) else { break };
            self.take_to(lock, end);
            taken(handles);
        }
    }

    /// The handles of all messages that are there, for who has both locks.
    pub(in crate::objects) fn all_handles(&self, lock: &LogGuard<'_>) -> Vec<CarriedHandles> {
        let (mut position, mut all) = (lock.position(), Vec::new());
        for _ in 0..self.most() {
            let Some((handles, end)) = self.stored(position) else { break };
            all.extend(handles);
            position = end;
        }
        all
    }

    /// There are no more messages than there is memory.
    fn most(&self) -> u64 {
        self.length().min(self.region.memory().resident() / 8)
    }

    /// What handles the message there has, and where it ends.
    fn stored(&self, position: u64) -> Option<(Option<CarriedHandles>, u64)> {
        let last = self.put.snapshot()?;
        with(&self.get_view, |view| {
            let mut item = view.item(&self.region, position, last).ok()??;
            let handles = self.handles(view, &mut item).ok()?;
            Some((handles, item.end))
        })
    }

    /// Other processes have written what cannot be.
    pub(in crate::objects) fn corrupt(&self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("the memory of the {} is corrupt", self.what))
    }
}

/// What is behind the head.
pub(in crate::objects) const HEAD: u64 = SPARSE_HEAD as u64;

/// Uses what this process has mapped at one end. Who has the lock of that end is alone, but for a process that was forked
/// while another thread was there.
fn with<R>(view: &Mutex<MappedPart>, act: impl FnOnce(&mut MappedPart) -> R) -> R {
    match try_lock(view) {
        Some(mut view) => act(&mut view),
        None => act(&mut MappedPart::default()),
    }
}
