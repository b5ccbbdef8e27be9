//! The standard streams of this process, past the standard library.

use crate::os::Handle;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::{Errno, fcntl_getfd, write};
use rustix::stdio::{dup2_stdin, dup2_stdout, stderr, stdout};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// Writes all of `bytes` to standard error, without output of another process of this library between them.
///
/// A pipe takes longer texts in parts, so the writer holds a record lock, which the system releases when a process
/// dies. A process that holds it for more than a second is not waited for.
pub(crate) fn write_stderr(bytes: &[u8]) {
    let deadline = Instant::now() + Duration::from_secs(1);
    let locked = loop {
        match fcntl_lock(stderr(), FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN | Errno::ACCESS | Errno::INTR) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            locked => break locked.is_ok(),
        }
    };
    write_all(stderr(), bytes, false);
    if locked {
        // What cannot be unlocked is unlocked when the process ends, which it is about to.
        let _ = fcntl_lock(stderr(), FlockOperation::NonBlockingUnlock);
    }
}

/// Writes all of `bytes` to standard error, whatever that is by now; what cannot be written is lost.
pub(crate) fn copy_to_stderr(bytes: &[u8]) {
    // If it is non-blocking, the caller still has time to wait.
    write_all(stderr(), bytes, true);
}

/// The same for standard output, past the standard library: its lock may be held by a thread that waits for a worker.
pub(crate) fn copy_to_stdout(bytes: &[u8]) {
    write_all(stdout(), bytes, true);
}

fn write_all(stream: BorrowedFd<'_>, mut bytes: &[u8], waits: bool) {
    while !bytes.is_empty() {
        match write(stream, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if waits => _ = poll(&mut [PollFd::from_borrowed_fd(stream, PollFlags::OUT)], None),
            Err(_) => return,
        }
    }
}

/// Is standard error open?
pub(crate) fn has_stderr() -> bool {
    fcntl_getfd(stderr()).is_ok()
}

/// Is standard output open?
pub(crate) fn has_stdout() -> bool {
    fcntl_getfd(stdout()).is_ok()
}

/// Whoever reads from standard input finds its end.
pub(crate) fn replace_stdin_by_nothing() -> io::Result<()> {
    Ok(dup2_stdin(File::open("/dev/null")?)?)
}

/// Makes this the standard output.
pub(crate) fn replace_stdout(stdout: Handle) -> io::Result<()> {
    Ok(dup2_stdout(stdout)?)
}
