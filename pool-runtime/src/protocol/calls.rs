//! What a worker is given to run: frames of calls, in chunks.
//!
//! A chunk is several calls of one task with consecutive jobs, numbers and inputs:
//!
//! | bytes | |
//! |---|---|
//! | 48 | [`ChunkHead`] |
//! | … | the task's name; empty if it is that of the previous chunk |
//! | 8 | how long a result may be, if the highest bit of the name's length says so |
//! | 4 each | where the arguments of each call end, if their lengths differ |
//! | … | the arguments, as [`packed`](crate::memory::packed) lays them out |
//!
//! Each part begins at a multiple of [`ALIGN`] from the start of the frame, so that plain data in it can be read in
//! place. Numbers have the byte order of the machine, as both sides are one build.

use crate::memory::ALIGN;
use crate::memory::packed::{PackedSlice, Slices};
use crate::policy::Timing;
use crate::protocol::{Garbled, frame, open, tag};
use crate::transport::Append;
use bytemuck::{Pod, Zeroable};

const MAX_NAME: usize = 1 << 12;

/// In the length of a name: how long a result may be follows.
const HAS_LIMIT: u32 = 1 << 31;

/// How many bytes a frame has before its first chunk.
pub(crate) const CALLS_HEAD: usize = ALIGN;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ChunkHead {
    first: CallHeader,
    count: u32,
    /// The length of the arguments of each call, or [`DIFFER`].
    every: u32,
    length: u64,
    name: u32,
    /// The position from which the ends of the arguments count.
    base: u32,
}

/// The arguments of the calls of a chunk differ in length.
const DIFFER: u32 = u32::MAX;

/// How many bytes a chunk takes at most, beside the arguments and their ends.
pub(crate) fn chunk_overhead(task: &str) -> usize {
    size_of::<ChunkHead>() + task.len() + 5 * ALIGN
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct CallHeader {
    pub(crate) job: u64,
    pub(crate) attempt: u32,
    /// Counts the calls sent to this worker.
    pub(crate) number: u32,
    pub(crate) timing: Timing,
}

/// A frame of calls that is about to be sent.
pub(crate) trait WriteFrame {
    fn most(&self) -> usize;

    fn write<A: Append>(&self, to: &mut A);
}

pub(crate) struct CallsWriter<'w, A: Append> {
    to: &'w mut A,
    name: &'static str,
}

impl<'w, A: Append> CallsWriter<'w, A> {
    pub(crate) fn new(to: &'w mut A, generation: u32) -> Self {
        to.put(bytemuck::bytes_of(&[u32::from_ne_bytes([tag::CALLS, 0, 0, 0]), generation, 0, 0]));
        Self { to, name: "" }
    }

    /// The results may have `max_result` bytes each; None: as many as the worker's sandbox allows.
    pub(crate) fn chunk(
        &mut self,
        first: CallHeader,
        count: u32,
        (task, max_result): (&'static str, Option<u64>),
        part: PackedSlice<'_>,
    ) {
        let name = if std::ptr::eq(self.name, task) { "" } else { task };
        self.name = task;
        self.to.put(bytemuck::bytes_of(&ChunkHead {
            first,
            count,
            every: part.every.unwrap_or(DIFFER),
            length: (part.skipped + part.bytes.len()) as u64,
            name: name.len() as u32 | if max_result.is_some() { HAS_LIMIT } else { 0 },
            base: part.base,
        }));
        let ends = if part.every.is_none() { bytemuck::cast_slice(part.ends) } else { &[] };
        let limit = max_result.map(u64::to_le_bytes);
        let limit = limit.as_ref().map_or(&[][..], |limit| limit);
        for bytes in [name.as_bytes(), limit, ends].into_iter().filter(|bytes| !bytes.is_empty()) {
            self.to.put(bytes);
            self.to.pad(ALIGN);
        }
        if part.skipped > 0 {
            self.to.put(&[0; ALIGN][..part.skipped]);
        }
        self.to.put(part.bytes);
        self.to.pad(ALIGN);
    }
}

pub(crate) fn stop_frame() -> Vec<u8> {
    frame(tag::STOP, &[])
}

/// What a worker receives after the handshake.
#[derive(Debug)]
pub(crate) enum ToWorker<'f> {
    Calls(Chunks<'f>),
    Stop,
}

impl<'f> ToWorker<'f> {
    pub(crate) fn from_frame(frame: &'f [u8]) -> Result<Self, Garbled> {
        match open(frame)? {
            (tag::CALLS, rest) => {
                let generation = bytemuck::pod_read_unaligned(&frame[4..8]);
                Ok(Self::Calls(Chunks { generation, rest, name: "" }))
            }
            (tag::STOP, _) => Ok(Self::Stop),
            _ => Err(Garbled::UNKNOWN),
        }
    }
}

/// The chunks of a frame, in the order in which they run.
#[derive(Debug)]
pub(crate) struct Chunks<'f> {
    pub(crate) generation: u32,
    rest: &'f [u8],
    name: &'f str,
}

#[derive(Debug)]
pub(crate) struct Chunk<'f> {
    pub(crate) task: &'f str,
    pub(crate) first: CallHeader,
    pub(crate) arguments: Slices<'f>,
    /// How many bytes each result may have. None: as many as the worker's sandbox allows.
    pub(crate) max_result: Option<u64>,
}

impl<'f> Chunks<'f> {
    pub(crate) fn next(&mut self) -> Result<Option<Chunk<'f>>, Garbled> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let head: ChunkHead = bytemuck::pod_read_unaligned(self.take(size_of::<ChunkHead>())?);
        let name = (head.name & !HAS_LIMIT) as usize;
        if name > MAX_NAME {
            return Err(Garbled("a name in it is too long"));
        }
        let name = self.take(name)?;
        if !name.is_empty() {
            self.name = std::str::from_utf8(name).map_err(|_| Garbled("a name in it is not UTF-8"))?;
        }
        let limit = if head.name & HAS_LIMIT == 0 { None } else { Some(self.take(size_of::<u64>())?) };
        let max_result = limit.and_then(|limit| limit.first_chunk()).map(|limit| u64::from_le_bytes(*limit));
        let every = (head.every != DIFFER).then_some(head.every);
        let ends = if every.is_some() { &[] } else { self.take(4 * head.count as usize)? };
        let bytes = self.take(usize::try_from(head.length).map_err(|_| Garbled("too long"))?)?;
        let arguments =
            Slices::new(head.count, every, ends, head.base, bytes).ok_or(Garbled("its arguments do not fit"))?;
        Ok(Some(Chunk { task: self.name, first: head.first, arguments, max_result }))
    }

    /// Takes so many bytes off the front, and their padding.
    fn take(&mut self, length: usize) -> Result<&'f [u8], Garbled> {
        let taken = self.rest.get(..length).ok_or(Garbled::SHORT)?;
        self.rest = self.rest.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::packed::Packed;
    use std::num::NonZero;

    #[test]
    fn chunks_are_read_back() {
        let arguments: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n; usize::from(n % 7) * 11]).collect();
        let (mut differ, mut alike) = (Packed::default(), Packed::default());
        for bytes in &arguments {
            differ.push(bytes);
            alike.push(&[bytes.len() as u8; 8]);
        }
        let mut frame = Vec::new();
        let mut writer = CallsWriter::new(&mut frame, 7);
        let timing = Timing { timeout: NonZero::new(7), soft_timeout: None };
        let first = CallHeader { job: 100, attempt: 2, number: 9, timing };
        writer.chunk(first, 37, ("demo::task", None), differ.part(3..40));
        writer.chunk(CallHeader { number: 46, ..first }, 1, ("demo::task", Some(99)), alike.part(0..1));
        writer.chunk(CallHeader { number: 47, ..first }, 40, ("demo::other", None), alike.part(10..50));
        let Ok(ToWorker::Calls(mut chunks)) = ToWorker::from_frame(&frame) else { panic!("no calls") };
        assert_eq!(chunks.generation, 7);
        let chunk = chunks.next().unwrap().unwrap();
        assert_eq!((chunk.task, chunk.first, chunk.max_result), ("demo::task", first, None));
        assert!(chunk.arguments.eq(arguments[3..40].iter().map(|bytes| &bytes[..])));
        let chunk = chunks.next().unwrap().unwrap();
        assert_eq!((chunk.task, chunk.first.number, chunk.max_result), ("demo::task", 46, Some(99)));
        assert_eq!(chunk.arguments.count(), 1);
        let chunk = chunks.next().unwrap().unwrap();
        assert_eq!(chunk.task, "demo::other");
        assert!(chunk.arguments.eq(arguments[10..].iter().map(|bytes| vec![bytes.len() as u8; 8])));
        assert!(chunks.next().unwrap().is_none());
    }

    /// Whoever gets a part of a batch sees nothing of the calls before it, of whatever length those were.
    #[test]
    fn a_chunk_has_the_bytes_of_its_calls_alone() {
        let arguments: Vec<Vec<u8>> = (0..40u8).map(|n| vec![100 + n; 4 + usize::from(n % 23)]).collect();
        let mut packed = Packed::default();
        arguments.iter().for_each(|bytes| packed.push(bytes));
        for first in 1..arguments.len() {
            let mut frame = Vec::new();
            let header = CallHeader { job: 1, attempt: 1, number: 1, timing: Timing::default() };
            let part = packed.part(first as u32..arguments.len() as u32);
            CallsWriter::new(&mut frame, 0).chunk(header, (arguments.len() - first) as u32, ("t", None), part);
            let has = |bytes: &[u8]| frame.windows(bytes.len()).any(|window| window == bytes);
            assert!(arguments[first..].iter().all(|bytes| has(bytes)));
            assert!(!arguments[..first].iter().any(|bytes| has(&bytes[..3])), "from {first} on");
        }
    }

    #[test]
    fn a_damaged_frame_is_refused_and_no_more() {
        let mut packed = Packed::default();
        (0..20u8).for_each(|n| packed.push(&vec![n; usize::from(n)]));
        let mut frame = Vec::new();
        CallsWriter::new(&mut frame, 0).chunk(
            CallHeader { job: 1, attempt: 1, number: 1, timing: Timing::default() },
            20,
            ("t", Some(1 << 20)),
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
        let mut packed = Packed::default();
        packed.push(&[1; 8]);
        let mut frame = Vec::new();
        CallsWriter::new(&mut frame, 0).chunk(
            CallHeader { job: 1, attempt: 1, number: 1, timing: Timing::default() },
            1,
            ("t", None),
            packed.part(0..1),
        );
        for missing in 0..200 {
            frame[48..56].copy_from_slice(&(u64::MAX - missing).to_le_bytes());
            let Ok(ToWorker::Calls(mut chunks)) = ToWorker::from_frame(&frame) else { panic!("no calls") };
            assert!(chunks.next().is_err());
        }
    }
}
