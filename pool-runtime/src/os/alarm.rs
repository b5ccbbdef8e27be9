//! Waking a thread that sleeps on descriptors.

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::{read, write},
};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

/// Stays rung until somebody clears it, so that no ring is missed.
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        super::beyond_standard(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?).map(Self)
    }

    pub(crate) fn ring(&self) {
        // One that is full rings already.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(crate) fn clear(&self) {
        let _ = read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sleeps until one of these has something to read or its other side is gone, at most for `patience`; may return early.
pub(crate) fn wait_any<'f>(fds: impl Iterator<Item = BorrowedFd<'f>>, patience: Option<Duration>) {
    let mut polled: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let patience = patience.map(|patience| Timespec {
        tv_sec: patience.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    });
    if poll(&mut polled, patience.as_ref()).is_err_and(|error| error != rustix::io::Errno::INTR) {
        // For a lack of kernel memory, which passes.
        std::thread::sleep(Duration::from_millis(10));
    }
}
