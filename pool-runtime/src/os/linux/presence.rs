//! Which processes live that have some memory: each holds a lock on one byte of its file, of the kind that belongs to an
//! open file description (`F_OFD_SETLK`).
//!
//! Each process opens the file again for this, through `/proc`, and never sends that descriptor on. So the lock goes with
//! the process, however it ends; or with its last forked child that has not executed another program, which has the
//! description too. A process that may not take locks is sent a descriptor whose description has one already. The bytes
//! need not exist. Locks of the older kind, which belong to a process, would go as it closes *any* descriptor of the file.

use super::handle::beyond_standard;
use super::memory::Memory;
use super::step;
use crate::os::{Handle, HandleRef};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd};
use std::{io, mem};

/// What holds the lock, as long as it is open somewhere.
#[derive(Debug)]
pub(crate) struct Enrolment(Handle);

impl Enrolment {
    /// One without a number, of a process that has this memory.
    pub(crate) fn new(memory: &Memory) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", memory.fd.as_raw_fd());
        let again = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        beyond_standard(again.map_err(|error| step::REOPEN.failed(error))?).map(Self)
    }

    /// Takes a number. False if another one has it.
    pub(crate) fn take(&self, number: u32) -> io::Result<bool> {
        match record_lock(&self.0, libc::F_OFD_SETLK, number) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(step::OFD_SETLK.failed(error)),
        }
    }

    /// For a process that may not take a lock itself: it has this one when it has the memory by this handle.
    pub(crate) fn handle(&self) -> HandleRef<'_> {
        self.0.as_fd()
    }
}

impl Memory {
    /// Whether no process has this number, or all that had it have ended. Unless that is certain, false.
    pub(crate) fn is_vacant(&self, number: u32) -> bool {
        matches!(record_lock(&self.fd, libc::F_GETLK, number), Ok(lock) if i32::from(lock.l_type) == libc::F_UNLCK)
    }
}

fn record_lock(fd: &Handle, command: libc::c_int, number: u32) -> Result<libc::flock, Errno> {
    // SAFETY: the type has integers only.
    let mut lock: libc::flock = unsafe { mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = number.into();
    lock.l_len = 1;
    loop {
        // SAFETY: an open descriptor, and a lock that outlives the call.
        if unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut lock) } != -1 {
            return Ok(lock);
        }
        match Errno::from_io_error(&io::Error::last_os_error()) {
            Some(Errno::INTR) => {}
            error => return Err(error.unwrap_or(Errno::IO)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_number_is_vacant_once_its_process_has_ended() {
        let memory = Memory::writable(64).unwrap();
        let ours = Enrolment::new(&memory).unwrap();
        assert!(memory.is_vacant(7) && ours.take(7).unwrap() && ours.take(7).unwrap());
        assert!(!memory.is_vacant(7), "it is this process's own");
        // To close another descriptor of the file changes nothing.
        drop(memory.handle().try_clone_to_owned().unwrap());
        assert!(!memory.is_vacant(7) && !Enrolment::new(&memory).unwrap().take(7).unwrap());
        let theirs = Enrolment::new(&memory).unwrap();
        assert!(theirs.take(8).unwrap());
        let (mut up, down) = (io::pipe().unwrap(), io::pipe().unwrap());
        // SAFETY: the child makes system calls only.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(down.1);
            let _ = up.1.write_all(&[1]);
            let _ = (&down.0).read(&mut [0]);
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        drop((down.0, theirs));
        up.0.read_exact(&mut [0]).unwrap();
        assert!(!memory.is_vacant(8), "who was sent it has it");
        drop(down.1);
        // SAFETY: waits for the child of this test.
        assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
        // Processes that other tests start have copies until they execute their program.
        while !memory.is_vacant(8) {
            std::thread::yield_now();
        }
        assert!(ours.take(8).unwrap());
        drop(ours);
    }
}
