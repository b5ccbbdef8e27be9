//! Memory that several processes know by a number, and who holds it.
//!
//! ```text
//!   Shared ─▶ Region: id, sealed memory      a call is encoded:  the id ─▶ bytes, the region ─▶ `collect`
//!                ▲                            a worker is sent it: `Ledger` says whether it has the memory already
//!                │                            it arrives:          `Inbox` ─▶ table ◀─ id ◀─ bytes: the call is decoded
//!              table: id ─▶ region            nobody has it left:  `deaths` ─▶ `Ledger` ─▶ release ─▶ table
//! ```
//!
//! A region lives as long as somebody holds it: a `Shared`, a call that was encoded with it and may still run, or, in a
//! worker, the table, until the parent says that it will not be sent again. The table of a process holds what it
//! received, and knows of what it has besides. An id belongs to one region, whichever process made it, so a worker may
//! pass on what it was sent.
//!
//! No region is dropped while the table is locked, as dropping one locks it. Nothing here knows of pools and workers:
//! who sends what to whom is in [`attach`](super::attach).

use crate::os::{Delivery, Handle, HandleRef, Memory, passing};
use crate::sync::lock;
use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Sealed memory, or a segment of the arena, and the number by which all processes know it.
#[derive(Debug)]
pub(crate) struct Region {
    id: u64,
    memory: Memory,
}

/// How many regions this process has ceased to hold.
static DEATHS: AtomicU64 = AtomicU64::new(0);

/// Changes whenever the last holder of a region in this process is gone.
pub(crate) fn deaths() -> u64 {
    DEATHS.load(Ordering::Acquire)
}

/// New memory gets a number, and can be found by it.
pub(crate) fn register(memory: Memory) -> Arc<Region> {
    let mut table = lock(&TABLE);
    let id = std::iter::repeat_with(fresh_id).find(|id| !table.known.contains_key(id)).unwrap_or_default();
    let region = Arc::new(Region { id, memory });
    table.known.insert(id, Known::Here(Arc::downgrade(&region)));
    region
}

impl Region {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn handle(&self) -> HandleRef<'_> {
        self.memory.handle()
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let mut table = lock(&TABLE);
        // By now, the number may be another region's, if this one was received again.
        if matches!(table.known.get(&self.id), Some(Known::Here(region)) if std::ptr::eq(region.as_ptr(), self)) {
            table.known.remove(&self.id);
        }
        drop(table);
        DEATHS.fetch_add(1, Ordering::Release);
        if let Some(tell) = MOURNER.get() {
            tell();
        }
    }
}

/// Who is told when a region has gone.
static MOURNER: OnceLock<fn()> = OnceLock::new();

/// Has `tell` called whenever the last holder of a region in this process is gone, on that holder's thread. The first
/// one to ask is told.
pub(crate) fn on_death(tell: fn()) {
    let _ = MOURNER.set(tell);
}

/// The regions of which some bytes speak. Without any, it is a null pointer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regions(Option<Box<Listed>>);

#[derive(Clone, Debug)]
struct Listed {
    handles: Vec<Arc<Region>>,
}

impl From<Vec<Arc<Region>>> for Regions {
    #[inline]
    fn from(handles: Vec<Arc<Region>>) -> Self {
        Self((!handles.is_empty()).then(|| Box::new(Listed { handles })))
    }
}

impl Deref for Regions {
    type Target = [Arc<Region>];

    #[inline]
    fn deref(&self) -> &[Arc<Region>] {
        self.0.as_ref().map_or(&[], |listed| &listed.handles)
    }
}

/// A number that no other process draws either: a hash of who draws it and when, under a key that was drawn at random.
pub(crate) fn fresh_id() -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    // A forked process has the key, and another pid.
    KEY.hash_one((std::process::id(), DRAWN.fetch_add(1, Ordering::Relaxed)))
}

thread_local! {
    /// How many regions were found in the call that this thread is encoding, or [`NO_CALL`].
    static ENCODING: Cell<usize> = const { Cell::new(NO_CALL) };
    /// Those regions. A call may be encoded while another one is: the inner one's come last.
    static FOUND: RefCell<Vec<Arc<Region>>> = const { RefCell::new(Vec::new()) };
}

const NO_CALL: usize = usize::MAX;

/// Encodes a call, and returns the regions that its bytes speak of. They must be held as long as the call may run.
///
/// A call without any pays for a look at a thread-local variable, and nothing is allocated for it.
#[inline]
pub(crate) fn collect<R>(encode: impl FnOnce() -> R) -> (R, Regions) {
    /// For when `encode` panics: nothing of this call is left to the one around it, or to the next one.
    struct Restore(usize);

    impl Drop for Restore {
        fn drop(&mut self) {
            drop(take_found());
            ENCODING.set(self.0);
        }
    }

    let outer = Restore(ENCODING.replace(0));
    let encoded = encode();
    let regions = if ENCODING.get() == 0 { Vec::new() } else { take_found() };
    ENCODING.set(outer.0);
    std::mem::forget(outer);
    (encoded, regions.into())
}

/// Takes what was found in the innermost call.
#[cold]
fn take_found() -> Vec<Arc<Region>> {
    let count = ENCODING.replace(0);
    FOUND.with_borrow_mut(|found| found.split_off(found.len() - count))
}

/// Is this thread encoding a call?
pub(crate) fn is_encoding() -> bool {
    ENCODING.get() != NO_CALL
}

/// Notes a region in the call that is being encoded. Returns false if there is none.
pub(crate) fn found(region: &Arc<Region>) -> bool {
    let count = ENCODING.get();
    if count == NO_CALL {
        return false;
    }
    let noted = FOUND.try_with(|found| {
        let mut found = found.borrow_mut();
        // The same one many times in a row is kept once; others that are doubled do no harm.
        if count == 0 || !found.last().is_some_and(|last| Arc::ptr_eq(last, region)) {
            found.push(region.clone());
            ENCODING.set(count + 1);
        }
    });
    noted.is_ok()
}

/// What this process has, and may be asked for.
struct RegionTable {
    known: BTreeMap<u64, Known>,
    /// From how many sockets more can arrive.
    inboxes: usize,
}

enum Known {
    /// As long as somebody holds it.
    Here(Weak<Region>),
    /// Until it is released.
    Received(Arc<Region>),
    /// It was passed to this process, which could not take it.
    Refused(String),
}

static TABLE: Mutex<RegionTable> = Mutex::new(RegionTable { known: BTreeMap::new(), inboxes: 0 });
static ARRIVED: Condvar = Condvar::new();

/// How long a call waits for memory that was sent before it, but on another way. It is only ever as long as that if the
/// process is stopped, or the machine at its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds a region, and waits for one that may be about to arrive.
pub(crate) fn find(id: u64) -> Result<Arc<Region>, String> {
    find_within(id, PATIENCE)
}

pub(crate) fn find_within(id: u64, patience: Duration) -> Result<Arc<Region>, String> {
    let deadline = Instant::now() + patience;
    let mut table = lock(&TABLE);
    loop {
        match table.known.get(&id) {
            Some(Known::Here(region)) => {
                if let Some(region) = region.upgrade() {
                    return Ok(region);
                }
            }
            Some(Known::Received(region)) => return Ok(region.clone()),
            Some(Known::Refused(why)) => {
                // It is told once: the parent brings the memory again, and the next call that needs it waits for that.
                let why = why.clone();
                table.known.remove(&id);
                return Err(why);
            }
            None => {}
        }
        if table.inboxes == 0 {
            return Err(
                "the memory of a `Shared` is not in this process: it is found in the process that made it, and \
                        in workers that were sent it as an argument"
                    .into(),
            );
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("the memory of a `Shared` has not arrived within {patience:?}"));
        }
        table = ARRIVED.wait_timeout(table, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Takes memory that was passed to this process, until it is [released](release).
///
/// What is wrong with it is told to those who look for it.
pub(crate) fn offer(id: u64, handle: io::Result<Handle>) {
    let mut known = match handle.and_then(Memory::open) {
        Ok(memory) => Known::Received(Arc::new(Region { id, memory })),
        Err(error) => Known::Refused(format!("the memory of a `Shared` cannot be taken: {error}")),
    };
    let mut table = lock(&TABLE);
    let before = match table.known.get(&id) {
        Some(Known::Here(region)) => region.upgrade(),
        Some(Known::Received(region)) => Some(region.clone()),
        _ => None,
    };
    // Of one region there is one mapping, however often it is passed.
    let unused = before.map(|before| std::mem::replace(&mut known, Known::Received(before)));
    let replaced = table.known.insert(id, known);
    drop(table);
    ARRIVED.notify_all();
    drop((unused, replaced));
}

/// Makes memory that another process had: it is found by the number that it had there, for as long as this process
/// lives.
pub(crate) fn restore(id: u64, bytes: &[u8]) -> io::Result<()> {
    let region = Arc::new(Region { id, memory: Memory::copy(bytes)? });
    let replaced = lock(&TABLE).known.insert(id, Known::Received(region));
    drop(replaced);
    Ok(())
}

/// Forgets memory that was passed to this process. It stays as long as somebody holds it.
pub(crate) fn release(id: u64) {
    let mut table = lock(&TABLE);
    let released = match table.known.remove(&id) {
        Some(Known::Received(region)) => {
            table.known.insert(id, Known::Here(Arc::downgrade(&region)));
            Some(region)
        }
        Some(here @ Known::Here(_)) => {
            table.known.insert(id, here);
            None
        }
        Some(Known::Refused(_)) | None => None,
    };
    drop(table);
    drop(released);
}

/// Where memory arrives in a worker. As long as there is one, a call waits for memory that is not here yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    socket: Handle,
}

impl Inbox {
    /// To be made before the first call is decoded.
    pub(crate) fn open(socket: Handle) -> Self {
        lock(&TABLE).inboxes += 1;
        Self { socket }
    }

    /// Waits for the next packet and does as it says. Returns false at the end.
    ///
    /// # Errors
    ///
    /// `InvalidData`: a packet that makes no sense; the next one may.
    pub(crate) fn receive(&self) -> io::Result<bool> {
        match passing::receive(&self.socket)? {
            Some(Delivery::Take { id, handle }) => offer(id, handle),
            Some(Delivery::Release { id }) => release(id),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// To be waited for: [`receive`](Inbox::receive) does not wait when it is readable.
    pub(crate) fn handle(&self) -> &Handle {
        &self.socket
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        lock(&TABLE).inboxes -= 1;
        // Nothing more will arrive.
        ARRIVED.notify_all();
    }
}

/// Which regions one worker has.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    given: HashMap<u64, Weak<Region>>,
    /// Of those, what it may not have been able to take.
    doubtful: HashSet<u64>,
    deaths: u64,
}

impl Ledger {
    /// Enters a region that a call speaks of which is about to be sent. True: the worker has to be sent it first.
    pub(crate) fn give(&mut self, region: &Arc<Region>) -> bool {
        self.given.insert(region.id, Arc::downgrade(region)).is_none() || self.doubtful.remove(&region.id)
    }

    /// The worker may not have got a region after all: it is to be sent it again.
    pub(crate) fn doubt(&mut self, region: &Arc<Region>) {
        self.doubtful.insert(region.id);
    }

    /// Strikes out those that nobody here holds any more: the worker is to release them.
    ///
    /// As long as none has gone in the whole process, this only looks at a number.
    pub(crate) fn take_dead(&mut self) -> Vec<u64> {
        // Read before the regions are looked at: one that goes meanwhile is seen now or the next time.
        let deaths = deaths();
        if deaths == self.deaths {
            return Vec::new();
        }
        self.deaths = deaths;
        let dead: Vec<_> = self.given.extract_if(|_, region| region.strong_count() == 0).map(|(id, _)| id).collect();
        self.doubtful.retain(|id| !dead.contains(id));
        dead
    }
}

#[cfg(test)]
pub(crate) fn is_known(id: u64) -> bool {
    lock(&TABLE).known.contains_key(&id)
}
