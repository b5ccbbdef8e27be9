//! Memory, and other things that are open, which several processes know by a number, and who holds them.
//!
//! ```text
//!   Shared, Array ─▶ Region: id, memory      a call is encoded:  the id ─▶ bytes, the region ─▶ `collect`
//!                ▲                            a worker is sent it: `Ledger` says whether it has the memory already
//!                │                            it arrives:          `Inbox` ─▶ table ◀─ id ◀─ bytes: the call is decoded
//!              table: id ─▶ region            its last holder drops it:  `deaths` ─▶ `Ledger` ─▶ release ─▶ table
//! ```
//!
//! A region lives while it is held: by a `Shared`, by a call that was encoded with it and may still run, or, in a worker,
//! by the table, until the parent releases it. A process's table has what it received, and refers to what else it has.
//! An id belongs to one region, whichever process made it, so a worker can pass on what it was sent.
//!
//! What comes with a result or with an item is held by its bytes (`Regions`) in every process. A file is sent with each
//! call that refers to it, and whoever decodes that call takes it out of the table, so that it is closed with its last
//! holder. How bytes refer to regions is in `referred.rs`.
//!
//! No region may be dropped while the table is locked: its `drop` locks it.

use crate::locks::{lock, sleep_on};
use crate::memory::presence::{self, Presence};
use crate::os::{self, Delivery, Enrolment, Handle, Memory, Outgoing, passing};
use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

/// Sealed or writable memory, a segment of the arena, or a file, with the number by which all processes know it.
#[derive(Debug)]
pub(crate) struct Region {
    id: u64,
    memory: Memory,
    /// What a segment of the arena holds: set by each call that gets it.
    deposit: [AtomicU64; 2],
    /// Which number this process has among those that have the memory.
    presence: Presence,
    /// The same memory, by the handle that came with the number.
    enrolled_by: OnceLock<Arc<Region>>,
    /// The segment of which this is a copy. It is not free as long as its copy is needed, which limits their number.
    _copied: Option<Arc<Region>>,
}

/// What of a segment is an argument's bytes, and where in the call's bytes its number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deposit {
    pub(crate) length: usize,
    pub(crate) at: usize,
}

/// How many regions this process has dropped.
static DEATHS: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
pub(crate) fn deaths() -> u64 {
    DEATHS.load(Ordering::Acquire)
}

/// Gives new memory a number, by which it can be found.
pub(crate) fn register(memory: Memory) -> Arc<Region> {
    register_copy(memory, None)
}

fn register_copy(memory: Memory, copied: Option<Arc<Region>>) -> Arc<Region> {
    let mut table = lock(&TABLE);
    let id = std::iter::repeat_with(fresh_id).find(|id| !table.known.contains_key(id)).unwrap_or_default();
    let region = Arc::new(Region::new(id, memory, copied));
    table.known.insert(id, Known::Here(Arc::downgrade(&region)));
    region
}

impl Region {
    fn new(id: u64, memory: Memory, copied: Option<Arc<Self>>) -> Self {
        let (deposit, presence, enrolled_by) = Default::default();
        Self { id, memory, deposit, presence, enrolled_by, _copied: copied }
    }

    fn received(id: u64, memory: Memory, number: u32) -> Self {
        let mut region = Self::new(id, memory, None);
        region.presence = Presence::given(number);
        region
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The number of this process among those that have this memory, which is writable. It has it for as long as it has
    /// the region.
    #[inline]
    pub(crate) fn number(&self) -> io::Result<u32> {
        self.presence.known().map_or_else(|| self.presence.draw(&self.memory), Ok)
    }

    /// A number for another process that has this memory, with the handle by which it has both. None if this process has
    /// no number itself, as it is not that kind of memory.
    pub(crate) fn number_for_other(&self) -> Option<io::Result<(u32, Enrolment)>> {
        self.presence.is_drawn().then(|| presence::draw(&self.memory))
    }

    /// Notes what this segment of the arena holds. The caller alone has it.
    pub(crate) fn set_deposit(&self, Deposit { length, at }: Deposit) {
        self.deposit[0].store(length as u64, Ordering::Relaxed);
        self.deposit[1].store(at as u64, Ordering::Relaxed);
    }

    /// None: it is no segment of the arena, so that all of it is one thing.
    pub(crate) fn deposit(&self) -> Option<Deposit> {
        let [length, at] = [0, 1].map(|index: usize| self.deposit[index].load(Ordering::Relaxed) as usize);
        (length > 0).then_some(Deposit { length, at })
    }

    /// What whoever holds it may see: not what earlier calls have left in a segment. Of memory that others may write, a
    /// copy.
    pub(crate) fn contents(&self) -> io::Result<Cow<'_, [u8]>> {
        if self.memory.is_writable() {
            return self.memory.read().map(Cow::Owned);
        }
        let bytes = self.memory.as_bytes();
        Ok(Cow::Borrowed(self.deposit().and_then(|deposit| bytes.get(..deposit.length)).unwrap_or(bytes)))
    }

    /// Sends it. The number is that of the receiver among those that have it; or 0.
    pub(crate) fn send(&self, socket: &Handle, number: u32) -> io::Result<()> {
        let (id, handle) = (self.id, self.memory.handle());
        passing::send(
            socket,
            &match self.memory.is_file() {
                true => Outgoing::File { id, handle },
                false => Outgoing::Take { id, number, handle },
            },
        )
    }

    /// A copy of what it holds, under a number of its own.
    pub(crate) fn copy(self: &Arc<Self>) -> io::Result<Arc<Self>> {
        Ok(register_copy(Memory::copy(&self.contents()?)?, Some(self.clone())))
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let mut table = lock(&TABLE);
        // The number is another region's if this one was received again.
        if matches!(table.known.get(&self.id), Some(Known::Here(region)) if std::ptr::eq(region.as_ptr(), self)) {
            table.known.remove(&self.id);
        }
        drop(table);
        DEATHS.fetch_add(1, Ordering::Release);
        if let Some(tell) = ON_DEATH.get() {
            tell();
        }
    }
}

static ON_DEATH: OnceLock<fn()> = OnceLock::new();

/// Has `tell` called after each drop of a region, on the thread that drops it. Only the first caller's is.
pub(crate) fn on_death(tell: fn()) {
    let _ = ON_DEATH.set(tell);
}

/// The regions that some bytes refer to. If there are none, it is a null pointer.
#[derive(Clone, Debug, Default)]
#[expect(clippy::box_collection, reason = "one word instead of three in each call, and most have none")]
pub(crate) struct Regions(Option<Box<Vec<Arc<Region>>>>);

impl From<Vec<Arc<Region>>> for Regions {
    #[inline]
    fn from(regions: Vec<Arc<Region>>) -> Self {
        Self((!regions.is_empty()).then(|| Box::new(regions)))
    }
}

impl Deref for Regions {
    type Target = [Arc<Region>];

    #[inline]
    fn deref(&self) -> &[Arc<Region>] {
        self.0.as_ref().map_or(&[], |regions| regions)
    }
}

/// A number that is unique across processes: a hash of the pid and a counter, with a random key.
pub(crate) fn fresh_id() -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    // A forked process has the same key, but another pid.
    KEY.hash_one((std::process::id(), DRAWN.fetch_add(1, Ordering::Relaxed)))
}

struct RegionTable {
    known: BTreeMap<u64, Known>,
    inboxes: usize,
}

enum Known {
    /// Found while it is held.
    Here(Weak<Region>),
    /// Held until it is released.
    Received(Arc<Region>),
    /// A file, held until it was taken out so many times.
    Passed(Arc<Region>, u32),
    /// It was passed to this process, which failed to map it.
    Refused(String),
}

impl Known {
    fn region(&self) -> Option<Arc<Region>> {
        match self {
            Self::Here(region) => region.upgrade(),
            Self::Received(region) | Self::Passed(region, _) => Some(region.clone()),
            Self::Refused(_) => None,
        }
    }
}

static TABLE: Mutex<RegionTable> = Mutex::new(RegionTable { known: BTreeMap::new(), inboxes: 0 });
static ARRIVED: Condvar = Condvar::new();

/// The region with this number. If it may still arrive, it is waited for, unless there is no `patience`.
pub(super) fn known(id: u64, patience: Option<Duration>) -> Result<Arc<Region>, String> {
    let mut deadline = None;
    let mut table = lock(&TABLE);
    loop {
        if let Some(region) = table.known.get(&id).and_then(Known::region) {
            return Ok(region);
        }
        if let Some(Known::Refused(why)) = table.known.get_mut(&id) {
            // Reported once: the parent sends the memory again, and the next call that needs it waits for that.
            let why = std::mem::take(why);
            table.known.remove(&id);
            return Err(why);
        }
        if table.inboxes == 0 {
            return Err("its shared memory is not in this process: only the process that made it has it, and workers \
                        that were sent it as an argument"
                .into());
        }
        let Some(patience) = patience else {
            return Err("its shared memory, or open file, did not come with it".into());
        };
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
        table = sleep_on(&ARRIVED, table, Some(deadline))
            .ok_or_else(|| format!("its shared memory has not arrived within {patience:?}"))?;
    }
}

/// Adds memory that was passed to this process, until its [`release`]. If that fails, who looks for it is told why.
///
/// With the memory, this process may be given the number that it has among those that have it; or 0.
///
/// Who passes it to this process is believed: what another has sent under the same number is forgotten.
pub(crate) fn offer(id: u64, number: u32, handle: io::Result<Handle>) {
    // A region has one mapping, however often it is passed.
    let before = known_region(id).filter(|before| match &handle {
        Ok(handle) => is_same(before, handle),
        Err(_) => true,
    });
    let known = match (before, handle) {
        (Some(before), Ok(handle)) => {
            // The first time, there may have been no descriptor for it.
            if number != 0
                && !before.presence.is_drawn()
                && let Ok(memory) = Memory::open(handle)
            {
                before.presence.adopt(number);
                let _ = before.enrolled_by.set(Arc::new(Region::received(id, memory, number)));
            }
            Known::Received(before)
        }
        (Some(before), Err(_)) => Known::Received(before),
        (None, handle) => match handle.and_then(Memory::open) {
            Ok(memory) => Known::Received(Arc::new(Region::received(id, memory, number))),
            Err(error) => Known::Refused(not_taken(&error)),
        },
    };
    let replaced = lock(&TABLE).known.insert(id, known);
    ARRIVED.notify_all();
    drop(replaced);
}

fn known_region(id: u64) -> Option<Arc<Region>> {
    lock(&TABLE).known.get(&id).and_then(Known::region)
}

/// Whether a region is what this is a handle of. Anybody can send something under any number.
fn is_same(region: &Region, handle: &Handle) -> bool {
    os::is_same(region.memory.handle(), os::borrow(handle))
}

fn not_taken(error: &io::Error) -> String {
    format!("its shared memory, or open file, cannot be taken: {error}")
}

/// As [`offer`], a file. Each time that it is passed, it is there once more: several calls may have been sent it before
/// the first of them is decoded.
fn offer_file(id: u64, handle: io::Result<Handle>) {
    let opened = handle.and_then(Memory::file).map(|file| Arc::new(Region::received(id, file, 0)));
    let mut table = lock(&TABLE);
    let before = table.known.get(&id).and_then(Known::region);
    // Another has sent something else under the same number.
    let is_other = matches!((&before, &opened), (Some(before), Ok(file)) if !is_same(before, file.memory.open_file()));
    let other = before.as_ref().filter(|_| is_other).cloned();
    let before = before.filter(|_| !is_other);
    let passed_before = match table.known.get(&id) {
        Some(Known::Passed(_, times)) if before.is_some() => *times,
        _ => 0,
    };
    let known = match (&before, &opened) {
        (Some(file), _) | (None, Ok(file)) => Known::Passed(file.clone(), passed_before + 1),
        (None, Err(error)) => Known::Refused(not_taken(error)),
    };
    let replaced = table.known.insert(id, known);
    drop(table);
    ARRIVED.notify_all();
    drop((replaced, before, other, opened));
}

/// Takes what came with a result or an item: who asks holds it. What this process has already is taken from the table.
///
/// # Errors
///
/// It could not be received or mapped; it is no region; or it has the number of another one that this process has.
pub(crate) fn accept(delivery: Delivery) -> Result<Arc<Region>, String> {
    let (id, number, handle, is_file) = match delivery {
        Delivery::Take { id, number, handle } => (id, number, handle, false),
        Delivery::File { id, handle } => (id, 0, handle, true),
        Delivery::Release { .. } | Delivery::Nudge => return Err("a packet without a descriptor".into()),
    };
    let handle = handle.map_err(|error| not_taken(&error))?;
    let as_before = |before: Arc<Region>, handle: &Handle| match is_same(&before, handle) {
        true => Ok(before),
        false => Err("its shared memory, or open file, was sent under a number that another one has".to_owned()),
    };
    // What this process has already is not there twice; a call that was sent it may still look for it.
    if let Some(before) = known_region(id) {
        return as_before(before, &handle);
    }
    let opened = if is_file { Memory::file(handle) } else { Memory::open(handle) };
    let region = Arc::new(Region::received(id, opened.map_err(|error| not_taken(&error))?, number));
    let mut table = lock(&TABLE);
    // It may have come another way meanwhile.
    if let Some(before) = table.known.get(&id).and_then(Known::region) {
        drop(table);
        return as_before(before, region.memory.open_file());
    }
    let replaced = table.known.insert(id, Known::Here(Arc::downgrade(&region)));
    drop(table);
    drop(replaced);
    Ok(region)
}

/// Takes a file that was passed out of the table, once: it is closed when its last holder drops it.
pub(super) fn take_out(file: &Arc<Region>) {
    let mut table = lock(&TABLE);
    match table.known.get_mut(&file.id) {
        Some(Known::Passed(_, times)) if *times > 1 => *times -= 1,
        Some(known) => {
            let held = std::mem::replace(known, Known::Here(Arc::downgrade(file)));
            drop(table);
            drop(held);
        }
        None => {}
    }
}

/// Makes memory with the contents and the number that it had in another process, until this process ends.
pub(crate) fn restore(id: u64, bytes: &[u8], writable: bool) -> io::Result<()> {
    let memory = if writable { Memory::writable_copy(bytes)? } else { Memory::copy(bytes)? };
    let region = Arc::new(Region::new(id, memory, None));
    let replaced = lock(&TABLE).known.insert(id, Known::Received(region));
    drop(replaced);
    Ok(())
}

/// Stops holding memory that was passed to this process. It stays as long as somebody else holds it.
pub(crate) fn release(id: u64) {
    let mut table = lock(&TABLE);
    let released = table.known.remove(&id);
    let region = released.as_ref().and_then(Known::region);
    if let Some(region) = &region {
        table.known.insert(id, Known::Here(Arc::downgrade(region)));
    }
    drop(table);
    // The last holder of a region locks the table.
    drop((released, region));
}

/// Where memory arrives in a worker. While there is one, calls wait for memory that is not there yet.
#[derive(Debug)]
pub(crate) struct Inbox(Arc<Handle>);

impl Inbox {
    /// Must be called before the first call is decoded.
    pub(crate) fn open(socket: Arc<Handle>) -> Self {
        lock(&TABLE).inboxes += 1;
        Self(socket)
    }

    /// Waits for the next packet and processes it. Returns false at the end.
    ///
    /// # Errors
    ///
    /// `InvalidData`: a corrupt packet; the next one may be valid.
    pub(crate) fn receive(&self) -> io::Result<bool> {
        match passing::receive(&self.0)? {
            Some(Delivery::Take { id, number, handle }) => offer(id, number, handle),
            Some(Delivery::File { id, handle }) => offer_file(id, handle),
            Some(Delivery::Release { id }) => release(id),
            Some(Delivery::Nudge) => {}
            None => return Ok(false),
        }
        Ok(true)
    }

    /// When it is readable, [`receive`](Inbox::receive) does not wait.
    pub(crate) fn handle(&self) -> &Handle {
        &self.0
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        lock(&TABLE).inboxes -= 1;
        ARRIVED.notify_all();
    }
}

/// Which regions one worker has.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    given: HashMap<u64, GivenRegion>,
    deaths: u64,
}

#[derive(Debug)]
struct GivenRegion {
    region: Weak<Region>,
    /// The worker may have failed to map it.
    is_doubtful: bool,
}

impl Ledger {
    /// Enters a region that the next call refers to. Returns whether the worker has to be sent it first.
    pub(crate) fn give(&mut self, region: &Arc<Region>) -> bool {
        let given = GivenRegion { region: Arc::downgrade(region), is_doubtful: false };
        self.given.insert(region.id, given).is_none_or(|before| before.is_doubtful) || region.memory.is_file()
    }

    /// The worker may not have got a region: it is to be sent again.
    pub(crate) fn doubt(&mut self, region: &Arc<Region>) {
        if let Some(given) = self.given.get_mut(&region.id) {
            given.is_doubtful = true;
        }
    }

    /// Removes those that nobody in this process holds any more: the worker is to release them.
    ///
    /// This reads one number while no region is dropped in the whole process.
    pub(crate) fn take_dead(&mut self) -> Vec<u64> {
        // Read first: a region that is dropped meanwhile is found now or the next time.
        let deaths = DEATHS.load(Ordering::Acquire);
        if deaths == self.deaths {
            return Vec::new();
        }
        self.deaths = deaths;
        self.given.extract_if(|_, given| given.region.strong_count() == 0).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
pub(crate) fn is_known(id: u64) -> bool {
    lock(&TABLE).known.contains_key(&id)
}
