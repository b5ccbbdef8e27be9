//! Sends descriptors to another process, each with the number by which both know it.
//!
//! ```text
//!   send(Take { id, … })  ═══ packet: kind, number, id ═══ + SCM_RIGHTS: one descriptor ═══▶  receive: Take { id, … }
//!   send(File { id, … })  ═══ packet: kind, 0, id ═════════ + SCM_RIGHTS: one descriptor ═══▶  receive: File { id, … }
//!   send(Release { id })  ═══ packet: kind, 0, id ══════════════════════════════════════▶  receive: Release { id }
//!   send(Nudge)           ═══ packet: kind, 0, 0 ═══════════════════════════════════════▶  receive: Nudge
//! ```
//!
//! A pair of packet sockets: a packet arrives whole or not at all, in the order in which it was sent. A descriptor that
//! arrives is either handed out or closed, whatever the packet was.

use super::handle::beyond_standard;
use super::poll::timespec;
use super::step;
use crate::os::{Delivery, Foremost, Handle, HandleRef, Outgoing};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::time::Duration;

const PACKET: usize = 16;
const TAKE: u64 = 1;
const RELEASE: u64 = 2;
const FILE: u64 = 3;
const NUDGE: u64 = 4;

/// Room for more descriptors than a packet has, so that one too many is seen.
const DESCRIPTORS: usize = 4;

/// Two ends of a socket: what is sent into the one comes out of the other.
pub(crate) fn pair() -> io::Result<(Handle, Handle)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| step::SOCKETPAIR.failed(error))?;
    Ok((beyond_standard(one)?, beyond_standard(other)?))
}

/// Sends, without waiting. `WouldBlock`: too much of what was sent is still unread. `QuotaExceeded`: too many descriptors
/// that this user has sent, by any socket, are still unread. `BrokenPipe` or `ConnectionReset`:
/// nobody will read it.
pub(crate) fn send(socket: &Handle, passed: &Outgoing<'_>) -> io::Result<()> {
    let (kind, id, fds) = match passed {
        Outgoing::Take { id, number, handle } => (TAKE | u64::from(*number) << 32, *id, std::slice::from_ref(handle)),
        Outgoing::File { id, handle } => (FILE, *id, std::slice::from_ref(handle)),
        Outgoing::Release { id } => (RELEASE, *id, &[][..]),
        Outgoing::Nudge => (NUDGE, 0, &[][..]),
    };
    let packet = [kind.to_le_bytes(), id.to_le_bytes()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let sent = retry_on_intr(|| {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::NOBUFS);
        }
        let packet = [IoSlice::new(packet.as_flattened())];
        sendmsg(socket, &packet, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    });
    match sent {
        Ok(PACKET) => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
        Err(Errno::TOOMANYREFS) => Err(io::ErrorKind::QuotaExceeded.into()),
        Err(error) => Err(error.into()),
    }
}

/// Sends what no process of ours sends.
#[cfg(test)]
pub(crate) fn send_nothing(socket: &Handle) {
    rustix::net::send(socket, &[], SendFlags::empty()).unwrap();
}

/// Waits for the next packet. None: the other end is closed, and all that it sent was received. `InvalidData`: the
/// packet is corrupt; its descriptors are closed, and the next one can be received.
pub(crate) fn receive(socket: &Handle) -> io::Result<Option<Delivery>> {
    receive_with(socket, RecvFlags::empty())
}

/// As [`receive`], without waiting. `WouldBlock`: there is no packet.
pub(crate) fn try_receive(socket: &Handle) -> io::Result<Option<Delivery>> {
    receive_with(socket, RecvFlags::DONTWAIT)
}

/// The next packet, which stays where it is. None: there is none now.
pub(crate) fn peek(socket: &Handle) -> io::Result<Option<Foremost>> {
    let mut packet = [[0; 8]; 2];
    // Without room for descriptors, none is taken out.
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let mut look = || retry_on_intr(|| rustix::net::recv(socket, packet.as_flattened_mut(), flags));
    let received = match look() {
        // The other end was closed with packets unread, which is told once. What it sent is still there.
        Err(Errno::CONNRESET) => look(),
        received => received,
    };
    match received {
        Ok((_, PACKET)) => {
            let [kind, id] = packet.map(u64::from_le_bytes);
            Ok(Some(if kind == NUDGE { Foremost::Nudge } else { Foremost::Handle { id } }))
        }
        Err(Errno::AGAIN) => Ok(None),
        Ok((_, 0)) if is_at_end(socket) => Ok(None),
        // No packet of ours, though it may be empty: it is dropped as a nudge is.
        Ok(_) => Ok(Some(Foremost::Nudge)),
        Err(error) => Err(error.into()),
    }
}

/// Whether nothing was read because there is nothing, and never will be: an empty packet reads the same.
fn is_at_end(socket: &Handle) -> bool {
    // Nobody sends any more, and behind an empty packet there may be others.
    is_hung_up(socket.as_fd()) && rustix::io::ioctl_fionread(socket).map_or(true, |unread| unread == 0)
}

/// How much a packet takes of a socket, at most.
const PACKET_SIZE: usize = 1024;

/// How many packets there is room for, and how many there would be if all were received. Others may send meanwhile.
pub(crate) fn room(socket: &Handle) -> io::Result<(usize, usize)> {
    let most = rustix::net::sockopt::socket_send_buffer_size(socket)?;
    // SAFETY: this request writes one `int`, as declared.
    let unread = unsafe { rustix::ioctl::ioctl(socket, rustix::ioctl::Getter::<OUTQ, i32>::new()) };
    // Where it is denied, sending tells.
    let unread = unread.map_or(0, |unread| usize::try_from(unread).unwrap_or(0));
    Ok((most.saturating_sub(unread) / PACKET_SIZE, most / PACKET_SIZE))
}

/// `SIOCOUTQ`: how many bytes of memory what was sent and not yet received takes.
const OUTQ: rustix::ioctl::Opcode = 0x5411;

/// The other end of a pair is gone; or somebody who holds it has shut it down, as nobody of ours does.
const GONE: PollFlags = PollFlags::HUP.union(PollFlags::RDHUP);

/// Whether the other end of a pair is gone: nobody holds it, or nothing more can come from there.
pub(crate) fn is_hung_up(socket: HandleRef<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(GONE)
}

/// Sleeps until a packet has arrived, or the other end of the pair is gone; at most for `nap`. Returns whether it is gone.
pub(crate) fn sleep_on(socket: HandleRef<'_>, nap: Duration) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::IN | PollFlags::RDHUP)];
    poll(&mut polled, timespec(Some(nap)).as_ref()).is_ok() && polled[0].revents().intersects(GONE)
}

fn receive_with(socket: &Handle, flags: RecvFlags) -> io::Result<Option<Delivery>> {
    let mut packet = [[0; 8]; 2];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    // Closes what is not taken out of it.
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut receive = || {
        retry_on_intr(|| {
            let packet = &mut [IoSliceMut::new(packet.as_flattened_mut())];
            recvmsg(socket, packet, &mut control, RecvFlags::CMSG_CLOEXEC | flags)
        })
    };
    let received = match receive() {
        // It closed its end before it had read all that it was sent, which is told once. What it sent is still there.
        Err(Errno::CONNRESET) => receive(),
        received => received,
    };
    let received = match received {
        Err(Errno::CONNRESET) => return Ok(None),
        received => received?,
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let truncated = received.flags.contains(ReturnFlags::CTRUNC);
    if received.bytes == 0 && fds.is_empty() && !truncated && is_at_end(socket) {
        return Ok(None);
    }
    let corrupt = |how| Err(io::Error::new(io::ErrorKind::InvalidData, format!("a packet with descriptors {how}")));
    if received.bytes != PACKET || received.flags.contains(ReturnFlags::TRUNC) {
        return corrupt("has the wrong length");
    }
    let [kind, id] = packet.map(u64::from_le_bytes);
    let (number, kind) = ((kind >> 32) as u32, kind & u64::from(u32::MAX));
    match (kind, fds.pop(), fds.len(), truncated) {
        (TAKE, Some(fd), 0, false) => Ok(Some(Delivery::Take { id, number, handle: beyond_standard(fd) })),
        // There was one, and this process may not open another. A call that waits for it has to learn why.
        (TAKE, None, _, true) => Ok(Some(Delivery::Take { id, number, handle: Err(Errno::MFILE.into()) })),
        (FILE, Some(fd), 0, false) => Ok(Some(Delivery::File { id, handle: beyond_standard(fd) })),
        (FILE, None, _, true) => Ok(Some(Delivery::File { id, handle: Err(Errno::MFILE.into()) })),
        (RELEASE, None, _, false) => Ok(Some(Delivery::Release { id })),
        (NUDGE, None, _, false) => Ok(Some(Delivery::Nudge)),
        (TAKE | FILE | RELEASE | NUDGE, ..) => corrupt("has the wrong number of descriptors"),
        _ => corrupt("is of no known kind"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{Shutdown, shutdown};
    use std::{
        fs::File,
        io::{Read, Write},
        os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    };

    /// Whether nobody holds the writing end of a pipe any more: no descriptor of it has leaked.
    fn is_closed(mut reads: io::PipeReader) -> bool {
        let mut polled = [PollFd::new(&reads, PollFlags::IN)];
        // A process that another test starts has a copy until it executes its program.
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        poll(&mut polled, Some(&patience)).unwrap() == 1 && reads.read(&mut [0]).unwrap() == 0
    }

    fn raw(socket: &OwnedFd, kind: u64, length: usize, fds: &[BorrowedFd<'_>]) {
        let mut packet = [0; 32];
        packet[..8].copy_from_slice(&kind.to_le_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        sendmsg(socket, &[IoSlice::new(&packet[..length])], &mut control, SendFlags::empty()).unwrap();
    }

    #[test]
    fn what_is_passed_arrives_in_order() {
        let (here, there) = pair().unwrap();
        assert!(here.as_raw_fd() > 2 && there.as_raw_fd() > 2);
        let receiver = std::thread::spawn(move || {
            let mut said = Vec::new();
            while let Some(received) = receive(&there).unwrap() {
                match received {
                    Delivery::Take { id, number, handle } => {
                        assert_eq!(number, 9);
                        let fd = handle.unwrap();
                        assert!(fd.as_raw_fd() > 2);
                        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
                        write!(File::from(fd), "{id} ").unwrap();
                    }
                    Delivery::Release { id } => said.push(id),
                    other => panic!("{other:?}"),
                }
            }
            said
        });
        let (mut reads, writes) = io::pipe().unwrap();
        for id in [7, u64::MAX] {
            send(&here, &Outgoing::Take { id, number: 9, handle: writes.as_fd() }).unwrap();
            send(&here, &Outgoing::Release { id }).unwrap();
        }
        drop((here, writes));
        assert_eq!(receiver.join().unwrap(), [7, u64::MAX]);
        let mut text = String::new();
        reads.read_to_string(&mut text).unwrap();
        assert_eq!(text, "7 18446744073709551615 ");
    }

    #[test]
    fn a_packet_that_makes_no_sense_leaks_nothing() {
        let (here, there) = pair().unwrap();
        let (reads, writes) = io::pipe().unwrap();
        let fd = writes.as_fd();
        raw(&here, TAKE, PACKET, &[]);
        raw(&here, TAKE, PACKET, &[fd; 2]);
        raw(&here, TAKE, PACKET, &[fd; 8]);
        raw(&here, RELEASE, PACKET, &[fd]);
        raw(&here, FILE, PACKET, &[]);
        raw(&here, FILE, PACKET, &[fd; 2]);
        raw(&here, NUDGE, PACKET, &[fd]);
        raw(&here, 5, PACKET, &[fd]);
        raw(&here, TAKE, PACKET - 1, &[fd]);
        raw(&here, TAKE, PACKET + 1, &[fd]);
        for _ in 0..10 {
            assert_eq!(receive(&there).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        send(&here, &Outgoing::Release { id: 5 }).unwrap();
        assert!(matches!(receive(&there).unwrap(), Some(Delivery::Release { id: 5 })));
        drop(writes);
        assert!(is_closed(reads));
    }

    #[test]
    fn files_and_nudges_arrive_without_waiting() {
        let (here, there) = pair().unwrap();
        assert_eq!(try_receive(&there).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let (reads, writes) = io::pipe().unwrap();
        send(&here, &Outgoing::Nudge).unwrap();
        send(&here, &Outgoing::File { id: 8, handle: writes.as_fd() }).unwrap();
        drop(writes);
        assert!(matches!(try_receive(&there), Ok(Some(Delivery::Nudge))));
        assert!(matches!(try_receive(&there), Ok(Some(Delivery::File { id: 8, handle: Ok(_) }))));
        assert!(is_closed(reads));
        drop(here);
        assert!(try_receive(&there).unwrap().is_none());
    }

    #[test]
    fn an_empty_packet_is_not_the_end() {
        let (here, there) = pair().unwrap();
        raw(&here, 0, 0, &[]);
        assert!(matches!(peek(&there), Ok(Some(Foremost::Nudge))));
        assert_eq!(try_receive(&there).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(peek(&there).unwrap().is_none());
        raw(&here, 0, 0, &[]);
        send(&here, &Outgoing::Release { id: 5 }).unwrap();
        raw(&here, 0, 0, &[]);
        drop(here);
        assert!(matches!(peek(&there), Ok(Some(Foremost::Nudge))));
        assert_eq!(receive(&there).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(matches!(peek(&there), Ok(Some(Foremost::Handle { id: 5 }))));
        assert!(matches!(receive(&there), Ok(Some(Delivery::Release { id: 5 }))));
        assert!(peek(&there).unwrap().is_none() && receive(&there).unwrap().is_none());
    }

    #[test]
    fn what_was_sent_is_there_though_its_sender_left_with_packets_unread() {
        let (here, there) = pair().unwrap();
        send(&there, &Outgoing::Nudge).unwrap();
        send(&here, &Outgoing::Release { id: 5 }).unwrap();
        drop(here);
        assert!(matches!(try_receive(&there), Ok(Some(Delivery::Release { id: 5 }))));
        assert!(try_receive(&there).unwrap().is_none());
    }

    #[test]
    fn what_nobody_receives_is_closed() {
        let (here, there) = pair().unwrap();
        let (reads, writes) = io::pipe().unwrap();
        send(&here, &Outgoing::Take { id: 1, number: 0, handle: writes.as_fd() }).unwrap();
        drop((here, there, writes));
        assert!(is_closed(reads));
    }

    #[test]
    fn a_full_socket_does_not_make_the_sender_wait() {
        let (here, there) = pair().unwrap();
        let mut sent = 0;
        let full = loop {
            match send(&here, &Outgoing::Take { id: sent, number: 0, handle: here.as_fd() }) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        for expected in 0..sent {
            assert!(matches!(receive(&there), Ok(Some(Delivery::Take { id, handle: Ok(_), .. })) if id == expected));
        }
        send(&here, &Outgoing::Release { id: 0 }).unwrap();
    }

    #[test]
    fn what_is_foremost_is_told_before_it_is_received() {
        let (here, there) = pair().unwrap();
        assert!(peek(&there).unwrap().is_none() && !is_hung_up(there.as_fd()));
        let (reads, writes) = io::pipe().unwrap();
        let (room_before, most) = room(&here).unwrap();
        assert!(room_before == most && most >= 100, "{most}");
        send(&here, &Outgoing::Nudge).unwrap();
        send(&here, &Outgoing::File { id: 8, handle: writes.as_fd() }).unwrap();
        assert!(room(&here).unwrap().0 < most);
        assert!(matches!(peek(&there), Ok(Some(Foremost::Nudge))));
        assert!(matches!(try_receive(&there), Ok(Some(Delivery::Nudge))));
        for _ in 0..2 {
            assert!(matches!(peek(&there), Ok(Some(Foremost::Handle { id: 8 }))));
        }
        assert!(matches!(try_receive(&there), Ok(Some(Delivery::File { id: 8, handle: Ok(_) }))));
        assert_eq!(room(&here).unwrap().0, most);
        drop((here, writes));
        assert!(peek(&there).unwrap().is_none() && is_hung_up(there.as_fd()) && is_closed(reads));
    }

    /// So many as [`room`] tells can be sent.
    #[test]
    fn there_is_room_for_as_many_as_are_said_to_fit() {
        let (here, _there) = pair().unwrap();
        let mut sent = 0;
        while room(&here).unwrap().0 > 0 {
            send(&here, &Outgoing::Take { id: sent, number: 0, handle: here.as_fd() }).unwrap();
            sent += 1;
        }
        assert!(sent >= 100, "{sent}");
    }

    #[test]
    fn what_was_sent_before_the_other_end_was_reset_is_received() {
        let (here, there) = pair().unwrap();
        let (_reads, writes) = io::pipe().unwrap();
        send(&here, &Outgoing::File { id: 8, handle: writes.as_fd() }).unwrap();
        send(&there, &Outgoing::Nudge).unwrap();
        drop(here);
        assert!(is_hung_up(there.as_fd()));
        assert!(matches!(peek(&there), Ok(Some(Foremost::Handle { id: 8 }))));
        assert!(matches!(try_receive(&there), Ok(Some(Delivery::File { id: 8, handle: Ok(_) }))));
        assert!(peek(&there).unwrap().is_none());
    }

    #[test]
    fn an_end_that_is_gone_is_no_signal() {
        let (here, there) = pair().unwrap();
        assert!(!is_hung_up(here.as_fd()));
        shutdown(&there, Shutdown::Write).unwrap();
        assert!(receive(&here).unwrap().is_none() && is_hung_up(here.as_fd()));
        send(&here, &Outgoing::Release { id: 1 }).unwrap();
        drop(there);
        let error = send(&here, &Outgoing::Release { id: 2 }).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{error}");
        assert!(receive(&here).unwrap().is_none());
    }
}
