//! Memory that is filled once and then read in place by any number of processes: a memfd.
//!
//! It has no name: the kernel frees it with the last descriptor and the last mapping, however their processes end.
//!
//! ```text
//!   maker     memfd ─▶ filled ─▶ sealed ─▶ mapped ═══ the same pages ═══ mapped ◀─ seals checked ◀─ memfd   receiver
//!                                          read-only                    read-only
//! ```
//!
//! Nobody reads it before it is sealed, and nobody writes it afterwards, so it can be borrowed as a slice.
//! [Writable](Memory::writable) memory is another matter: see `words.rs`.
//! [Reusable](Memory::reusable) memory is for the arena alone: its length is fixed. Its maker writes it before it sends
//! a call that refers to it, and not again until that call has ended. Memory that could be truncated is never mapped.
//!
//! Most of the cost is filling new pages. `write` copies into them; through a mapping, each one faults and is zeroed
//! first, which takes half as long again for 64 MiB. So only what has to be filled in place is.

use super::handle::beyond_standard;
use super::mapping::{Mapping, READ_WRITE, memfd, seal};
use super::signal::without_sigxfsz;
use super::step;
use crate::os::{Handle, HandleRef};
use rustix::fs::{FallocateFlags, SealFlags, fallocate, fcntl_get_seals, fstat};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::Resource;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::slice;

/// Without these, somebody could change or truncate what others read.
const NEEDED: SealFlags = SealFlags::SHRINK.union(SealFlags::WRITE);
/// Those of reusable memory: its length is fixed.
pub(super) const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);
const ALL: SealFlags = NEEDED.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Writable memory of this size is sparse: no other can be as large.
pub(super) const LEAST_SPARSE: u64 = 1 << 48;
/// How much of that is mapped from the start.
pub(crate) const SPARSE_HEAD: usize = 1 << 14;

/// Who may write to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemoryKind {
    /// Nobody any more.
    Sealed,
    /// Its maker alone.
    Reusable,
    /// Everybody who has it: see [`words`](Memory::words).
    Writable,
    /// It is no memory: see [`file`](Memory::file).
    File,
}

/// Memory of one of three kinds, mapped into this process; or something else that is open.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(super) bytes: Mapping,
    pub(super) fd: OwnedFd,
    pub(super) kind: MemoryKind,
}

impl Memory {
    /// New memory with a copy of `bytes`.
    pub(crate) fn copy(bytes: &[u8]) -> io::Result<Self> {
        let mut draft = Draft::new(bytes.len())?;
        draft.append(bytes)?;
        draft.seal()
    }

    /// New memory of `length` bytes, zero at first, which `fill` fills in place. If it panics, nothing is left behind.
    pub(crate) fn create(length: usize, fill: impl FnOnce(&mut [u8])) -> io::Result<Self> {
        let draft = Draft::new(length)?;
        let mapping = writable(&draft.0, length)?;
        // SAFETY: the mapping has this length and is writable; nobody else knows of it or its file.
        fill(unsafe { slice::from_raw_parts_mut(mapping.start().as_ptr(), length) });
        // Memory with a writable mapping cannot be sealed.
        drop(mapping);
        draft.seal()
    }

    /// Maps memory that another process made: sealed, [reusable](Self::reusable) or [writable](Self::writable). Anything
    /// else is an error.
    pub(crate) fn open(fd: Handle) -> io::Result<Self> {
        // What cannot be sealed, such as a file with a name, has no seals to get.
        let seals = fcntl_get_seals(&fd).unwrap_or(SealFlags::empty());
        let kind = match seals {
            seals if seals.contains(NEEDED) => MemoryKind::Sealed,
            seals if seals.contains(FIXED | SealFlags::FUTURE_WRITE) => MemoryKind::Reusable,
            seals if seals.contains(FIXED) => MemoryKind::Writable,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the memory is not sealed: it could change")),
        };
        let stat = fstat(&fd)?;
        let length = match stat.st_size {
            size if kind == MemoryKind::Writable && size.cast_unsigned() >= LEAST_SPARSE => SPARSE_HEAD,
            // Its maker has filled it, or taken all of its pages. A hole takes none, and as much room where it is mapped.
            size if size.cast_unsigned() > stat.st_blocks.cast_unsigned() * 512 => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "parts of the memory are not there"));
            }
            size => usize::try_from(size).map_err(|_| Errno::OVERFLOW)?,
        };
        // Before Linux 6.7, sealed memory can only be mapped private; pages that nobody can write are never copied.
        let flags = if kind == MemoryKind::Sealed { MapFlags::PRIVATE } else { MapFlags::SHARED };
        let protection = if kind == MemoryKind::Writable { READ_WRITE } else { ProtFlags::READ };
        Ok(Self { bytes: Mapping::of(&fd, length, protection, flags)?, fd, kind })
    }

    /// # Panics
    ///
    /// If it is [writable](Self::writable), as it may change.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        assert!(self.kind != MemoryKind::Writable, "memory that others write is never borrowed as bytes");
        // SAFETY: so many bytes are mapped (or none, and the start is aligned and not null) as long as `self` lives, in
        // a file of that length, which nobody can shrink. Nobody can write it either: it is sealed, or only its maker
        // writes it, with `overwrite`, which excludes readers.
        unsafe { slice::from_raw_parts(self.bytes.start().as_ptr(), self.bytes.size()) }
    }

    /// Something that is open and travels as memory does, such as a socket: there is nothing of it to see.
    pub(crate) fn file(fd: Handle) -> io::Result<Self> {
        Ok(Self { bytes: Mapping::of(&fd, 0, ProtFlags::READ, MapFlags::PRIVATE)?, fd, kind: MemoryKind::File })
    }

    pub(crate) fn is_file(&self) -> bool {
        self.kind == MemoryKind::File
    }

    /// The handle of something that is [open](Self::file).
    pub(crate) fn open_file(&self) -> &Handle {
        &self.fd
    }

    /// Another handle of the same.
    pub(crate) fn duplicate(&self) -> io::Result<Handle> {
        beyond_standard(self.fd.try_clone()?)
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.kind == MemoryKind::Sealed
    }

    /// New memory that its maker can write again and again, with [`overwrite`](Self::overwrite).
    pub(crate) fn reusable(length: usize) -> io::Result<Self> {
        let draft = Draft::named(c"pool-arena", length)?;
        let bytes = writable(&draft.0, length)?;
        // This mapping stays the only writable one: a process that gets the descriptor can only read.
        seal(&draft.0, FIXED | SealFlags::FUTURE_WRITE | SealFlags::SEAL)?;
        Ok(Self { bytes, fd: draft.0.into(), kind: MemoryKind::Reusable })
    }

    /// Copies bytes to the beginning of [reusable](Self::reusable) memory.
    ///
    /// # Safety
    ///
    /// Nobody reads it meanwhile, in this or another process, nor holds a reference into it.
    pub(crate) unsafe fn overwrite(&self, bytes: &[u8]) {
        assert!(self.kind == MemoryKind::Reusable && bytes.len() <= self.bytes.size());
        // SAFETY: the mapping is as long, and writable, as that of all reusable memory in the process that made it; the
        // caller says that nobody looks.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.bytes.start().as_ptr(), bytes.len()) };
    }

    pub(crate) fn handle(&self) -> HandleRef<'_> {
        self.fd.as_fd()
    }
}

/// Whether two handles are of the same file, or memory, or socket: of what has an identity.
pub(crate) fn is_same(one: HandleRef<'_>, other: HandleRef<'_>) -> bool {
    let identity = |handle| fstat(handle).map(|stat| (stat.st_dev, stat.st_ino));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Memory that is still being written, by its maker alone.
#[derive(Debug)]
pub(crate) struct Draft(pub(super) File);

impl Draft {
    /// Empty memory that is to have `length` bytes. An error if there is not as much memory, or no descriptor.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        Self::named(c"pool-shared", length)
    }

    fn named(name: &CStr, length: usize) -> io::Result<Self> {
        check_affordable(length)?;
        Ok(Self(memfd(name)?.into()))
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        without_sigxfsz(|| self.0.write_all(bytes)).map_err(|error| step::WRITE.failed(error))
    }

    pub(crate) fn seal(self) -> io::Result<Memory> {
        seal(&self.0, ALL)?;
        Memory::open(self.0.into())
    }
}

/// Refuses a length that could never be filled: the kernel hands out the pages of a memfd one by one, and would kill
/// processes to find more of them.
fn check_affordable(length: usize) -> io::Result<()> {
    if isize::try_from(length).is_err() {
        return Err(Errno::NOMEM.into());
    }
    // Before any of it is written.
    if step::limit_of(Resource::Fsize).is_some_and(|limit| length as u64 > limit) {
        return Err(step::WRITE.failed(Errno::FBIG));
    }
    if length > 0 {
        // The kernel answers as it would to a `Vec` of that length.
        drop(Mapping::private(length)?);
    }
    Ok(())
}

/// Gives a memfd this length, and maps it to write. For its maker, while nobody else knows the file.
fn writable(fd: impl AsFd + Copy, length: usize) -> io::Result<Mapping> {
    allocate(fd, length)?;
    // A child that another thread forks meanwhile would keep a mapping, and the memory could not be sealed.
    Mapping::of(fd, length, READ_WRITE, MapFlags::SHARED)?.not_in_forks()
}

/// Takes all pages of a memfd of this length. If they were taken one by one, running out of memory would be a SIGBUS while
/// they are written.
pub(super) fn allocate(fd: impl AsFd + Copy, length: usize) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    let allocate = || retry_on_intr(|| fallocate(fd, FallocateFlags::empty(), 0, length as u64));
    without_sigxfsz(allocate).map_err(|error| step::FALLOCATE.failed(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::MEMORY_ALIGN;
    use rustix::fs::{MemfdFlags, fcntl_add_seals, ftruncate, memfd_create};
    use std::{os::fd::AsRawFd, panic};

    fn inode(fd: impl AsFd) -> u64 {
        fstat(fd).unwrap().st_ino
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
        assert!(writable(&fd, 8).is_err());
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
        assert!(writable(&fd, MEMORY_ALIGN).is_err());
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
        let file = File::open("/proc/self/exe").unwrap();
        assert_eq!(Memory::open(file.into()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (pipe, _writer) = io::pipe().unwrap();
        assert_eq!(Memory::open(pipe.into()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn memory_that_is_not_there_is_refused() {
        for seals in [NEEDED, FIXED, FIXED | SealFlags::FUTURE_WRITE] {
            for length in [1, 1 << 40] {
                let fd = memfd_create("pool-shared", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
                ftruncate(&fd, length).unwrap();
                fcntl_add_seals(&fd, seals).unwrap();
                assert_eq!(Memory::open(fd).unwrap_err().kind(), io::ErrorKind::InvalidData);
            }
        }
        let zeros = Memory::copy(&vec![0; 1 << 20]).unwrap();
        assert!(Memory::open(zeros.handle().try_clone_to_owned().unwrap()).is_ok());
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
