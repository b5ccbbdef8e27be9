//! This process: its end, rights, name and parent, and the clock that all processes share; the number and the children of
//! any process.

use super::handle::beyond_standard;
use super::wait_readable;
use crate::os::Handle;
use rustix::process::{
    Pid, PidfdFlags, Signal, getegid, geteuid, getgid, getuid, pidfd_open, set_parent_process_death_signal,
};
use rustix::thread::{CapabilitySet, capability_is_in_ambient_set};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// The process that has started this one, or inherited it.
pub(crate) use std::os::unix::process::parent_id as parent_pid;

/// Waits until the process that has started this one has ended, at most so long. Returns whether it has.
///
/// `parent` is its number when this process was started; it is never taken for a later process of the same number.
pub(crate) fn await_parent(parent: u32, timeout: Option<Duration>) -> bool {
    /// Where it cannot be waited for, as in a sandbox, it is looked for so often.
    const LOOK: Duration = Duration::from_millis(10);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let number = i32::try_from(parent).ok().and_then(Pid::from_raw);
    let handle = number.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()).map(beyond_standard);
    let handle = handle.and_then(io::Result::ok);
    // Children of a process that has ended get another parent: if it is this one still, so was what was opened.
    while parent_pid() == parent {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        let ended = handle.as_ref().map(|handle| wait_readable([handle.as_fd()], left));
        if let Some(Ok([true])) = ended {
            return true;
        }
        // Also where a wait fails at once, for a lack of memory.
        if !matches!(ended, Some(Ok(_))) {
            std::thread::sleep(left.map_or(LOOK, |left| left.min(LOOK)));
        }
    }
    true
}

/// Has the kernel kill this process when the thread that has started it ends, and so when its parent does: also while
/// it is stopped, and whatever it does with its descriptors. It has to be asked by each thread of this process for which
/// it is to hold. A thread that changes its user loses it.
pub(crate) fn die_with_parent() {
    // Where it is refused, the descriptors that are watched have to do.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}

/// A handle of the parent: readable once that has ended, whoever has copies of its sockets. It is another process's if
/// the parent has ended meanwhile: see [`parent_pid`] after this. None if the system gives none.
pub(crate) fn parent_handle() -> Option<Handle> {
    let parent = Pid::from_raw(parent_pid().cast_signed())?;
    pidfd_open(parent, PidfdFlags::empty()).ok().and_then(|pidfd| beyond_standard(pidfd).ok())
}

/// Ends this process at once: nothing is flushed, no destructor and no `atexit` handler runs.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Does this process have more rights than its parent, by its file's owner, group or capabilities?
pub(crate) fn has_more_rights() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Has this process the rights of root, at least those inside of its user namespace?
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// The capabilities that this thread keeps in each program that it becomes, and which its user need not have. Where a
/// program has its rights from these, the kernel does not say that it has more than whoever started it.
pub(super) fn ambient() -> CapabilitySet {
    let is_ambient = |capability: &CapabilitySet| capability_is_in_ambient_set(*capability).unwrap_or(false);
    // The kernel is asked about one at a time, and most processes have none that they could keep.
    inheritable().iter().filter(is_ambient).collect()
}

/// What this thread may pass on to programs, which contains all that is ambient. All, if it is not told.
fn inheritable() -> CapabilitySet {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: libc::c_int,
    }
    /// The two words of each set: effective, permitted, inheritable.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct CapabilityWords([u32; 3]);
    const VERSION_3: u32 = 0x2008_0522;

    let mut header = Header { version: VERSION_3, pid: 0 };
    // rustix reads it into memory that it has not written, and valgrind does not see that the kernel writes all of it.
    let mut words = [CapabilityWords::default(); 2];
    // SAFETY: the kernel reads a header and, with this version, writes two triples of words.
    match unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) } {
        0 => CapabilitySet::from_bits_retain(u64::from(words[1].0[2]) << 32 | u64::from(words[0].0[2])),
        _ => CapabilitySet::all(),
    }
}

/// Checks that the parent has what this process has of capabilities that programs keep.
pub(crate) fn check_parents_capabilities(parent: Option<&Handle>) -> Result<(), String> {
    let ours = ambient();
    if ours.is_empty() {
        return Ok(());
    }
    let status = Pid::from_raw(parent_pid().cast_signed()).ok_or(io::ErrorKind::NotFound.into()).and_then(|pid| {
        let number = number_in_proc(parent.map(|handle| handle.as_fd()), pid)?;
        fs::read_to_string(format!("/proc/{number}/status"))
    });
    let status = status.map_err(|error| {
        format!("it has capabilities ({ours:?}), and whether its parent has them cannot be seen: {error}")
    })?;
    let permitted = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapPrm:")?.trim(), 16).ok());
    match ours - CapabilitySet::from_bits_retain(permitted.unwrap_or(0)) {
        more if more.is_empty() => Ok(()),
        more => Err(format!(
            "it has capabilities that its parent has not ({more:?}): it works only for a process with exactly its own \
             rights"
        )),
    }
}

/// Has it more rights than its parent, or would the processes that it starts? The kernel compares the effective ids with
/// the real ones. Returns what it has more of.
pub(crate) fn excess_of_rights() -> Option<&'static str> {
    match (has_more_rights(), getuid() == geteuid() && getgid() == getegid()) {
        (true, _) => Some("more rights than whoever started it, by its file's owner, group or capabilities"),
        (false, false) => Some("the effective user or group of somebody other than its real one"),
        (false, true) => None,
    }
}

/// Names the calling thread, and so the process when it is the main thread, for `ps` and `top`.
pub(crate) fn name_thread(name: &str) {
    let short: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(short) {
        // An unnamed thread does no harm.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Nanoseconds of the system's monotonic clock, which is the same in all processes.
pub(crate) fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The C library's, which finds the clock under valgrind too. It makes no system call either.
    // SAFETY: the pointer is that of a time. This clock exists everywhere, so nothing can fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    // They have 32 bits on some machines.
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// The number of a process in `/proc`. Fails if the process is gone, or not to be seen there.
pub(super) fn number_in_proc(pidfd: Option<BorrowedFd<'_>>, pid: Pid) -> io::Result<i32> {
    let invisible = || {
        let why = "`/proc` belongs to another name space of processes";
        io::Error::new(io::ErrorKind::NotFound, why)
    };
    let Some(pidfd) = pidfd else {
        // One number for this process says that `/proc` numbers processes as it does.
        let status = fs::read_to_string("/proc/thread-self/status")?;
        let numbers = status.lines().find_map(|line| Some(line.strip_prefix("NSpid:")?.split_whitespace().count()));
        return if numbers == Some(1) { Ok(pid.as_raw_pid()) } else { Err(invisible()) };
    };
    // The number that it has where `/proc` was mounted: that may be outside of the name space of this process, in
    // which it has another number. Of this thread, as the first one may have ended.
    let known = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let number = known.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i32>().ok());
    number.filter(|number| *number > 0).ok_or_else(invisible)
}

/// Does a process have children, dead ones among them that it has not reaped? None if the system does not tell.
pub(super) fn has_children(pidfd: Option<BorrowedFd<'_>>, pid: Pid) -> Option<bool> {
    let pid = number_in_proc(pidfd, pid).ok()?;
    let of = |thread: &str| fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"));
    let any = |children: String| !children.trim().is_empty();
    if any(of(&pid.to_string()).ok()?) {
        return Some(true);
    }
    // A child belongs to the thread that has started it. Threads come and go meanwhile.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    Some(threads.filter_map(|thread| of(thread.file_name().to_str()?).ok()).any(any))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_parent_is_seen() {
        use std::io::{Read, Write};
        assert!(!await_parent(parent_pid(), Some(Duration::ZERO)), "that of the tests lives");
        assert!(await_parent(parent_pid().wrapping_add(1), None), "one that was the parent once has ended");
        let (mut reader, mut writer) = io::pipe().unwrap();
        // SAFETY: the children make system calls only, and end without returning.
        unsafe {
            let parent = libc::fork();
            if parent == 0 {
                let pid = libc::getpid();
                if libc::fork() == 0 {
                    let ended = await_parent(pid.unsigned_abs(), Some(Duration::from_secs(60)));
                    let _ = writer.write_all(&[u8::from(ended)]);
                    libc::_exit(0);
                }
                libc::usleep(20_000);
                libc::_exit(0);
            }
            assert!(parent > 0);
            assert_eq!(libc::waitpid(parent, std::ptr::null_mut(), 0), parent);
        }
        drop(writer);
        let mut said = Vec::new();
        reader.read_to_end(&mut said).unwrap();
        assert_eq!(said, [1]);
    }

    #[test]
    fn a_child_is_seen_until_it_is_reaped() {
        let shell = || {
            std::process::Command::new("sh")
                .arg("-c")
                .arg("cat & read line; wait")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut child = shell();
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        while has_children(Some(pidfd.as_fd()), pid) == Some(false) {
            std::thread::yield_now();
        }
        assert_eq!(has_children(None, pid), Some(true));
        drop(child.stdin.take());
        child.wait().unwrap();
        // The number may be another process's by now.
        assert_eq!(has_children(Some(pidfd.as_fd()), pid), None);
    }
}
