//! What goes through a socket besides bytes.

use std::{os::fd::RawFd, ptr};

/// Sends a packet with so many descriptors of standard error, if there is room for it.
pub fn send_descriptors(socket: RawFd, packet: &[u8], count: usize) {
    let fds = vec![2_i32; count];
    // SAFETY: only computes a length.
    let space = unsafe { libc::CMSG_SPACE(size_of_val(&fds[..]) as u32) } as usize;
    let mut control = vec![0_u64; space.div_ceil(8)];
    let mut part = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
    // SAFETY: the message describes the packet and the control memory, which has room for the descriptors.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), space as _);
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        ((*head).cmsg_level, (*head).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        (*head).cmsg_len = libc::CMSG_LEN(size_of_val(&fds[..]) as u32) as _;
        ptr::copy_nonoverlapping(fds.as_ptr(), libc::CMSG_DATA(head).cast::<i32>(), count);
        libc::sendmsg(socket, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    }
}
