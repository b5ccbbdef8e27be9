//! This process: its end, rights, name and parent; the memory of any process, and the clock that all of them share.

use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

/// The process that has started this one, or inherited it.
pub(crate) use std::os::unix::process::parent_id as parent_pid;

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
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// How many bytes of private memory a process has in use. None if it is gone, or without `/proc`.
pub(crate) fn private_memory(pid: u32) -> Option<u64> {
    private_pages(&std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?).map(|pages| pages * page_size() as u64)
}

/// Does a process have children, dead ones among them that it has not reaped? None if the system does not tell.
pub(crate) fn has_children(pid: u32) -> Option<bool> {
    let of = |thread: &str| std::fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"));
    let any = |children: String| !children.trim().is_empty();
    if any(of(&pid.to_string()).ok()?) {
        return Some(true);
    }
    // A child belongs to the thread that has started it. Threads come and go meanwhile.
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    Some(threads.filter_map(|thread| of(thread.file_name().to_str()?).ok()).any(any))
}

/// The file has the numbers of all pages, of those in memory, and of those among them that are of files or shared.
fn private_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(resident.saturating_sub(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        while has_children(child.id()) == Some(false) {
            std::thread::yield_now();
        }
        assert_eq!(has_children(u32::MAX >> 1), None);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(has_children(child.id()), None);
    }

    #[test]
    fn memory_that_is_used_is_seen() {
        let before = private_memory(std::process::id()).unwrap();
        let used = vec![1u8; 64 << 20];
        let with = private_memory(std::process::id()).unwrap();
        assert!(with > before + (48 << 20), "{before} {with}");
        drop(used);
        assert_eq!(private_memory(u32::MAX >> 1), None);
    }

    #[test]
    fn a_file_that_makes_no_sense_says_nothing() {
        assert_eq!(private_pages("9 7 2 1 0 3 0"), Some(5));
        for nonsense in ["", "1", "1 2", "a b c", "1 2 x"] {
            assert_eq!(private_pages(nonsense), None, "{nonsense}");
        }
    }
}
