//! The frames between a parent and its worker: the handshake, then calls and reports.
//!
//! ```text
//! parent                                   worker
//!   Hello ──────────────────────────────▶          version, build, table of tasks, identity
//!         ◀────────────────────────────── Welcome  all of them agree, and it is confined (or Refused: why not)
//!   Initializer ────────────────────────▶          if there is one: its call, which may be large
//!         ◀────────────────────────────── Ready    the initializer has run (or NotReady: why not)
//!   Calls ──────────────────────────────▶          one or more chunks of calls
//!         ◀────────────────────────────── Reports  one or more records: for each call, before the next one starts
//!   Stop  ──────────────────────────────▶          no more calls: exit
//! ```
//!
//! [`hello`] is the handshake, [`calls`] what the worker is given to run, [`records`] what it reports.
//!
//! The first byte of a frame is its tag; its content begins at [`ALIGN`]. A frame names tasks by name and calls by job
//! and attempt. It never contains an address, a pid or a descriptor.
//!
//! Every frame is checked: a malformed one is a [`Garbled`], never a panic, nor an allocation that its length does not
//! justify.

mod calls;
mod hello;
mod records;

pub(crate) use calls::{CALLS_HEAD, CallHeader, CallsWriter, Chunk, ToWorker, WriteFrame, chunk_overhead, stop_frame};
pub(crate) use hello::{FromWorker, Hello, NamedCall, NotReady, Place};
pub(crate) use records::{
    AttachedValue, Bulk, Failed, Failure, LEAST_LIMIT, ParsedHead, REPORTS_HEAD, Record, RecordHead, RecordReader,
    StoredValues, Values, admit_failure, reports_frame,
};

use crate::codec::{Reader, Writer};
use crate::memory::ALIGN;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A malformed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sent a malformed message ({0})")]
pub(crate) struct Garbled(&'static str);

impl Garbled {
    const SHORT: Self = Self("it is too short");
    const UNKNOWN: Self = Self("it is of no known kind");
    pub(crate) const CUT_OFF: Self = Self("a report in it is cut off");
}

/// The first byte of a frame.
mod tag {
    pub(super) const HELLO: u8 = 1;
    pub(super) const CALLS: u8 = 2;
    pub(super) const STOP: u8 = 3;
    pub(super) const INITIALIZER: u8 = 4;
    pub(super) const WELCOME: u8 = 11;
    pub(super) const REFUSED: u8 = 12;
    pub(super) const READY: u8 = 13;
    pub(super) const NOT_READY: u8 = 14;
    pub(super) const REPORTS: u8 = 16;
}

fn frame(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity((ALIGN + content.len()).max(64));
    frame.push(tag);
    frame.resize(ALIGN, 0);
    frame.extend_from_slice(content);
    frame
}

fn open(frame: &[u8]) -> Result<(u8, &[u8]), Garbled> {
    let tag = *frame.first().ok_or(Garbled("it is empty"))?;
    Ok((tag, frame.get(ALIGN..).ok_or(Garbled::SHORT)?))
}

fn encoded(content: &impl Serialize) -> Vec<u8> {
    let mut writer = Writer::new();
    // The encoding refuses neither strings nor numbers, and there is nothing else in it.
    let encoded = writer.value(content);
    debug_assert_eq!(encoded, Ok(()));
    writer.into_bytes()
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Garbled> {
    let mut reader = Reader::new(bytes);
    let value = reader.value().and_then(|value| reader.finish().map(|()| value));
    value.map_err(|_| Garbled("its content cannot be decoded"))
}
