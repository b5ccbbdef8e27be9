//! The transport over shared memory: a ring of bytes each way for each worker, and bells for threads that sleep.
//!
//! ```text
//!   parent                                                              worker
//!   CallSender ──▶ written │░░░░░░░ calls ░░░░░░░│ read ──▶ CallReceiver      whole frames, run where they lie
//!   ReportReceiver ◀── read │░░░░░ reports ░░░░░│ written ◀── ReportSender    a stream of records
//!     │                                                      │
//!     └── sleeps on a word of the seat's BellPage               └── sleeps on the ring's bell
//! ```
//!
//! While both sides are busy, a message is two copies and a few stores: no system call, no lock. [`positions`] is the
//! protocol of the two sides, [`spin`] how long they wait before they sleep.
//!
//! There is no lock that a process could die with: each side alone writes its position, and the words that say who sleeps
//! are exchanged, never waited for. The parent reads nothing in place: it copies first, and checks the copy. A corrupt
//! ring costs the parent no more than that worker.
//!
//! A worker is given the memory of its rings when it starts. A ring is small enough to stay in the processor's cache. A
//! larger frame goes through it in pieces while the other side takes them out.

mod positions;
mod processor;
mod spin;
mod worker;

pub(crate) use positions::{Corrupt, LAZY};
pub(crate) use processor::Talk;
pub(crate) use spin::Spin;
pub(crate) use worker::{CallReceiver, ReportSender, worker_ends};

use crate::memory::{ALIGN, Block};
use crate::os::{Bell, GRANULE, Handle, Mapping, check_size, sealed_memory};
use crate::transport::Append;
use positions::{Apart, Positions, Reading, Writing};
use processor::Processor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use std::{io, ptr};

pub(crate) const CAPACITY: usize = 1 << 18;
/// The longest frame that goes in one piece, and is read in place.
pub(crate) const WHOLE: usize = CAPACITY / 4;
/// The length of the head of a frame: the frame's length, and whether it comes in pieces.
const HEAD: usize = 16;
/// The most bytes that are read at a time from the stream of reports.
const GULP: usize = CAPACITY / 2;

/// What the other side did, if a position or a frame in a ring is impossible.
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
    /// More threads want to run than there are processors: the worker does not spin.
    crowded: AtomicU32,
    worker: Processor,
}

/// How much memory is mapped for the words, before the two rings.
const CONTROL: usize = 4096;
const SIZE: usize = GRANULE + 2 * CAPACITY;

const _: () = assert!(size_of::<Control>() <= CONTROL && CONTROL <= GRANULE);

/// The memory of both rings of a worker, mapped into this process.
pub(crate) struct RingMemory {
    control: Mapping,
    calls: Mapping,
    reports: Mapping,
    /// To be passed on; None once that is done, and in a worker.
    pub(crate) handle: Option<Handle>,
    /// How far this process has read the reports, whatever the worker writes where that is shared.
    heard: AtomicU64,
    /// How far the worker had read the calls when there was last no room for one.
    full: AtomicU64,
}

impl RingMemory {
    /// New memory, for the parent.
    pub(crate) fn new() -> io::Result<Self> {
        let handle = sealed_memory(c"pool-rings", SIZE)?;
        let memory = Self::map(&handle)?;
        Ok(Self { handle: Some(handle), ..memory })
    }

    pub(crate) fn map(handle: &Handle) -> io::Result<Self> {
        check_size(handle, SIZE)?;
        Ok(Self {
            control: Mapping::new(handle, CONTROL)?,
            calls: Mapping::twice(handle, GRANULE, CAPACITY)?,
            reports: Mapping::twice(handle, GRANULE + CAPACITY, CAPACITY)?,
            handle: None,
            heard: AtomicU64::new(0),
            full: AtomicU64::new(0),
        })
    }

    #[inline]
    fn control(&self) -> &Control {
        // SAFETY: the mapping is larger than the layout, aligned, zeroed at first, and lives as long as `self`.
        // The other process may write at any time, which atomics allow.
        unsafe { self.control.start().cast().as_ref() }
    }

    /// Has the bell of this mark rung, or none at 0, when the worker reports something. Look once more after this.
    pub(crate) fn arm(&self, mark: u32) {
        self.control().reports.sleep(mark);
    }

    pub(crate) fn has_reports(&self) -> bool {
        self.control().reports.has_unread(self.heard.load(Ordering::Acquire))
    }

    /// Whether there may be room for a call again for which there was none. If not, the worker rings both bells when there
    /// is.
    pub(crate) fn may_have_room(&self) -> bool {
        self.control().calls.has_read_on(self.full.load(Ordering::Acquire))
    }

    /// Whether the worker is awake, or being woken, on this processor: it cannot run before the calling thread sleeps.
    pub(crate) fn worker_is_on(&self, cpu: u32) -> bool {
        let control = self.control();
        control.worker.is(cpu) && !control.calls.reader_sleeps()
    }

    pub(crate) fn set_crowded(&self, crowded: bool) {
        let word = &self.control().crowded;
        if word.load(Ordering::Relaxed) != u32::from(crowded) {
            word.store(crowded.into(), Ordering::Relaxed);
        }
    }
}

/// The address of a position. A whole capacity of bytes is mapped from there on.
#[inline]
fn place(ring: &Mapping, position: u64) -> *mut u8 {
    let offset = (position % CAPACITY as u64) as usize;
    // SAFETY: the offset is less than the capacity, and the mapping holds the ring twice.
    unsafe { ring.start().as_ptr().add(offset) }
}

#[inline]
fn copy_in(ring: &Mapping, position: u64, bytes: &[u8]) {
    assert!(bytes.len() <= CAPACITY);
    let to = place(ring, position);
    // SAFETY: from any place in the first half of the mapping on, a whole capacity is mapped; `bytes` is not part of
    // it, as no slice of a ring that is written is ever made. The other side does not look there before it is
    // published; if it does, it sees bytes.
    unsafe {
        match bytes.len() {
            // Most short results: one instruction instead of a call.
            8 => ptr::copy_nonoverlapping(bytes.as_ptr(), to, 8),
            length => ptr::copy_nonoverlapping(bytes.as_ptr(), to, length),
        }
    }
}

fn copy_out(ring: &Mapping, position: u64, length: usize, to: &mut Vec<u8>) {
    assert!(length <= CAPACITY);
    to.reserve(length);
    // SAFETY: a whole capacity is mapped from any place on; the vector has room for the bytes, which are initialized by
    // the copy, whatever they are. If the other side writes meanwhile, they are any bytes.
    unsafe {
        ptr::copy_nonoverlapping(place(ring, position), to.as_mut_ptr().add(to.len()), length);
        to.set_len(to.len() + length);
    }
}

pub(crate) struct Space<'r> {
    memory: &'r RingMemory,
    start: u64,
    filled: usize,
    room: usize,
}

impl Append for Space<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room - self.filled, "a frame is larger than was said");
        copy_in(&self.memory.calls, self.start + self.filled as u64, bytes);
        self.filled += bytes.len();
    }

    #[inline]
    fn pad(&mut self, to: usize) {
        let missing = self.filled.next_multiple_of(to) - self.filled;
        self.put(&[0; ALIGN][..missing]);
    }
}

pub(crate) struct CallSender {
    memory: Arc<RingMemory>,
    writing: Writing<CAPACITY>,
    /// How much of a frame that goes in pieces has been written.
    sent: usize,
}

impl CallSender {
    pub(crate) fn new(memory: Arc<RingMemory>) -> Self {
        Self { memory, writing: Writing::default(), sent: 0 }
    }

    /// Sends a frame of at most `most` bytes, no more than [`WHOLE`], which `fill` writes. False if there is no room.
    pub(crate) fn send(&mut self, most: usize, fill: impl FnOnce(&mut Space<'_>)) -> Result<bool, Corrupt> {
        debug_assert!(most <= WHOLE);
        let (ring, needed) = (&self.memory.control().calls, HEAD + most.next_multiple_of(ALIGN));
        if self.writing.room(ring, needed)? < needed {
            return Ok(false);
        }
        let start = self.writing.position() + HEAD as u64;
        let mut space = Space { memory: &self.memory, start, filled: 0, room: most };
        fill(&mut space);
        let length = space.filled;
        self.head(length, false);
        self.writing.publish(ring, HEAD + length.next_multiple_of(ALIGN));
        self.wake();
        Ok(true)
    }

    /// Sends as much of a frame of any size as there is room for. To be called again with it until it returns true.
    pub(crate) fn send_in_pieces(&mut self, frame: &[u8]) -> Result<bool, Corrupt> {
        let memory = self.memory.clone();
        let ring = &memory.control().calls;
        if self.sent == 0 {
            if self.writing.room(ring, HEAD)? < HEAD {
                return Ok(false);
            }
            self.head(frame.len(), true);
            self.writing.publish(ring, HEAD);
        }
        let end = frame.len().next_multiple_of(ALIGN);
        while self.sent < end {
            // Half a ring at a time, so that the other half is read meanwhile.
            let wanted = (end - self.sent).min(CAPACITY / 2);
            let now = self.writing.room(ring, wanted)?.min(wanted) / ALIGN * ALIGN;
            if now == 0 {
                self.wake();
                return Ok(false);
            }
            let piece = &frame[self.sent.min(frame.len())..(self.sent + now).min(frame.len())];
            copy_in(&memory.calls, self.writing.position(), piece);
            self.writing.publish(ring, now);
            self.sent += now;
            self.wake();
        }
        self.sent = 0;
        Ok(true)
    }

    /// Has both bells rung when there is more room than now. Send once more after this.
    pub(crate) fn await_room(&self) {
        self.writing.starve(&self.memory.control().calls);
    }

    /// Notes that there was no room after that either.
    pub(crate) fn note_full(&self) {
        self.memory.full.store(self.writing.known_read(), Ordering::Release);
    }

    fn head(&self, length: usize, in_pieces: bool) {
        copy_in(&self.memory.calls, self.writing.position(), bytemuck::bytes_of(&[length as u64, in_pieces.into()]));
    }

    fn wake(&self) {
        let control = self.memory.control();
        if self.writing.to_wake(&control.calls, true) != 0 {
            control.bell.ring();
        }
    }
}

pub(crate) struct ReportReceiver {
    memory: Arc<RingMemory>,
    reading: Reading<CAPACITY>,
}

impl ReportReceiver {
    pub(crate) fn new(memory: Arc<RingMemory>) -> Self {
        Self { memory, reading: Reading::default() }
    }

    /// Moves what has come to the end of `to`. Returns how many bytes. The error is what the worker did wrong.
    pub(crate) fn read(&mut self, to: &mut Vec<u8>) -> Result<usize, &'static str> {
        let length = self.reading.look(&self.memory.control().reports)?.min(GULP);
        if length > 0 {
            to.try_reserve(length).map_err(|_| "sent a report for which there is no memory")?;
            copy_out(&self.memory.reports, self.reading.position(), length, to);
            self.release(length);
        }
        Ok(length)
    }

    /// Moves at most so many bytes of what has come to `to`, which has room for them. Returns how many.
    pub(crate) fn read_bulk(&mut self, most: usize, to: &mut Block) -> Result<usize, Corrupt> {
        let length = self.reading.look(&self.memory.control().reports)?.min(GULP).min(most);
        if length > 0 {
            let room = &mut to.room()[..length];
            // SAFETY: a whole capacity is mapped from any place on, and the room has this length; the copy initializes
            // it. If the other side writes meanwhile, they are any bytes.
            unsafe {
                let from = place(&self.memory.reports, self.reading.position());
                ptr::copy_nonoverlapping(from, room.as_mut_ptr().cast(), length);
                to.advance(length);
            }
            self.release(length);
        }
        Ok(length)
    }

    fn release(&mut self, length: usize) {
        let control = self.memory.control();
        let bell = self.reading.release(&control.reports, length);
        self.memory.heard.store(self.reading.position(), Ordering::Release);
        if bell {
            control.bell.ring();
        }
    }
}

/// Words on which the threads of a pool sleep, for the workers at one seat or, in the largest pools, at a few.
///
/// A worker that writes them at random can wake a thread for nothing, or hide its own wake-up and those of the others: so
/// nothing sleeps on them for long.
pub(crate) struct BellPage {
    mapping: Mapping,
    /// To be passed on; None in a worker.
    pub(crate) handle: Option<Handle>,
}

/// The marks of threads that sleep; see also [`LAZY`].
pub(crate) const COLLECTOR: u32 = 1;
pub(crate) const LEADER: u32 = 2;

#[repr(C)]
struct Words {
    bells: [Apart<Bell>; 2],
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

    fn words(&self) -> &Words {
        // SAFETY: the mapping is larger than that, aligned, zeroed at first, and lives as long as `self`.
        unsafe { self.mapping.start().cast().as_ref() }
    }

    pub(crate) fn bell(&self, mark: u32) -> &Bell {
        &self.words().bells[usize::from(mark & !LAZY == LEADER)].0
    }

    pub(crate) fn lead_on(&self, cpu: u32) {
        self.words().leader.set(cpu);
    }

    /// Wakes the thread of this mark; 0 is none.
    #[inline]
    pub(crate) fn ring(&self, mark: u32) {
        if mark != 0 {
            self.bell(mark).ring();
        }
    }

    /// To be read before checking what is waited for.
    pub(crate) fn seen(&self, mark: u32) -> u32 {
        self.bell(mark).seen()
    }

    pub(crate) fn wait(&self, mark: u32, seen: u32, patience: Option<Duration>) {
        self.bell(mark).wait(seen, patience);
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
