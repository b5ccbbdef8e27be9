//! Handles that messages have: memory, and open files. They travel through a packet socket beside the memory where the
//! messages are.
//!
//! ```text
//!   who puts, with the lock of its end         who takes, with the lock of its end
//!   each handle ─▶ packet: its tag ═══▶ socket ═══▶ packets with the tags of this message
//!   the message: tag, regions; commit                  commit
//! ```
//!
//! All handles are in the socket before the message is committed, so who takes it never waits for them. Each packet has a
//! tag that no other has, and the message says which tags are its own. A process that ends before it commits leaves
//! *strays* in the socket: packets of no message. One that ends between both commits leaves a message whose packets are
//! gone: it is lost, and whoever takes it is told.
//!
//! Whether the foremost packet is a stray or belongs to a later message can only be told while nobody puts anything:
//! with both locks.

use crate::error::{Error, Result};
use crate::memory::region::{self, Region, fresh_id, register};
use crate::os::{Delivery, Foremost, Handle, Memory, Outgoing, passing};
use std::io;
use std::sync::Arc;

/// Which handles a message has.
pub(in crate::objects) struct CarriedHandles {
    /// Of the first packet; the others follow.
    tag: u64,
    regions: Vec<u64>,
}

/// How the sending of handles has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::objects) enum Boarding {
    Done,
    /// There are too many packets in the socket.
    Full,
    /// The system does not take more at this moment.
    Refused,
    /// There is never room for so many.
    TooMany,
}

/// What came of receiving the handles of a message.
pub(in crate::objects) enum Landing {
    /// All of them; or why some could not be taken, so that the message is lost.
    Landed(Result<Vec<Arc<Region>>, String>),
    /// Another packet is foremost, and who has this lock alone cannot tell what it is.
    Unsettled,
}

/// No message has more: who receives it would have as many files open.
const MOST_CARRIED: usize = 1 << 12;

const LOST: &str = "its shared memory, or open files, were taken by a process that has ended";

impl CarriedHandles {
    /// For the handles of a new message.
    pub(in crate::objects) fn new(handles: &[Arc<Region>]) -> Self {
        Self { tag: fresh_id(), regions: handles.iter().map(|region| region.id()).collect() }
    }

    /// As they are written before a message. None: that cannot be.
    pub(in crate::objects) fn of(words: Vec<u64>) -> Option<Self> {
        let (_, rest) = words.split_first()?;
        let (tag, regions) = rest.split_first()?;
        if regions.len() > MOST_CARRIED {
            return None;
        }
        Some(Self { tag: *tag, regions: regions.to_vec() })
    }

    /// How they are written before a message.
    pub(in crate::objects) fn words(&self) -> Vec<u64> {
        [self.regions.len() as u64, self.tag].into_iter().chain(self.regions.iter().copied()).collect()
    }

    fn tags(&self) -> impl Iterator<Item = u64> {
        (0..self.regions.len() as u64).map(|index| self.tag.wrapping_add(index))
    }

    fn has(&self, tag: u64) -> bool {
        tag.wrapping_sub(self.tag) < self.regions.len() as u64
    }

    /// Sends them, for who has the lock of the put end. Never waits.
    pub(in crate::objects) fn send(&self, handles: &[Arc<Region>], socket: &Handle) -> io::Result<Boarding> {
        let (room, most) = passing::room(socket)?;
        match self.regions.len() {
            handles if handles > most.min(MOST_CARRIED) => return Ok(Boarding::TooMany),
            handles if handles > room => return Ok(Boarding::Full),
            _ => {}
        }
        for (region, id) in handles.iter().zip(self.tags()) {
            let handle = region.memory().handle();
            let packet = match region.memory().is_file() {
                true => Outgoing::File { id, handle },
                false => Outgoing::Take { id, number: 0, handle },
            };
            match passing::send(socket, &packet) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::QuotaExceeded) => {
                    return Ok(Boarding::Refused);
                }
                sent => sent?,
            }
        }
        Ok(Boarding::Done)
    }

    /// Receives them, for who has the lock of the get end; with both locks, and no [strays](drop_strays) foremost, it is
    /// `settled`. Never waits. `nudged` is called for each nudge that is in the way.
    pub(in crate::objects) fn receive(&self, socket: &Handle, settled: bool, nudged: &mut dyn FnMut()) -> Landing {
        let mut landed = Ok(Vec::new());
        for (index, (tag, id)) in self.tags().zip(&self.regions).enumerate() {
            let foremost = loop {
                match passing::peek(socket) {
                    Ok(Some(Foremost::Nudge)) => {
                        let _ = passing::try_receive(socket);
                        nudged();
                    }
                    Ok(Some(Foremost::Handle { id })) => break Some(id),
                    Ok(None) | Err(_) => break None,
                }
            };
            match foremost {
                Some(foremost) if foremost == tag => {
                    let region = receive_as(*id, socket);
                    landed = landed.and_then(|mut landed: Vec<_>| {
                        landed.push(region?);
                        Ok(landed)
                    });
                }
                // Those of one message are together, so strays come before the first.
                Some(_) if index == 0 && !settled => return Landing::Unsettled,
                _ => {
                    self.drop_rest(socket);
                    return Landing::Landed(Err(LOST.into()));
                }
            }
        }
        Landing::Landed(landed)
    }

    /// Drops what is foremost and belongs to this message.
    pub(in crate::objects) fn drop_rest(&self, socket: &Handle) {
        while let Ok(Some(Foremost::Handle { id })) = passing::peek(socket)
            && self.has(id)
        {
            let _ = passing::try_receive(socket);
        }
    }
}

fn receive_as(id: u64, socket: &Handle) -> Result<Arc<Region>, String> {
    match passing::try_receive(socket) {
        Ok(Some(Delivery::Take { handle, .. })) => region::accept(Delivery::Take { id, number: 0, handle }),
        Ok(Some(Delivery::File { handle, .. })) => region::accept(Delivery::File { id, handle }),
        Ok(_) => Err(LOST.into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Drops all packets before the first one of these messages, which are all there are: for who has both locks. `nudged`
/// is called for each nudge among them.
pub(in crate::objects) fn drop_strays(socket: &Handle, messages: &[CarriedHandles], nudged: &mut dyn FnMut()) {
    // No more than a socket has room for, whatever others send into it.
    for _ in 0..1 << 12 {
        match passing::peek(socket) {
            Ok(Some(Foremost::Handle { id })) if messages.iter().any(|message| message.has(id)) => return,
            Ok(Some(foremost)) => {
                let _ = passing::try_receive(socket);
                if foremost == Foremost::Nudge {
                    nudged();
                }
            }
            Ok(None) | Err(_) => return,
        }
    }
}

/// Two ends of a socket for the handles of what a `what` carries.
pub(in crate::objects) fn socket_pair(what: &str) -> Result<[Arc<Region>; 2]> {
    let fail = |error| Error::os(format!("cannot make a socket for {what}"), error);
    let (one, other) = passing::pair().map_err(fail)?;
    Ok([register(Memory::file(one).map_err(fail)?), register(Memory::file(other).map_err(fail)?)])
}
