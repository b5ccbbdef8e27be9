//! Memory that two processes write: a memfd. Its size is sealed, so that no access to it can fault.

use super::fork::current_pid;
use super::handle::beyond_standard;
use super::signal::without_sigxfsz;
use super::step;
use crate::os::{GRANULE, Handle, MEMORY_ALIGN};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::ffi::{CStr, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

pub(super) const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

/// An empty memfd. The name is shown to those who inspect this process.
pub(super) fn memfd(name: &CStr) -> io::Result<Handle> {
    let made = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    beyond_standard(made.map_err(|error| step::MEMFD_CREATE.failed(error))?)
}

pub(super) fn seal(fd: impl AsFd, seals: SealFlags) -> io::Result<()> {
    fcntl_add_seals(fd, seals).map_err(|error| step::SEAL.failed(error))
}

/// A new memfd of this size, which nobody can resize. All zero.
pub(crate) fn sealed_memory(name: &CStr, size: usize) -> io::Result<Handle> {
    let fd = memfd(name)?;
    without_sigxfsz(|| ftruncate(&fd, size as u64)).map_err(|error| step::FTRUNCATE.failed(error))?;
    seal(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

/// Is a memfd that was passed to this process as large as it should be?
pub(crate) fn check_size(handle: &Handle, size: usize) -> io::Result<()> {
    let found = fstat(handle)?.st_size;
    if found == size as i64 {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("the shared memory has {found} bytes, expected {size}")))
}

/// Asks for huge pages for memory that is about to be written for the first time: faulting it in page by page takes
/// several times as long as writing it.
pub(crate) fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    const HUGE: usize = 1 << 21;
    let (start, length) = (memory.as_mut_ptr().addr(), size_of_val(memory));
    let (first, end) = (start.next_multiple_of(HUGE), (start + length) / HUGE * HUGE);
    if end > first {
        let pages = memory.as_mut_ptr().cast::<u8>().wrapping_add(first - start);
        // A system without huge pages refuses the advice, and nothing is lost.
        // SAFETY: the pages lie inside of memory that is borrowed exclusively; this advice changes no content.
        let _ = unsafe { madvise(pages.cast(), end - first, Advice::LinuxHugepage) };
    }
}

/// A mapping of memory that another process may write at any time, so each user of its pointer has to argue for it.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    size: usize,
    /// The process that has it, if a forked child does not inherit it.
    only_in: Option<u32>,
}

// SAFETY: the mapping belongs to the value and lives until it is dropped; access goes through a raw pointer.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn own(start: *mut c_void, size: usize) -> io::Result<Self> {
        Ok(Self { start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?, size, only_in: None })
    }

    /// No forked child inherits this: it would write into what two other processes agree on. Access there is a fault.
    pub(super) fn not_in_forks(mut self) -> io::Result<Self> {
        if self.size > 0 {
            // SAFETY: the mapping is ours; the advice changes nothing in this process.
            let advised = unsafe { madvise(self.start.as_ptr().cast(), self.size, Advice::LinuxDontFork) };
            advised.map_err(|error| step::DONTFORK.failed(error))?;
            self.only_in = Some(current_pid());
        }
        Ok(self)
    }

    /// Maps the first `size` bytes, which may be none.
    pub(super) fn of(fd: impl AsFd, size: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        if size == 0 {
            return Self::own(ptr::without_provenance_mut(MEMORY_ALIGN), 0);
        }
        // SAFETY: a new mapping at an address of the kernel's choice; it cannot replace any other.
        let mapped = unsafe { mmap(ptr::null_mut(), size, protection, flags, fd, 0) };
        Self::own(mapped.map_err(|error| step::MMAP.failed(error))?, size)
    }

    /// Maps a part of memory that others write too, all of whose pages are there.
    pub(super) fn part(fd: impl AsFd, start: u64, size: usize) -> io::Result<Self> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice; it cannot replace any other.
        let mapped = unsafe { mmap(ptr::null_mut(), size, READ_WRITE, flags, fd, start) };
        Self::own(mapped.map_err(|error| step::MMAP.failed(error))?, size)
    }

    /// Memory that another process writes too.
    pub(crate) fn new(handle: &Handle, size: usize) -> io::Result<Self> {
        Self::of(handle, size, READ_WRITE, MapFlags::SHARED)?.not_in_forks()
    }

    /// Memory of this process alone. All zero.
    pub(crate) fn private(size: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let mapped = unsafe { mmap_anonymous(ptr::null_mut(), size, READ_WRITE, MapFlags::PRIVATE) };
        Self::own(mapped.map_err(|error| step::MMAP.failed(error))?, size)
    }

    /// Maps the same bytes twice, one mapping behind the other, so that what begins near the end of a ring can be
    /// accessed without a break. Offset and size are multiples of [`GRANULE`].
    pub(crate) fn twice(handle: &Handle, offset: usize, size: usize) -> io::Result<Self> {
        debug_assert!(offset.is_multiple_of(GRANULE) && size.is_multiple_of(GRANULE));
        // SAFETY: a new mapping at an address of the kernel's choice, which only reserves the addresses.
        let place = unsafe { mmap_anonymous(ptr::null_mut(), 2 * size, ProtFlags::empty(), MapFlags::PRIVATE) };
        let place = place.map_err(|error| step::MMAP.failed(error))?;
        let mapping = Self::own(place, 2 * size)?;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        for half in [place, place.wrapping_byte_add(size)] {
            // SAFETY: each half lies inside of the addresses that were just reserved, which nobody else knows of.
            let mapped = unsafe { mmap(half, size, READ_WRITE, flags, handle, offset as u64) };
            mapped.map_err(|error| step::MMAP.failed(error))?;
        }
        mapping.not_in_forks()
    }

    #[inline]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a forked child, something else may be there.
        if self.size > 0 && self.only_in.is_none_or(|pid| pid == current_pid()) {
            // SAFETY: the mapping is ours, and nothing borrows from it any more.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.size) };
        }
    }
}
