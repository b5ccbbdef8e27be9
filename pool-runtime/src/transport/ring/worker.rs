//! The worker's ends: where its calls come in, and its reports go out.
//!
//! The worker has one thread for both, and believes its parent, but for positions that make no sense.

use crate::os::{self, Handle};
use crate::transport::ring::positions::{Reading, Writing};
use crate::transport::ring::processor::Talk;
use crate::transport::ring::spin::Spin;
use crate::transport::ring::{
    ALIGN, BellPage, CALLS, COLLECTOR, CORRUPT, HEAD, LEADER, REPORTS, RingMemory, WHOLE, copy_in, copy_out, place,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What a worker has of both rings.
pub(crate) fn worker_ends((memory, bells): (Handle, Handle)) -> io::Result<(CallReceiver, ReportSender)> {
    let (memory, bells) = (Arc::new(RingMemory::map(&memory)?), Arc::new(BellPage::map(&bells)?));
    let incoming = CallReceiver {
        memory: memory.clone(),
        bells: bells.clone(),
        reading: Reading::default(),
        spin: Spin::new(),
        talk: Talk::default(),
        assembled: Vec::new(),
    };
    Ok((
        incoming,
        ReportSender { memory, bells, writing: Writing::default(), spin: Spin::new(), talk: Talk::default() },
    ))
}

/// Is the worker to spin for its parent, on this processor?
fn may_spin(memory: &RingMemory, bells: &BellPage) -> bool {
    let (control, here) = (memory.control(), os::current_cpu());
    control.worker.set(here);
    control.crowded.load(Ordering::Relaxed) == 0 && !bells.words().leader.is(here)
}

impl Talk {
    /// The worker has slept for so long. If it talks to its parent on one processor, it moves away.
    fn slept(&mut self, time: Duration, memory: &RingMemory, bells: &BellPage) {
        let here = os::current_cpu();
        let beside = memory.control().crowded.load(Ordering::Relaxed) == 0 && bells.words().leader.is(here);
        if self.is_to_move(beside, time) {
            os::leave_cpu(here);
        }
    }
}

/// The worker's end of the calls.
#[derive(Debug)]
pub(crate) struct CallReceiver {
    memory: Arc<RingMemory>,
    bells: Arc<BellPage>,
    reading: Reading,
    spin: Spin,
    talk: Talk,
    /// A frame that came in pieces.
    assembled: Vec<u8>,
}

impl CallReceiver {
    /// Waits for the next frame, and has it handled where it lies.
    pub(crate) fn next<R>(&mut self, handle: impl FnOnce(&[u8]) -> R) -> Result<R, &'static str> {
        self.await_bytes()?;
        let mut head = Vec::with_capacity(HEAD);
        copy_out(&self.memory.calls, CALLS, self.reading.position(), HEAD, &mut head);
        let length = head.first_chunk().map_or(0, |length| u64::from_le_bytes(*length)) as usize;
        if head[8] != 0 {
            self.release(HEAD);
            self.assemble(length)?;
            let frame = std::mem::take(&mut self.assembled);
            let handled = handle(&frame);
            // A large frame's memory is not kept.
            return Ok(handled);
        }
        let whole = HEAD + length.next_multiple_of(ALIGN);
        if length > WHOLE || self.reading.look(&self.memory.control().calls, CALLS as u64)? < whole as u64 {
            return Err(CORRUPT);
        }
        let start = place(&self.memory.calls, CALLS, self.reading.position() + HEAD as u64);
        // SAFETY: a whole capacity is mapped from any place on, and `length` is less. The parent has published these
        // bytes, and does not write there before they are released, below.
        let frame = unsafe { std::slice::from_raw_parts(start, length) };
        let handled = handle(frame);
        self.release(whole);
        Ok(handled)
    }

    /// Is there a frame?
    pub(crate) fn is_ready(&mut self) -> Result<bool, &'static str> {
        Ok(self.reading.available(&self.memory.control().calls, CALLS as u64)? > 0)
    }

    /// Is there a frame before long?
    pub(crate) fn is_ready_within(&mut self, patience: Duration) -> Result<bool, &'static str> {
        let Self { memory, bells, reading, spin, .. } = self;
        let ring = &memory.control().calls;
        if may_spin(memory, bells) && spin.wait(|| reading.look(ring, CALLS as u64) != Ok(0)) {
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

    fn assemble(&mut self, length: usize) -> Result<(), &'static str> {
        self.assembled = Vec::with_capacity(length);
        let mut left = length.next_multiple_of(ALIGN);
        while left > 0 {
            let now = (self.await_bytes()? as usize).min(left).min(CALLS / 2);
            copy_out(&self.memory.calls, CALLS, self.reading.position(), now, &mut self.assembled);
            left -= now;
            self.release(now);
        }
        self.assembled.truncate(length);
        Ok(())
    }

    fn release(&mut self, length: usize) {
        let ring = &self.memory.control().calls;
        self.reading.release(ring, length as u64);
        if self.reading.is_starved(ring) {
            self.bells.ring(COLLECTOR);
            self.bells.ring(LEADER);
        }
    }

    /// How many bytes there are; waits for the first.
    fn await_bytes(&mut self) -> Result<u64, &'static str> {
        loop {
            let Self { memory, bells, reading, spin, .. } = self;
            let control = memory.control();
            match reading.available(&control.calls, CALLS as u64)? {
                0 => {}
                available => return Ok(available),
            }
            if may_spin(memory, bells) && spin.wait(|| reading.look(&control.calls, CALLS as u64) != Ok(0)) {
                continue;
            }
            self.sleep(None)?;
        }
    }

    /// Sleeps until there is something to read, at most for `patience`.
    fn sleep(&mut self, patience: Option<Duration>) -> Result<(), &'static str> {
        let control = self.memory.control();
        let seen = control.bell.seen();
        control.calls.sleep(1);
        if self.reading.look(&control.calls, CALLS as u64)? == 0 {
            let begun = Instant::now();
            control.bell.wait(seen, patience);
            let time = begun.elapsed();
            self.spin.slept(time);
            self.talk.slept(time, &self.memory, &self.bells);
        }
        control.calls.wake();
        Ok(())
    }
}

/// The worker's end of the reports.
#[derive(Debug)]
pub(crate) struct ReportSender {
    memory: Arc<RingMemory>,
    bells: Arc<BellPage>,
    writing: Writing,
    spin: Spin,
    talk: Talk,
}

impl ReportSender {
    /// Adds a record of two parts, padded to a multiple of 8 bytes, and shows it to the parent. Waits while the ring is
    /// full.
    #[inline]
    pub(crate) fn push(&mut self, head: &[u8], payload: &[u8]) -> Result<(), &'static str> {
        let length = (head.len() + payload.len()).next_multiple_of(8);
        let ring = &self.memory.control().reports;
        if length > REPORTS / 4 || self.writing.room(ring, REPORTS as u64, length as u64)? < length as u64 {
            return self.push_slowly(&[head, payload]);
        }
        let position = self.writing.position();
        copy_in(&self.memory.reports, REPORTS, position, head);
        copy_in(&self.memory.reports, REPORTS, position + head.len() as u64, payload);
        self.writing.publish(ring, length as u64);
        match self.writing.may_wake(ring) {
            0 => {}
            mark => self.bells.ring(mark),
        }
        Ok(())
    }

    /// As [`push`](Self::push), of a head and a payload of a word each, as those of most small calls are; if there is
    /// room for them at once.
    #[inline(always)]
    pub(crate) fn push_words(&mut self, head: [u8; 8], payload: [u8; 8]) -> bool {
        let ring = &self.memory.control().reports;
        if !self.writing.has_room(REPORTS as u64, 16) {
            return false;
        }
        let position = self.writing.position();
        copy_in(&self.memory.reports, REPORTS, position, &head);
        copy_in(&self.memory.reports, REPORTS, position + 8, &payload);
        self.writing.publish(ring, 16);
        if ring.reader_sleeps() {
            self.wake_soon();
        }
        true
    }

    /// Wakes the parent if it sleeps, and not lazily.
    #[inline(never)]
    fn wake_soon(&self) {
        match self.writing.may_wake(&self.memory.control().reports) {
            0 => {}
            mark => self.bells.ring(mark),
        }
    }

    /// The parent is woken if it sleeps; a lazy one, if nothing more comes for a while or much has come.
    pub(crate) fn flush(&mut self, pause: bool) -> Result<(), &'static str> {
        let ring = &self.memory.control().reports;
        let much = self.writing.room(ring, REPORTS as u64, REPORTS as u64 / 2)? < REPORTS as u64 / 2;
        match self.writing.to_wake(ring, pause || much) {
            0 => {}
            mark => self.bells.ring(mark),
        }
        Ok(())
    }

    /// As [`push`](Self::push), of any number of parts and of any size.
    #[cold]
    pub(crate) fn push_slowly(&mut self, parts: &[&[u8]]) -> Result<(), &'static str> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let padding = &[0; 8][..length.next_multiple_of(8) - length];
        for mut part in parts.iter().copied().chain([padding]) {
            while !part.is_empty() {
                let room = self.await_room(part.len().min(REPORTS / 2))?;
                let (now, later) = part.split_at(part.len().min(room));
                copy_in(&self.memory.reports, REPORTS, self.writing.position(), now);
                self.writing.publish(&self.memory.control().reports, now.len() as u64);
                part = later;
                self.flush(true)?;
            }
        }
        Ok(())
    }

    /// Waits until there is some room.
    fn await_room(&mut self, wanted: usize) -> Result<usize, &'static str> {
        let memory = self.memory.clone();
        let control = memory.control();
        loop {
            match self.writing.room(&control.reports, REPORTS as u64, wanted as u64)? {
                0 => {}
                room => return Ok(room as usize),
            }
            self.flush(true)?;
            let writing = &mut self.writing;
            if may_spin(&memory, &self.bells)
                && self.spin.wait(|| writing.room(&control.reports, REPORTS as u64, 1) != Ok(0))
            {
                continue;
            }
            let seen = control.bell.seen();
            self.writing.starve(&control.reports);
            if self.writing.room(&control.reports, REPORTS as u64, 1)? == 0 {
                let begun = Instant::now();
                control.bell.wait(seen, None);
                let time = begun.elapsed();
                self.spin.slept(time);
                self.talk.slept(time, &self.memory, &self.bells);
            }
        }
    }
}
