//! Memory for large arguments, in which the worker reads them where they lie.
//!
//! The caller's copy goes straight into a segment of shared memory; what travels is the segment's number. A worker that
//! has mapped it once finds it again: new memory costs several times as much as to copy into it, so segments are used
//! again and again.
//!
//! A segment is free when nobody but the arena holds it: every call holds those that it speaks of until it has ended.
//! How many there are, and how large they are together, is limited; what finds no place travels like anything small.
//! Free ones are given back when they have not been used for a while.

use crate::{
    memory::{
        cache, payload,
        region::{self, Region},
    },
    os::Memory,
    sync::lock,
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering, fence},
    },
    time::{Duration, Instant},
};

/// From this length on, plain data goes into a segment.
pub(crate) const LARGE: usize = 1 << 18;
/// How many segments there are at the most: each has a descriptor.
const MOST: usize = 32;
/// How many bytes they have together.
const MOST_BYTES: usize = 1 << 30;
/// A free segment that was not used for so long is given back.
const UNUSED: Duration = Duration::from_secs(10);

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

/// What calls speak of that were given up while they ran: their workers are killed, which takes them a moment.
static DOOMED: Mutex<Vec<(Arc<Region>, Instant)>> = Mutex::new(Vec::new());

/// How many pools there are whose collectors give back what is not used. Without any, nothing is kept.
static POOLS: AtomicUsize = AtomicUsize::new(0);

/// A pool has begun that will call [`trim`].
pub(crate) fn pool_began() {
    POOLS.fetch_add(1, Ordering::Relaxed);
}

/// It has ended. With the last one, everything goes that is free.
pub(crate) fn pool_ended() {
    if POOLS.fetch_sub(1, Ordering::Relaxed) == 1 {
        payload::drop_spare();
        cache::drop_spare();
        drop(std::mem::take(&mut *lock(&DOOMED)));
        let unused: Vec<_> = lock(&ARENA).extract_if(.., |segment| segment.is_free()).collect();
        drop(unused);
    }
}

/// Is there somebody who gives back what is not used?
pub(crate) fn may_keep() -> bool {
    POOLS.load(Ordering::Relaxed) > 0
}

/// A call that speaks of these was given up while it may have been running. They are not used again before its worker
/// is certain to be dead.
pub(crate) fn doom(regions: &[Arc<Region>]) {
    if !regions.is_empty() {
        let segments = regions.iter().filter(|region| !region.memory().is_sealed());
        let now = Instant::now();
        lock(&DOOMED).extend(segments.map(|segment| (segment.clone(), now)));
    }
}

/// Copies bytes into a segment, for the call that is being encoded on this thread. None if there is no such call, or no
/// room.
pub(crate) fn deposit(bytes: &[u8]) -> Option<Arc<Region>> {
    if !may_keep() || !region::is_encoding() {
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

/// Gives back what has not been used for a while. Says whether there is more.
pub(crate) fn trim() -> bool {
    let dead: Vec<_> = lock(&DOOMED).extract_if(.., |(_, since)| since.elapsed() > UNUSED).collect();
    drop(dead);
    let mut segments = lock(&ARENA);
    let unused: Vec<_> =
        segments.extract_if(.., |segment| segment.is_free() && segment.used.elapsed() > UNUSED).collect();
    let more = !segments.is_empty();
    drop(segments);
    drop(unused);
    more || !lock(&DOOMED).is_empty()
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
