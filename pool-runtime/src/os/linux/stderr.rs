//! The standard streams of this process, past the standard library.

use crate::os::Handle;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long a text for standard error is held back while another process's text is on its way there.
const TURN: Duration = Duration::from_secs(1);

fn stderr() -> BorrowedFd<'static> {
    // SAFETY: whatever descriptor 2 is, writing to it is what standard error is for; it is only borrowed, and if it is
    // closed, whatever is asked of it fails.
    unsafe { BorrowedFd::borrow_raw(2) }
}

/// Writes all of `bytes` to standard error, without anything of another process of this library between them.
///
/// A pipe takes longer texts in parts, so the writer holds a record lock, which the system takes back from a process that
/// dies. A process that holds it too long is not waited for.
pub(crate) fn write_stderr(bytes: &[u8]) {
    let deadline = Instant::now() + TURN;
    let locked = loop {
        match fcntl_lock(stderr(), FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN | Errno::ACCESS | Errno::INTR) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            locked => break locked.is_ok(),
        }
    };
    write_all(bytes, |_| false);
    if locked {
        // What cannot be unlocked is unlocked when the process ends, which it is about to.
        let _ = fcntl_lock(stderr(), FlockOperation::NonBlockingUnlock);
    }
}

/// Writes all of `bytes` to standard error, whatever that is by now; what cannot be written is lost.
pub(crate) fn copy_to_stderr(bytes: &[u8]) {
    // Somebody has made it non-blocking, and here there is time to wait.
    write_all(bytes, |error| {
        error == Errno::AGAIN && {
            let _ = poll(&mut [PollFd::from_borrowed_fd(stderr(), PollFlags::OUT)], None);
            true
        }
    });
}

fn write_all(mut bytes: &[u8], again: impl Fn(Errno) -> bool) {
    while !bytes.is_empty() {
        match rustix::io::write(stderr(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(error) if again(error) => {}
            Err(_) => return,
        }
    }
}

/// Is standard error open?
pub(crate) fn has_stderr() -> bool {
    rustix::io::fcntl_getfd(stderr()).is_ok()
}

/// From now on, standard output is this.
pub(crate) fn replace_stdout(stdout: Handle) -> io::Result<()> {
    Ok(rustix::stdio::dup2_stdout(stdout)?)
}
