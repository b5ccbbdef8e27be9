//! Descriptors by number: those that a process is started with, and those that a library keeps to itself.
//!
//! Whatever prints takes 0 to 2 for the standard streams. An environment variable may say what 3 and the next few are:
//! sockets (`LISTEN_FDS`), a job server (`MAKEFLAGS`), a channel to a parent. Libraries in this process and in workers
//! believe that, whether or not it is still so. All descriptors of ours have higher numbers.

use super::step;
use super::step::limits_of;
use crate::locks::lock;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use rustix::process::Resource;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

/// Our descriptors have this number or a higher one, and if the process may not have so many, the next lower one.
const LEAST: [RawFd; 3] = [100, 10, 3];

/// The lowest number for a few dozen descriptors of ours that does not reach this process's limit.
pub(super) fn lowest_number() -> RawFd {
    // Where a filter denies the question, a low limit is possible.
    let limit = limits_of(Resource::Nofile).map_or(255, |(limit, _)| limit.unwrap_or(u64::MAX));
    match limit {
        256.. => LEAST[0],
        40.. => LEAST[1],
        _ => LEAST[2],
    }
}

/// The same descriptor, under a number that nobody else takes for something else.
pub(super) fn beyond_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    for least in LEAST {
        if fd.as_raw_fd() >= least {
            break;
        }
        match fcntl_dupfd_cloexec(&fd, least) {
            Ok(moved) => return Ok(moved),
            Err(error) if least == LEAST[2] => return Err(step::DUPLICATE.failed(error)),
            // The limit is lower, or all higher numbers are in use.
            Err(_) => {}
        }
    }
    Ok(fd)
}

/// Runs `open`, which opens descriptors that cannot be moved later, while all low numbers are in use: of the higher ones,
/// which other threads may need meanwhile, it takes none itself. If there are no higher numbers, `open` gets low ones.
pub(crate) fn at_high_numbers<R>(open: impl Fn() -> io::Result<R>) -> io::Result<R> {
    // What two threads open at a time would get numbers that one of them frees again.
    static OPENING: Mutex<()> = Mutex::new(());
    let opening = lock(&OPENING);
    let least = lowest_number();
    if let Ok(any) = eventfd(0, EventfdFlags::CLOEXEC) {
        let mut below = Vec::with_capacity(least as usize);
        below.push(any);
        while let Ok(another) = fcntl_dupfd_cloexec(&below[0], LEAST[2])
            && another.as_raw_fd() < least
        {
            below.push(another);
        }
        let opened = open();
        close_all(below);
        if opened.is_ok() {
            return opened;
        }
    }
    drop(opening);
    open()
}

/// Closes them with one call for all that follow each other.
fn close_all(mut descriptors: Vec<OwnedFd>) {
    descriptors.sort_unstable_by_key(AsRawFd::as_raw_fd);
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let mut descriptors = descriptors.into_iter();
    for run in numbers.chunk_by(|one, next| one + 1 == *next) {
        let run_of = descriptors.by_ref().take(run.len());
        // SAFETY: these are the numbers of the next descriptors, which are forgotten if they are closed.
        if unsafe { libc::syscall(libc::SYS_close_range, run[0], run[run.len() - 1], 0) } == 0 {
            run_of.for_each(std::mem::forget);
        } else {
            run_of.for_each(drop);
        }
    }
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

/// Closes the descriptors from `least` on, which the parent did not mean for this process. They were open when it began,
/// before this library opened any of its own, so nothing of Rust's owns them. Code that has noted such a number finds it
/// closed.
pub(super) fn close_from(least: RawFd) -> io::Result<()> {
    // SAFETY: only numbers are passed; as above, they are nobody's.
    if unsafe { libc::syscall(libc::SYS_close_range, least, u32::MAX, 0) } == 0 {
        return Ok(());
    }
    // A kernel before 5.9, or a filter that does not know the call.
    for number in open_from(least)? {
        // SAFETY: as above.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Closes all that this process was started with but the standard streams, before this library opens anything.
pub(crate) fn close_inherited() -> io::Result<()> {
    close_from(LEAST[2])
}

/// The open descriptors of this process from `least` on.
fn open_from(least: RawFd) -> io::Result<Vec<RawFd>> {
    let names = std::fs::read_dir("/proc/self/fd")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    // The one through which the list was read is closed again.
    // SAFETY: only asked whether it is open.
    let is_open = |number: &RawFd| fcntl_getfd(unsafe { BorrowedFd::borrow_raw(*number) }).is_ok();
    Ok(numbers.filter(|number| *number >= least).filter(is_open).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn what_is_open_is_found_and_closed() {
        const HIGH: RawFd = 700;
        let [one, other] = [(); 2].map(|()| fcntl_dupfd_cloexec(io::stderr(), HIGH).unwrap());
        let numbers = [one.into_raw_fd(), other.into_raw_fd()];
        assert_eq!(open_from(HIGH).unwrap(), numbers);
        close_from(HIGH).unwrap();
        assert!(open_from(HIGH).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_moved_is_opened_at_a_high_number() {
        let opened = at_high_numbers(|| Ok([eventfd(0, EventfdFlags::CLOEXEC)?, eventfd(0, EventfdFlags::CLOEXEC)?]));
        assert!(opened.unwrap().iter().all(|fd| fd.as_raw_fd() >= LEAST[0]));
        let low = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let moved = beyond_standard(low).unwrap();
        assert!(moved.as_raw_fd() >= LEAST[0] && fcntl_getfd(&moved).unwrap().contains(FdFlags::CLOEXEC));
    }
}
