//! Over channels, a worker that writes garbage into its channel is replaced; nothing is executed or allocated on its
//! say.

use crate::support::{descriptors, pids};
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
fn send_descriptors(packet: &[u8], count: usize) {
    let fds = vec![2; count];
    // SAFETY: only computes a length.
    let space = unsafe { libc::CMSG_SPACE(size_of_val(&fds[..]) as u32) } as usize;
    let mut control = vec![0_u64; space.div_ceil(8)];
    let mut part = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
    for fd in channels() {
        // SAFETY: the message describes the packet and the control memory, which has room for the descriptors.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
            (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), space);
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            ((*head).cmsg_level, (*head).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
            (*head).cmsg_len = libc::CMSG_LEN(size_of_val(&fds[..]) as u32) as usize;
            std::ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(head).cast::<i32>(), count);
            libc::sendmsg(fd, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        }
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
            let error = pool.apply(send_descriptors::call(&packet, count)).expect_err("it was told off");
            assert!(error.is_worker_lost() && error.to_string().contains("no message"), "{count}: {error}");
            assert_eq!(pool.apply(add::call(20, 22)).unwrap(), 42);
        }
    }
    // 201 were sent; a few may belong to the pool of another test meanwhile.
    assert!(descriptors().len() < before + 100, "{:?}", descriptors());
}
