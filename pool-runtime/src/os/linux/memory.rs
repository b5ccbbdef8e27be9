//! Memory that is filled, and then read in place by any number of processes: a memfd.
//!
//! It has no name that could be left behind: the kernel frees it with the last descriptor and the last mapping, however
//! their processes end.
//!
//! ```text
//!   maker     memfd ─▶ filled ─▶ sealed ─▶ mapped ═══ the same pages ═══ mapped ◀─ seals checked ◀─ memfd   receiver
//!                                          read-only                    read-only
//! ```
//!
//! Nobody reads it before it is sealed, and nobody writes it afterwards, so a slice of it is a slice as any other.
//! [Reusable](Memory::reusable) memory is for the arena alone: its length is fixed, its maker writes it again and again,
//! and a reader holds it meanwhile. Memory that could be truncated while it is read is never mapped.
//!
//! Filling costs more than anything else, as each page is new. A `write` to the file takes a new page and copies into
//! it; through a mapping, the page is zeroed first, and there is a fault for each. Of 64 MiB, the one takes as long as
//! a clone of a `Vec`, the other half as much again. So all is written, but what has to be filled in place.

use super::handle::beyond_standard;
use crate::os::{Handle, HandleRef, MEMORY_ALIGN};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::process::{Resource, getrlimit};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

#[repr(align(4096))]
struct Aligned;

const _: () = assert!(align_of::<Aligned>() == MEMORY_ALIGN);

/// Without these, somebody could change or cut off what others read.
const NEEDED: SealFlags = SealFlags::SHRINK.union(SealFlags::WRITE);
/// What memory that can be reused has: its length is fixed.
const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);
const ALL: SealFlags = NEEDED.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Sealed memory, mapped into this process.
#[derive(Debug)]
pub(crate) struct Memory {
    bytes: MappedFile,
    fd: OwnedFd,
    sealed: bool,
}

impl Memory {
    /// New memory with a copy of `bytes`.
    pub(crate) fn copy(bytes: &[u8]) -> io::Result<Self> {
        let mut draft = Draft::new(bytes.len())?;
        draft.append(bytes)?;
        draft.seal()
    }

    /// New memory of `length` bytes, which are zero until `fill` has filled them in place.
    ///
    /// # Panics
    ///
    /// If `fill` does; nothing is left behind.
    pub(crate) fn create(length: usize, fill: impl FnOnce(&mut [u8])) -> io::Result<Self> {
        let draft = Draft::new(length)?;
        if length > 0 {
            // Asked for page by page, memory that runs out would be a SIGBUS in the middle of `fill`.
            until_done(|| fallocate(&draft.fd, FallocateFlags::empty(), 0, length as u64))?;
        }
        let mut mapping = MappedFile::writable(&draft.fd, length)?;
        fill(mapping.as_mut_bytes());
        // Memory that somebody could still write cannot be sealed.
        drop(mapping);
        draft.seal()
    }

    /// Maps memory that another process made: sealed, or [reusable](Self::reusable).
    ///
    /// # Errors
    ///
    /// It is not sealed, or no memory at all.
    pub(crate) fn open(fd: Handle) -> io::Result<Self> {
        // Anything that cannot be sealed, such as a file with a name, says so here.
        let seals = fcntl_get_seals(&fd).unwrap_or(SealFlags::empty());
        if seals.contains(FIXED) && !seals.contains(NEEDED) {
            // Its maker writes it before it sends a call that speaks of it, and leaves it alone until that has ended.
            let length = usize::try_from(rustix::fs::fstat(&fd)?.st_size).map_err(|_| Errno::OVERFLOW)?;
            return Ok(Self {
                bytes: MappedFile::new(&fd, length, ProtFlags::READ, MapFlags::SHARED)?,
                fd,
                sealed: false,
            });
        }
        if !seals.contains(NEEDED) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the memory is not sealed: it could change"));
        }
        let length = usize::try_from(rustix::fs::fstat(&fd)?.st_size).map_err(|_| Errno::OVERFLOW)?;
        Ok(Self { bytes: MappedFile::sealed(&fd, length)?, fd, sealed: true })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.as_bytes()
    }

    /// Will these bytes never change?
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// New memory that its maker can write again and again, with [`overwrite`](Self::overwrite).
    pub(crate) fn reusable(length: usize) -> io::Result<Self> {
        let draft = Draft::named(c"pool-arena", length)?;
        // Asked for page by page, memory that runs out would be a SIGBUS in the middle of a copy.
        until_done(|| fallocate(&draft.fd, FallocateFlags::empty(), 0, length as u64))?;
        let bytes = MappedFile::writable(&draft.fd, length)?;
        // Through the mapping that there is, and no other: who gets the descriptor can only read, whatever they try.
        fcntl_add_seals(&draft.fd, FIXED | SealFlags::FUTURE_WRITE | SealFlags::SEAL)?;
        Ok(Self { bytes, fd: draft.fd, sealed: false })
    }

    /// Copies bytes to the beginning of [reusable](Self::reusable) memory.
    ///
    /// # Safety
    ///
    /// Nobody reads it meanwhile, here or in another process, nor holds a reference into it.
    pub(crate) unsafe fn overwrite(&self, bytes: &[u8]) {
        assert!(!self.sealed && bytes.len() <= self.bytes.length);
        // SAFETY: the mapping is as long, and writable, as that of all reusable memory in the process that made it; the
        // caller says that nobody looks.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.bytes.start.as_ptr(), bytes.len()) };
    }

    /// To be passed on.
    pub(crate) fn handle(&self) -> HandleRef<'_> {
        self.fd.as_fd()
    }
}

/// Memory that is still being written, by its maker alone.
#[derive(Debug)]
pub(crate) struct Draft {
    fd: OwnedFd,
}

impl Draft {
    /// Empty memory that is to have `length` bytes.
    ///
    /// # Errors
    ///
    /// There is not as much memory, or no descriptor.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        Self::named(c"pool-shared", length)
    }

    /// What it is called is for those who look at this process.
    fn named(name: &CStr, length: usize) -> io::Result<Self> {
        affordable(length)?;
        let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        Ok(Self { fd: beyond_standard(fd)? })
    }

    /// Copies bytes to the end.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match until_done(|| rustix::io::write(&self.fd, bytes))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => bytes = &bytes[written..],
            }
        }
        Ok(())
    }

    /// Nobody writes it from now on.
    pub(crate) fn seal(self) -> io::Result<Memory> {
        fcntl_add_seals(&self.fd, ALL)?;
        Memory::open(self.fd)
    }
}

/// Refuses what could never be filled, before anything of it is: the kernel gives out the pages of a memfd one by one,
/// and a length gone wrong would have it kill processes to find more of them.
fn affordable(length: usize) -> io::Result<()> {
    if isize::try_from(length).is_err() {
        return Err(Errno::NOMEM.into());
    }
    // A file that grows beyond this limit is not only refused, there is a signal that ends the process.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| length as u64 > limit) {
        return Err(Errno::FBIG.into());
    }
    if length > 0 {
        // Whatever the kernel would answer to a `Vec` of that length is right here too.
        // SAFETY: a new mapping at an address of the kernel's choice, which nobody reads or writes.
        let trial = unsafe {
            mmap_anonymous(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        // SAFETY: the mapping was made just now, with this length, and nothing borrows from it.
        unsafe { munmap(trial, length)? };
    }
    Ok(())
}

fn until_done<R>(mut call: impl FnMut() -> rustix::io::Result<R>) -> rustix::io::Result<R> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// A mapping of a whole memfd; without bytes there is none.
#[derive(Debug)]
struct MappedFile {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the value, as the memory of a `Box<[u8]>` does, and has no ties to a thread.
unsafe impl Send for MappedFile {}
// SAFETY: through a shared reference it is only read; while it is writable, its maker sees to it
// that nobody looks (`Memory::overwrite`).
unsafe impl Sync for MappedFile {}

impl MappedFile {
    /// For the maker, while the file is known to nobody else.
    fn writable(fd: &OwnedFd, length: usize) -> io::Result<Self> {
        let mapping = Self::new(fd, length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)?;
        if length > 0 {
            // A child that another thread forks meanwhile would keep a mapping, and the memory could not be sealed.
            // SAFETY: the mapping has this length; the advice changes nothing in this process.
            unsafe { madvise(mapping.start.as_ptr().cast(), length, Advice::LinuxDontFork)? };
        }
        Ok(mapping)
    }

    /// For readers. The file is sealed, so that its length and its bytes stay as they are.
    ///
    /// Private, though the pages are those of all processes: before Linux 6.7 what is sealed cannot be mapped shared,
    /// and pages that nobody can write are never copied.
    fn sealed(fd: &OwnedFd, length: usize) -> io::Result<Self> {
        Self::new(fd, length, ProtFlags::READ, MapFlags::PRIVATE)
    }

    fn new(fd: &OwnedFd, length: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        if length == 0 {
            return Ok(Self { start: NonNull::<Aligned>::dangling().cast(), length });
        }
        // SAFETY: a new mapping at an address of the kernel's choice; it cannot replace any other.
        let start = unsafe { mmap(std::ptr::null_mut(), length, protection, flags, fd, 0)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    fn as_bytes(&self) -> &[u8] {
        // SAFETY: `length` bytes are mapped from `start` on (or none, and `start` is aligned and not null) as long as
        // `self` lives, in a file of that length, which nobody can write or shrink: it is sealed, or it is written
        // through this very value alone, which the borrow excludes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// Only of a mapping made by [`writable`](Self::writable).
    fn as_mut_bytes(&mut self) -> &mut [u8] {
        // SAFETY: as above; `self` is borrowed alone, no other process knows of the file, and the mapping is writable.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the mapping is ours, and nothing borrows from it any more.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::ftruncate;
    use std::{os::fd::AsRawFd, panic};

    fn inode(fd: impl AsFd) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    /// How many mappings and descriptors this process has of a memfd of ours. Other tests have their own meanwhile.
    fn traces(inode: u64) -> (usize, usize) {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mapped = maps.lines().filter(|line| line.contains("/memfd:pool-shared"));
        let mapped = mapped.filter(|line| line.split_whitespace().nth(4) == Some(&inode.to_string())).count();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter(|entry| {
            use std::os::unix::fs::MetadataExt;
            let is_ours =
                std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:pool-shared"));
            is_ours && std::fs::metadata(entry.path()).is_ok_and(|file| file.ino() == inode)
        });
        (mapped, open.count())
    }

    #[test]
    fn two_mappings_have_the_same_bytes_and_leave_nothing() {
        let made = Memory::create(10_000, |bytes| bytes[9_999] = 7).unwrap();
        let inode = inode(made.handle());
        let opened = Memory::open(made.handle().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((opened.as_bytes().len(), opened.as_bytes()[9_999], opened.as_bytes()[0]), (10_000, 7, 0));
        assert_ne!(made.as_bytes().as_ptr(), opened.as_bytes().as_ptr());
        assert_eq!(traces(inode), (2, 2));
        drop(made);
        assert_eq!(opened.as_bytes()[9_999], 7);
        drop(opened);
        assert_eq!(traces(inode), (0, 0));
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let bytes: Vec<u8> = (0..300_001_u32).map(|n| n as u8).collect();
        assert_eq!(Memory::copy(&bytes).unwrap().as_bytes(), bytes);
        let mut draft = Draft::new(bytes.len()).unwrap();
        for part in bytes.chunks(70_000) {
            draft.append(part).unwrap();
        }
        assert_eq!(draft.seal().unwrap().as_bytes(), bytes);
    }

    #[test]
    fn sealed_memory_stays_as_it_is() {
        let memory = Memory::copy(b"for good").unwrap();
        assert!(memory.handle().as_raw_fd() > 2);
        assert_eq!(rustix::io::pwrite(memory.handle(), b"ill", 0).unwrap_err(), Errno::PERM);
        assert_eq!(ftruncate(memory.handle(), 0).unwrap_err(), Errno::PERM);
        assert_eq!(ftruncate(memory.handle(), 1 << 20).unwrap_err(), Errno::PERM);
        assert_eq!(fcntl_add_seals(memory.handle(), SealFlags::empty()).unwrap_err(), Errno::PERM);
        let fd = memory.handle().try_clone_to_owned().unwrap();
        assert!(MappedFile::writable(&fd, 8).is_err());
        assert_eq!(memory.as_bytes(), b"for good");
    }

    #[test]
    fn reusable_memory_is_written_by_its_maker_alone() {
        let memory = Memory::reusable(MEMORY_ALIGN).unwrap();
        let other = Memory::open(memory.handle().try_clone_to_owned().unwrap()).unwrap();
        // SAFETY: nobody looks meanwhile.
        unsafe { memory.overwrite(b"once") };
        assert_eq!(&other.as_bytes()[..4], b"once");
        // SAFETY: as above.
        unsafe { memory.overwrite(b"more") };
        assert_eq!(&other.as_bytes()[..4], b"more");
        let fd = memory.handle().try_clone_to_owned().unwrap();
        assert!(MappedFile::writable(&fd, MEMORY_ALIGN).is_err());
        assert_eq!(rustix::io::pwrite(&fd, b"ill", 0).unwrap_err(), Errno::PERM);
    }

    #[test]
    fn memory_that_could_change_is_refused() {
        let unsealed = || memfd_create("pool-shared", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        for seals in [SealFlags::empty(), SealFlags::SHRINK, SealFlags::WRITE, SealFlags::FUTURE_WRITE] {
            let fd = unsealed();
            fcntl_add_seals(&fd, seals).unwrap();
            assert_eq!(Memory::open(fd).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert_eq!(Memory::open(file.into()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (pipe, _writer) = io::pipe().unwrap();
        assert_eq!(Memory::open(pipe.into()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn no_bytes_are_memory_too() {
        for memory in [Memory::create(0, |bytes| assert!(bytes.is_empty())).unwrap(), Memory::copy(&[]).unwrap()] {
            assert!(memory.as_bytes().is_empty());
            assert!(memory.as_bytes().as_ptr().addr().is_multiple_of(MEMORY_ALIGN));
            let opened = Memory::open(memory.handle().try_clone_to_owned().unwrap()).unwrap();
            assert!(opened.as_bytes().is_empty());
        }
    }

    #[test]
    fn a_length_gone_wrong_is_an_error() {
        for length in [usize::MAX, isize::MAX as usize + 1, isize::MAX as usize, 1 << 50] {
            assert!(Memory::create(length, |_| unreachable!()).is_err(), "{length}");
            assert!(Draft::new(length).is_err(), "{length}");
        }
    }

    #[test]
    fn a_panic_while_filling_leaves_nothing() {
        let (mut inode, mut meanwhile) = (0, (0, 0));
        let caught = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            Memory::create(1 << 20, |bytes| {
                let address = bytes.as_ptr().addr();
                let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
                let line = maps.lines().find(|line| line.starts_with(&format!("{address:x}-"))).unwrap();
                inode = line.split_whitespace().nth(4).unwrap().parse().unwrap();
                meanwhile = traces(inode);
                panic!("half full");
            })
        }));
        assert!(caught.is_err());
        assert_eq!((meanwhile, traces(inode)), ((1, 1), (0, 0)));
    }
}
