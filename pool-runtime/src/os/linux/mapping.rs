//! Memory that two processes write: a memfd. Its size is sealed, so that no access to it can fault, and it has no name
//! that could be left behind.

use crate::os::{GRANULE, Handle};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// A new memfd of this size, which nobody can resize. All zero.
pub(crate) fn sealed_memory(name: &CStr, size: usize) -> io::Result<Handle> {
    let fd = super::handle::beyond_standard(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)?;
    ftruncate(&fd, size as u64)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

/// Is a memfd that was passed to this process as large as it should be?
pub(crate) fn check_size(handle: &Handle, size: usize) -> io::Result<()> {
    match fstat(handle)?.st_size {
        found if found == size as i64 => Ok(()),
        found => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("{found} bytes are shared in place of {size}")))
        }
    }
}

/// Asks for large pages, for large memory that is about to be written for the first time: to fault it in page by page
/// takes several times as long as to write it.
pub(crate) fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    const HUGE: usize = 1 << 21;
    let (start, length) = (memory.as_mut_ptr().addr(), size_of_val(memory));
    let (first, end) = (start.next_multiple_of(HUGE), (start + length) / HUGE * HUGE);
    if end > first {
        let first = memory.as_mut_ptr().cast::<u8>().wrapping_add(first - start);
        // It is advice: a system without such pages refuses it, and nothing is lost.
        // SAFETY: the pages lie inside of memory that is borrowed exclusively; this advice changes no content.
        let _ = unsafe { madvise(first.cast(), end - (start.next_multiple_of(HUGE)), Advice::LinuxHugepage) };
    }
}

/// A part of shared memory, mapped for reading and writing.
///
/// It hands out a raw pointer alone: another process may write at any time, so what may be done with it is for each
/// user to argue.
#[derive(Debug)]
pub(crate) struct Mapping {
    memory: NonNull<u8>,
    mapped: usize,
}

// SAFETY: the mapping belongs to the value and lives until it is dropped; access goes through a raw pointer.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `size` bytes.
    pub(crate) fn new(handle: &Handle, size: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let memory =
            unsafe { mmap(ptr::null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, handle, 0)? };
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { memory, mapped: size })
    }

    /// Memory of this process alone. All zero.
    pub(crate) fn private(size: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let memory =
            unsafe { mmap_anonymous(ptr::null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)? };
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { memory, mapped: size })
    }

    /// Maps the same bytes twice, one behind the other: what begins near the end of a ring goes on behind it as if
    /// there were no end. Offset and size are multiples of [`GRANULE`].
    pub(crate) fn twice(handle: &Handle, offset: usize, size: usize) -> io::Result<Self> {
        debug_assert!(offset.is_multiple_of(GRANULE) && size.is_multiple_of(GRANULE));
        // SAFETY: a new mapping at an address of the kernel's choice, which only keeps the place.
        let place = unsafe { mmap_anonymous(ptr::null_mut(), 2 * size, ProtFlags::empty(), MapFlags::PRIVATE)? };
        let memory = NonNull::new(place.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Self { memory, mapped: 2 * size };
        for half in 0..2 {
            // SAFETY: each half lies inside of the place that was just reserved, which nobody else knows of.
            unsafe {
                mmap(
                    memory.as_ptr().add(half * size).cast(),
                    size,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::SHARED | MapFlags::FIXED,
                    handle,
                    offset as u64,
                )?;
            }
        }
        Ok(mapping)
    }

    #[inline]
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.memory
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrows from it any more.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.mapped) };
    }
}
