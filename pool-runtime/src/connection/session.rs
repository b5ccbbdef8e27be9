//! Takes a socket through the proof of the key, a message at a time, without ever waiting: whoever drives it does.

use super::challenge::{Challenger, KeyRefusal, LONGEST, Then};
use super::framing::{FirstWord, MessageHead};
use crate::os::Socket;
use std::fmt;
use std::io;
use std::time::Duration;

/// A socket whose peer has not proved that it has the key yet.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) socket: Socket,
    challenger: Challenger,
    /// What has arrived of the next message, with its head. Nothing beyond that message is read: what follows the proof
    /// is the user's.
    arrived: Vec<u8>,
    has_spoken: bool,
}

/// Why a connection did not come about.
#[derive(Debug)]
pub(super) enum AuthFailure {
    Refused(KeyRefusal),
    TooLong(FirstWord),
    /// The peer closed the connection. What it had not done yet, and whether it had sent anything.
    Left {
        before: &'static str,
        has_spoken: bool,
    },
    /// It had so long, and had not done this yet.
    Late {
        limit: Duration,
        before: &'static str,
    },
    DoesNotRead,
    System(io::Error),
}

impl fmt::Display for AuthFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::TooLong(FirstWord::Length(length)) => {
                write!(f, "it began a message of {length} bytes, and before the key is proved {LONGEST} are the most")
            }
            Self::TooLong(_) => f.write_str("what it sent is no message: does it speak another protocol?"),
            Self::Left { before, has_spoken: false } => {
                write!(f, "it closed the connection before it {before}: does it refuse this side, or has it ended?")
            }
            Self::Left { before, .. } => {
                write!(
                    f,
                    "it closed the connection before it {before}: does it have another key, or refuse the digest?"
                )
            }
            Self::Late { limit, before } => write!(
                f,
                "it has not {before} within {limit:?}: is it busy, does it have no key, or does it speak another protocol?"
            ),
            Self::DoesNotRead => f.write_str("it does not read what it is sent"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for AuthFailure {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl Session {
    /// Sends `first`, if there is something to be sent first.
    pub(super) fn begin(socket: Socket, challenger: Challenger, first: Option<Vec<u8>>) -> Result<Self, AuthFailure> {
        let mut session = Self { socket, challenger, arrived: Vec::new(), has_spoken: false };
        first.map_or(Ok(()), |first| session.send(&first))?;
        Ok(session)
    }

    /// What it waits for, as part of "before it …".
    pub(super) fn waits_for(&self) -> &'static str {
        self.challenger.waits_for()
    }

    /// Whether the peer has proved that it has the key, and only this side has not yet, or waits for its verdict.
    pub(super) fn peer_has_proved(&self) -> bool {
        self.challenger.peer_has_proved()
    }

    /// Goes on with what has arrived. Returns whether both sides have proved that they have the key; otherwise there is
    /// nothing more to read for now.
    pub(super) fn advance(&mut self) -> Result<bool, AuthFailure> {
        loop {
            let missing = self.missing()?;
            if missing > 0 {
                let mut buffer = [0; LONGEST];
                match self.socket.try_receive(&mut buffer[..missing]) {
                    Ok(0) => return Err(self.left()),
                    Ok(read) => {
                        self.has_spoken = true;
                        self.arrived.extend_from_slice(&buffer[..read]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    // It ended without reading what it was sent.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(self.left()),
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            let answer = self.challenger.receive(&self.arrived[MessageHead::FIRST..]);
            self.arrived.clear();
            let sent = answer.messages.iter().try_for_each(|message| self.send(message));
            match answer.then {
                // Whether or not it is told.
                Then::Refuse(refusal) => return Err(AuthFailure::Refused(refusal)),
                then => {
                    sent?;
                    if then == Then::Done {
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn left(&self) -> AuthFailure {
        AuthFailure::Left { before: self.challenger.waits_for(), has_spoken: self.has_spoken }
    }

    /// How many bytes of the message are still to come, as far as that is known.
    fn missing(&self) -> Result<usize, AuthFailure> {
        let Some(first) = self.arrived.first_chunk::<{ MessageHead::FIRST }>() else {
            return Ok(MessageHead::FIRST - self.arrived.len());
        };
        match FirstWord::from(*first) {
            FirstWord::Length(length) if length <= LONGEST as u64 => {
                Ok(MessageHead::FIRST + length as usize - self.arrived.len())
            }
            other => Err(AuthFailure::TooLong(other)),
        }
    }

    /// These few bytes fit into the socket, whether or not the peer reads.
    fn send(&mut self, message: &[u8]) -> Result<(), AuthFailure> {
        let whole = [MessageHead::new(message.len() as u64).bytes(), message].concat();
        match self.socket.try_send(&whole) {
            Ok(sent) if sent == whole.len() => Ok(()),
            Ok(_) => Err(AuthFailure::DoesNotRead),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Err(AuthFailure::DoesNotRead),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(self.left()),
                _ => Err(error.into()),
            },
        }
    }
}
