//! Memory for large arguments, in which the worker reads them where they lie.
//!
//! The caller's copy goes straight into a segment of shared memory; what travels is the segment's number. A worker that
//! has mapped it once finds it again: new memory costs several times as much as to copy into it, so segments are used
//! again and again.
//!
//! A segment is free when nobody but the arena holds it: every call holds those that it speaks of until it has ended.
//! How many there are, and how large they are together, is limited; what finds no place travels like anything small.
//! Free ones are given back when they have not been used for a while.

use crate::memory::janitor::has_pools;
use crate::memory::region::{self, Region};
use crate::os::Memory;
use crate::sync::lock;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// From this length on, plain data goes into a segment.
pub(crate) const LARGE: usize = 1 << 18;
/// How many segments there are at the most: each has a descriptor.
const MOST: usize = 32;
/// How many bytes they have together.
const MOST_BYTES: usize = 1 << 30;

struct Segment {
    handle: Arc<Region>,
    capacity: usize,
    used: Instant,
}

impl Segment {
    fn is_free(&self) -> bool {
        Arc::strong_count(&self.handle) == 1
    }
}

static ARENA: Mutex<Vec<Segment>> = Mutex::new(Vec::new());

/// Copies bytes into a segment, for the call that is being encoded on this thread. None if there is no such call, or no
/// room.
pub(crate) fn deposit(bytes: &[u8]) -> Option<Arc<Region>> {
    if !has_pools() || !region::is_encoding() {
        return None;
    }
    let handle = take(bytes.len())?;
    // SAFETY: `take` found the segment free, under the arena's lock, and holds it since: it is nobody else's now. A
    // call that has ended is not run by anybody whose result counts.
    unsafe { handle.memory().overwrite(bytes) };
    region::found(&handle).then_some(handle)
}

fn take(length: usize) -> Option<Arc<Region>> {
    let mut segments = lock(&ARENA);
    let fits = |segment: &&mut Segment| segment.is_free() && segment.capacity >= length;
    // The smallest that is large enough.
    if let Some(segment) = segments.iter_mut().filter(fits).min_by_key(|segment| segment.capacity) {
        // What its last holder did with it comes before what is done now.
        fence(Ordering::Acquire);
        segment.used = Instant::now();
        return Some(segment.handle.clone());
    }
    // Those that are free are too small: they make room.
    let total = |segments: &[Segment]| segments.iter().map(|segment| segment.capacity).sum::<usize>();
    let capacity = length.checked_next_power_of_two().filter(|capacity| *capacity <= MOST_BYTES)?;
    let mut dropped = Vec::new();
    while segments.len() >= MOST || total(&segments) + capacity > MOST_BYTES {
        let unneeded = segments.iter().position(Segment::is_free)?;
        dropped.push(segments.swap_remove(unneeded));
    }
    let handle = region::register(Memory::reusable(capacity).ok()?);
    segments.push(Segment { handle: handle.clone(), capacity, used: Instant::now() });
    drop(segments);
    drop(dropped);
    Some(handle)
}

/// Gives back the free segments that have not been used for so long. Says whether there are more.
pub(super) fn trim(unused: Duration) -> bool {
    let mut segments = lock(&ARENA);
    let old: Vec<_> =
        segments.extract_if(.., |segment| segment.is_free() && segment.used.elapsed() >= unused).collect();
    let more = !segments.is_empty();
    drop(segments);
    drop(old);
    more
}

/// Keeps what a payload speaks of while it is read.
#[derive(Debug, Default)]
pub(crate) struct Hold(std::cell::RefCell<Vec<Arc<Region>>>);

impl Hold {
    /// The first bytes of a segment that was passed to this process.
    pub(crate) fn find(&self, id: u64, length: usize) -> Result<&[u8], String> {
        let handle = region::find(id)?;
        let bytes: *const [u8] = handle.memory().as_bytes().get(..length).ok_or("it is shorter than was said")?;
        self.0.borrow_mut().push(handle);
        // SAFETY: the memory stays mapped as long as somebody holds the region, which this value does from now on and
        // until it is dropped: nothing is ever taken out. Its maker leaves the memory alone until the call has ended.
        Ok(unsafe { &*bytes })
    }
}
