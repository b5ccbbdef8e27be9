//! What travels between a parent and its worker: frames, and the handshake that comes first.
//!
//! ```text
//! parent                                   worker
//!   Hello ──────────────────────────────▶          version, build, table, who you are
//!         ◀────────────────────────────── Welcome  version, build, table agree, and it is confined (or Refused: why not)
//!   Initializer ────────────────────────▶          if there is one: its call, which may be large
//!         ◀────────────────────────────── Ready    the initializer has run (or NotReady: why not)
//!   Calls ──────────────────────────────▶          one or more chunks of calls
//!         ◀────────────────────────────── Reports  one or more records: for each call, before the next one starts
//!   Stop  ──────────────────────────────▶          no more calls: exit
//! ```
//!
//! A chunk is several calls of one task with consecutive jobs, numbers and inputs:
//!
//! | bytes | |
//! |---|---|
//! | 8, 4, 4 | the first call's job; the attempt; the first call's number among those sent to this worker |
//! | 4, 4, 4, 4 | count; length of each call's arguments, or that they differ; length of the name; where their ends count from |
//! | 8, 4, 4 | length of all arguments; milliseconds until each call is killed, and until it is told; 0 is never |
//! | … | the task's name; nothing if it is that of the chunk before |
//! | 4 each | where each call's arguments end, if they differ |
//! | … | the arguments, as [`packed`](crate::memory::packed) lays them |
//!
//! What a worker says about its calls are records: see [`reports`].
//!
//! A frame names tasks by name and calls by job and attempt; it knows no address, no pid and no descriptor. All numbers
//! are little endian. Name, ends and arguments start at a multiple of [`ALIGN`] from the start of the frame, so that
//! plain data in them can be read in place; records at a multiple of 8.
//!
//! Whatever arrives is checked: a frame that does not make sense is a [`Garbled`], never a panic or an allocation that
//! the frame's own length does not justify.

mod records;

pub(crate) use records::{Bulk, Failed, Failure, Record, RecordHead, RecordReader, StoredValues, Values};

use crate::codec::{CodecError, Reader, Writer};
use crate::memory::ALIGN;
use crate::memory::packed::{PackedSlice, Slices};
use crate::os::{self, Confinement};
use crate::panic::PanicInfo;
use crate::policy::Timing;
use crate::transport::Append;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZero;

/// Raised with every change of the frames.
pub(crate) const VERSION: u16 = 5;

const MAGIC: [u8; 6] = *b"pool\r\n";

/// The longest name of a task on the wire, in bytes.
const MAX_NAME: usize = 1 << 12;

/// A frame that does not make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Garbled(&'static str);

impl Garbled {
    pub(crate) const fn cut_off() -> Self {
        Self("a report in it is cut off")
    }
}

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
    Reports = 16,
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
    pub(crate) place: Place,
    /// The call of the initializer is the next frame.
    pub(crate) has_initializer: bool,
    /// What it may not do, from before its first answer on.
    pub(crate) confinement: Option<Confinement>,
}

/// The place that a process takes among others: its priority and processors, if they are not its parent's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) nice: Option<i32>,
    pub(crate) cpus: Option<Vec<usize>>,
}

impl Place {
    /// For this thread, and all that are made from it.
    ///
    /// # Errors
    ///
    /// A text for the parent.
    pub(crate) fn take(&self) -> Result<(), String> {
        if let Some(nice) = self.nice {
            os::set_nice(nice).map_err(|error| format!("it cannot be as nice as {nice}: {error}"))?;
        }
        if let Some(cpus) = &self.cpus {
            os::set_cpus(cpus).map_err(|error| format!("it cannot run on the processors {cpus:?}: {error}"))?;
        }
        Ok(())
    }
}

/// Why a worker is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotReady {
    Failed(String),
    Panicked(PanicInfo),
}

/// One call in a chunk of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallHeader {
    pub(crate) job: u64,
    pub(crate) attempt: u32,
    /// Counts the calls sent to this worker.
    pub(crate) number: u32,
    /// How long it may take.
    pub(crate) timing: Timing,
}

/// What a worker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FromWorker<'f> {
    Welcome,
    Refused(String),
    Ready,
    NotReady(NotReady),
    /// Records.
    Reports(&'f [u8]),
}

/// What a worker receives, after the hello.
#[derive(Debug)]
pub(crate) enum ToWorker<'f> {
    Calls(Chunks<'f>),
    Stop,
}

/// The chunks of one frame, in the order in which they are to run.
#[derive(Debug)]
pub(crate) struct Chunks<'f> {
    pub(crate) generation: u32,
    frame: &'f [u8],
    position: usize,
    name: &'f str,
}

/// Calls of one task, in the order in which they are to run.
#[derive(Debug)]
pub(crate) struct Chunk<'f> {
    pub(crate) task: &'f str,
    /// The first call.
    pub(crate) first: CallHeader,
    /// The arguments of each.
    pub(crate) arguments: Slices<'f>,
}

// ---- writing ----

fn start(tag: Tag) -> Vec<u8> {
    let mut frame = Vec::with_capacity(64);
    frame.push(tag as u8);
    frame.resize(ALIGN, 0);
    frame
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

/// How many bytes a frame has before its first chunk.
pub(crate) const CALLS_HEAD: usize = ALIGN;

const CHUNK_HEAD: usize = 48;

/// The arguments of the calls of a chunk differ in length.
const DIFFER: u32 = u32::MAX;

/// How many bytes a chunk takes, at the most, beside the arguments and their ends.
pub(crate) fn chunk_overhead(task: &str) -> usize {
    CHUNK_HEAD + task.len() + 4 * ALIGN
}

/// A frame of calls that is about to be sent.
pub(crate) trait WriteFrame {
    /// How many bytes it has at the most.
    fn most(&self) -> usize;

    fn write<A: Append>(&self, to: &mut A);
}

/// Writes a frame of calls: first this, then its chunks.
pub(crate) struct CallsWriter<'w, A: Append> {
    to: &'w mut A,
    name: &'static str,
}

impl<'w, A: Append> CallsWriter<'w, A> {
    pub(crate) fn new(to: &'w mut A, generation: u32) -> Self {
        let mut head = [0; CALLS_HEAD];
        head[0] = Tag::Calls as u8;
        head[4..8].copy_from_slice(&generation.to_le_bytes());
        to.put(&head);
        Self { to, name: "" }
    }

    /// Adds so many calls with these arguments.
    pub(crate) fn chunk(&mut self, first: CallHeader, count: u32, task: &'static str, part: PackedSlice<'_>) {
        // An empty name means: as the chunk before.
        let name = if std::ptr::eq(self.name, task) { "" } else { task };
        self.name = task;
        let mut head = [0; CHUNK_HEAD];
        head[..8].copy_from_slice(&first.job.to_le_bytes());
        let numbers = [first.attempt, first.number, count, part.every.unwrap_or(DIFFER), name.len() as u32, part.base];
        for (to, number) in head[8..32].chunks_exact_mut(4).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        head[32..40].copy_from_slice(&(part.bytes.len() as u64).to_le_bytes());
        let Timing { timeout, soft_timeout } = first.timing;
        for (to, limit) in head[40..].chunks_exact_mut(4).zip([timeout, soft_timeout]) {
            to.copy_from_slice(&limit.map_or(0, NonZero::get).to_le_bytes());
        }
        self.to.put(&head);
        if !name.is_empty() {
            self.to.put(name.as_bytes());
            self.to.pad(ALIGN);
        }
        if part.every.is_none() {
            self.to.put(bytemuck::cast_slice(part.ends));
            self.to.pad(ALIGN);
        }
        self.to.put(part.bytes);
        self.to.pad(ALIGN);
    }
}

pub(crate) fn stop_frame() -> Vec<u8> {
    start(Tag::Stop)
}

/// Begins a frame of records, for a transport that has frames.
pub(crate) fn reports_frame(into: &mut Vec<u8>) {
    into.clear();
    into.push(Tag::Reports as u8);
    into.resize(ALIGN, 0);
}

impl FromWorker<'_> {
    pub(crate) fn to_frame(&self) -> Vec<u8> {
        match self {
            Self::Welcome => start(Tag::Welcome),
            Self::Ready => start(Tag::Ready),
            Self::Refused(why) => with_content(Tag::Refused, why),
            Self::NotReady(why) => with_content(Tag::NotReady, why),
            Self::Reports(records) => {
                let mut frame = start(Tag::Reports);
                frame.extend_from_slice(records);
                frame
            }
        }
    }
}

impl<'f> FromWorker<'f> {
    pub(crate) fn from_frame(frame: &'f [u8]) -> Result<Self, Garbled> {
        let tag = *frame.first().ok_or(Garbled("it is empty"))?;
        let rest = frame.get(ALIGN..).ok_or(Garbled("it is too short"))?;
        let is = |wanted: Tag| tag == wanted as u8;
        if is(Tag::Reports) {
            Ok(Self::Reports(rest))
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

impl<'f> ToWorker<'f> {
    pub(crate) fn from_frame(frame: &'f [u8]) -> Result<Self, Garbled> {
        let tag = *frame.first().ok_or(Garbled("it is empty"))?;
        if tag == Tag::Calls as u8 {
            let generation = u32::from_le_bytes(number(frame, 4)?);
            Ok(Self::Calls(Chunks { generation, frame, position: CALLS_HEAD, name: "" }))
        } else if tag == Tag::Stop as u8 {
            Ok(Self::Stop)
        } else {
            Err(Garbled("it is of no known kind"))
        }
    }
}

impl<'f> Chunks<'f> {
    /// The next chunk.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk<'f>>, Garbled> {
        let (frame, at) = (self.frame, self.position);
        if at >= frame.len() {
            return Ok(None);
        }
        let short = Garbled("it is too short");
        let word = |index: usize| number(frame, at + 8 + 4 * index).map(u32::from_le_bytes);
        let timing = Timing { timeout: NonZero::new(word(8)?), soft_timeout: NonZero::new(word(9)?) };
        let job = u64::from_le_bytes(number(frame, at)?);
        let first = CallHeader { job, attempt: word(0)?, number: word(1)?, timing };
        let (count, every, named, base) = (word(2)?, word(3)?, word(4)? as usize, word(5)?);
        let length = usize::try_from(u64::from_le_bytes(number(frame, at + 32)?)).map_err(|_| Garbled("too long"))?;
        if named > MAX_NAME {
            return Err(Garbled("a name in it is too long"));
        }
        let mut position = at + CHUNK_HEAD;
        let mut take = |length: usize| {
            let end = position.checked_add(length)?;
            let taken = frame.get(position..end)?;
            position = end.next_multiple_of(ALIGN);
            Some(taken)
        };
        let name = take(named).ok_or(short)?;
        if !name.is_empty() {
            self.name = std::str::from_utf8(name).map_err(|_| Garbled("a name in it is not UTF-8"))?;
        }
        let every = (every != DIFFER).then_some(every);
        let ends = if every.is_some() { &[] } else { take(4 * count as usize).ok_or(short)? };
        let bytes = take(length).ok_or(short)?;
        self.position = position;
        let arguments = Slices::new(count, every, ends, base, bytes).ok_or(Garbled("its arguments do not fit"))?;
        Ok(Some(Chunk { task: self.name, first, arguments }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::packed::Packed;

    #[test]
    fn chunks_are_read_back() {
        let arguments: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n; usize::from(n % 7) * 11]).collect();
        let (mut differ, mut alike) = (Packed::new(), Packed::new());
        for bytes in &arguments {
            differ.push(bytes);
            alike.push(&[bytes.len() as u8; 8]);
        }
        let mut frame = Vec::new();
        let mut writer = CallsWriter::new(&mut frame, 7);
        let timing = Timing { timeout: NonZero::new(7), soft_timeout: None };
        let first = CallHeader { job: 100, attempt: 2, number: 9, timing };
        writer.chunk(first, 37, "demo::task", differ.part(3..40));
        writer.chunk(CallHeader { number: 46, ..first }, 1, "demo::task", alike.part(0..1));
        writer.chunk(CallHeader { number: 47, ..first }, 40, "demo::other", alike.part(10..50));
        let Ok(ToWorker::Calls(mut chunks)) = ToWorker::from_frame(&frame) else { panic!("no calls") };
        assert_eq!(chunks.generation, 7);
        let chunk = chunks.next().unwrap().unwrap();
        assert_eq!((chunk.task, chunk.first), ("demo::task", first));
        assert!(chunk.arguments.eq(arguments[3..40].iter().map(|bytes| &bytes[..])));
        let chunk = chunks.next().unwrap().unwrap();
        assert_eq!((chunk.task, chunk.first.number, chunk.arguments.count()), ("demo::task", 46, 1));
        let chunk = chunks.next().unwrap().unwrap();
        assert_eq!(chunk.task, "demo::other");
        assert!(chunk.arguments.eq(arguments[10..].iter().map(|bytes| vec![bytes.len() as u8; 8])));
        assert!(chunks.next().unwrap().is_none());
    }

    #[test]
    fn a_damaged_frame_is_refused_and_no_more() {
        let mut packed = Packed::new();
        (0..20u8).for_each(|n| packed.push(&vec![n; usize::from(n)]));
        let mut frame = Vec::new();
        CallsWriter::new(&mut frame, 0).chunk(
            CallHeader { job: 1, attempt: 1, number: 1, timing: Timing::default() },
            20,
            "t",
            packed.part(0..20),
        );
        for at in 0..frame.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = frame.clone();
                damaged[at] = value;
                for end in [damaged.len(), at] {
                    let Ok(ToWorker::Calls(mut chunks)) = ToWorker::from_frame(&damaged[..end]) else { continue };
                    while let Ok(Some(chunk)) = chunks.next() {
                        assert!(chunk.arguments.map(<[u8]>::len).sum::<usize>() <= damaged.len());
                    }
                }
            }
        }
    }

    #[test]
    fn a_length_that_no_frame_can_have_is_refused() {
        let mut packed = Packed::new();
        packed.push(&[1; 8]);
        let mut frame = Vec::new();
        CallsWriter::new(&mut frame, 0).chunk(
            CallHeader { job: 1, attempt: 1, number: 1, timing: Timing::default() },
            1,
            "t",
            packed.part(0..1),
        );
        for missing in 0..200 {
            frame[48..56].copy_from_slice(&(u64::MAX - missing).to_le_bytes());
            let Ok(ToWorker::Calls(mut chunks)) = ToWorker::from_frame(&frame) else { panic!("no calls") };
            assert!(chunks.next().is_err());
        }
    }
}
