//! A worker whose stack overflows says so on standard error; if nobody reads that, it dies of the overflow all the
//! same.

use crate::support::{over_every_transport, pool};
use pool_runtime::task;
use std::{hint::black_box, os::fd::AsRawFd as _};

over_every_transport! { nobody_has_to_read }

#[expect(unconditional_recursion, reason = "until the stack is full")]
fn dive(n: u64) -> u64 {
    let room = black_box([n; 64]);
    black_box(dive(n + 1)) + room[n as usize % 64]
}

/// Overflows the stack when standard error is a pipe that is full.
#[task]
fn overflow_unheard() -> u64 {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let all = [0_u8; 1 << 12];
    // SAFETY: the descriptors are open, and the bytes are ours.
    unsafe {
        libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
        while libc::write(writer.as_raw_fd(), all.as_ptr().cast(), all.len()) > 0 {}
        while libc::write(writer.as_raw_fd(), all.as_ptr().cast(), 1) > 0 {}
        libc::fcntl(writer.as_raw_fd(), libc::F_SETFL, 0);
        libc::dup2(writer.as_raw_fd(), 2);
    }
    // It is never read, and never closed.
    std::mem::forget(reader);
    dive(black_box(0))
}

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn nobody_has_to_read() {
    let pool = pool(1);
    let error = pool.apply(overflow_unheard::call()).unwrap_err();
    assert!(error.is_stack_overflow(), "{error}");
    assert_eq!(error.signal(), Some(libc::SIGSEGV));
    assert_eq!(pool.apply(add::call(20, 22)).unwrap(), 42);
}
