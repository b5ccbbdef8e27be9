//! The handshake: what a new worker is told, and what it answers before it is given calls.

use crate::memory::ALIGN;
use crate::os::{self, Confinement, Scheduler};
use crate::panic::PanicInfo;
use crate::protocol::{Garbled, decoded, encoded, frame, open, tag};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Raised with every change of the frames.
const VERSION: u16 = 9;

const MAGIC: [u8; 6] = *b"pool\r\n";

/// What a new worker is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The file of the program that the parent runs: device and inode.
    pub(crate) file: (u64, u64),
    /// A hash of that file, if the worker may be started from another one.
    pub(crate) build: Option<u64>,
    /// A digest of its tasks.
    pub(crate) table: u64,
    /// The worker's generation at its seat in the pool.
    pub(crate) epoch: u32,
    pub(crate) name: String,
    /// Its position in the tree: `2:1` is the first child of the second child of the first process.
    pub(crate) identity: String,
    pub(crate) parent_name: String,
    pub(crate) daemon: bool,
    /// How many processes are between it and the first one.
    pub(crate) depth: u32,
    /// A process runs one call and prints its panics; a worker of a pool runs many and reports them.
    pub(crate) single: bool,
    pub(crate) place: Place,
    /// The next frame is the call of the initializer.
    pub(crate) has_initializer: bool,
    /// What it may not do, from before its first answer on.
    pub(crate) confinement: Option<Confinement>,
    /// The key of its connections, if it is to have its parent's. The last field, and written as a whole: the buffer
    /// into which it is written grows before that, and not after it, so that no copy is left behind.
    pub(crate) authkey: Option<Secret>,
}

/// The priority, the processors and the scheduler of a process, if they are not its parent's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) nice: Option<i32>,
    pub(crate) cpus: Option<Vec<usize>>,
    pub(crate) scheduler: Option<Scheduler>,
}

impl Place {
    /// Applies to this thread, and to all that it starts. The error is a text for the parent.
    pub(crate) fn take(&self) -> Result<(), String> {
        // First: a niceness that takes privileges is none of a real-time process.
        if let Some(scheduler) = self.scheduler {
            os::set_scheduler(scheduler)
                .map_err(|error| format!("it cannot be scheduled as {scheduler:?}: {error}"))?;
        }
        if let Some(nice) = self.nice {
            os::set_nice(nice).map_err(|error| format!("it cannot set its niceness to {nice}: {error}"))?;
        }
        if let Some(cpus) = &self.cpus {
            os::set_cpus(cpus).map_err(|error| format!("it cannot run on the processors {cpus:?}: {error}"))?;
        }
        Ok(())
    }
}

impl Hello {
    /// Magic and version come first in every version of the protocol. The frame has a key in it, and is overwritten
    /// when it is dropped.
    pub(crate) fn to_frame(&self) -> Zeroizing<Vec<u8>> {
        let content = Zeroizing::new(encoded(self));
        let mut frame = Zeroizing::new(frame(tag::HELLO, &content));
        frame[1..7].copy_from_slice(&MAGIC);
        frame[7..9].copy_from_slice(&VERSION.to_le_bytes());
        frame
    }

    /// The error is a text for the parent.
    pub(crate) fn from_frame(frame: &[u8]) -> Result<Self, String> {
        let (head, content) = frame.split_at_checked(ALIGN).ok_or("the first message is too short")?;
        if head[0] != tag::HELLO || head[1..7] != MAGIC {
            return Err("the first message is not a greeting of pool-runtime".into());
        }
        let version = u16::from_le_bytes([head[7], head[8]]);
        if version != VERSION {
            return Err(format!("it speaks version {VERSION} of the protocol, and its parent version {version}"));
        }
        decoded(content).map_err(|Garbled(why)| format!("the greeting is damaged: {why}"))
    }
}

/// A call by name: what an initializer is on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedCall {
    pub(crate) task: String,
    pub(crate) arguments: Vec<u8>,
}

impl NamedCall {
    pub(crate) fn to_frame(&self) -> Vec<u8> {
        frame(tag::INITIALIZER, &encoded(self))
    }

    pub(crate) fn from_frame(frame: &[u8]) -> Result<Self, Garbled> {
        match open(frame)? {
            (tag::INITIALIZER, content) => decoded(content),
            _ => Err(Garbled("it is no initializer")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotReady {
    Failed(String),
    Panicked(PanicInfo),
}

/// What a worker sends: its answers in the handshake, then records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FromWorker<'f> {
    Welcome,
    Refused(String),
    Ready,
    NotReady(NotReady),
    Reports(&'f [u8]),
}

impl<'f> FromWorker<'f> {
    pub(crate) fn to_frame(&self) -> Vec<u8> {
        match self {
            Self::Welcome => frame(tag::WELCOME, &[]),
            Self::Ready => frame(tag::READY, &[]),
            Self::Refused(why) => frame(tag::REFUSED, &encoded(why)),
            Self::NotReady(why) => frame(tag::NOT_READY, &encoded(why)),
            Self::Reports(records) => frame(tag::REPORTS, records),
        }
    }

    pub(crate) fn from_frame(frame: &'f [u8]) -> Result<Self, Garbled> {
        match open(frame)? {
            (tag::REPORTS, records) => Ok(Self::Reports(records)),
            (tag::WELCOME, _) => Ok(Self::Welcome),
            (tag::READY, _) => Ok(Self::Ready),
            (tag::REFUSED, why) => decoded(why).map(Self::Refused),
            (tag::NOT_READY, why) => decoded(why).map(Self::NotReady),
            _ => Err(Garbled::UNKNOWN),
        }
    }
}
