//! File descriptors by number, where a library or the start of a process knows them only so.

use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};
use std::{
    io,
    mem::ManuallyDrop,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// A close-on-exec duplicate with a number of at least `least`.
pub(crate) fn above_standard(fd: impl AsFd, least: RawFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, least)?)
}

/// The same descriptor, under a number that is not one of the standard streams': should the program have closed those,
/// whatever it prints would go into `fd`.
pub(crate) fn beyond_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { above_standard(fd, 3) }
}

/// Borrows a descriptor that is known by its number, for as long as `_owner` lives.
pub(crate) fn borrow<T: ?Sized>(_owner: &T, number: RawFd) -> BorrowedFd<'_> {
    // SAFETY: the callers pass the object that owns descriptor `number` and closes it when dropped; the borrow of that
    // object outlives the one that is made here.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Takes over a descriptor that this process was started with, and closes it on exec from now on.
///
/// The caller must be the only one who knows of it; a number that is not open is an error.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only borrowed for the one call, which fails if the number is not open.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(inherited, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and was passed to this process for this one use.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes descriptor `number`, which `_owner` owns, another name of what `fd` is.
pub(crate) fn move_into<T: ?Sized>(fd: OwnedFd, _owner: &T, number: RawFd) -> io::Result<()> {
    // SAFETY: `_owner` owns the descriptor and goes on owning it: `ManuallyDrop` keeps it open here.
    let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    Ok(dup3(fd, &mut target, DupFlags::CLOEXEC)?)
}
