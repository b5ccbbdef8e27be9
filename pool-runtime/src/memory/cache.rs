//! Memory of large vectors of plain data that are done with, for the next ones.
//!
//! The kernel takes several times as long to make new pages as it takes to write to them, and what is that large goes
//! back to it as soon as it is dropped. A caller's argument is done with once it is encoded, a result in a worker once
//! it is sent; the next result, or argument, is about to need as much. So their memory changes hands here: a few pieces
//! are kept, for a few seconds.

use crate::memory::arena::LARGE;
use crate::memory::janitor::{UNUSED, may_keep};
use crate::os;
use crate::sync::lock;
use bytemuck::{AnyBitPattern, NoUninit};
use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How many pieces are kept at the most.
const MOST: usize = 4;
/// How many bytes they have together.
const MOST_BYTES: usize = 1 << 28;

/// Memory of a vector, or for one. Its first bytes are initialized.
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
            // SAFETY: the memory was allocated by the global allocator with this layout, by a vector or in `with_room`;
            // the alignment is that of the elements, and the size that of so many; nobody else has it. No element is
            // said to be there.
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
        // SAFETY: so many elements' bytes are initialized, and any bytes are such elements (`AnyBitPattern`). It fits,
        // so that the vector has this block's memory.
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
        // SAFETY: the memory was allocated by the global allocator with this layout, and is freed here alone.
        unsafe { dealloc(self.start.as_ptr(), self.memory) };
    }
}

struct Spare {
    blocks: Vec<(Block, Instant)>,
    /// When memory was last asked for. Where nobody does, none is kept.
    asked: Option<Instant>,
}

static SPARE: Mutex<Spare> = Mutex::new(Spare { blocks: Vec::new(), asked: None });

/// The memory of a vector whose elements have gone somewhere else, if it is large.
pub(crate) fn block_of<T: NoUninit>(values: Vec<T>) -> Option<Block> {
    if size_of::<T>() > 0 && size_of_val(values.as_slice()) >= LARGE { Block::of(values) } else { None }
}

/// A vector is done with.
pub(crate) fn done<T: NoUninit>(values: Vec<T>) {
    if let Some(block) = block_of(values) {
        keep(block);
    }
}

/// Keeps memory for the next large vector, if there have been some lately that needed memory.
pub(crate) fn keep(block: Block) {
    let mut spare = lock(&SPARE);
    // Asked while it is locked: with the last pool, all of it goes.
    let is_looked_after = may_keep();
    let is_asked_for = spare.asked.is_some_and(|asked| asked.elapsed() < UNUSED);
    if !is_looked_after || !is_asked_for || block.memory.size() > MOST_BYTES {
        drop(spare);
        drop(block);
        return;
    }
    spare.blocks.push((block, Instant::now()));
    let bytes = |blocks: &[(Block, Instant)]| blocks.iter().map(|(block, _)| block.memory.size()).sum::<usize>();
    let mut unneeded = Vec::new();
    // The oldest go first.
    while spare.blocks.len() > MOST || bytes(&spare.blocks) > MOST_BYTES {
        unneeded.push(spare.blocks.remove(0));
    }
    drop(spare);
    drop(unneeded);
}

/// An empty vector for so many elements, if there is memory that fits: it is not to have much more room than it needs,
/// as its new owner may keep it.
pub(crate) fn take<T: AnyBitPattern>(length: usize) -> Option<Vec<T>> {
    let least = size_of::<T>() * length;
    if least < LARGE {
        return None;
    }
    find(|block| block.fits::<T>() && block.has(least))?.into_vec()
}

fn find(fits: impl Fn(&Block) -> bool) -> Option<Block> {
    let mut spare = lock(&SPARE);
    spare.asked = Some(Instant::now());
    // The latest is the most likely to be in a cache.
    let at = spare.blocks.iter().rposition(|(block, _)| fits(block))?;
    let (mut block, _) = spare.blocks.remove(at);
    drop(spare);
    block.initialized = 0;
    Some(block)
}

/// Gives back what has not been used for so long. Says whether there is more.
pub(crate) fn trim(unused: Duration) -> bool {
    let mut spare = lock(&SPARE);
    let old: Vec<_> = spare.blocks.extract_if(.., |(_, since)| since.elapsed() >= unused).collect();
    let more = !spare.blocks.is_empty();
    drop(spare);
    drop(old);
    more
}

thread_local! {
    /// Memory for the next call that is encoded on this thread: to allocate it each time would take longer than to
    /// encode a small call.
    static RECYCLED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// More is not kept.
const MOST_RECYCLED: usize = 1 << 12;

/// Keeps the memory of an encoded call for the next one on this thread.
#[inline]
pub(crate) fn recycle(mut bytes: Vec<u8>) {
    if bytes.capacity() <= MOST_RECYCLED {
        bytes.clear();
        // A thread that ends needs none.
        let _ = RECYCLED.try_with(|spare| spare.set(bytes));
    }
}

/// The memory that was [recycled](recycle), if some was.
#[inline]
pub(crate) fn take_recycled() -> Vec<u8> {
    RECYCLED.try_with(Cell::take).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::janitor::set_in_worker;

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

    #[test]
    fn bytes_become_elements_where_they_fit() {
        let with = |bytes: &[u8], size: usize, align: usize| {
            let mut block = Block::with_room(size, align).unwrap();
            bytes.chunks(7).for_each(|part| block.append(part));
            assert_eq!((block.room().len(), block.align()), (size - bytes.len(), align));
            assert_eq!(block.bytes(), bytes);
            block
        };
        let bytes: Vec<u8> = (0..32).collect();
        let numbers: Vec<u64> = with(&bytes, 32, 8).into_elements().unwrap();
        assert_eq!(bytemuck::cast_slice::<_, u8>(&numbers), bytes);
        assert_eq!(with(&bytes[..16], 32, 8).into_elements::<u64>().unwrap().len(), 2);
        assert!(with(&bytes[..20], 32, 8).into_elements::<u64>().is_err(), "half an element");
        assert!(with(&bytes, 32, 1).into_elements::<u64>().is_err(), "not aligned for them");
        assert!(with(&bytes, 32, 8).into_elements::<u8>().is_err(), "to be freed as it was made");
        assert!(with(&bytes, 32, 1).into_elements::<()>().is_err());
        assert!(Block::with_room(0, 1).is_none() && Block::with_room(usize::MAX, 1).is_none());
    }

    #[test]
    fn what_is_asked_for_is_kept_within_limits() {
        // Other tests have spare memory too: sizes that only this one has.
        const ODD: usize = (1 << 20) + 12_345;
        let kept = |size: usize| lock(&SPARE).blocks.iter().filter(|(block, _)| block.memory.size() == size).count();
        set_in_worker(true);
        lock(&SPARE).asked = None;
        done(vec![1_u8; ODD]);
        assert_eq!(kept(ODD), 0, "nobody has asked");
        assert!(take::<u8>(ODD).is_none());
        done(vec![1_u8; ODD]);
        assert_eq!(kept(ODD), 1);
        assert!(take::<u8>(ODD / 2).is_none() && take::<u8>(ODD + 1).is_none() && take::<u64>(ODD / 8).is_none());
        let taken = take::<u8>(ODD - 1).unwrap();
        assert_eq!((taken.len(), taken.capacity(), kept(ODD)), (0, ODD, 0));
        for _ in 0..2 * MOST {
            done(vec![1_u8; ODD]);
        }
        assert!(kept(ODD) <= MOST);
        done(vec![1_u8; 100]);
        assert_eq!(kept(100), 0, "too little");
        assert!(trim(UNUSED), "nothing is old");
        trim(Duration::ZERO);
        assert_eq!(kept(ODD), 0);
        set_in_worker(false);
    }
}
