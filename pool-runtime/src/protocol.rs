//! What travels between a parent and its worker: frames, and the handshake that comes first.
//!
//! ```text
//! parent                                   worker
//!   Hello ──────────────────────────────▶          version, build, table, who you are
//!         ◀────────────────────────────── Welcome  version, build, table agree (or Refused: why not)
//!   Initializer ────────────────────────▶          if there is one: its call, which may be large
//!         ◀────────────────────────────── Ready    the initializer has run (or NotReady: why not)
//!   Calls ──────────────────────────────▶          one or more calls: job, attempt, number, task's name, arguments
//!         ◀────────────────────────────── Report   for each call, before the next one starts
//!   Stop  ──────────────────────────────▶          no more calls: exit
//! ```
//!
//! A frame names tasks by name and calls by job and attempt; it knows no address, no pid and no descriptor. All numbers
//! are little endian. The arguments of a call, and the result in a report, start at a multiple of [`ALIGN`] from the
//! start of the frame, so that plain data in them can be read in place.
//!
//! Whatever arrives is checked: a frame that does not make sense is a [`Garbled`], never a panic or an allocation that
//! the frame's own length does not justify.

use crate::{
    codec::{ALIGN, CodecError, Reader, Writer},
    error::Stage,
    panic::PanicInfo,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;

/// Raised with every change of the frames.
pub(crate) const VERSION: u16 = 1;

const MAGIC: [u8; 6] = *b"pool\r\n";

/// The longest name of a task on the wire, in bytes.
const MAX_NAME: usize = 1 << 12;

/// A frame that does not make sense.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Garbled(&'static str);

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sent a message that makes no sense ({})", self.0)
    }
}

impl From<CodecError> for Garbled {
    fn from(_: CodecError) -> Self {
        Self("its content cannot be decoded")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    Hello = 1,
    Calls = 2,
    Stop = 3,
    Initializer = 4,
    Welcome = 11,
    Refused = 12,
    Ready = 13,
    NotReady = 14,
    Report = 15,
}

/// A call by name: what an initializer is on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedCall {
    pub(crate) task: String,
    pub(crate) arguments: Vec<u8>,
}

/// What a new worker is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The file of the program that the parent runs: device and inode.
    pub(crate) file: (u64, u64),
    /// A hash of that file, where the worker may be started from another one.
    pub(crate) build: Option<u64>,
    /// Which tasks it has.
    pub(crate) table: u64,
    /// The incarnation of the worker in its place in the pool.
    pub(crate) epoch: u32,
    /// The name of the process.
    pub(crate) name: String,
    /// Its place in the tree: `2:1` is the first child of the second child of the first process.
    pub(crate) identity: String,
    /// The name of the process that started it.
    pub(crate) parent_name: String,
    pub(crate) daemon: bool,
    /// How many processes stand between it and the first one.
    pub(crate) depth: u32,
    /// A process runs one call and prints its panics; a worker of a pool runs many and reports them.
    pub(crate) single: bool,
    /// The call of the initializer is the next frame.
    pub(crate) has_initializer: bool,
}

/// Why a worker is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotReady {
    Failed(String),
    Panicked(PanicInfo),
}

/// One call in a frame of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallHeader {
    pub(crate) job: u64,
    pub(crate) attempt: u32,
    /// Counts the calls sent to this worker.
    pub(crate) number: u32,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a value: its bytes.
    Value(Vec<u8>),
    /// With a panic.
    Panicked(PanicInfo),
    /// The arguments cannot be read.
    Decode(String),
    /// The result cannot be written.
    Encode(String),
    /// The worker has no such state, or no such task.
    Unfit(String),
}

/// What a worker says of a call, before it starts the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) epoch: u32,
    pub(crate) call: CallHeader,
    /// How long the task ran.
    pub(crate) nanos: u64,
    /// How far the call came.
    pub(crate) stage: Stage,
    /// The worker exits after this report: a panic may have broken its state.
    pub(crate) leaving: bool,
    pub(crate) ending: Ending,
}

/// What a worker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FromWorker {
    Welcome,
    Refused(String),
    Ready,
    NotReady(NotReady),
    Report(Report),
}

/// What a worker receives, after the hello.
#[derive(Debug)]
pub(crate) enum ToWorker<'f> {
    Calls(Calls<'f>),
    Stop,
}

/// The header of a call, its task's name, its arguments.
type NextCall<'f> = (CallHeader, &'f str, &'f [u8]);

/// The calls of one frame, in the order in which they are to run.
#[derive(Debug)]
pub(crate) struct Calls<'f> {
    pub(crate) generation: u32,
    frame: &'f [u8],
    position: usize,
    name: &'f str,
}

// ---- writing ----

fn start(tag: Tag) -> Vec<u8> {
    let mut frame = Vec::with_capacity(64);
    frame.push(tag as u8);
    frame.resize(ALIGN, 0);
    frame
}

fn pad(frame: &mut Vec<u8>) {
    frame.resize(frame.len().next_multiple_of(ALIGN), 0);
}

fn with_content<T: Serialize>(tag: Tag, content: &T) -> Vec<u8> {
    let mut writer = Writer::new();
    // Strings and numbers alone: there is nothing in them that the encoding refuses.
    let encoded = writer.value(content);
    debug_assert_eq!(encoded, Ok(()));
    let mut frame = start(tag);
    frame.extend_from_slice(&writer.into_bytes());
    frame
}

impl Hello {
    /// Magic and version stand first, whatever later versions change.
    pub(crate) fn to_frame(&self) -> Vec<u8> {
        let mut frame = with_content(Tag::Hello, self);
        frame[1..7].copy_from_slice(&MAGIC);
        frame[7..9].copy_from_slice(&VERSION.to_le_bytes());
        frame
    }

    /// # Errors
    ///
    /// A text for the parent, if it speaks another version or something else altogether.
    pub(crate) fn from_frame(frame: &[u8]) -> Result<Self, String> {
        let head = frame.get(..ALIGN).ok_or("the first message is too short")?;
        if head[0] != Tag::Hello as u8 || head[1..7] != MAGIC {
            return Err("the first message is not a greeting of pool-runtime".into());
        }
        let version = u16::from_le_bytes([head[7], head[8]]);
        if version != VERSION {
            return Err(format!("it speaks version {VERSION} of the protocol, and its parent version {version}"));
        }
        content(&frame[ALIGN..]).map_err(|Garbled(why)| format!("the greeting is damaged: {why}"))
    }
}

impl NamedCall {
    pub(crate) fn to_frame(&self) -> Vec<u8> {
        with_content(Tag::Initializer, self)
    }

    pub(crate) fn from_frame(frame: &[u8]) -> Result<Self, Garbled> {
        match frame.first() {
            Some(tag) if *tag == Tag::Initializer as u8 => {
                content(frame.get(ALIGN..).ok_or(Garbled("it is too short"))?)
            }
            _ => Err(Garbled("it is no initializer")),
        }
    }
}

/// Collects calls for one frame.
#[derive(Debug)]
pub(crate) struct CallsFrame {
    frame: Vec<u8>,
    name: Option<&'static str>,
}

impl CallsFrame {
    pub(crate) fn new(generation: u32) -> Self {
        let mut frame = start(Tag::Calls);
        frame[4..8].copy_from_slice(&generation.to_le_bytes());
        Self { frame, name: None }
    }

    pub(crate) fn push(&mut self, call: CallHeader, task: &'static str, arguments: &[u8]) {
        // An empty name means: as the call before.
        let name = if self.name == Some(task) { "" } else { task };
        self.name = Some(task);
        let frame = &mut self.frame;
        frame.reserve(3 * ALIGN + name.len() + arguments.len() + ALIGN);
        frame.extend_from_slice(&call.job.to_le_bytes());
        frame.extend_from_slice(&call.attempt.to_le_bytes());
        frame.extend_from_slice(&call.number.to_le_bytes());
        frame.extend_from_slice(&(arguments.len() as u64).to_le_bytes());
        frame.extend_from_slice(&(name.len() as u64).to_le_bytes());
        frame.extend_from_slice(name.as_bytes());
        pad(frame);
        frame.extend_from_slice(arguments);
        pad(frame);
    }

    pub(crate) fn into_frame(self) -> Vec<u8> {
        self.frame
    }
}

pub(crate) fn stop_frame() -> Vec<u8> {
    start(Tag::Stop)
}

impl FromWorker {
    pub(crate) fn to_frame(&self) -> Vec<u8> {
        match self {
            Self::Welcome => start(Tag::Welcome),
            Self::Ready => start(Tag::Ready),
            Self::Refused(why) => with_content(Tag::Refused, why),
            Self::NotReady(why) => with_content(Tag::NotReady, why),
            Self::Report(report) => {
                let text;
                let (kind, payload): (u8, &[u8]) = match &report.ending {
                    Ending::Value(bytes) => (0, bytes),
                    Ending::Panicked(panic) => {
                        let mut writer = Writer::new();
                        let encoded = writer.value(panic);
                        debug_assert_eq!(encoded, Ok(()));
                        text = writer.into_bytes();
                        (1, &text)
                    }
                    Ending::Decode(why) => (2, why.as_bytes()),
                    Ending::Encode(why) => (3, why.as_bytes()),
                    Ending::Unfit(why) => (4, why.as_bytes()),
                };
                let mut frame = Vec::with_capacity(3 * ALIGN + payload.len());
                frame.extend_from_slice(&[Tag::Report as u8, kind, report.leaving.into(), report.stage as u8]);
                frame.extend_from_slice(&report.epoch.to_le_bytes());
                frame.extend_from_slice(&report.call.job.to_le_bytes());
                frame.extend_from_slice(&report.call.attempt.to_le_bytes());
                frame.extend_from_slice(&report.call.number.to_le_bytes());
                frame.extend_from_slice(&report.nanos.to_le_bytes());
                frame.extend_from_slice(payload);
                frame
            }
        }
    }

    pub(crate) fn from_frame(frame: &[u8]) -> Result<Self, Garbled> {
        let tag = *frame.first().ok_or(Garbled("it is empty"))?;
        let rest = frame.get(ALIGN..).ok_or(Garbled("it is too short"))?;
        let is = |wanted: Tag| tag == wanted as u8;
        if is(Tag::Report) {
            Report::from_frame(frame).map(Self::Report)
        } else if is(Tag::Welcome) {
            Ok(Self::Welcome)
        } else if is(Tag::Ready) {
            Ok(Self::Ready)
        } else if is(Tag::Refused) {
            content(rest).map(Self::Refused)
        } else if is(Tag::NotReady) {
            content(rest).map(Self::NotReady)
        } else {
            Err(Garbled("it is of no known kind"))
        }
    }
}

// ---- reading ----

fn content<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Garbled> {
    let mut reader = Reader::new(bytes);
    let value = reader.value()?;
    reader.finish()?;
    Ok(value)
}

fn number<const N: usize>(frame: &[u8], at: usize) -> Result<[u8; N], Garbled> {
    frame.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Garbled("it is too short"))
}

fn text(bytes: &[u8]) -> Result<String, Garbled> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Garbled("a text in it is not UTF-8"))
}

impl CallHeader {
    fn from_frame(frame: &[u8], at: usize) -> Result<Self, Garbled> {
        Ok(Self {
            job: u64::from_le_bytes(number(frame, at)?),
            attempt: u32::from_le_bytes(number(frame, at + 8)?),
            number: u32::from_le_bytes(number(frame, at + 12)?),
        })
    }
}

impl Report {
    fn from_frame(frame: &[u8]) -> Result<Self, Garbled> {
        let [_, kind, leaving, stage] = number(frame, 0)?;
        let epoch = u32::from_le_bytes(number(frame, 4)?);
        let call = CallHeader::from_frame(frame, 8)?;
        let nanos = u64::from_le_bytes(number(frame, 24)?);
        let payload = &frame[32..];
        let ending = match kind {
            0 => Ending::Value(payload.to_vec()),
            1 => Ending::Panicked(content(payload)?),
            2 => Ending::Decode(text(payload)?),
            3 => Ending::Encode(text(payload)?),
            4 => Ending::Unfit(text(payload)?),
            _ => return Err(Garbled("it reports an unknown ending")),
        };
        Ok(Self { epoch, call, nanos, stage: Stage::from_u32(stage.into()), leaving: leaving != 0, ending })
    }
}

impl<'f> ToWorker<'f> {
    pub(crate) fn from_frame(frame: &'f [u8]) -> Result<Self, Garbled> {
        let tag = *frame.first().ok_or(Garbled("it is empty"))?;
        if tag == Tag::Calls as u8 {
            let generation = u32::from_le_bytes(number(frame, 4)?);
            Ok(Self::Calls(Calls { generation, frame, position: ALIGN, name: "" }))
        } else if tag == Tag::Stop as u8 {
            Ok(Self::Stop)
        } else {
            Err(Garbled("it is of no known kind"))
        }
    }
}

impl<'f> Calls<'f> {
    /// The next call.
    pub(crate) fn next(&mut self) -> Result<Option<NextCall<'f>>, Garbled> {
        let (frame, at) = (self.frame, self.position);
        if at >= frame.len() {
            return Ok(None);
        }
        let call = CallHeader::from_frame(frame, at)?;
        let short = Garbled("it is too short");
        let length = usize::try_from(u64::from_le_bytes(number(frame, at + 16)?)).map_err(|_| Garbled("too long"))?;
        let named = usize::try_from(u64::from_le_bytes(number(frame, at + 24)?)).map_err(|_| Garbled("too long"))?;
        if named > MAX_NAME {
            return Err(Garbled("a name in it is too long"));
        }
        let name = frame.get(at + 32..at + 32 + named).ok_or(Garbled("it is too short"))?;
        if !name.is_empty() {
            self.name = std::str::from_utf8(name).map_err(|_| Garbled("a name in it is not UTF-8"))?;
        }
        let start = (at + 32 + named).next_multiple_of(ALIGN);
        let end = start.checked_add(length).ok_or(Garbled("too long"))?;
        let arguments = frame.get(start..end).ok_or(short)?;
        self.position = end.next_multiple_of(ALIGN);
        Ok(Some((call, self.name, arguments)))
    }
}
