//! The worker's ends: its calls come in through one, its reports go out through the other.
//!
//! One thread of the worker has both. It trusts its parent, but for impossible positions.

use crate::memory::ALIGN;
use crate::os::{self, Handle};
use crate::transport::ring::{
    BellPage, CAPACITY, COLLECTOR, CORRUPT, Control, HEAD, LEADER, Reading, RingMemory, Spin, Talk, WHOLE, Writing,
    copy_in, copy_out, place,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Both ends, over the memory of the rings and the page of bells.
pub(crate) fn worker_ends((memory, bells): (Handle, Handle)) -> io::Result<(CallReceiver, ReportSender)> {
    let (memory, bells) = (Arc::new(RingMemory::map(&memory)?), Arc::new(BellPage::map(&bells)?));
    let side = || WorkerSide { memory: memory.clone(), bells: bells.clone(), spin: Spin::new(), talk: Talk::default() };
    Ok((
        CallReceiver { side: side(), reading: Reading::default() },
        ReportSender { side: side(), writing: Writing::default() },
    ))
}

/// What each end has: the shared memory, and how it waits for its parent.
struct WorkerSide {
    memory: Arc<RingMemory>,
    bells: Arc<BellPage>,
    spin: Spin,
    talk: Talk,
}

impl WorkerSide {
    #[inline]
    fn control(&self) -> &Control {
        self.memory.control()
    }

    fn is_crowded(&self) -> bool {
        self.control().crowded.load(Ordering::Relaxed) != 0
    }

    /// Whether the parent listens on this processor.
    fn is_beside(&self, cpu: u32) -> bool {
        self.bells.words().leader.is(cpu)
    }

    /// Spins until `ready`; returns false when it is better to sleep.
    fn spin(&mut self, mut ready: impl FnMut(&Control) -> bool) -> bool {
        let cpu = os::current_cpu();
        self.control().worker.set(cpu);
        !self.is_crowded() && !self.is_beside(cpu) && self.spin.wait(|| ready(self.memory.control()))
    }

    /// Sleeps until the bell is rung, at most for `patience`; not at all if it was rung since it was `seen`.
    fn sleep(&mut self, seen: u32, patience: Option<Duration>) {
        let began = Instant::now();
        self.control().bell.wait(seen, patience);
        let time = began.elapsed();
        self.spin.slept(time);
        let cpu = os::current_cpu();
        if self.talk.is_to_move(!self.is_crowded() && self.is_beside(cpu), time) {
            os::leave_cpu(cpu);
        }
    }
}

pub(crate) struct CallReceiver {
    side: WorkerSide,
    reading: Reading<CAPACITY>,
}

impl CallReceiver {
    /// Waits for the next frame, and passes it to `handle` in place.
    pub(crate) fn next<R>(&mut self, handle: impl FnOnce(&[u8]) -> R) -> Result<R, &'static str> {
        self.await_bytes()?;
        let mut head = Vec::with_capacity(HEAD);
        copy_out(&self.side.memory.calls, self.reading.position(), HEAD, &mut head);
        let [length, in_pieces] = bytemuck::pod_read_unaligned::<[u64; 2]>(&head);
        let length = length as usize;
        if in_pieces != 0 {
            self.release(HEAD);
            return self.assembled(length).map(|frame| handle(&frame));
        }
        let whole = HEAD + length.next_multiple_of(ALIGN);
        if length > WHOLE || self.reading.look(&self.side.control().calls)? < whole {
            return Err(CORRUPT);
        }
        let start = place(&self.side.memory.calls, self.reading.position() + HEAD as u64);
        // SAFETY: a whole capacity is mapped from any place on, and `length` is less. The parent has published these
        // bytes, and does not write there before they are released, below.
        let handled = handle(unsafe { std::slice::from_raw_parts(start, length) });
        self.release(whole);
        Ok(handled)
    }

    pub(crate) fn is_ready(&mut self) -> Result<bool, &'static str> {
        Ok(self.reading.available(&self.side.control().calls)? > 0)
    }

    pub(crate) fn is_ready_within(&mut self, patience: Duration) -> Result<bool, &'static str> {
        if self.spin() {
            return self.is_ready();
        }
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.is_ready()? || left.is_zero() {
                return self.is_ready();
            }
            self.sleep(Some(left))?;
        }
    }

    fn assembled(&mut self, length: usize) -> Result<Vec<u8>, &'static str> {
        let mut frame = Vec::with_capacity(length);
        let mut left = length.next_multiple_of(ALIGN);
        while left > 0 {
            let now = self.await_bytes()?.min(left).min(CAPACITY / 2);
            copy_out(&self.side.memory.calls, self.reading.position(), now, &mut frame);
            left -= now;
            self.release(now);
        }
        frame.truncate(length);
        Ok(frame)
    }

    fn release(&mut self, length: usize) {
        if self.reading.release(&self.side.memory.control().calls, length) {
            [COLLECTOR, LEADER].into_iter().for_each(|mark| self.side.bells.ring(mark));
        }
    }

    /// How many bytes there are; waits for the first.
    fn await_bytes(&mut self) -> Result<usize, &'static str> {
        loop {
            match self.reading.available(&self.side.control().calls)? {
                0 if self.spin() => {}
                0 => self.sleep(None)?,
                available => return Ok(available),
            }
        }
    }

    fn spin(&mut self) -> bool {
        self.side.spin(|control| self.reading.look(&control.calls) != Ok(0))
    }

    /// Sleeps until there is something to read, at most for `patience`.
    fn sleep(&mut self, patience: Option<Duration>) -> Result<(), &'static str> {
        let seen = self.side.control().bell.seen();
        self.side.control().calls.sleep(1);
        if self.reading.look(&self.side.control().calls)? == 0 {
            self.side.sleep(seen, patience);
        }
        self.side.control().calls.wake();
        Ok(())
    }
}

pub(crate) struct ReportSender {
    side: WorkerSide,
    writing: Writing<CAPACITY>,
}

impl ReportSender {
    /// Adds a record of two parts, padded to a multiple of 8 bytes. Waits while the ring is full.
    #[inline]
    pub(crate) fn push(&mut self, head: &[u8], payload: &[u8]) -> Result<(), &'static str> {
        let length = (head.len() + payload.len()).next_multiple_of(8);
        let ring = &self.side.memory.control().reports;
        if length > CAPACITY / 4 || self.writing.room(ring, length)? < length {
            return self.push_slowly(&[head, payload]);
        }
        self.put(head, payload, length);
        self.side.bells.ring(self.writing.may_wake(&self.side.control().reports));
        Ok(())
    }

    /// As [`push`](Self::push), of a word each, as for most small calls; false if there is not known to be room.
    #[inline(always)]
    pub(crate) fn push_words(&mut self, head: [u8; 8], payload: [u8; 8]) -> bool {
        if self.writing.known_room() < 16 {
            return false;
        }
        self.put(&head, &payload, 16);
        if self.side.control().reports.reader_sleeps() {
            self.wake_soon();
        }
        true
    }

    #[inline(always)]
    fn put(&mut self, head: &[u8], payload: &[u8], length: usize) {
        let (memory, position) = (&self.side.memory, self.writing.position());
        copy_in(&memory.reports, position, head);
        copy_in(&memory.reports, position + head.len() as u64, payload);
        self.writing.publish(&memory.control().reports, length);
    }

    /// Wakes the parent if it sleeps, and not lazily.
    #[inline(never)]
    fn wake_soon(&self) {
        self.side.bells.ring(self.writing.may_wake(&self.side.control().reports));
    }

    /// Wakes the parent if it sleeps; one that sleeps lazily, at a pause or if half of the ring is full.
    pub(crate) fn flush(&mut self, pause: bool) -> Result<(), &'static str> {
        let ring = &self.side.memory.control().reports;
        let much = self.writing.room(ring, CAPACITY / 2)? < CAPACITY / 2;
        self.side.bells.ring(self.writing.to_wake(ring, pause || much));
        Ok(())
    }

    /// As [`push`](Self::push), of any number of parts and of any size.
    #[cold]
    pub(crate) fn push_slowly(&mut self, parts: &[&[u8]]) -> Result<(), &'static str> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let padding = &[0; 8][..length.next_multiple_of(8) - length];
        for mut part in parts.iter().copied().chain([padding]) {
            while !part.is_empty() {
                let room = self.await_room(part.len().min(CAPACITY / 2))?;
                let (now, later) = part.split_at(part.len().min(room));
                self.put(now, &[], now.len());
                part = later;
                self.flush(true)?;
            }
        }
        Ok(())
    }

    fn await_room(&mut self, wanted: usize) -> Result<usize, &'static str> {
        loop {
            match self.writing.room(&self.side.control().reports, wanted)? {
                0 => self.flush(true)?,
                room => return Ok(room),
            }
            if self.side.spin(|control| self.writing.room(&control.reports, 1) != Ok(0)) {
                continue;
            }
            let seen = self.side.control().bell.seen();
            self.writing.starve(&self.side.control().reports);
            if self.writing.room(&self.side.control().reports, 1)? == 0 {
                self.side.sleep(seen, None);
            }
        }
    }
}
