//! What clients of a manager and its server say to each other.
//!
//! ```text
//!   client                                    server
//!     Who                            ──────▶          ──────▶ Server
//!     Make      and the arguments    ──────▶ runs it  ──────▶ Object, or Refused and an error of the user's
//!     Call      and the arguments    ──────▶ runs it  ──────▶ Value and the result
//!     Publish                        ──────▶          ──────▶ Done
//!     Open                           ──────▶          ──────▶ Object
//!                                      any of them    ──────▶ Failed
//!                                 with no thread for it ─────▶ Busy, and the end
//! ```
//!
//! A message is a value of one of these types, and what stands behind it. Methods are named, with a hash of their
//! signatures: client and server may be different programs. Whatever is done names the server by its number, as another
//! one may have the same address later.

use crate::codec::{CodecError, Reader, Writer};
use crate::protocol::Failure;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request<'r> {
    Who,
    Make {
        server: u64,
        constructor: &'r str,
        signature: u64,
    },
    Call {
        server: u64,
        object: u64,
        method: &'r str,
        signature: u64,
    },
    Publish {
        server: u64,
        object: u64,
        name: &'r str,
    },
    /// An object that was published by this name, of the type of that name.
    Open {
        server: u64,
        name: &'r str,
        kind: &'r str,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Server(u64),
    /// An object, and the id of what it lives with, if that goes with the reply.
    Object {
        number: u64,
        life: Option<u64>,
    },
    Value,
    /// A constructor returned an error.
    Refused,
    Done,
    /// How far the call came, and why no further.
    Failed {
        stage: u32,
        failure: Failure,
    },
    /// Nothing was run, and this conversation is over.
    Busy(String),
}

impl Request<'_> {
    pub(super) fn begin(&self) -> Result<Writer, CodecError> {
        let mut writer = Writer::new();
        writer.value(self).map(|()| writer)
    }
}

impl Reply {
    pub(super) fn begin(&self, writer: &mut Writer) -> Result<(), CodecError> {
        writer.value(self)
    }
}

/// The request or reply, and the reader for what stands behind it.
pub(super) fn open<'m, T: Deserialize<'m>>(message: &'m [u8]) -> Result<(T, Reader<'m>), CodecError> {
    let mut reader = Reader::new(message);
    reader.value().map(|value| (value, reader))
}
