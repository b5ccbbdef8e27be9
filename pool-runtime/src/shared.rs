//! Values in memory that caller and workers share: made once, sent to any number of calls, read where they lie.
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
//! who sends what to whom is the [courier](crate::courier)'s.

use crate::{
    error::{Error, Result},
    job::lock,
    os::{
        self, Draft, Memory, View,
        passing::{self, Received},
    },
};
use bytemuck::{AnyBitPattern, NoUninit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, hash_map::RandomState},
    fmt,
    hash::BuildHasher,
    io,
    ops::Deref,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Condvar, LazyLock, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What can lie in shared memory: plain data, whose bytes mean the same in every process.
///
/// Numbers and arrays of numbers are. A type of your own is if it derives `bytemuck`'s `NoUninit` and `AnyBitPattern`;
/// there is nothing else to implement.
///
/// ```
/// use bytemuck::{AnyBitPattern, NoUninit};
/// use pool_runtime::Shared;
///
/// #[derive(Clone, Copy, NoUninit, AnyBitPattern)]
/// #[repr(C)]
/// struct Point {
///     x: f32,
///     y: f32,
/// }
///
/// let points = Shared::new(&[Point { x: 1.0, y: 2.0 }])?;
/// assert_eq!(points[0].y, 2.0);
/// # Ok::<(), pool_runtime::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot lie in shared memory",
    label = "this type is not plain data",
    note = "only the bytes of a value are shared, so there can be no pointers, no padding and no invalid values in \
            them: derive `bytemuck::NoUninit` and `bytemuck::AnyBitPattern` for the type, or send it as an ordinary \
            argument"
)]
pub trait Plain: NoUninit + AnyBitPattern {}
// Reports the trait itself, once, instead of those of bytemuck that are missing.
#[diagnostic::do_not_recommend]
impl<T: NoUninit + AnyBitPattern> Plain for T {}

/// A slice in memory that workers read where it lies: made once, and passed to any number of calls without a copy.
///
/// It is an argument as any other, by itself or inside of one, and in the task it is a slice. Whatever its length, a
/// call with it costs no more than one with a few numbers. Cloning it does not copy the values either.
///
/// Nobody can change it, neither here nor in a worker. The memory is freed when nobody has it any more: no clone of
/// it, no call that was submitted with it, and no task that has kept it; also if processes are killed, as it has no
/// name that could be left behind. Until then it is an open file in each process that has it.
///
/// ```
/// use pool_runtime::Shared;
///
/// let primes = Shared::new(&[2_u32, 3, 5, 7])?;
/// assert_eq!(primes.len(), 4);
/// assert_eq!(primes.iter().sum::<u32>(), 17);
///
/// let squares = Shared::from_fn(1000, |index| (index * index) as f64)?;
/// assert_eq!(squares[3], 9.0);
/// # Ok::<(), pool_runtime::Error>(())
/// ```
///
/// What a task returns is sent back by value: a `Shared` in it is an error, and so is serializing one for anything but
/// a call.
pub struct Shared<T: ?Sized> {
    view: View<T, Region>,
}

impl<T> Shared<[T]> {
    /// Copies values into new shared memory.
    ///
    /// It takes as long as a clone of a `Vec` of them.
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files: each `Shared` is one.
    pub fn new(values: &[T]) -> Result<Self>
    where
        T: Plain,
    {
        let length = bytes_of::<T>(values.len())?;
        Self::make(length, || Memory::copy(bytemuck::cast_slice(values)))
    }

    /// Makes `length` values in new shared memory, from their indices.
    ///
    /// ```
    /// # use pool_runtime::Shared;
    /// let halves = Shared::from_fn(3, |index| index as f32 / 2.0)?;
    /// assert_eq!(*halves, [0.0, 0.5, 1.0]);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// If `make` does.
    pub fn from_fn(length: usize, mut make: impl FnMut(usize) -> T) -> Result<Self>
    where
        T: Plain,
    {
        Self::make(bytes_of::<T>(length)?, || {
            // Not larger than the processor's cache: from there it costs less than to fill new pages in place.
            let at_once = (PART / size_of::<T>().max(1)).max(1);
            let mut draft = Draft::new(length * size_of::<T>())?;
            let mut part = Vec::with_capacity(at_once.min(length));
            for start in (0..length).step_by(at_once) {
                part.clear();
                part.extend((start..length.min(start.saturating_add(at_once))).map(&mut make));
                draft.append(bytemuck::cast_slice(&part))?;
            }
            draft.seal()
        })
    }

    /// Makes new shared memory of `length` values, which are all zero until `fill` has filled them in place.
    ///
    /// For what is read from a file, or comes in no order; where it can be had, [`from_fn`](Self::from_fn) and
    /// [`new`](Self::new) are faster.
    ///
    /// ```
    /// # use pool_runtime::Shared;
    /// let counts = Shared::filled(256, |counts: &mut [u32]| {
    ///     for byte in "to be or not to be".bytes() {
    ///         counts[usize::from(byte)] += 1;
    ///     }
    /// })?;
    /// assert_eq!(counts[usize::from(b'o')], 4);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// If `fill` does.
    pub fn filled(length: usize, fill: impl FnOnce(&mut [T])) -> Result<Self>
    where
        T: Plain,
    {
        let length = bytes_of::<T>(length)?;
        Self::make(length, || Memory::create(length, |bytes| fill(bytemuck::cast_slice_mut(bytes))))
    }

    fn make(length: usize, memory: impl FnOnce() -> io::Result<Memory>) -> Result<Self>
    where
        T: Plain,
    {
        let memory =
            memory().map_err(|error| Error::os(format!("cannot make {length} bytes of shared memory"), error))?;
        Self::of(Region::register(memory)).map_err(Error::invalid)
    }

    fn of(region: Handle) -> Result<Self, String>
    where
        T: Plain,
    {
        let view = View::new(region, |region| bytemuck::try_cast_slice(region.memory.as_bytes()));
        let fail = |error| format!("shared memory does not hold values of `{}`: {error}", std::any::type_name::<T>());
        Ok(Self { view: view.map_err(fail)? })
    }
}

/// How many bytes are written at once where values are made one by one.
const PART: usize = 1 << 16;

fn bytes_of<T>(length: usize) -> Result<usize> {
    let name = std::any::type_name::<T>();
    if size_of::<T>() == 0 && length > 0 {
        return Err(Error::invalid(format!("`{name}` has no size: there is nothing to share")));
    }
    if align_of::<T>() > os::PAGE {
        return Err(Error::invalid(format!("`{name}` cannot lie in shared memory: it is aligned beyond a page")));
    }
    length
        .checked_mul(size_of::<T>())
        .ok_or_else(|| Error::os(format!("cannot make shared memory of {length} `{name}`"), io::ErrorKind::OutOfMemory))
}

impl<T: ?Sized> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.view
    }
}

impl<T: ?Sized> AsRef<T> for Shared<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

/// Another holder of the same memory.
impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { view: self.view.clone() }
    }
}

/// The type and the length, not the values.
impl<T> fmt::Debug for Shared<[T]> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared<[{}]>({} values)", std::any::type_name::<T>(), self.len())
    }
}

/// Are the values equal?
impl<T: ?Sized + PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: ?Sized + Eq> Eq for Shared<T> {}

impl<'s, T> IntoIterator for &'s Shared<[T]> {
    type Item = &'s T;
    type IntoIter = std::slice::Iter<'s, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Copies: see [`Shared::new`].
impl<T: Plain> TryFrom<&[T]> for Shared<[T]> {
    type Error = Error;

    fn try_from(values: &[T]) -> Result<Self> {
        Self::new(values)
    }
}

/// Copies: see [`Shared::new`].
impl<T: Plain> TryFrom<Vec<T>> for Shared<[T]> {
    type Error = Error;

    fn try_from(values: Vec<T>) -> Result<Self> {
        Self::new(&values)
    }
}

/// For the arguments of a call only: writes which memory it is, and not the values.
impl<T: Plain> Serialize for Shared<[T]> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let region = self.view.holder();
        if !found(region) {
            return Err(ser::Error::custom(
                "a `Shared` can be sent as an argument of a task only: send or store its values (`.to_vec()`)",
            ));
        }
        (region.id, region.memory.as_bytes().len() as u64, size_of::<T>() as u64).serialize(serializer)
    }
}

/// For the arguments of a call only: finds the memory that was passed to this process.
impl<'de, T: Plain> Deserialize<'de> for Shared<[T]> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (id, length, element) = <(u64, u64, u64)>::deserialize(deserializer)?;
        if element != size_of::<T>() as u64 {
            return Err(de::Error::custom(format!(
                "a `Shared` of elements of {element} bytes is read as one of `{}`, which has {}",
                std::any::type_name::<T>(),
                size_of::<T>()
            )));
        }
        let region = find(id).map_err(de::Error::custom)?;
        if !region.memory.is_sealed() {
            return Err(de::Error::custom("the memory of a `Shared` is not sealed: it could change"));
        }
        match region.memory.as_bytes().len() as u64 {
            found if found == length => Self::of(region).map_err(de::Error::custom),
            found => {
                Err(de::Error::custom(format!("the memory of a `Shared` has {found} bytes, and {length} were written")))
            }
        }
    }
}

/// Sealed memory, or a segment of the arena, and the number by which all processes know it.
#[derive(Debug)]
pub(crate) struct Region {
    id: u64,
    memory: Memory,
}

/// Holds a region: whoever has one keeps the memory.
pub(crate) type Handle = Arc<Region>;

/// How many regions this process has ceased to hold.
static DEATHS: AtomicU64 = AtomicU64::new(0);

/// Changes whenever the last holder of a region in this process is gone.
pub(crate) fn deaths() -> u64 {
    DEATHS.load(Ordering::Acquire)
}

/// New memory gets a number, and can be found by it.
pub(crate) fn register(memory: Memory) -> Handle {
    Region::register(memory)
}

impl Region {
    fn register(memory: Memory) -> Handle {
        let mut table = lock(&TABLE);
        let id = std::iter::repeat_with(fresh_id).find(|id| !table.known.contains_key(id)).unwrap_or_default();
        let region = Arc::new(Self { id, memory });
        table.known.insert(id, Known::Here(Arc::downgrade(&region)));
        region
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.memory.fd()
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

/// Has `tell` called whenever the last holder of a region in this process is gone, on that holder's thread. The first one
/// to ask is told.
pub(crate) fn on_death(tell: fn()) {
    let _ = MOURNER.set(tell);
}

/// The regions of which some bytes speak. Without any, it is a null pointer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regions(Option<Box<Listed>>);

#[derive(Clone, Debug)]
struct Listed {
    handles: Vec<Handle>,
}

impl From<Vec<Handle>> for Regions {
    #[inline]
    fn from(handles: Vec<Handle>) -> Self {
        Self((!handles.is_empty()).then(|| Box::new(Listed { handles })))
    }
}

impl Deref for Regions {
    type Target = [Handle];

    #[inline]
    fn deref(&self) -> &[Handle] {
        self.0.as_ref().map_or(&[], |listed| &listed.handles)
    }
}

/// A number that no other process draws either: a hash of who draws it and when, under a key that was drawn at random.
fn fresh_id() -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    // A forked process has the key, and another pid.
    KEY.hash_one((std::process::id(), DRAWN.fetch_add(1, Ordering::Relaxed)))
}

thread_local! {
    /// How many regions were found in the call that this thread is encoding, or [`NO_CALL`].
    static ENCODING: Cell<usize> = const { Cell::new(NO_CALL) };
    /// Those regions. A call may be encoded while another one is: the inner one's come last.
    static FOUND: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
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
fn take_found() -> Vec<Handle> {
    let count = ENCODING.replace(0);
    FOUND.with_borrow_mut(|found| found.split_off(found.len() - count))
}

/// Is this thread encoding a call?
pub(crate) fn is_encoding() -> bool {
    ENCODING.get() != NO_CALL
}

/// Notes a region in the call that is being encoded. Returns false if there is none.
pub(crate) fn found(region: &Handle) -> bool {
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
struct Table {
    known: BTreeMap<u64, Known>,
    /// From how many sockets more can arrive.
    inboxes: usize,
}

enum Known {
    /// As long as somebody holds it.
    Here(Weak<Region>),
    /// Until it is released.
    Received(Handle),
    /// It was passed to this process, which could not take it.
    Refused(String),
}

static TABLE: Mutex<Table> = Mutex::new(Table { known: BTreeMap::new(), inboxes: 0 });
static ARRIVED: Condvar = Condvar::new();

/// How long a call waits for memory that was sent before it, but on another way. It is only ever as long as that if the
/// process is stopped, or the machine at its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds a region, and waits for one that may be about to arrive.
pub(crate) fn find(id: u64) -> Result<Handle, String> {
    find_within(id, PATIENCE)
}

fn find_within(id: u64, patience: Duration) -> Result<Handle, String> {
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
            Some(Known::Refused(why)) => return Err(why.clone()),
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
fn offer(id: u64, fd: io::Result<OwnedFd>) {
    let mut known = match fd.and_then(Memory::open) {
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

/// Forgets memory that was passed to this process. Whoever holds it still has it.
fn release(id: u64) {
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
    socket: OwnedFd,
}

impl Inbox {
    /// To be made before the first call is decoded.
    pub(crate) fn open(socket: OwnedFd) -> Self {
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
            Some(Received::Take { id, fd }) => offer(id, fd),
            Some(Received::Release { id }) => release(id),
            None => return Ok(false),
        }
        Ok(true)
    }
}

/// To be polled: [`receive`](Inbox::receive) does not wait when it is readable.
impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
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
    deaths: u64,
}

impl Ledger {
    /// Enters a region that a call speaks of which is about to be sent. True: the worker has to be sent it first.
    pub(crate) fn give(&mut self, region: &Handle) -> bool {
        self.given.insert(region.id, Arc::downgrade(region)).is_none()
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
        self.given.extract_if(|_, region| region.strong_count() == 0).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{CodecError, Reader, Writer};
    use os::passing::Passed;
    use std::panic;

    fn encoded<T: Serialize + ?Sized>(value: &T) -> (Vec<u8>, Regions) {
        let (bytes, regions) = collect(|| {
            let mut writer = Writer::new();
            writer.value(value).unwrap();
            writer.into_bytes()
        });
        (bytes, regions)
    }

    fn decoded<T: de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        let mut reader = Reader::new(bytes);
        let value = reader.value()?;
        reader.finish()?;
        Ok(value)
    }

    /// The bytes of a `Shared` that another process made.
    fn foreign(id: u64, values: &Shared<[f64]>) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.value(&(id, values.len() as u64 * 8, 8_u64)).unwrap();
        writer.into_bytes()
    }

    fn fd(shared: &Shared<[f64]>) -> io::Result<OwnedFd> {
        shared.view.holder().fd().try_clone_to_owned()
    }

    #[derive(Clone, Copy, Debug, PartialEq, NoUninit, AnyBitPattern)]
    #[repr(C)]
    struct Point {
        x: f64,
        y: f32,
        z: f32,
    }

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Job {
        name: String,
        points: Option<Shared<[Point]>>,
        weights: Vec<(u8, Shared<[f64]>)>,
    }

    #[test]
    fn all_ways_make_the_same_values() {
        let values: Vec<u32> = (0..100_000).map(|n| n * 3).collect();
        let copied = Shared::new(&values).unwrap();
        assert_eq!(copied.as_ref(), values);
        assert_eq!(Shared::from_fn(values.len(), |index| index as u32 * 3).unwrap(), copied);
        let filled = Shared::filled(values.len(), |place: &mut [u32]| {
            assert!(place.iter().all(|value| *value == 0));
            place.copy_from_slice(&values);
        });
        assert_eq!(filled.unwrap(), copied);
        assert_eq!(Shared::try_from(&values[..]).unwrap(), copied);
        assert_eq!((&copied).into_iter().copied().collect::<Vec<_>>(), values);
        assert_eq!(Shared::try_from(values).unwrap(), copied);
        assert_eq!(format!("{copied:?}"), "Shared<[u32]>(100000 values)");
        // Elements that do not divide what is written at once.
        let odd = Shared::from_fn(50_000, |index| [index as u8, 1, 2]).unwrap();
        assert_eq!((odd[49_999], odd.len()), ([49_999_u32 as u8, 1, 2], 50_000));
        assert!(Shared::<[f64]>::new(&[]).unwrap().is_empty());
        assert!(Shared::<[Point]>::from_fn(0, |_| unreachable!()).unwrap().is_empty());
        assert!(Shared::<[()]>::new(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_shared_is_an_error() {
        let error = Shared::<[f64]>::filled(usize::MAX, |_| unreachable!()).unwrap_err();
        assert!(error.to_string().starts_with("cannot make shared memory of 18446744073709551615 `f64`"), "{error}");
        let error = Shared::<[f64]>::from_fn(1 << 47, |_| unreachable!()).unwrap_err();
        assert!(error.to_string().starts_with("cannot make 1125899906842624 bytes of shared memory: "), "{error}");
        assert!(Shared::new(&[(), ()]).is_err());
        assert!(Shared::from_fn(2, |_| ()).is_err());

        #[derive(Clone, Copy, NoUninit, AnyBitPattern)]
        #[repr(C, align(8192))]
        struct Wide([[u8; 4096]; 2]);
        assert!(Shared::new(&[Wide([[0; 4096]; 2])]).is_err());
    }

    #[test]
    fn it_travels_inside_of_any_argument() {
        let points = Shared::new(&[Point { x: 1.0, y: 2.0, z: 3.0 }]).unwrap();
        let weights = Shared::new(&[0.5; 1000]).unwrap();
        let job = Job {
            name: "fit".into(),
            points: Some(points.clone()),
            weights: vec![(1, weights.clone()), (2, weights.clone())],
        };
        let (bytes, regions) = encoded(&job);
        assert!(bytes.len() < 200);
        let ids: Vec<u64> = regions.iter().map(|region| region.id()).collect();
        assert_eq!(ids, [points.view.holder().id(), weights.view.holder().id()]);
        let back: Job = decoded(&bytes).unwrap();
        assert_eq!(back, job);
        // In the process that made it, it is the same memory again.
        assert!(Arc::ptr_eq(back.weights[1].1.view.holder(), weights.view.holder()));
        // Lent, and in a tuple.
        assert_eq!(decoded::<(u8, Shared<[f64]>)>(&encoded(&(7_u8, &weights)).0).unwrap(), (7, weights));
    }

    #[test]
    #[expect(clippy::needless_borrow, reason = "as the macro writes it")]
    fn macros_take_it_as_any_value() {
        #[expect(unused_imports, reason = "as the macro brings them in: look-up picks one")]
        use crate::codec::{Probe, rank0::*, rank1::*, rank2::*, rank3::*, rank4::*};
        let shared = Shared::new(&[1.0, 2.0]).unwrap();
        let (bytes, regions) = collect(|| {
            let mut writer = Writer::new();
            (&&&&&Probe::<Shared<[f64]>>::new()).check();
            (&&&&&Probe::<Shared<[f64]>>::new()).encode(&shared, &mut writer).unwrap();
            writer.into_bytes()
        });
        assert_eq!(regions.len(), 1);
        let lent = (&&&&&Probe::<Shared<[f64]>>::new()).lend(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(*lent, [1.0, 2.0]);
    }

    #[test]
    fn a_call_holds_what_it_speaks_of() {
        let shared = Shared::new(&[1.0]).unwrap();
        let (bytes, regions) = encoded(&shared);
        let memory = Arc::downgrade(shared.view.holder());
        drop(shared);
        assert_eq!(*decoded::<Shared<[f64]>>(&bytes).unwrap(), [1.0]);
        let before = deaths();
        drop(regions);
        assert!(memory.upgrade().is_none());
        assert_ne!(deaths(), before);
        let error = decoded::<Shared<[f64]>>(&bytes);
        assert!(error.is_err(), "{error:?}");
    }

    #[test]
    fn only_calls_can_carry_it() {
        let shared = Shared::new(&[1.0]).unwrap();
        let error = Writer::new().value(&shared).unwrap_err();
        assert!(error.to_string().contains("as an argument of a task only"), "{error}");
        assert!(encoded(&5_u8).1.is_empty());
        assert_eq!(Arc::strong_count(shared.view.holder()), 1);
    }

    #[test]
    fn calls_inside_of_calls_and_panics_do_not_mix() {
        let [outer, inner, lost] = [1.0, 2.0, 3.0].map(|value| Shared::new(&[value]).unwrap());
        let ids = |regions: &[Handle]| regions.iter().map(|region| region.id).collect::<Vec<_>>();
        let (within, around) = collect(|| {
            encode_all([&outer, &outer]);
            let ((), within) = collect(|| encode_all([&inner, &outer, &inner]));
            let caught = panic::catch_unwind(panic::AssertUnwindSafe(|| {
                collect(|| {
                    encode_all([&lost]);
                    panic!("while encoding");
                })
            }));
            assert!(caught.is_err());
            encode_all([&inner]);
            within
        });
        assert_eq!(ids(&within), [inner.view.holder().id, outer.view.holder().id, inner.view.holder().id]);
        assert_eq!(ids(&around), [outer.view.holder().id, inner.view.holder().id]);
        assert_eq!(Arc::strong_count(lost.view.holder()), 1);
        assert!(Writer::new().value(&outer).is_err());

        fn encode_all<const N: usize>(all: [&Shared<[f64]>; N]) {
            Writer::new().value(&all[..]).unwrap();
        }
    }

    #[test]
    fn elements_of_another_size_are_an_error() {
        let shared = Shared::new(&[1.0_f64; 3]).unwrap();
        let (bytes, _regions) = encoded(&shared);
        let error = decoded::<Shared<[[u8; 3]]>>(&bytes).unwrap_err();
        assert!(error.to_string().contains("of elements of 8 bytes is read as one of `[u8; 3]`"), "{error}");
        assert!(decoded::<Shared<[f32]>>(&bytes).is_err());
        // Bytes that lie about the length, or the size of elements.
        for lie in [(shared.view.holder().id, 16, 8), (shared.view.holder().id, 24, 5)] {
            let bytes = encoded(&lie).0;
            assert!(decoded::<Shared<[f64]>>(&bytes).is_err());
            assert!(decoded::<Shared<[[u8; 5]]>>(&bytes).is_err());
        }
    }

    #[test]
    fn what_is_received_lives_until_it_is_released_and_dropped() {
        let (here, there) = passing::pair().unwrap();
        let inbox = Inbox::open(there);
        let made = Shared::new(&[1.0, 2.0]).unwrap();
        let bytes = foreign(1001, &made);
        let waits = std::thread::spawn({
            let bytes = bytes.clone();
            move || decoded::<Shared<[f64]>>(&bytes).unwrap()
        });
        std::thread::sleep(Duration::from_millis(20));
        passing::send(&here, &Passed::Take { id: 1001, fd: made.view.holder().fd() }).unwrap();
        assert!(inbox.receive().unwrap());
        let first = waits.join().unwrap();
        let second: Shared<[f64]> = decoded(&bytes).unwrap();
        assert_eq!((&first, &second), (&made, &made));
        assert!(Arc::ptr_eq(first.view.holder(), second.view.holder()));
        // Passed on from here, it keeps its number.
        assert_eq!(encoded(&first).0, bytes);

        passing::send(&here, &Passed::Release { id: 1001 }).unwrap();
        assert!(inbox.receive().unwrap());
        let third: Shared<[f64]> = decoded(&bytes).unwrap();
        let memory = Arc::downgrade(third.view.holder());
        drop((first, second));
        assert_eq!(third, made);
        drop(third);
        assert!(memory.upgrade().is_none());
        assert!(find_within(1001, Duration::ZERO).is_err());
        drop(here);
        assert!(!inbox.receive().unwrap());
    }

    #[test]
    fn what_is_received_again_is_the_same() {
        let made = Shared::new(&[1.0, 2.0]).unwrap();
        offer(1002, fd(&made));
        let first: Shared<[f64]> = decoded(&foreign(1002, &made)).unwrap();
        offer(1002, fd(&made));
        release(1002);
        release(1002);
        offer(1002, fd(&made));
        let second: Shared<[f64]> = decoded(&foreign(1002, &made)).unwrap();
        assert!(Arc::ptr_eq(first.view.holder(), second.view.holder()));
        drop((first, second));
        assert!(find_within(1002, Duration::ZERO).is_ok());
        release(1002);
        assert!(!lock(&TABLE).known.contains_key(&1002));
    }

    #[test]
    fn what_does_not_arrive_is_an_error() {
        let made = Shared::new(&[1.0]).unwrap();
        offer(1003, Ok(io::pipe().unwrap().0.into()));
        let error = decoded::<Shared<[f64]>>(&foreign(1003, &made)).unwrap_err();
        assert!(error.to_string().contains("cannot be taken: the memory is not sealed"), "{error}");
        release(1003);
        offer(1003, Err(io::ErrorKind::Other.into()));
        assert!(find(1003).is_err());
        release(1003);

        let (_here, there) = passing::pair().unwrap();
        let inbox = Inbox::open(there);
        let error = find_within(1003, Duration::from_millis(10)).unwrap_err();
        assert!(error.contains("has not arrived within 10ms"), "{error}");
        drop(inbox);
    }

    #[test]
    fn numbers_differ() {
        let ids: std::collections::HashSet<u64> = (0..100_000).map(|_| fresh_id()).collect();
        assert_eq!(ids.len(), 100_000);
        // Threads draw from the same numbers, and so do not draw the same ones.
        let other = std::thread::spawn(|| (0..1000).map(|_| fresh_id()).collect::<Vec<_>>()).join().unwrap();
        assert!(other.iter().all(|id| !ids.contains(id)));
        assert!(ids.iter().any(|id| *id > u64::MAX / 2));
    }

    #[test]
    fn a_worker_is_given_each_region_once_and_told_when_it_is_gone() {
        let mut ledger = Ledger::default();
        let [one, two] = [1.0, 2.0].map(|value| Shared::new(&[value]).unwrap());
        let ids = [one.view.holder().id, two.view.holder().id];
        assert!(ledger.give(one.view.holder()) && ledger.give(two.view.holder()) && !ledger.give(one.view.holder()));
        assert!(ledger.take_dead().is_empty());
        let call = encoded(&one);
        drop((one, two));
        assert_eq!(ledger.take_dead(), [ids[1]]);
        drop(call);
        assert_eq!(ledger.take_dead(), [ids[0]]);
        assert!(ledger.take_dead().is_empty() && ledger.given.is_empty());
    }
}
