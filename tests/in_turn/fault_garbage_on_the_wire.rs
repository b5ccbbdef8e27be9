//! Over channels, a worker that writes garbage into its channel is replaced; nothing is executed or allocated on its
//! say.

use crate::support::{descriptors, pids, send_descriptors};
use pool_runtime::{Pool, Transport, task};
use std::os::fd::RawFd;

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

/// A packet that is sound, but for the descriptors that come with it.
#[task]
fn attach_descriptors(packet: &[u8], count: usize) {
    channels().into_iter().for_each(|socket| send_descriptors(socket, packet, count));
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
    let _turn = crate::support::turn();
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
        // One that is sound, but longer than those of ipc-channel, which would wait for the rest of it.
        [words(&[212_600, 212_584, mark, 0, 212_552, 0]), vec![0; 212_552]].concat(),
        // A part of one byte.
        [words(&[49, 33, mark, 1 << 16, (1 << 16) + 1, 0]), vec![16]].concat(),
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

#[test]
fn descriptors_that_come_with_a_packet_are_not_taken() {
    let _turn = crate::support::turn();
    let pool = Pool::builder().processes(1).transport(Transport::Channel).build().unwrap();
    let mark = u64::from_le_bytes(*b"\xf3pool\r\n\x01");
    assert_eq!(pool.apply(add::call(20, 22)).unwrap(), 42);
    let before = descriptors().len();
    // As ipc-channel sends a channel, as it sends what is in parts, and as many as there can be.
    for packet in [words(&[24, 8, 0]), words(&[64, 48, mark, 0, 16, 0, 11, 0]), words(&[1 << 20, 8, 0])] {
        for count in [1, 2, 64] {
            let error = pool.apply(attach_descriptors::call(&packet, count)).expect_err("it was told off");
            assert!(error.is_worker_lost() && error.to_string().contains("no message"), "{count}: {error}");
            assert_eq!(pool.apply(add::call(20, 22)).unwrap(), 42);
        }
    }
    // 201 were sent; a few may belong to the pool of another test meanwhile.
    assert!(descriptors().len() < before + 100, "{:?}", descriptors());
}
