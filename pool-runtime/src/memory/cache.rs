//! Memory of large vectors of plain data, kept for the next ones.
//!
//! The kernel takes several times as long to map new pages as it takes to write to them, and memory of that size is
//! unmapped when it is dropped: a caller's argument once it is encoded, a worker's result once it is sent.

use crate::locks::lock;
use crate::memory::arena::LARGE;
use crate::memory::janitor::{Kept, UNUSED, may_keep};
use crate::os;
use bytemuck::{AnyBitPattern, NoUninit};
use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::time::Instant;

/// Memory of a vector, or for one. Its first bytes are initialized.
#[derive(Debug)]
pub(crate) struct Block {
    start: NonNull<u8>,
    initialized: usize,
    memory: Layout,
}

// SAFETY: it owns its memory, whose plain bytes may go to any thread.
unsafe impl Send for Block {}

impl Block {
    /// Takes over a vector's memory, with the elements as bytes.
    fn of<T: NoUninit>(values: Vec<T>) -> Option<Self> {
        let memory = Layout::array::<T>(values.capacity()).ok().filter(|memory| memory.size() > 0)?;
        let mut values = ManuallyDrop::new(values);
        let start = NonNull::new(values.as_mut_ptr().cast())?;
        Some(Self { start, initialized: size_of_val(values.as_slice()), memory })
    }

    /// An empty vector with this memory. None if it does not fit elements of that type.
    fn into_vec<T>(self) -> Option<Vec<T>> {
        self.fits::<T>().then(|| {
            let block = ManuallyDrop::new(self);
            // SAFETY: the memory was allocated by the global allocator with this layout, by a vector or in `with_room`;
            // the alignment is that of the elements, and the size that of so many; nobody else has it.
            unsafe { Vec::from_raw_parts(block.start.as_ptr().cast(), 0, block.memory.size() / size_of::<T>()) }
        })
    }

    /// A vector of the elements whose bytes these are. The block itself if they do not fit elements of that type.
    pub(crate) fn into_elements<T: AnyBitPattern>(self) -> Result<Vec<T>, Self> {
        let length = self.initialized;
        if !self.fits::<T>() || !length.is_multiple_of(size_of::<T>()) {
            return Err(self);
        }
        let mut values = self.into_vec::<T>().unwrap_or_default();
        debug_assert!(values.capacity() >= length / size_of::<T>());
        // SAFETY: so many elements' bytes are initialized, and any bytes are such elements (`AnyBitPattern`). It fits,
        // so that the vector has this block's memory.
        unsafe { values.set_len(length / size_of::<T>()) };
        Ok(values)
    }

    /// Memory of this size and alignment, with nothing in it. None if there is none.
    pub(crate) fn with_room(size: usize, align: usize) -> Option<Self> {
        // Of exactly this size: that of the elements is not known yet.
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
        // SAFETY: the memory is this value's own, borrowed exclusively, and has this size.
        unsafe {
            let room = self.start.as_ptr().add(self.initialized).cast();
            std::slice::from_raw_parts_mut(room, self.memory.size() - self.initialized)
        }
    }

    /// Declares the first `length` bytes of the [room](Self::room) initialized.
    ///
    /// # Safety
    ///
    /// They are.
    pub(crate) unsafe fn advance(&mut self, length: usize) {
        assert!(length <= self.memory.size() - self.initialized);
        self.initialized += length;
    }

    /// Copies bytes to the end of what is initialized, where there is room for them.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.room()[..bytes.len()].write_copy_of_slice(bytes);
        // SAFETY: they were written above.
        unsafe { self.advance(bytes.len()) };
    }

    pub(crate) fn align(&self) -> usize {
        self.memory.align()
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

/// At most four blocks, of 256 MiB together.
pub(super) static CACHE: Mutex<Kept<Block>> = Mutex::new(Kept::new(4, 1 << 28, |_| true));
/// When memory was last asked for: unless it is, none is kept. Locked after the cache.
static ASKED: Mutex<Option<Instant>> = Mutex::new(None);

/// The memory of a vector, if it is large.
pub(crate) fn block_of<T: NoUninit>(values: Vec<T>) -> Option<Block> {
    if size_of_val(values.as_slice()) >= LARGE { Block::of(values) } else { None }
}

/// Drops a vector; the memory of a large one is [kept](keep).
pub(crate) fn done<T: NoUninit>(values: Vec<T>) {
    if let Some(block) = block_of(values) {
        keep(block);
    }
}

/// Keeps memory for the next large vector, if some was asked for lately.
pub(crate) fn keep(block: Block) {
    let mut cache = lock(&CACHE);
    // Looked at under the lock: the end of the last pool empties the cache.
    let is_wanted = may_keep() && lock(&ASKED).is_some_and(|asked| asked.elapsed() < UNUSED);
    let size = block.memory.size();
    let removed = is_wanted.then(|| cache.make_room(size)).flatten();
    if removed.is_some() {
        cache.add(block, size);
    }
    drop(cache);
    drop(removed);
}

/// An empty vector for so many elements, if there is memory that fits, with at most a quarter more than is needed: its
/// owner may keep it.
pub(crate) fn take<T: AnyBitPattern>(length: usize) -> Option<Vec<T>> {
    let least = size_of::<T>() * length;
    if least < LARGE {
        return None;
    }
    find(|block| block.fits::<T>() && (least..=least + least / 4).contains(&block.memory.size()))?.into_vec()
}

fn find(fits: impl Fn(&Block) -> bool) -> Option<Block> {
    let mut cache = lock(&CACHE);
    *lock(&ASKED) = Some(Instant::now());
    // The latest is the most likely to be in the processor's cache.
    let at = cache.pieces.iter().rposition(|piece| fits(&piece.memory))?;
    let mut block = cache.pieces.remove(at).memory;
    drop(cache);
    block.initialized = 0;
    Some(block)
}

thread_local! {
    /// To allocate a buffer takes longer than to encode a small call.
    static RECYCLED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Keeps the buffer of an encoded call for the next one on this thread, unless it is large.
#[inline]
pub(crate) fn recycle(mut bytes: Vec<u8>) {
    if bytes.capacity() <= 1 << 12 {
        bytes.clear();
        let _ = RECYCLED.try_with(|recycled| recycled.set(bytes));
    }
}

/// The [recycled](recycle) buffer, or a new one.
#[inline]
pub(crate) fn take_recycled() -> Vec<u8> {
    RECYCLED.try_with(Cell::take).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::janitor::set_in_worker;
    use std::time::Duration;

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
        // Other tests fill the cache too: a size that only this one has.
        const ODD: usize = (1 << 20) + 12_345;
        let kept = |size: usize| lock(&CACHE).pieces.iter().filter(|piece| piece.size == size).count();
        set_in_worker(true);
        *lock(&ASKED) = None;
        done(vec![1_u8; ODD]);
        assert_eq!(kept(ODD), 0, "nobody has asked");
        assert!(take::<u8>(ODD).is_none());
        done(vec![1_u8; ODD]);
        assert_eq!(kept(ODD), 1);
        assert!(take::<u8>(ODD / 2).is_none() && take::<u8>(ODD + 1).is_none() && take::<u64>(ODD / 8).is_none());
        let taken = take::<u8>(ODD - 1).unwrap();
        assert_eq!((taken.len(), taken.capacity(), kept(ODD)), (0, ODD, 0));
        for _ in 0..8 {
            done(vec![1_u8; ODD]);
        }
        assert!(kept(ODD) <= 4);
        done(vec![1_u8; 100]);
        assert_eq!(kept(100), 0, "too little");
        assert!(Kept::trim(&CACHE, UNUSED), "nothing is old");
        Kept::trim(&CACHE, Duration::ZERO);
        assert_eq!(kept(ODD), 0);
        set_in_worker(false);
    }
}
