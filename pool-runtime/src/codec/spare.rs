//! Memory of large vectors of plain data that are done with, for the next ones.
//!
//! The kernel takes several times as long to make new pages as it takes to write to them, and what is that large goes
//! back to it as soon as it is dropped. A caller's argument is done with once it is encoded, a result in a worker once it
//! is sent; the next result, or argument, is about to need as much. So their memory changes hands here: a few pieces are
//! kept, for a few seconds.

use super::arena::{LARGE, may_keep};
use crate::{job::lock, os};
use bytemuck::{AnyBitPattern, NoUninit};
use std::{
    alloc::{Layout, alloc, dealloc},
    mem::{ManuallyDrop, MaybeUninit},
    ptr::NonNull,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How many pieces are kept at the most.
const MOST: usize = 4;
/// How many bytes they have together.
const MOST_BYTES: usize = 1 << 28;
/// Nor is one kept for longer.
const UNUSED: Duration = Duration::from_secs(10);

/// What was the memory of a vector. Its first bytes are initialized.
#[derive(Debug)]
pub(crate) struct Block {
    start: NonNull<u8>,
    initialized: usize,
    memory: Layout,
}

// SAFETY: it owns its memory, in which lie plain bytes that have no ties to a thread.
unsafe impl Send for Block {}

impl Block {
    /// Takes a vector's memory over, with the elements as bytes.
    fn of<T: NoUninit>(values: Vec<T>) -> Option<Self> {
        let memory = Layout::array::<T>(values.capacity()).ok().filter(|memory| memory.size() > 0)?;
        let mut values = ManuallyDrop::new(values);
        let start = NonNull::new(values.as_mut_ptr().cast())?;
        Some(Self { start, initialized: size_of_val(values.as_slice()), memory })
    }

    /// A vector without elements that has this memory. None if it does not fit elements of that type.
    fn into_vec<T>(self) -> Option<Vec<T>> {
        self.fits::<T>().then(|| {
            let block = ManuallyDrop::new(self);
            // SAFETY: the memory was allocated by a vector, that is by the global allocator, with this alignment, and its
            // size is that of so many elements; nobody else has it. No element is said to be there.
            unsafe { Vec::from_raw_parts(block.start.as_ptr().cast(), 0, block.memory.size() / size_of::<T>()) }
        })
    }

    /// A vector of the elements whose bytes these are. The block itself if they do not fit elements of that type.
    pub(crate) fn into_elements<T: AnyBitPattern>(self) -> Result<Vec<T>, Self> {
        let length = self.initialized;
        if size_of::<T>() == 0 || !length.is_multiple_of(size_of::<T>()) || !self.fits::<T>() {
            return Err(self);
        }
        let mut values = self.into_vec::<T>().unwrap_or_default();
        debug_assert!(values.capacity() >= length / size_of::<T>());
        // SAFETY: so many elements' bytes are initialized, and any bytes are such elements (`AnyBitPattern`). It fits, so
        // that the vector has this block's memory.
        unsafe { values.set_len(length / size_of::<T>()) };
        Ok(values)
    }

    /// Memory for so many bytes, aligned as said, with nothing in it. None if there is none.
    pub(crate) fn with_room(size: usize, align: usize) -> Option<Self> {
        // Of the same size exactly: nobody knows yet the size of the elements.
        if let Some(block) = find(|block| block.memory.size() == size && block.memory.align() == align) {
            return Some(block);
        }
        let memory = Layout::from_size_align(size, align).ok().filter(|memory| memory.size() > 0)?;
        // SAFETY: the layout has a size.
        let start = NonNull::new(unsafe { alloc(memory) })?;
        let mut block = Self { start, initialized: 0, memory };
        os::prefer_huge_pages(block.room());
        Some(block)
    }

    /// What is not initialized.
    pub(crate) fn room(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the memory is this value's own, which is borrowed exclusively, and has this size.
        unsafe {
            let room = self.start.as_ptr().add(self.initialized).cast();
            std::slice::from_raw_parts_mut(room, self.memory.size() - self.initialized)
        }
    }

    /// The first so many bytes of the [room](Self::room) are initialized.
    ///
    /// # Safety
    ///
    /// They are.
    pub(crate) unsafe fn advance(&mut self, length: usize) {
        assert!(length <= self.memory.size() - self.initialized);
        self.initialized += length;
    }

    /// Copies bytes to the end of what is initialized; there is room for them.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.room()[..bytes.len()].write_copy_of_slice(bytes);
        // SAFETY: they have been written just now.
        unsafe { self.advance(bytes.len()) };
    }

    pub(crate) fn align(&self) -> usize {
        self.memory.align()
    }

    /// Has it room for so many bytes, and not much more?
    fn has(&self, size: usize) -> bool {
        (size..=size + size / 4).contains(&self.memory.size())
    }

    fn fits<T>(&self) -> bool {
        let size = size_of::<T>();
        size > 0 && self.memory.align() == align_of::<T>() && self.memory.size().is_multiple_of(size)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: as many bytes are initialized, and without padding between them (`NoUninit`).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.initialized) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the memory was allocated by a vector with this layout, and is dropped here alone.
        unsafe { dealloc(self.start.as_ptr(), self.memory) };
    }
}

static SPARE: Mutex<Vec<(Block, Instant)>> = Mutex::new(Vec::new());

/// In a worker: whether its loop gives back what is not used.
static IN_WORKER: AtomicBool = AtomicBool::new(false);

/// This process is a worker that calls [`trim_spare`] when it has nothing to do.
pub(crate) fn worker_began() {
    IN_WORKER.store(true, Ordering::Relaxed);
}

/// The memory of a vector whose elements have gone somewhere else, if it is large.
pub(super) fn block_of<T: NoUninit>(values: Vec<T>) -> Option<Block> {
    if size_of::<T>() > 0 && size_of_val(values.as_slice()) >= LARGE { Block::of(values) } else { None }
}

/// A vector is done with.
pub(super) fn done<T: NoUninit>(values: Vec<T>) {
    if let Some(block) = block_of(values) {
        keep(block);
    }
}

/// Keeps memory for the next large vector.
pub(super) fn keep(block: Block) {
    if block.memory.size() > MOST_BYTES || !(may_keep() || IN_WORKER.load(Ordering::Relaxed)) {
        return;
    }
    let mut spare = lock(&SPARE);
    spare.push((block, Instant::now()));
    let mut unneeded = Vec::new();
    // The oldest go first.
    while spare.len() > MOST || spare.iter().map(|(block, _)| block.memory.size()).sum::<usize>() > MOST_BYTES {
        unneeded.push(spare.remove(0));
    }
    drop(spare);
    drop(unneeded);
}

/// An empty vector for so many elements, if there is memory that fits: it is not to have much more room than it needs, as
/// its new owner may keep it.
pub(super) fn take<T: AnyBitPattern>(length: usize) -> Option<Vec<T>> {
    let least = size_of::<T>() * length;
    if least < LARGE {
        return None;
    }
    find(|block| block.fits::<T>() && block.has(least))?.into_vec()
}

fn find(fits: impl Fn(&Block) -> bool) -> Option<Block> {
    let mut spare = lock(&SPARE);
    // The latest is the most likely to be in a cache.
    let at = spare.iter().rposition(|(block, _)| fits(block))?;
    let (mut block, _) = spare.remove(at);
    drop(spare);
    block.initialized = 0;
    Some(block)
}

/// Gives back what has not been used for a while. Says whether there is more.
pub(crate) fn trim_spare() -> bool {
    let mut spare = lock(&SPARE);
    let unused: Vec<_> = spare.extract_if(.., |(_, since)| since.elapsed() > UNUSED).collect();
    let more = !spare.is_empty();
    drop(spare);
    drop(unused);
    more
}

/// Gives everything back.
pub(crate) fn drop_spare() {
    let unneeded = std::mem::take(&mut *lock(&SPARE));
    drop(unneeded);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_changes_hands_between_types_that_fit() {
        let mut values = Vec::with_capacity(8);
        values.extend_from_slice(&[1.0_f64, 2.0]);
        let start = values.as_ptr().addr();
        let block = Block::of(values).unwrap();
        assert_eq!(block.bytes(), bytemuck::cast_slice::<f64, u8>(&[1.0, 2.0]));
        let numbers: Vec<u64> = block.into_vec().unwrap();
        assert_eq!((numbers.as_ptr().addr(), numbers.len(), numbers.capacity()), (start, 0, 8));
        assert!(Block::of(numbers).unwrap().into_vec::<u8>().is_none(), "aligned otherwise");
        assert!(Block::of(vec![[0_u32; 2]; 3]).unwrap().into_vec::<[u32; 5]>().is_none(), "24 bytes are not 20");
        assert!(Block::of(Vec::<u8>::new()).is_none());
        assert!(Block::of(vec![(); 3]).is_none());
    }
}
