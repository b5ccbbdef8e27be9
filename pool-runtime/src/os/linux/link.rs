//! The socket inside one end of an ipc-channel, which the crate keeps to itself.

use crate::os::{Handle, HandleRef, Peeked};
use rustix::net::sockopt::socket_type;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, SocketType, recvmsg};
use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::ops::Deref;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

/// One end of a channel, whose socket is known.
#[derive(Debug)]
pub(crate) struct Link<E> {
    end: E,
    number: RawFd,
}

impl<E: Debug> Link<E> {
    /// Finds the socket.
    ///
    /// ipc-channel shows its number: `…{ fd: SharedFileDescriptor(7) }`, `…{ fd: Cell { value: 8 } }`.
    ///
    /// # Errors
    ///
    /// It shows something else: nothing is ever done with a wrong number.
    pub(crate) fn new(end: E) -> io::Result<Self> {
        let shown = format!("{end:?}");
        let mut numbers = shown.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
        let number = numbers.next().and_then(|digits| digits.parse().ok()).filter(|_| numbers.next().is_none());
        if let Some(number) = number {
            let link = Self { end, number };
            if socket_type(link.handle()).is_ok_and(|kind| kind == SocketType::SEQPACKET) {
                return Ok(link);
            }
        }
        Err(io::Error::other(format!("this version of ipc-channel hides its descriptors: {shown}")))
    }
}

impl<E> Link<E> {
    /// Has its socket the number of a standard stream, as those were closed? Whatever is printed would go into it.
    pub(crate) fn is_standard(&self) -> bool {
        self.number <= 2
    }

    pub(crate) fn number(&self) -> SocketNumber {
        SocketNumber(self.number)
    }

    pub(crate) fn handle(&self) -> HandleRef<'_> {
        // SAFETY: the end owns the descriptor of that number, and closes it when it is dropped; it is borrowed here.
        unsafe { BorrowedFd::borrow_raw(self.number) }
    }

    /// Another handle of its socket.
    pub(crate) fn duplicate(&self) -> io::Result<Handle> {
        self.handle().try_clone_to_owned()
    }

    /// Puts another socket in the place of its own.
    pub(crate) fn replace(&self, socket: OwnedFd) -> io::Result<()> {
        super::handle::move_into(socket, self, self.number)
    }

    /// Looks at the next packet, without waiting for one.
    pub(crate) fn peek(&self) -> io::Result<Peeked> {
        let mut head = [0; 16];
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        // Descriptors find no room: they stay where they are, and it is said that there were some.
        let mut none = RecvAncillaryBuffer::default();
        let packet = recvmsg(self.handle(), &mut [IoSliceMut::new(&mut head)], &mut none, flags)?;
        Ok(Peeked { head, length: packet.bytes, has_handles: packet.flags.contains(ReturnFlags::CTRUNC) })
    }
}

/// The number of a link's socket, for a [`SharedSocket`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketNumber(RawFd);

/// The socket of a link that is kept by something shared: to wait for what comes there, or for its other side to go.
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
}

impl<E> Deref for Link<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.end
    }
}
