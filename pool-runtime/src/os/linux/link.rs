//! The socket inside one end of an ipc-channel, which the crate keeps to itself.

use super::handle::{beyond_standard, lowest_number};
use super::step;
use crate::os::{HandleRef, Peeked};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{DupFlags, dup3};
use rustix::net::sockopt::socket_type;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, Shutdown, SocketType, recvmsg, shutdown};
use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// The error where no channel can be made: it names what was refused.
pub(crate) fn no_channel(error: io::Error) -> io::Error {
    step::SOCKETPAIR.failed(error)
}

/// One end of a channel, whose socket is known.
#[derive(Debug)]
pub(crate) struct Link<E> {
    end: E,
    number: RawFd,
}

impl<E: Debug> Link<E> {
    /// Finds the socket, whose number ipc-channel prints: `…{ fd: SharedFileDescriptor(7) }`, `…{ fd: Cell { value: 8 }
    /// }`. An error if it prints something else: a wrong number is never used.
    pub(crate) fn new(end: E) -> io::Result<Self> {
        let shown = format!("{end:?}");
        let numbers: Vec<_> = shown.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty()).collect();
        if let [number] = numbers[..]
            && let Ok(number) = number.parse()
        {
            let link = Self { end, number };
            if socket_type(link.handle()).is_ok_and(|kind| kind == SocketType::SEQPACKET) {
                return Ok(link);
            }
        }
        Err(io::Error::other(format!("this version of ipc-channel hides its descriptors: {shown}")))
    }
}

impl<E> Link<E> {
    /// Another handle of its socket.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        beyond_standard(self.handle().try_clone_to_owned()?)
    }

    /// Does its socket have the number of a standard stream, as those were closed? What is printed would go into it.
    pub(crate) fn is_standard(&self) -> bool {
        self.number <= 2
    }

    /// Has its socket a number that nobody else takes for something else?
    pub(crate) fn is_high(&self) -> bool {
        self.number >= lowest_number()
    }

    pub(crate) fn number(&self) -> SocketNumber {
        SocketNumber(self.number)
    }

    pub(crate) fn handle(&self) -> HandleRef<'_> {
        // SAFETY: the end owns the descriptor of that number, and closes it when it is dropped; it is borrowed here.
        unsafe { BorrowedFd::borrow_raw(self.number) }
    }

    /// From now on, sending fails with [`io::ErrorKind::WouldBlock`] where it would have to wait for room.
    pub(crate) fn never_wait(&self) -> io::Result<()> {
        Ok(fcntl_setfl(self.handle(), OFlags::RDWR | OFlags::NONBLOCK)?)
    }

    /// Replaces its socket with another, under the same number.
    pub(crate) fn replace(&self, socket: OwnedFd) -> io::Result<()> {
        // SAFETY: the end owns the descriptor and goes on owning it: `ManuallyDrop` keeps it open here.
        let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(self.number) });
        Ok(dup3(socket, &mut target, DupFlags::CLOEXEC)?)
    }

    /// As [`SharedSocket::shut_down`].
    pub(crate) fn shut_down(&self) {
        shut_down(self.handle());
    }

    /// Reads the beginning of the next packet, which stays to be received. Does not wait.
    pub(crate) fn peek(&self) -> io::Result<Peeked> {
        let mut head = [0; 16];
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        // Without room for descriptors, they stay in the packet, and a flag says that there are some.
        let mut none = RecvAncillaryBuffer::default();
        let packet = recvmsg(self.handle(), &mut [IoSliceMut::new(&mut head)], &mut none, flags)?;
        Ok(Peeked { head, length: packet.bytes, has_handles: packet.flags.contains(ReturnFlags::CTRUNC) })
    }
}

impl<E> Deref for Link<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.end
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketNumber(RawFd);

/// The socket of a link that something shared owns: to wait until something arrives, or its other side is gone.
#[derive(Debug)]
pub(crate) struct SharedSocket<O: ?Sized> {
    owner: Arc<O>,
    number: SocketNumber,
}

impl<O: ?Sized> SharedSocket<O> {
    /// The owner keeps the link of this number for as long as it exists.
    pub(crate) fn new(owner: Arc<O>, number: SocketNumber) -> Self {
        Self { owner, number }
    }

    pub(crate) fn handle(&self) -> HandleRef<'_> {
        let _kept_by = &self.owner;
        // SAFETY: the owner keeps the link, and with it the descriptor, as `new` asks for; it is borrowed here.
        unsafe { BorrowedFd::borrow_raw(self.number.0) }
    }

    /// Ends the connection in both directions: the other side, and all that wait for this socket, find it closed. What has
    /// arrived can still be read.
    pub(crate) fn shut_down(&self) {
        shut_down(self.handle());
    }
}

fn shut_down(socket: HandleRef<'_>) {
    // It fails only if the other side has done so.
    let _ = shutdown(socket, Shutdown::Both);
}
