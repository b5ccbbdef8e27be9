//! Ways in which a process dies, or has to be killed.

/// Does nothing, for ever.
pub fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Writes where nobody may.
pub fn segfault() {
    // SAFETY: it is not: writing there is what the tests are about, and ends the process.
    unsafe { std::ptr::null_mut::<u8>().wrapping_add(8).write_volatile(1) }
}

/// As somebody else would kill this process.
pub fn kill_this_process() {
    // SAFETY: no memory is involved.
    unsafe { libc::raise(libc::SIGKILL) };
}

/// Fills the stack.
pub fn overflow() {
    std::hint::black_box(deeper(1));
}

#[expect(unconditional_recursion, reason = "until the stack is full")]
fn deeper(n: u64) -> u64 {
    let room = std::hint::black_box([n; 512]);
    deeper(n + 1) + room[n as usize % 512]
}
