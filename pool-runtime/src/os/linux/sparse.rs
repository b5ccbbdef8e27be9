//! Memory that grows at one end and is given back at the other: a memfd of a size that is never reached, most of which is
//! not there.
//!
//! ```text
//!   ┌──────┬─────────────────────────────────────────────────────────────┐
//!   │ head │ discarded …    │ backed: what is in use │ not there yet …     │
//!   └──────┴─────────────────────────────────────────────────────────────┘
//!    mapped as [words](Memory::words)   └ mapped a [Window] at a time
//! ```
//!
//! Pages are taken before they are written, so that a lack of memory is an error and not a death.

use super::mapping::{Mapping, READ_WRITE, seal};
use super::memory::{Draft, FIXED, LEAST_SPARSE, Memory, MemoryKind, SPARSE_HEAD};
use super::signal::without_sigxfsz;
use super::step;
use super::words::Word;
use rustix::fs::{FallocateFlags, SealFlags, fallocate, fstat, ftruncate};
use rustix::io::retry_on_intr;
use rustix::mm::MapFlags;
use std::io;
use std::ops::Range;
use std::slice;

/// More than anybody writes: at ten gigabytes a second, in fourteen years.
const SIZE: u64 = 1 << 62;

impl Memory {
    /// New memory that everybody who gets it can write: a head, all zero, and behind it whatever is
    /// [backed](Self::back).
    pub(crate) fn sparse() -> io::Result<Self> {
        let draft = Draft::new(0)?;
        without_sigxfsz(|| ftruncate(&draft.0, SIZE)).map_err(|error| step::FTRUNCATE.failed(error))?;
        seal(&draft.0, FIXED | SealFlags::SEAL)?;
        let bytes = Mapping::of(&draft.0, SPARSE_HEAD, READ_WRITE, MapFlags::SHARED)?;
        let memory = Self { bytes, fd: draft.0.into(), kind: MemoryKind::Writable };
        memory.back(0..SPARSE_HEAD as u64)?;
        Ok(memory)
    }

    /// Whether it is: [`words`](Self::words) are those of its head.
    pub(crate) fn is_sparse(&self) -> bool {
        self.is_writable() && fstat(&self.fd).is_ok_and(|stat| stat.st_size.cast_unsigned() >= LEAST_SPARSE)
    }

    /// Takes all pages of a range, so that it can be written.
    pub(crate) fn back(&self, range: Range<u64>) -> io::Result<()> {
        let length = self.length_of(&range)?;
        let allocate = || retry_on_intr(|| fallocate(&self.fd, FallocateFlags::empty(), range.start, length));
        without_sigxfsz(allocate).map_err(|error| step::FALLOCATE.failed(error))
    }

    /// Gives the pages of a range back. Who reads it finds zeros.
    pub(crate) fn discard(&self, range: Range<u64>) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Ok(length) = self.length_of(&range) {
            // Otherwise they are given back with the rest.
            let _ = retry_on_intr(|| fallocate(&self.fd, flags, range.start, length));
        }
    }

    /// How many bytes of it are there.
    pub(crate) fn resident(&self) -> u64 {
        fstat(&self.fd).map_or(0, |stat| stat.st_blocks.cast_unsigned() * 512)
    }

    /// The length of a range, which others may have made up: what is behind the end of the file could be mapped, and not
    /// be touched.
    fn length_of(&self, range: &Range<u64>) -> io::Result<u64> {
        let size = fstat(&self.fd)?.st_size.cast_unsigned();
        let length = range.end.checked_sub(range.start).filter(|length| *length > 0 && range.end <= size);
        length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a part of shared memory lies outside of it"))
    }

    /// Maps a part of it, which begins and ends with a page and should be backed: this takes its pages into the mapping.
    pub(crate) fn window(&self, start: u64, length: usize) -> io::Result<Window> {
        let end = start.checked_add(length as u64).ok_or(io::ErrorKind::InvalidData)?;
        self.length_of(&(start..end))?;
        Mapping::part(&self.fd, start, length).map(Window)
    }
}

/// A part of sparse memory, which others may write at any time.
#[derive(Debug)]
pub(crate) struct Window(Mapping);

impl Window {
    pub(crate) fn words<W: Word>(&self) -> &[W] {
        let length = self.0.size() / size_of::<W>();
        // SAFETY: so many words are mapped to be read and written as long as `self` lives, in a file whose length nobody
        // can change, and the start is that of a page. Nobody ever has a reference to them that is not to atomics.
        unsafe { slice::from_raw_parts(self.0.start().as_ptr().cast(), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    fn pages(memory: &Memory) -> i64 {
        fstat(memory.handle().as_fd()).unwrap().st_blocks / 8
    }

    #[test]
    fn only_what_is_backed_takes_memory() {
        let made = Memory::sparse().unwrap();
        let other = Memory::open(made.handle().try_clone_to_owned().unwrap()).unwrap();
        assert!(made.is_sparse() && other.is_sparse() && !Memory::writable(64).unwrap().is_sparse());
        assert_eq!((made.length(), other.length(), pages(&made)), (SPARSE_HEAD, SPARSE_HEAD, 4));
        other.words::<AtomicU64>()[9].store(5, Relaxed);
        assert_eq!(made.words::<AtomicU64>()[9].load(Relaxed), 5);
        // Far away, as after years of use.
        let far = SIZE - (1 << 20);
        made.back(far..far + (1 << 18)).unwrap();
        assert_eq!(pages(&made), 4 + 64);
        let (here, there) = (made.window(far, 1 << 18).unwrap(), other.window(far, 1 << 18).unwrap());
        let words = here.words::<AtomicU64>();
        assert_eq!(words.len(), 1 << 15);
        words[(1 << 15) - 1].store(7, Relaxed);
        assert_eq!(there.words::<AtomicU64>()[(1 << 15) - 1].load(Relaxed), 7);
        assert_eq!(made.resident(), (4 + 64) * 4096);
        for outside in [SIZE - 4096, SIZE, u64::MAX - 4095] {
            assert!(made.window(outside, 1 << 18).is_err(), "it could be mapped, and not be touched");
            assert!(made.back(outside..outside.wrapping_add(1 << 18)).is_err());
        }
        other.discard(far..far + (1 << 18));
        assert_eq!((pages(&made), words[(1 << 15) - 1].load(Relaxed)), (4, 0));
    }
}
