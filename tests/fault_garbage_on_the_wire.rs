//! F18 over channels: a worker that writes garbage into its channel is replaced; nothing is executed or allocated on its say.

mod support;

use pool_runtime::{Pool, Transport, pool_main, task};
use std::os::fd::RawFd;
use support::pids;

pool_main!();

/// The sockets of this process that carry packets: those of its channel.
fn channels() -> Vec<RawFd> {
    let numbers = std::fs::read_dir("/proc/self/fd").expect("proc").flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_channel = |fd: &RawFd| {
        let (mut kind, mut size) = (0, size_of::<i32>() as libc::socklen_t);
        // SAFETY: the kernel writes an integer where one is.
        let asked =
            unsafe { libc::getsockopt(*fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut size) };
        asked == 0 && kind == libc::SOCK_SEQPACKET
    };
    numbers.filter(is_channel).collect()
}

#[task]
fn write_everywhere(bytes: &[u8]) {
    let channels = channels();
    assert!(!channels.is_empty());
    for fd in channels {
        // SAFETY: the bytes are ours; the descriptor is open.
        unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    }
}

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn a_worker_that_writes_garbage_is_replaced() {
    let pool = Pool::builder().processes(1).transport(Transport::Channel).build().unwrap();
    let mark = u64::from_le_bytes(*b"\xf3pool\r\n\x01");
    let garbage = [
        // No packet of ipc-channel's: too short, too long, or announcing a terabyte.
        vec![1],
        vec![0xff; 7],
        vec![0; 16],
        vec![0xff; 100],
        words(&[24, 1 << 40, 0]),
        words(&[1 << 40, 8, 0]),
        // A packet, but no part of a frame.
        words(&[48, 32, 1, 2, 3, 4]),
        // A part that announces a terabyte, one that is empty, and one that does not fit its own numbers.
        words(&[48, 32, mark, 1 << 40, 1 << 40, 0]),
        words(&[56, 40, mark, u64::MAX, 7, 0, 9]),
        // A part with a frame that is none: of an unknown kind, cut off, or a report about a call that never was.
        words(&[64, 48, mark, 0, 16, 0, 99, 0]),
        words(&[56, 40, mark, 0, 8, 0, 16]),
        words(&[80, 64, mark, 0, 32, 0, 16, 0, 77, 0]),
        // A greeting out of turn.
        words(&[64, 48, mark, 0, 16, 0, 11, 0]),
    ];
    for bytes in garbage {
        let before = pids(&pool);
        let error = pool.apply(write_everywhere::call(&bytes)).expect_err("the worker makes no sense any more");
        assert!(error.is_worker_lost(), "{bytes:?}: {error}");
        assert!(error.to_string().contains("and was killed"), "{bytes:?}: {error}");
        assert_eq!(pool.apply(add::call(20, 22)).unwrap(), 42, "after {bytes:?}");
        assert_ne!(pids(&pool), before, "{bytes:?}");
    }
}
