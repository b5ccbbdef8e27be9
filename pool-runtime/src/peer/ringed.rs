//! A peer that is reached through rings of shared memory: frames on their way out, records on their way in.
//!
//! Frames are sent under the pool's lock, in the order of their numbers, and sending never waits: a frame that finds no
//! room stays in a backlog, and the listener goes on with it when the worker has made room.

use crate::locks::{lock, try_lock};
use crate::memory::{Block, Split, cache};
use crate::os;
use crate::peer::Sink;
use crate::protocol::{Bulk, RecordReader, WriteFrame, stop_frame};
use crate::transport::{Append as _, ring, ring::Corrupt};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) struct Ringed {
    pub(super) memory: Arc<ring::RingMemory>,
    sending: Mutex<Sending>,
    receiving: Mutex<Receiving>,
    /// Whether `backlog` has frames, without its lock.
    blocked: AtomicBool,
    /// The latest pass left some reports unread.
    more: AtomicBool,
    /// The worker has a fault, of which it is killed. If it lives on, there is nothing more to do here.
    broken: AtomicBool,
}

struct Sending {
    calls: ring::CallSender,
    backlog: VecDeque<Vec<u8>>,
    /// As in [`Receiving`].
    fault: Option<&'static str>,
}

/// The most frames that wait for room. Frames that are unread are half as long as the ring, but for a large one; there are
/// more only if the worker answers what it has not read.
pub(super) const MOST_WAITING: usize = 64;
pub(super) const UNREAD: &str = "reported calls that it had not received";

struct Receiving {
    reports: ring::ReportReceiver,
    /// What was read and is no whole record yet.
    stream: Vec<u8>,
    /// A value with large plain data, of which a part has arrived.
    split: Option<SplitUnderWay>,
    /// How many bytes of the stream to skip: the padding of the record before them.
    padding: usize,
    /// What is wrong with the worker, which is not read any more then.
    fault: Option<String>,
}

struct SplitUnderWay {
    number: u32,
    missing: usize,
    split: Split,
}

/// The most room that is made in advance for a record, whatever length it states;
const MOST_BELIEVED: usize = 1 << 28;
/// and the most for plain data.
const MOST_SPLIT: usize = 1 << 30;
/// The most memory that the stream keeps, and the least plain data that is read into memory of its own.
const KEPT: usize = 1 << 19;

impl Ringed {
    pub(super) fn new(memory: Arc<ring::RingMemory>) -> Self {
        let calls = ring::CallSender::new(memory.clone());
        let reports = ring::ReportReceiver::new(memory.clone());
        Self {
            memory,
            sending: Mutex::new(Sending { calls, backlog: VecDeque::new(), fault: None }),
            receiving: Mutex::new(Receiving { reports, stream: Vec::new(), split: None, padding: 0, fault: None }),
            blocked: AtomicBool::new(false),
            more: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }

    /// Sends a frame, or as much of it as there is room for.
    pub(super) fn send(&self, frame: &impl WriteFrame) -> Result<(), Corrupt> {
        let most = frame.most();
        let mut sending = lock(&self.sending);
        if sending.backlog.is_empty() && most <= ring::WHOLE && sending.calls.send(most, |space| frame.write(space))? {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(most);
        frame.write(&mut bytes);
        self.put(&mut sending, bytes)
    }

    pub(super) fn stop(&self) -> Result<(), Corrupt> {
        self.put(&mut lock(&self.sending), stop_frame())
    }

    fn put(&self, sending: &mut Sending, frame: Vec<u8>) -> Result<(), Corrupt> {
        if sending.backlog.len() >= MOST_WAITING {
            sending.fault = Some(UNREAD);
            return Err(Corrupt);
        }
        sending.backlog.push_back(frame);
        // Before the attempt: a listener that is woken meanwhile has to find that there is something to go on with.
        self.blocked.store(true, Ordering::Release);
        self.pump(sending)
    }

    fn pump(&self, sending: &mut Sending) -> Result<(), Corrupt> {
        let Sending { calls, backlog, .. } = sending;
        while let Some(frame) = backlog.front() {
            if !send_frame(calls, frame)? {
                // There may be room since; if not, the worker rings when there is.
                calls.await_room();
                if !send_frame(calls, frame)? {
                    calls.note_full();
                    break;
                }
            }
            backlog.pop_front();
        }
        self.blocked.store(!backlog.is_empty(), Ordering::Release);
        Ok(())
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire) && !self.is_broken()
    }

    /// As [`is_blocked`](Self::is_blocked), and there may be room since.
    pub(super) fn may_go_on(&self) -> bool {
        self.is_blocked() && self.memory.may_have_room()
    }

    pub(super) fn has_reports(&self) -> bool {
        self.memory.has_reports() && !self.is_broken()
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// As [`Peer::serve`](crate::peer::Peer::serve); fails if the memory, or what the worker says, is corrupt.
    pub(super) fn serve(&self, sink: &mut dyn Sink, waits: bool) -> Result<bool, Corrupt> {
        self.serve_once(sink, waits).inspect_err(|Corrupt| self.broken.store(true, Ordering::Relaxed))
    }

    #[inline]
    fn serve_once(&self, sink: &mut dyn Sink, waits: bool) -> Result<bool, Corrupt> {
        let mut any = false;
        if let Some(mut receiving) = try_lock(&self.receiving).or_else(|| waits.then(|| lock(&self.receiving))) {
            let read = receiving.take_in(sink);
            any = read > 0;
            self.more.store(read >= ring::CAPACITY, Ordering::Relaxed);
            if receiving.fault.is_some() {
                return Err(Corrupt);
            }
        }
        // After that, as what was reported counts even if the ring of calls is corrupt.
        if self.is_blocked() {
            self.pump(&mut lock(&self.sending))?;
        }
        Ok(any)
    }

    /// Whether the latest pass left some reports unread.
    pub(super) fn has_more(&self) -> bool {
        self.more.load(Ordering::Relaxed)
    }

    pub(super) fn take_fault(&self) -> Option<String> {
        lock(&self.receiving).fault.take().or_else(|| lock(&self.sending).fault.take().map(str::to_owned))
    }
}

/// Whether plain data is large enough to get memory of its own.
fn is_to_be_split(bulk: &Bulk) -> bool {
    (KEPT..=MOST_SPLIT).contains(&bulk.length)
}

fn send_frame(calls: &mut ring::CallSender, frame: &[u8]) -> Result<bool, Corrupt> {
    match frame.len() <= ring::WHOLE {
        true => calls.send(frame.len(), |space| space.put(frame)),
        false => calls.send_in_pieces(frame),
    }
}

impl Receiving {
    /// Reads what there is, and passes it on. Returns how many bytes there were: a worker that writes as fast as they are
    /// read must not hold the listener, so they are no more than about as many as the ring holds.
    fn take_in(&mut self, sink: &mut dyn Sink) -> usize {
        let mut all = 0;
        while self.fault.is_none() && all < ring::CAPACITY {
            match self.take_some(sink) {
                Ok(0) => break,
                Ok(length) => all += length,
                Err(fault) => self.fault = Some(fault),
            }
        }
        all
    }

    #[inline]
    fn take_some(&mut self, sink: &mut dyn Sink) -> Result<usize, String> {
        self.split();
        if let Some(unfinished) = &mut self.split {
            let read = self.reports.read_bulk(unfinished.missing, &mut unfinished.split.data);
            let length = read.map_err(|_| ring::CORRUPT)?;
            unfinished.missing -= length;
            if let Some(whole) = self.split.take_if(|unfinished| unfinished.missing == 0) {
                sink.split(whole.number, whole.split)?;
            }
            return Ok(length);
        }
        self.make_room();
        let length = self.reports.read(&mut self.stream)?;
        if length == 0 {
            return Ok(0);
        }
        let padding = self.padding.min(self.stream.len());
        self.padding -= padding;
        self.stream.drain(..padding);
        let whole = sink.records(&mut self.stream)?;
        self.stream.drain(..whole);
        if self.stream.is_empty() && self.stream.capacity() > KEPT {
            self.stream = Vec::new();
        }
        Ok(length)
    }

    /// Where large plain data is on its way, makes memory of its own for it, which the waiting caller can take over.
    /// The stream begins with its record then, and the sink has checked that a caller waits for it.
    fn split(&mut self) {
        let Ok(Some(record)) = RecordReader::new(&self.stream).unfinished() else { return };
        let Some(bulk) = record.bulk.filter(is_to_be_split) else { return };
        let (there, end) = (self.stream.len(), bulk.at + bulk.length);
        if !(bulk.at..end).contains(&there) {
            return;
        }
        let Some(mut data) = Block::with_room(bulk.length, bulk.align) else { return };
        data.append(&self.stream[bulk.at..]);
        let before = self.stream[record.payload..bulk.at].to_vec();
        self.padding = record.size() - end;
        self.stream.clear();
        self.split = Some(SplitUnderWay { number: record.number, missing: end - there, split: Split { before, data } });
    }

    /// Makes room at once for a large record that is on its way. The size that it states is believed up to a limit, and
    /// no page is used before something arrives for it.
    fn make_room(&mut self) {
        let Ok(Some(record)) = RecordReader::new(&self.stream).unfinished() else { return };
        // The plain data of some records gets memory of its own.
        let is_split = record.bulk.filter(is_to_be_split).is_some();
        let size = record.size().min(MOST_BELIEVED);
        if is_split || size <= KEPT || size <= self.stream.capacity() {
            return;
        }
        if let Some(mut cached) = cache::take::<u8>(size + KEPT) {
            cached.extend_from_slice(&self.stream);
            self.stream = cached;
        } else if self.stream.try_reserve_exact(size + KEPT - self.stream.len()).is_ok() {
            os::prefer_huge_pages(self.stream.spare_capacity_mut());
        }
        // Without room, the stream grows with what arrives.
    }
}

#[cfg(all(test, not(loom)))]
mod fuzz;
