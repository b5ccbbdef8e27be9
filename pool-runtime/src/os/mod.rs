//! What only the operating system can do: start a process, signal and reap it, share memory with it.
//!
//! The only place with `cfg(target_os)`, and with nearly all of the crate's `unsafe`. Nothing here knows what a task,
//! a frame or a pool is.

#[cfg(not(target_os = "linux"))]
compile_error!("pool-runtime runs on Linux 5.4 or newer: it needs pidfd, memfd and /proc");

mod alarm;
mod child;
mod claim;
mod confine;
mod descriptor;
pub(crate) mod fault;
mod footprint;
mod futex;
mod mapping;
mod memory;
mod oom;
mod page;
pub(crate) mod passing;
mod processor;
mod signal;
mod spawn;

pub(crate) use alarm::{Alarm, wait_any};
pub(crate) use child::{Child, Usage};
pub(crate) use claim::{CallId, execute_barriers};
pub(crate) use confine::{Abilities, Allowed, Confinement, Files, Limits};
pub(crate) use descriptor::{above_standard, adopt, beyond_standard, borrow, close_all, move_into, open_from};
pub(crate) use footprint::{monotonic, private_memory};
pub(crate) use futex::{futex_wait, futex_wake};
pub(crate) use mapping::{Mapping, PAGE, check_size, prefer_huge_pages, sealed_memory};
pub(crate) use memory::{Draft, Memory, View};
pub use oom::OomKill;
pub(crate) use oom::OomWatch;
pub(crate) use page::{Crash, StatusPage, WORDS};
pub(crate) use processor::{cpu_count, current_cpu, leave_cpu, set_cpus, set_nice, usable_cpus};
pub(crate) use signal::{SigpipeHeld, block_all_signals, outlive_interrupts};
pub(crate) use spawn::{Io, Spawn, closes_the_rest, program_path};

use std::time::Duration;

/// Sleeps until one of `fds` has something to read or its other side is gone, or until `patience` ends.
///
/// Returns which are ready.
pub(crate) fn wait_readable<const N: usize>(
    fds: [std::os::fd::BorrowedFd<'_>; N],
    patience: Option<Duration>,
) -> std::io::Result<[bool; N]> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let patience = patience.map(|patience| Timespec {
        tv_sec: patience.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    });
    match poll(&mut polled, patience.as_ref()) {
        Ok(_) => Ok(polled.map(|fd| !fd.revents().is_empty())),
        // Whoever waits looks at the clock again and comes back.
        Err(rustix::io::Errno::INTR) => Ok([false; N]),
        Err(error) => Err(error.into()),
    }
}

/// Sleeps until the other side of a socket is gone, or until `inbox` has something to read or its other side is gone.
/// Data that arrives at the socket meanwhile does not wake the caller. Returns whether the socket's other side is gone.
pub(crate) fn wait_hung_up(socket: std::os::fd::BorrowedFd<'_>, inbox: Option<std::os::fd::BorrowedFd<'_>>) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let watched = PollFd::from_borrowed_fd(socket, PollFlags::empty());
        // In place of an inbox, the socket is watched twice.
        let other = inbox.map_or(watched.clone(), |inbox| PollFd::from_borrowed_fd(inbox, PollFlags::IN));
        let mut polled = [watched, other];
        match poll(&mut polled, None) {
            Ok(_) if polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) => return true,
            Ok(_) if !polled[1].revents().is_empty() => return false,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

/// Ends this process at once: nothing is flushed, no destructor and no `atexit` handler runs.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Removes a variable from this process's environment.
pub(crate) fn remove_variable(name: &str) {
    // SAFETY: this is the first thing that `enter` does, before the program's own code, in a process that has one
    // thread. Where a program calls `enter` late and has threads by then, the standard library's own lock protects all
    // access from Rust.
    unsafe { std::env::remove_var(name) };
}

/// Has this process more rights than whoever has started it, by its file's owner, group or capabilities?
pub(crate) fn has_more_rights() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// How long a text for standard error is held back while another process's text is on its way there.
const TURN: Duration = Duration::from_secs(1);

/// Writes all of `bytes` to standard error, without anything of another process of this library between them.
///
/// A pipe takes longer texts in parts: whoever writes one holds a record lock on it, which the system takes back from a
/// process that dies. A process that holds it too long is not waited for.
pub(crate) fn write_stderr(mut bytes: &[u8]) {
    use rustix::{
        fs::{FlockOperation, fcntl_lock},
        io::Errno,
    };
    // SAFETY: whatever descriptor 2 is, writing to it is what standard error is for; it is only borrowed.
    let stderr = unsafe { std::os::fd::BorrowedFd::borrow_raw(2) };
    let deadline = std::time::Instant::now() + TURN;
    let locked = loop {
        match fcntl_lock(stderr, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN | Errno::ACCESS | Errno::INTR) if std::time::Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            locked => break locked.is_ok(),
        }
    };
    while !bytes.is_empty() {
        match rustix::io::write(stderr, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    if locked {
        // What cannot be unlocked is unlocked when the process ends, which it is about to.
        let _ = fcntl_lock(stderr, FlockOperation::NonBlockingUnlock);
    }
}

/// Is standard error open?
pub(crate) fn has_stderr() -> bool {
    // SAFETY: only asked whether it is open.
    let stderr = unsafe { std::os::fd::BorrowedFd::borrow_raw(2) };
    rustix::io::fcntl_getfd(stderr).is_ok()
}

/// Writes all of `bytes` to standard error, whatever that is by now; what cannot be written is lost.
pub(crate) fn copy_to_stderr(mut bytes: &[u8]) {
    use rustix::{
        event::{PollFd, PollFlags, poll},
        io::Errno,
    };
    // SAFETY: whatever descriptor 2 is, writing to it is what standard error is for; it is only borrowed.
    let stderr = unsafe { std::os::fd::BorrowedFd::borrow_raw(2) };
    while !bytes.is_empty() {
        match rustix::io::write(stderr, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // Somebody made it so that nobody waits for it; who copies through has the time.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}

/// Names the calling thread, and so the process when it is the main thread, for `ps` and `top`.
pub(crate) fn name_thread(name: &str) {
    let short: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(short) {
        // Only cosmetic.
        let _ = rustix::thread::set_name(&name);
    }
}
