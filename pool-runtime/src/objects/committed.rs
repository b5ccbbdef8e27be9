//! A value in shared memory that one process at a time changes, and that is whole whenever a process ends.
//!
//! ```text
//!   lock        see memory/robust.rs
//!   holder      the process id of who took it last
//!   version     counts the changes
//!   copy        of the value: that of even versions
//!   copy        that of odd versions
//! ```
//!
//! The lock cannot be kept by a process that ends, and what it guards is whole wherever that happens (`memory/versioned.rs`).
//! It is never borrowed, as others may write whatever they like to this memory, but copied in and out by atomic words.

use crate::error::{Error, Result};
use crate::memory::View;
use crate::memory::parking::Futex;
use crate::memory::region::{Region, register};
use crate::memory::robust::{self, Around, Taken};
use crate::memory::versioned::{self, Versioned};
use crate::objects::Plain;
use crate::objects::written::{load, store};
use crate::os::{self, Memory};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

/// A lock, and the value that it guards. All bytes are zero at first.
pub(super) struct Committed<T> {
    region: Arc<Region>,
    lock: View<AtomicU32, Region>,
    holder: View<AtomicU32, Region>,
    version: View<AtomicU64, Region>,
    /// Where the first copy is.
    copies: usize,
    value: PhantomData<fn() -> T>,
}

/// The lock is had: give it back with [`release`](Committed::release).
#[must_use]
pub(super) struct Held {
    number: u32,
    pub(super) is_poisoned: bool,
}

/// The first bytes of the memory count the processes that have it.
const FIRST: usize = 128;

/// The lock and the version.
const HEAD: usize = 16;

impl<T> Committed<T> {
    /// From one copy to the next.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);
    /// How many bytes it takes. It starts at a multiple of eight.
    pub(super) const SIZE: usize = HEAD + 2 * Self::STRIDE;
    /// Where the one that is [first](in_new_memory_with_room) in its memory ends: a multiple of eight.
    pub(super) const END: usize = FIRST + Self::SIZE;

    /// The one whose first byte is there. An error if the memory ends before it does.
    pub(super) fn at(region: &Arc<Region>, start: usize) -> Result<Self, String> {
        let end = start.checked_add(Self::SIZE).ok_or(NO_ROOM)?;
        if !start.is_multiple_of(8) || end > region.memory().length() {
            return Err(NO_ROOM.into());
        }
        let lock = View::new(region.clone(), |region| region.memory().words().get(start / 4).ok_or(NO_ROOM))?;
        let holder = View::new(region.clone(), |region| region.memory().words().get(start / 4 + 1).ok_or(NO_ROOM))?;
        let version = View::new(region.clone(), |region| region.memory().words().get(start / 8 + 1).ok_or(NO_ROOM))?;
        Ok(Self { region: region.clone(), lock, holder, version, copies: start + HEAD, value: PhantomData })
    }

    /// The one that is alone in its memory, for a process that has just got it.
    pub(super) fn found(region: &Arc<Region>) -> Result<Self, String> {
        // Now, when there is somebody to tell that it cannot.
        region.number().map_err(|error| format!("cannot take part in the lock: {error}"))?;
        Self::at(region, FIRST)
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// The number of changes.
    #[inline]
    pub(super) fn changes(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Takes the lock. None: somebody else has it at the deadline.
    ///
    /// # Panics
    ///
    /// In a forked process that cannot [draw a number](Region::number).
    #[inline]
    pub(super) fn acquire(&self, deadline: Option<Instant>) -> Option<Held> {
        let number = self.number();
        let taken = robust::acquire(&*self.lock, number, deadline, &*self.region)?;
        Some(self.taken(number, taken))
    }

    /// As [`acquire`](Self::acquire); the deadline is only asked for if somebody else has the lock.
    #[inline]
    pub(super) fn acquire_before(&self, deadline: impl FnOnce() -> Option<Instant>) -> Option<Held> {
        let number = self.number();
        let taken = robust::acquire_before(&*self.lock, number, deadline, &*self.region)?;
        Some(self.taken(number, taken))
    }

    /// Takes the lock, if nobody has it who lives.
    pub(super) fn try_acquire(&self) -> Option<Held> {
        let number = self.number();
        let taken = robust::try_acquire(&*self.lock, number, &*self.region)?;
        Some(self.taken(number, taken))
    }

    #[inline]
    fn taken(&self, number: u32, Taken { is_poisoned }: Taken) -> Held {
        self.holder.store(os::current_pid(), Ordering::Relaxed);
        Held { number, is_poisoned }
    }

    /// The number of this process in the lock.
    ///
    /// # Panics
    ///
    /// In a forked process that cannot [draw a number](Region::number).
    #[inline]
    pub(super) fn number(&self) -> u32 {
        match self.region.number() {
            Ok(number) => number,
            Err(error) => panic!("a forked process cannot use the shared memory: {error}"),
        }
    }

    /// Gives the lock back.
    #[inline]
    pub(super) fn release(&self, held: &Held) {
        if self.is_here(held) {
            robust::release(&*self.lock, held.number, &*self.region);
        }
    }

    /// The lock once more, for the thread that has it.
    pub(super) fn held_again(&self) -> Held {
        Held { number: self.number(), is_poisoned: self.is_poisoned() }
    }

    /// Whether the process that has the lock is this one: not one that was forked from it.
    #[inline]
    pub(super) fn is_here(&self, held: &Held) -> bool {
        self.is_this_process(held.number)
    }

    /// Whether this is the process with this number, and not one that was forked from it.
    #[inline]
    pub(super) fn is_this_process(&self, number: u32) -> bool {
        self.region.number().is_ok_and(|own| own == number)
    }

    /// Lets the later holders know that something has gone wrong.
    pub(super) fn poison(&self, held: &Held) {
        if self.is_here(held) {
            robust::poison(&*self.lock);
        }
    }

    pub(super) fn is_poisoned(&self) -> bool {
        robust::is_poisoned(&*self.lock)
    }

    pub(super) fn clear_poison(&self) {
        robust::clear_poison(&*self.lock);
    }

    /// The process that has the lock, as it calls itself.
    pub(super) fn holder(&self) -> Option<u32> {
        robust::owner(&*self.lock).map(|_| self.holder.load(Ordering::Relaxed))
    }
}

/// A value and its lock alone in new memory.
pub(super) fn in_new_memory<T: Plain>(value: T) -> Result<Committed<T>> {
    let name = std::any::type_name::<T>();
    in_new_memory_with_room(&format!("a lock and a value of type `{name}`"), value, 0)
}

/// A value and its lock in new memory that is for `what`, and room for so many bytes after it.
pub(super) fn in_new_memory_with_room<T: Plain>(what: &str, value: T, room: usize) -> Result<Committed<T>> {
    let fail = |error| Error::os(format!("cannot make shared memory for {what}"), error);
    let memory = Memory::writable(Committed::<T>::END + room).map_err(fail)?;
    let committed = Committed::found(&register(memory)).map_err(Error::invalid)?;
    committed.copy_in(0, value);
    Ok(committed)
}

const NO_ROOM: &str = "the shared memory is too short for what it is to hold";

impl<T: Plain> Committed<T> {
    /// The value, for who has the lock.
    #[inline]
    pub(super) fn value(&self, _: &Held) -> T {
        versioned::current(self)
    }

    /// Replaces the value, for who has the lock.
    #[inline]
    pub(super) fn commit(&self, held: &Held, value: T) {
        if self.is_here(held) {
            versioned::commit(self, value);
        }
    }

    /// Has `change` change the value under the lock, as if at once. If it panics, nothing has changed.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        /// Gives the lock back however `change` ends.
        struct Changing<'v, T>(&'v Committed<T>, Held);

        impl<T> Drop for Changing<'_, T> {
            #[inline]
            fn drop(&mut self) {
                self.0.release(&self.1);
            }
        }

        let held = self.acquire(None);
        let changing = Changing(self, held.unwrap_or_else(|| unreachable!("it waits until it has the lock")));
        let mut value = self.value(&changing.1);
        let returned = change(&mut value);
        self.commit(&changing.1, value);
        returned
    }

    /// The value: without the lock, unless it is changed again and again.
    pub(super) fn get(&self) -> T {
        self.snapshot().unwrap_or_else(|| self.change(|value| *value))
    }

    /// The value, without the lock. None: it was changed again and again.
    pub(super) fn snapshot(&self) -> Option<T> {
        versioned::snapshot(self)
    }
}

impl<T: Plain> Versioned for Committed<T> {
    type Value = T;

    #[inline]
    fn version(&self, ordering: Ordering) -> u64 {
        self.version.load(ordering)
    }

    #[inline]
    fn set_version(&self, version: u64, ordering: Ordering) {
        self.version.store(version, ordering);
    }

    #[inline]
    fn copy_out(&self, copy: usize) -> T {
        let mut value = [T::zeroed()];
        load(&self.region, self.copies + copy * Self::STRIDE, &mut value);
        value[0]
    }

    #[inline]
    fn copy_in(&self, copy: usize, value: T) {
        store(&self.region, self.copies + copy * Self::STRIDE, &[value]);
    }

    fn fence(ordering: Ordering) {
        fence(ordering);
    }
}

impl<T> Clone for Committed<T> {
    fn clone(&self) -> Self {
        Self {
            region: self.region.clone(),
            lock: self.lock.clone(),
            holder: self.holder.clone(),
            version: self.version.clone(),
            copies: self.copies,
            value: PhantomData,
        }
    }
}

impl Futex<AtomicU32> for Region {
    fn sleep(&self, word: &AtomicU32, value: u32, nap: Duration) -> bool {
        os::sleep_while(word, value, Some(nap))
    }

    fn wake(&self, word: &AtomicU32, most: u32) {
        os::wake_sleepers(word, most);
    }
}

/// The memory knows who lives that has it.
impl Around<AtomicU32> for Region {
    fn has_ended(&self, number: u32) -> bool {
        self.memory().is_vacant(number)
    }
}
