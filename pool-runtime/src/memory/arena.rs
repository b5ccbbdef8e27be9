//! Shared memory for large arguments, which the worker borrows from it.
//!
//! The arguments are copied into a segment, whose number is sent. Segments are reused: to map new memory costs several
//! times as much as to copy into it.
//!
//! A segment is free when only the arena holds it: a call holds its segments until it has ended. Their number and size
//! are limited: without a free one, the bytes travel as those of a small argument do.
//!
//! A process that has mapped a segment can read whatever is in it later, and what earlier calls have left there. So a
//! confined worker is never given one: its calls get copies (`Encoded::set_apart`), which are used for nothing else.

use crate::locks::lock;
use crate::memory::janitor::{Kept, has_pools};
use crate::memory::referred;
use crate::memory::region::{self, Deposit, Region};
use crate::os::Memory;
use std::cell::RefCell;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// From this length on, plain data goes into a segment.
pub(crate) const LARGE: usize = 1 << 18;

/// At most 32 segments, as each has a descriptor, with 1 GiB together.
pub(super) static ARENA: Mutex<Kept<Arc<Region>>> =
    Mutex::new(Kept::new(32, 1 << 30, |segment| Arc::strong_count(segment) == 1));

/// Copies bytes into a segment, for the call that this thread encodes, whose number will be `at` this place of its bytes.
/// None if there is no such call, or no room.
pub(crate) fn deposit(bytes: &[u8], at: usize) -> Option<Arc<Region>> {
    if !has_pools() || !referred::is_encoding_call() {
        return None;
    }
    let segment = take(bytes.len())?;
    // SAFETY: `take` found the segment free, under the arena's lock, and holds it since: nobody else has it. A worker
    // that still runs a call that has ended may read it, but the result of that call is discarded.
    unsafe { segment.memory().overwrite(bytes) };
    segment.set_deposit(Deposit { length: bytes.len(), at });
    referred::found(&segment).then_some(segment)
}

/// The smallest free segment that is large enough, or a new one.
fn take(length: usize) -> Option<Arc<Region>> {
    let mut arena = lock(&ARENA);
    arena.forget_in_forks();
    let is_free = arena.is_free;
    let fitting = arena.pieces.iter_mut().filter(|piece| is_free(&piece.memory) && piece.size >= length);
    if let Some(segment) = fitting.min_by_key(|piece| piece.size) {
        // Its last holder's reads come before the next writes.
        fence(Ordering::Acquire);
        segment.used = Instant::now();
        return Some(segment.memory.clone());
    }
    let capacity = length.checked_next_power_of_two()?;
    let removed = arena.make_room(capacity)?;
    let segment = region::register(Memory::reusable(capacity).ok()?);
    arena.add(segment.clone(), capacity);
    drop(arena);
    drop(removed);
    Some(segment)
}

/// Holds the regions that a payload refers to while it is read.
#[derive(Debug, Default)]
pub(crate) struct Hold(RefCell<Vec<Arc<Region>>>);

impl Hold {
    /// The first bytes of a segment that was passed to this process.
    pub(crate) fn find(&self, id: u64, length: usize) -> Result<&[u8], String> {
        let region = referred::find(id)?;
        if region.memory().is_writable() {
            return Err("it is memory that others may write".into());
        }
        let bytes: *const [u8] = region.memory().as_bytes().get(..length).ok_or("it is shorter than the call says")?;
        self.0.borrow_mut().push(region);
        // SAFETY: the memory stays mapped while the region is held, which this value does until it is dropped: nothing
        // is ever removed. Its maker does not write to the memory before the call has ended.
        Ok(unsafe { &*bytes })
    }
}
