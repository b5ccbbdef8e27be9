//! Waiting for several descriptors at a time.

use super::handle::beyond_standard;
use super::step;
use crate::os::HandleRef;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, ioctl_fionread};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

pub(super) fn timespec(timeout: Option<Duration>) -> Option<Timespec> {
    timeout.map(|timeout| Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    })
}

fn wait(polled: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    match poll(polled, timespec(timeout).as_ref()) {
        // When a signal interrupts it, none is ready: the caller compares its deadline again.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Sleeps until one of them has something to read or its other side is gone, at most for `timeout`. Returns which are.
pub(crate) fn wait_readable<const N: usize>(
    handles: [HandleRef<'_>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled = handles.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    wait(&mut polled, timeout)?;
    Ok(polled.map(|fd| !fd.revents().is_empty()))
}

/// Sleeps until there is room in a socket, or its other side is gone.
pub(crate) fn wait_writable(socket: HandleRef<'_>) -> io::Result<()> {
    wait(&mut [PollFd::from_borrowed_fd(socket, PollFlags::OUT)], None)
}

/// Sleeps until one of them has something to read or its other side is gone, at most for `timeout`. A signal may end it
/// earlier. Returns which are.
pub(crate) fn wait_any<'h>(
    handles: impl Iterator<Item = HandleRef<'h>>,
    timeout: Option<Duration>,
) -> io::Result<Vec<bool>> {
    let mut polled: Vec<_> = handles.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    wait(&mut polled, timeout)?;
    Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect())
}

/// Which of them have something to read, or an other side that is gone.
pub(crate) fn are_readable<'h>(handles: impl Iterator<Item = HandleRef<'h>>) -> Vec<bool> {
    let mut polled: Vec<_> = handles.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    // If nothing tells, each has to be tried.
    let all = wait(&mut polled, Some(Duration::ZERO)).is_err();
    polled.iter().map(|fd| all || !fd.revents().is_empty()).collect()
}

/// Sleeps until the other side of a socket is gone, or `process` has ended, or `other` has something to read or its
/// other side is gone. Data that arrives at the socket does not wake the caller. Returns whether the socket's other side
/// is gone or sends nothing any more, or the process has ended.
pub(crate) fn wait_hung_up(
    socket: HandleRef<'_>,
    process: Option<HandleRef<'_>>,
    other: Option<HandleRef<'_>>,
) -> bool {
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    loop {
        let watched = PollFd::from_borrowed_fd(socket, PollFlags::RDHUP);
        // What is not there is the socket once more.
        let or_socket = |fd: Option<_>| fd.map_or(watched.clone(), |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let mut polled = [watched.clone(), or_socket(process), or_socket(other)];
        match poll(&mut polled, None) {
            Ok(_) if polled[0].revents().intersects(gone) || !polled[1].revents().is_empty() => return true,
            Ok(_) if !polled[2].revents().is_empty() => return false,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

/// The reading end of a pipe for a [`Poller`]: reading it never waits.
#[derive(Debug)]
pub(crate) struct PolledPipe(PipeReader);

impl PolledPipe {
    pub(crate) fn new(pipe: PipeReader) -> io::Result<Self> {
        fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
        Ok(Self(pipe))
    }

    pub(crate) fn handle(&self) -> HandleRef<'_> {
        self.0.as_fd()
    }

    /// How many bytes can be read now.
    pub(crate) fn unread(&self) -> u64 {
        ioctl_fionread(&self.0).unwrap_or(0)
    }
}

impl Read for PolledPipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// Waits for any of many pipes or sockets, and for a bell that other threads of this process ring.
#[derive(Debug)]
pub(crate) struct Poller {
    bell: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Self { bell: beyond_standard(bell.map_err(|error| step::EVENTFD.failed(error))?)? })
    }

    /// Ends the wait, or the next one.
    pub(crate) fn ring(&self) {
        // A bell that is full rings already.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    /// Sleeps until the bell is rung, or one of these has something to read or its other side is gone; at most for
    /// `timeout`. Returns which of them are ready.
    pub(crate) fn wait<'p>(
        &'p self,
        handles: impl Iterator<Item = HandleRef<'p>>,
        timeout: Option<Duration>,
    ) -> io::Result<Vec<bool>> {
        let all = [self.bell.as_fd()].into_iter().chain(handles);
        let mut polled: Vec<_> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        wait(&mut polled, timeout)?;
        let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
        if ready.next() == Some(true) {
            let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        }
        Ok(ready.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_end_of_a_process_is_noticed_beside_a_socket_that_stays_open() {
        let (socket, _other_side) = UnixStream::pair().unwrap();
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        // It has not ended: what is there to read comes first.
        let (reads, _writes) = io::pipe().unwrap();
        let (ready, mut writes) = io::pipe().unwrap();
        io::Write::write_all(&mut writes, b"1").unwrap();
        assert!(!wait_hung_up(socket.as_fd(), Some(pidfd.as_fd()), Some(ready.as_fd())));
        drop(child.stdin.take());
        assert!(wait_hung_up(socket.as_fd(), Some(pidfd.as_fd()), Some(reads.as_fd())));
        assert!(child.wait().unwrap().success());
    }
}
