//! Finds out at no cost whether this process was forked from the one that made something.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use rustix::param::page_size;
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A word that the kernel clears in a forked child: Linux 4.14. None where it does not.
fn cleared_in_forks() -> Option<&'static AtomicU32> {
    let (size, flags) = (page_size(), MapFlags::PRIVATE);
    // SAFETY: a new mapping at an address of the kernel's choice.
    let page = unsafe { mmap_anonymous(ptr::null_mut(), size, ProtFlags::READ | ProtFlags::WRITE, flags) }.ok()?;
    // SAFETY: nobody has a reference into the mapping; the advice changes nothing in this process.
    unsafe { madvise(page, size, Advice::LinuxWipeOnFork) }.ok()?;
    // SAFETY: the mapping is large enough, aligned, zeroed at first, and never unmapped.
    Some(unsafe { AtomicU32::from_ptr(page.cast()) })
}

/// The id of this process, without a system call.
#[inline]
pub(crate) fn current_pid() -> u32 {
    static NOTE: LazyLock<Option<&AtomicU32>> = LazyLock::new(cleared_in_forks);
    match NOTE.map_or(0, |note| note.load(Ordering::Relaxed)) {
        0 => {
            let pid = std::process::id();
            NOTE.inspect(|note| note.store(pid, Ordering::Relaxed));
            pid
        }
        pid => pid,
    }
}
