//! Descriptors by number: those that a process is started with, and those that a library keeps to itself.

use super::step;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The same descriptor, under a number that is no standard stream's, so that nothing that is printed goes into it.
pub(super) fn beyond_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    fcntl_dupfd_cloexec(fd, 3).map_err(|error| step::DUPLICATE.failed(error))
}

/// A pipe, neither of whose ends is one of the standard streams.
pub(crate) fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe().map_err(|error| step::PIPE.failed(error))?;
    Ok((beyond_standard(reader.into())?.into(), beyond_standard(writer.into())?.into()))
}

/// Takes over a descriptor that this process was started with and nobody else knows of, and makes it close-on-exec.
pub(super) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only borrowed for the one call, which fails if the number is not open.
    fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and was passed to this process for this one use.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The open descriptors of this process from `least` on.
pub(super) fn open_from(least: RawFd) -> io::Result<Strays> {
    let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    // The one through which the list was read is closed again.
    // SAFETY: only asked whether it is open.
    let is_open = |number: &RawFd| fcntl_getfd(unsafe { BorrowedFd::borrow_raw(*number) }).is_ok();
    Ok(Strays(numbers.filter(|number| *number >= least).filter(is_open).collect()))
}

/// Open descriptors that the parent did not mean for this process.
#[derive(Debug, Default)]
pub(crate) struct Strays(Vec<RawFd>);

impl Strays {
    pub(crate) fn close(self) {
        for number in self.0 {
            // SAFETY: they were open when the process began, before this library opened any of its own, so nothing of
            // Rust's owns them. Code that has noted such a number finds it closed.
            unsafe { libc::close(number) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn what_is_open_is_found_and_closed() {
        const LEAST: RawFd = 700;
        let [one, other] = [(); 2].map(|()| fcntl_dupfd_cloexec(io::stderr(), LEAST).unwrap());
        let numbers = [one.into_raw_fd(), other.into_raw_fd()];
        let strays = open_from(LEAST).unwrap();
        assert_eq!(strays.0, numbers);
        strays.close();
        assert!(open_from(LEAST).unwrap().0.is_empty());
    }
}
