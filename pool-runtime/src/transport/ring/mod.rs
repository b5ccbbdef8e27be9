//! The transport over shared memory: a ring of bytes each way for each worker, and bells for those who sleep.
//!
//! ```text
//!   parent                                                              worker
//!   CallSender ──▶ written │░░░░░░░ calls ░░░░░░░│ read ──▶ CallReceiver      whole frames, run where they lie
//!   ReportReceiver ◀── read │░░░░░ reports ░░░░░│ written ◀── ReportSender    a stream of records
//!     │                                                      │
//!     └── sleeps on a word of the pool's BellPage               └── sleeps on the ring's bell
//! ```
//!
//! While both sides are busy, a message is two copies and a few stores: no system call, no lock. [`positions`] is what
//! the two agree on, [`spin`] how long they wait before they sleep.
//!
//! There is no lock that a process could die with. How far each side is, it alone writes; the words that say who sleeps
//! are exchanged, never waited for. The parent reads nothing in place: it copies first, and looks then. A corrupt ring
//! never costs the parent more than that worker.
//!
//! A worker is given the memory of its rings at its start. The capacity of a ring is a few hundred kilobytes: it stays in
//! the processor's cache. What is larger goes through in pieces while the other side takes them out.

mod positions;
mod processor;
mod spin;
mod worker;

pub(crate) use positions::LAZY;
pub(crate) use spin::Spin;
pub(crate) use worker::{CallReceiver, ReportSender, worker_ends};

use crate::memory::Block;
use crate::os::{Bell, GRANULE, Handle, Mapping, check_size, sealed_memory};
use positions::{Apart, Corrupt, Positions, Reading, Writing};
use processor::Processor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{io, ptr};

/// How many bytes of calls may be on their way to a worker.
const CALLS: usize = 1 << 18;
/// How many bytes of reports may be on their way to the parent.
const REPORTS: usize = 1 << 18;
/// A frame that is not larger goes in one piece, and is read where it lies.
pub(crate) const WHOLE: usize = CALLS / 4;
/// Frames begin at multiples of this, and so does what is in them: see [`crate::memory::ALIGN`].
const ALIGN: usize = 16;
/// Stands before each frame: its length and whether it comes in pieces.
const HEAD: usize = 16;
/// What is read at a time from the stream of reports.
const GULP: usize = REPORTS / 2;

/// The other side of a ring makes no sense.
pub(crate) const CORRUPT: &str = "wrote nonsense into the memory that it shares with its parent";

impl From<Corrupt> for &'static str {
    fn from(_: Corrupt) -> Self {
        CORRUPT
    }
}

#[repr(C)]
struct Control {
    calls: Positions,
    reports: Positions,
    /// The worker sleeps on it.
    bell: Bell,
    /// More threads want to run than there are processors: the worker is not to spin.
    crowded: AtomicU32,
    /// Where the worker runs.
    worker: Processor,
}

/// How much of the memory the two rings leave to it, at the beginning.
const CONTROL: usize = 4096;
const SIZE: usize = GRANULE + CALLS + REPORTS;

const _: () = assert!(size_of::<Control>() <= CONTROL && CONTROL <= GRANULE);

/// The memory of both rings of a worker, mapped into this process.
#[derive(Debug)]
pub(crate) struct RingMemory {
    control: Mapping,
    calls: Mapping,
    reports: Mapping,
    /// In the parent until the worker is started.
    handle: Option<Handle>,
}

impl RingMemory {
    /// New memory, for the parent.
    ///
    /// # Errors
    ///
    /// The system has no memory, handles or room for mappings left.
    pub(crate) fn new() -> io::Result<Self> {
        let handle = sealed_memory(c"pool-rings", SIZE)?;
        let memory = Self::mapped(&handle)?;
        Ok(Self { handle: Some(handle), ..memory })
    }

    /// Maps the memory that was passed to this process.
    pub(crate) fn map(handle: &Handle) -> io::Result<Self> {
        check_size(handle, SIZE)?;
        Self::mapped(handle)
    }

    fn mapped(handle: &Handle) -> io::Result<Self> {
        Ok(Self {
            control: Mapping::new(handle, CONTROL)?,
            calls: Mapping::twice(handle, GRANULE, CALLS)?,
            reports: Mapping::twice(handle, GRANULE + CALLS, REPORTS)?,
            handle: None,
        })
    }

    /// To be passed on; None once it was.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    /// The memory was passed on: its handle is not needed any more.
    pub(crate) fn close_handle(&mut self) {
        self.handle = None;
    }

    #[inline]
    fn control(&self) -> &Control {
        // SAFETY: the mapping is larger than the layout, aligned, zeroed at first, and lives as long as `self`.
        // The other process may write at any time, which atomics allow.
        unsafe { self.control.start().cast().as_ref() }
    }

    fn wake_worker(&self) {
        self.control().bell.ring();
    }

    /// Has a bell rung when the worker says something: the one that the mark says. Look once more after this.
    pub(crate) fn arm(&self, mark: u32) {
        self.control().reports.sleep(mark);
    }

    /// No bell is to be rung.
    pub(crate) fn disarm(&self) {
        self.control().reports.wake();
    }

    /// Has the worker said something that nobody has read?
    pub(crate) fn has_reports(&self) -> bool {
        self.control().reports.has_unread()
    }

    /// Is the worker awake, or being woken, on this processor? It cannot run before the calling thread leaves it.
    pub(crate) fn worker_is_on(&self, cpu: u32) -> bool {
        let control = self.control();
        control.worker.is(cpu) && !control.calls.reader_sleeps()
    }

    /// Tells the worker whether more threads want to run than there are processors.
    pub(crate) fn set_crowded(&self, crowded: bool) {
        let word = &self.control().crowded;
        if word.load(Ordering::Relaxed) != u32::from(crowded) {
            word.store(crowded.into(), Ordering::Relaxed);
        }
    }
}

/// Where the bytes of a ring lie: at a position, as many as the ring's capacity.
#[inline]
fn place(ring: &Mapping, capacity: usize, position: u64) -> *mut u8 {
    let offset = (position % capacity as u64) as usize;
    // SAFETY: the offset is less than the capacity, and the mapping holds the ring twice.
    unsafe { ring.start().as_ptr().add(offset) }
}

#[inline]
fn copy_in(ring: &Mapping, capacity: usize, position: u64, bytes: &[u8]) {
    assert!(bytes.len() <= capacity);
    let to = place(ring, capacity, position);
    // SAFETY: from any place in the first half of the mapping on, a whole capacity is mapped; `bytes` is not part of
    // it, as no slice of a ring that is written is ever made. The other side does not look there before it is
    // published; if it does, it sees bytes.
    unsafe {
        match bytes.len() {
            // What most short results are takes one instruction, not a call.
            8 => ptr::copy_nonoverlapping(bytes.as_ptr(), to, 8),
            length => ptr::copy_nonoverlapping(bytes.as_ptr(), to, length),
        }
    }
}

fn copy_out(ring: &Mapping, capacity: usize, position: u64, length: usize, to: &mut Vec<u8>) {
    assert!(length <= capacity);
    to.reserve(length);
    // SAFETY: a whole capacity is mapped from any place on; the vector has room for the bytes, which are initialized by
    // the copy, whatever they are. If the other side writes meanwhile, they are any bytes.
    unsafe {
        ptr::copy_nonoverlapping(place(ring, capacity, position), to.as_mut_ptr().add(to.len()), length);
        to.set_len(to.len() + length);
    }
}

/// Free memory in a ring, to be filled.
#[derive(Debug)]
pub(crate) struct Space<'r> {
    memory: &'r RingMemory,
    start: u64,
    filled: usize,
    room: usize,
}

/// What a frame is written into.
pub(crate) trait Append {
    /// Adds these bytes.
    fn put(&mut self, bytes: &[u8]);
    /// Adds zeros up to a multiple of so many bytes.
    fn pad(&mut self, to: usize);
}

impl Append for Space<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room - self.filled, "a frame is larger than was said");
        copy_in(&self.memory.calls, CALLS, self.start + self.filled as u64, bytes);
        self.filled += bytes.len();
    }

    #[inline]
    fn pad(&mut self, to: usize) {
        let missing = self.filled.next_multiple_of(to) - self.filled;
        self.put(&[0; ALIGN][..missing]);
    }
}

impl Append for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline]
    fn pad(&mut self, to: usize) {
        self.resize(self.len().next_multiple_of(to), 0);
    }
}

// ---- the parent's side ----

/// The parent's end of the calls.
#[derive(Debug)]
pub(crate) struct CallSender {
    memory: Arc<RingMemory>,
    writing: Writing,
    /// How much of a frame that goes in pieces is in the ring.
    sent: usize,
}

impl CallSender {
    pub(crate) fn new(memory: Arc<RingMemory>) -> Self {
        Self { memory, writing: Writing::default(), sent: 0 }
    }

    /// Sends a frame of at most `most` bytes, no more than [`WHOLE`], which `fill` writes. False if there is no room
    /// just now.
    pub(crate) fn send(&mut self, most: usize, fill: impl FnOnce(&mut Space<'_>)) -> Result<bool, Corrupt> {
        debug_assert!(most <= WHOLE);
        let (ring, needed) = (&self.memory.control().calls, HEAD + most.next_multiple_of(ALIGN));
        if self.writing.room(ring, CALLS as u64, needed as u64)? < needed as u64 {
            return Ok(false);
        }
        let start = self.writing.position() + HEAD as u64;
        let mut space = Space { memory: &self.memory, start, filled: 0, room: most };
        fill(&mut space);
        let length = space.filled;
        self.head(length, false);
        self.writing.publish(ring, (HEAD + length.next_multiple_of(ALIGN)) as u64);
        self.wake();
        Ok(true)
    }

    /// Sends a frame of any size, as far as there is room; to be called again with the same frame until it returns
    /// true.
    pub(crate) fn send_in_pieces(&mut self, frame: &[u8]) -> Result<bool, Corrupt> {
        let memory = self.memory.clone();
        let ring = &memory.control().calls;
        if self.sent == 0 {
            if self.writing.room(ring, CALLS as u64, HEAD as u64)? < HEAD as u64 {
                return Ok(false);
            }
            self.head(frame.len(), true);
            self.writing.publish(ring, HEAD as u64);
        }
        let end = frame.len().next_multiple_of(ALIGN);
        while self.sent < end {
            // Half a ring at a time: the other half is being read meanwhile.
            let wanted = (end - self.sent).min(CALLS / 2);
            let room = self.writing.room(ring, CALLS as u64, wanted as u64)? as usize;
            let now = room.min(wanted) / ALIGN * ALIGN;
            if now == 0 {
                self.wake();
                return Ok(false);
            }
            let piece = &frame[self.sent.min(frame.len())..(self.sent + now).min(frame.len())];
            copy_in(&memory.calls, CALLS, self.writing.position(), piece);
            self.writing.publish(ring, now as u64);
            self.sent += now;
            self.wake();
        }
        self.sent = 0;
        Ok(true)
    }

    /// Has the bells rung when there is more room than now. Send once more after this.
    pub(crate) fn await_room(&self) {
        self.writing.starve(&self.memory.control().calls);
    }

    fn head(&self, length: usize, in_pieces: bool) {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&(length as u64).to_le_bytes());
        head[8] = in_pieces.into();
        copy_in(&self.memory.calls, CALLS, self.writing.position(), &head);
    }

    fn wake(&self) {
        if self.writing.to_wake(&self.memory.control().calls, true) != 0 {
            self.memory.wake_worker();
        }
    }
}

/// The parent's end of the reports.
#[derive(Debug)]
pub(crate) struct ReportReceiver {
    memory: Arc<RingMemory>,
    reading: Reading,
}

impl ReportReceiver {
    pub(crate) fn new(memory: Arc<RingMemory>) -> Self {
        Self { memory, reading: Reading::default() }
    }

    /// Takes out what has come, to the end of `to`. Returns whether anything had.
    pub(crate) fn read(&mut self, to: &mut Vec<u8>) -> Result<bool, Corrupt> {
        let ring = &self.memory.control().reports;
        let length = self.reading.look(ring, REPORTS as u64)?.min(GULP as u64) as usize;
        if length == 0 {
            return Ok(false);
        }
        copy_out(&self.memory.reports, REPORTS, self.reading.position(), length, to);
        self.release(length);
        Ok(true)
    }

    /// Takes out what has come, at most so many bytes, which there is room for in `to`. Returns how many.
    pub(crate) fn read_bulk(&mut self, most: usize, to: &mut Block) -> Result<usize, Corrupt> {
        let ring = &self.memory.control().reports;
        let length = (self.reading.look(ring, REPORTS as u64)?.min(GULP as u64) as usize).min(most);
        let room = &mut to.room()[..length];
        // SAFETY: a whole capacity is mapped from any place on, and the room has this length; the copy initializes it.
        // If the other side writes meanwhile, they are any bytes.
        unsafe {
            let from = place(&self.memory.reports, REPORTS, self.reading.position());
            ptr::copy_nonoverlapping(from, room.as_mut_ptr().cast(), length);
            to.advance(length);
        }
        if length > 0 {
            self.release(length);
        }
        Ok(length)
    }

    fn release(&mut self, length: usize) {
        let ring = &self.memory.control().reports;
        self.reading.release(ring, length as u64);
        if self.reading.is_starved(ring) {
            self.memory.wake_worker();
        }
    }
}

/// The words on which the threads of a pool sleep, one page for all its workers.
///
/// A worker that writes them at random wakes somebody for nothing, or in the worst case hides another worker's ring:
/// that is why nobody sleeps on them for long while calls are on their way.
#[derive(Debug)]
pub(crate) struct BellPage {
    mapping: Mapping,
    handle: Option<Handle>,
}

/// Marks of who sleeps; see [`LAZY`] also.
pub(crate) const COLLECTOR: u32 = 1;
pub(crate) const LEADER: u32 = 2;

#[repr(C)]
struct Words {
    bells: [Apart<Bell>; 2],
    /// Where the listener runs, or the latest one did.
    leader: Processor,
}

const _: () = assert!(size_of::<Words>() <= CONTROL);

impl BellPage {
    pub(crate) fn new() -> io::Result<Self> {
        let handle = sealed_memory(c"pool-bells", CONTROL)?;
        Ok(Self { mapping: Mapping::new(&handle, CONTROL)?, handle: Some(handle) })
    }

    fn map(handle: &Handle) -> io::Result<Self> {
        check_size(handle, CONTROL)?;
        Ok(Self { mapping: Mapping::new(handle, CONTROL)?, handle: None })
    }

    /// To be passed on; None in a worker.
    pub(crate) fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping is larger than that, aligned, zeroed at first, and lives as long as `self`.
        unsafe { self.mapping.start().cast().as_ref() }
    }

    fn bell(&self, mark: u32) -> &Bell {
        &self.words().bells[usize::from(mark & !LAZY == LEADER)].0
    }

    /// Somebody listens, on this processor.
    pub(crate) fn lead_on(&self, cpu: u32) {
        self.words().leader.set(cpu);
    }

    pub(crate) fn ring(&self, mark: u32) {
        self.bell(mark).ring();
    }

    /// To be read before looking at what is waited for.
    pub(crate) fn seen(&self, mark: u32) -> u32 {
        self.bell(mark).seen()
    }

    pub(crate) fn wait(&self, mark: u32, seen: u32, patience: Option<Duration>) {
        self.bell(mark).wait(seen, patience);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
