//! Memory that every process that has it may read and write at any time: a memfd of fixed size.
//!
//! As nobody can tell when another process writes, it is never borrowed as bytes, only as words that are read and written
//! atomically.

use super::mapping::{Mapping, READ_WRITE, seal};
use super::memory::{Draft, FIXED, Memory, MemoryKind, allocate};
use rustix::fs::SealFlags;
use rustix::io::{pread, retry_on_intr};
use rustix::mm::MapFlags;
use std::io;
use std::slice;
use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
};

/// Atomic integers, which can lie anywhere in memory that other processes write.
///
/// # Safety
///
/// Any bytes are a value, it is aligned to its size, and it can be written through a shared reference at any time.
pub unsafe trait Word: Sync + 'static {}

macro_rules! words {
    ($($word:ty),*) => {$(
        // SAFETY: an atomic integer.
        unsafe impl Word for $word {}
    )*};
}

words!(AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize);

impl Memory {
    /// New memory of `length` bytes, all zero, which every process that gets it can write.
    pub(crate) fn writable(length: usize) -> io::Result<Self> {
        let draft = Draft::new(length)?;
        allocate(&draft.0, length)?;
        draft.share(length)
    }

    /// New memory with a copy of `bytes`, which every process that gets it can write.
    pub(crate) fn writable_copy(bytes: &[u8]) -> io::Result<Self> {
        let mut draft = Draft::new(bytes.len())?;
        draft.append(bytes)?;
        draft.share(bytes.len())
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.kind == MemoryKind::Writable
    }

    /// The size in bytes.
    pub(crate) fn length(&self) -> usize {
        self.bytes.size()
    }

    /// A copy of what is in it, read while others may write.
    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(self.length()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(self.length(), 0);
        let mut done = 0;
        while done < bytes.len() {
            match retry_on_intr(|| pread(&self.fd, &mut bytes[done..], done as u64))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(bytes)
    }

    /// All of it that is whole words. None, unless it is [writable](Self::writable).
    pub(crate) fn words<W: Word>(&self) -> &[W] {
        let length = if self.is_writable() { self.length() / size_of::<W>() } else { 0 };
        // SAFETY: so many words are mapped to be read and written as long as `self` lives, in a file whose length nobody
        // can change, and the start is that of a page. Nobody ever has a reference to them that is not to atomics.
        unsafe { slice::from_raw_parts(self.bytes.start().as_ptr().cast(), length) }
    }
}

impl Draft {
    /// Lets everybody write who gets the memory, all of whose pages are there.
    pub(crate) fn share(self, length: usize) -> io::Result<Memory> {
        seal(&self.0, FIXED | SealFlags::SEAL)?;
        let bytes = Mapping::of(&self.0, length, READ_WRITE, MapFlags::SHARED)?;
        Ok(Memory { bytes, fd: self.0.into(), kind: MemoryKind::Writable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering::Relaxed;

    fn opened(memory: &Memory) -> Memory {
        Memory::open(memory.handle().try_clone_to_owned().unwrap()).unwrap()
    }

    #[test]
    fn each_side_sees_what_the_other_writes() {
        let made = Memory::writable(100).unwrap();
        let other = opened(&made);
        assert!(other.is_writable() && !other.is_sealed() && other.length() == 100);
        assert_eq!(made.words::<AtomicU64>().len(), 12);
        made.words::<AtomicU64>()[11].store(7, Relaxed);
        other.words::<AtomicU8>()[99].store(9, Relaxed);
        assert_eq!(other.words::<AtomicU64>()[11].load(Relaxed), 7);
        assert_eq!(made.words::<AtomicU8>()[99].load(Relaxed), 9);
        let read = made.read().unwrap();
        assert_eq!((read.len(), read[88], read[99]), (100, 7, 9));
        assert!(rustix::fs::ftruncate(made.handle().as_fd(), 0).is_err());
        assert!(rustix::fs::ftruncate(made.handle().as_fd(), 1 << 20).is_err());
    }

    #[test]
    fn what_others_may_not_write_has_no_words() {
        for memory in [Memory::copy(&[1; 64]).unwrap(), Memory::reusable(4096).unwrap()] {
            assert!(!memory.is_writable() && memory.words::<AtomicU8>().is_empty());
            assert!(!opened(&memory).is_writable());
        }
        assert!(opened(&Memory::writable(0).unwrap()).words::<AtomicU8>().is_empty());
    }
}
