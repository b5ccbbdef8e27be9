//! This process: its end, rights, name and parent.

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

/// The process that has started this one, or inherited it.
pub(crate) fn parent_pid() -> u32 {
    std::os::unix::process::parent_id()
}

/// Names the calling thread, and so the process when it is the main thread, for `ps` and `top`.
pub(crate) fn name_thread(name: &str) {
    let short: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(short) {
        // An unnamed thread does no harm.
        let _ = rustix::thread::set_name(&name);
    }
}
