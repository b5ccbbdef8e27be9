//! Packets with descriptors: the one way in which several of them get a number by one system call.

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Two ends of a socket that carries packets, at whatever numbers.
pub(super) fn packet_sockets() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends a packet with descriptors, without waiting. `SPACE` is the room for them.
pub(super) fn send_with<const SPACE: usize>(
    socket: &OwnedFd,
    packet: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    retry_on_intr(|| {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::NOBUFS);
        }
        sendmsg(socket, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    })
}

/// Waits for a packet. The descriptors that came with it, and for which there was `SPACE`, are appended.
pub(super) fn receive_with<const SPACE: usize>(
    socket: &OwnedFd,
    packet: &mut [u8],
    fds: &mut Vec<OwnedFd>,
) -> Result<RecvMsg, Errno> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    // Closes what is not taken out of it.
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        retry_on_intr(|| recvmsg(socket, &mut [IoSliceMut::new(packet)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(received)
}
