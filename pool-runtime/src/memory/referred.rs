//! What bytes refer to, while a thread encodes or decodes them.
//!
//! ```text
//!   collect    a handle is encoded: its region ─▶ `found`    the bytes name it; the regions go beside them
//!   came_with  a handle is decoded: `find` ─▶ what came with the bytes ─▶ what this process knows by that number
//! ```
//!
//! Where nothing is collected, nothing can go along with the bytes, and a handle is refused. What a call's arguments refer
//! to is sent on another socket, so it is waited for; what a result or a message refers to has come with it, and is looked
//! for there first: other calls may have been given the same.

use crate::memory::region::{self, Region, Regions};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

/// What this thread encodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// Nothing that regions go along with.
    Nothing,
    /// The arguments of a call. So many regions were found.
    Call(usize),
    /// A result or a message.
    Message(usize),
}

impl Encoding {
    fn count(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Call(count) | Self::Message(count) => count,
        }
    }
}

thread_local! {
    static ENCODING: Cell<Encoding> = const { Cell::new(Encoding::Nothing) };
    /// Those that were found. One thing may be encoded inside of another: the innermost one's come last.
    static FOUND: RefCell<Vec<Arc<Region>>> = const { RefCell::new(Vec::new()) };
}

/// Encodes a result or a message, and returns the regions that its bytes refer to.
///
/// For one without any, this reads a thread-local variable and allocates nothing.
#[inline]
pub(crate) fn collect<R>(encode: impl FnOnce() -> R) -> (R, Regions) {
    collect_for(Encoding::Message(0), encode)
}

/// As [`collect`], of the arguments of a call: they may lie in memory that calls alone use. The regions must be held as
/// long as the call may run.
#[inline]
pub(crate) fn collect_of_call<R>(encode: impl FnOnce() -> R) -> (R, Regions) {
    collect_for(Encoding::Call(0), encode)
}

#[inline]
fn collect_for<R>(what: Encoding, encode: impl FnOnce() -> R) -> (R, Regions) {
    /// If `encode` panics, nothing of this is left to what is around it, or to the next one.
    struct Restore(Encoding);

    impl Drop for Restore {
        fn drop(&mut self) {
            drop(take_found());
            ENCODING.set(self.0);
        }
    }

    let outer = Restore(ENCODING.replace(what));
    let encoded = encode();
    let regions = if ENCODING.get() == what { Vec::new() } else { take_found() };
    ENCODING.set(outer.0);
    std::mem::forget(outer);
    (encoded, regions.into())
}

#[cold]
fn take_found() -> Vec<Arc<Region>> {
    let count = ENCODING.replace(Encoding::Nothing).count();
    FOUND.with_borrow_mut(|found| found.split_off(found.len() - count))
}

/// Whether regions go along with what is encoded.
pub(crate) fn is_encoding() -> bool {
    ENCODING.get() != Encoding::Nothing
}

/// Whether that is a call.
pub(crate) fn is_encoding_call() -> bool {
    matches!(ENCODING.get(), Encoding::Call(_))
}

/// Adds a region to what is being encoded. Returns false if none can go along with it.
pub(crate) fn found(region: &Arc<Region>) -> bool {
    let (count, with_one_more) = match ENCODING.get() {
        Encoding::Nothing => return false,
        Encoding::Call(count) => (count, Encoding::Call(count + 1)),
        Encoding::Message(count) => (count, Encoding::Message(count + 1)),
    };
    let noted = FOUND.try_with(|found| {
        let mut found = found.borrow_mut();
        // Many times the same one in a row is one; other duplicates do no harm. A file is sent, and taken, once for each.
        if region.memory().is_file() || count == 0 || !found.last().is_some_and(|last| Arc::ptr_eq(last, region)) {
            found.push(region.clone());
            ENCODING.set(with_one_more);
        }
    });
    noted.is_ok()
}

/// How long a call waits for memory that was sent before it, on another socket.
const PATIENCE: Duration = Duration::from_secs(60);

/// What this thread decodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decoding {
    /// What they refer to was sent on another socket, or will be.
    Arguments,
    /// A message or a result: what it refers to has come with it.
    WithNothing,
    /// In the list, from this one on.
    WithRegions(usize),
}

thread_local! {
    static DECODING: Cell<Decoding> = const { Cell::new(Decoding::Arguments) };
    static CAME_WITH: RefCell<Vec<Arc<Region>>> = const { RefCell::new(Vec::new()) };
}

/// Decodes a message or a result, which came with these regions: they are found first, and nothing is waited for. Nor is
/// anything taken away from a call whose arguments refer to the same.
#[inline]
pub(crate) fn came_with<R>(regions: &[Arc<Region>], decode: impl FnOnce() -> R) -> R {
    let decoding = if regions.is_empty() { Decoding::WithNothing } else { enlist(regions) };
    let _outer = DecodingBefore(DECODING.replace(decoding));
    decode()
}

/// Restores what the thread was decoding, also after a panic.
struct DecodingBefore(Decoding);

impl Drop for DecodingBefore {
    #[inline]
    fn drop(&mut self) {
        if let Decoding::WithRegions(from) = DECODING.replace(self.0) {
            // They are dropped when the list is not borrowed any more.
            drop(CAME_WITH.try_with(|came| came.borrow_mut().split_off(from)));
        }
    }
}

/// Messages may be decoded inside of one another: the innermost one's regions come last.
#[cold]
fn enlist(regions: &[Arc<Region>]) -> Decoding {
    let from = CAME_WITH.try_with(|came| {
        let mut came = came.borrow_mut();
        let from = came.len();
        came.extend_from_slice(regions);
        // Of many results, there may be many.
        came[from..].sort_unstable_by_key(|region| region.id());
        from
    });
    // On a thread that is about to end, they are found in the table.
    from.map_or(Decoding::WithNothing, Decoding::WithRegions)
}

fn find_that_came(from: usize, id: u64) -> Option<Arc<Region>> {
    let find = |came: &RefCell<Vec<Arc<Region>>>| {
        let came = came.borrow();
        let came = came.get(from..)?;
        came.binary_search_by_key(&id, |region| region.id()).ok().map(|at| came[at].clone())
    };
    CAME_WITH.try_with(find).ok().flatten()
}

/// Finds a region to which the bytes refer that this thread decodes.
pub(crate) fn find(id: u64) -> Result<Arc<Region>, String> {
    find_within(id, PATIENCE)
}

/// As [`find`], and waits no longer than this for one that may still arrive: as long as arguments are decoded.
pub(crate) fn find_within(id: u64, patience: Duration) -> Result<Arc<Region>, String> {
    let decoding = DECODING.get();
    if let Decoding::WithRegions(from) = decoding
        && let Some(region) = find_that_came(from, id)
    {
        return Ok(region);
    }
    region::known(id, (decoding == Decoding::Arguments).then_some(patience))
}

/// As [`find`], of memory that everybody who has it may write.
pub(crate) fn find_writable(id: u64) -> Result<Arc<Region>, String> {
    let region = find(id)?;
    if region.memory().is_writable() { Ok(region) } else { Err("the shared memory is read-only".into()) }
}

/// As [`find`], of a file. That of a call's arguments is taken out of the table.
pub(crate) fn take_file(id: u64) -> Result<Arc<Region>, String> {
    let file = find(id)?;
    if !file.memory().is_file() {
        return Err("it is not an open file, or its process has ended".into());
    }
    if DECODING.get() == Decoding::Arguments {
        region::take_out(&file);
    }
    Ok(file)
}
