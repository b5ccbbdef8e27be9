//! A peer that is reached through rings of shared memory: frames on their way out, records on their way in.
//!
//! Sending never waits: what finds no room stays in a backlog, and whoever listens goes on with it when the worker has
//! made some. Frames are sent while the pool decides, which keeps them in the order of their numbers.

use crate::memory::{Block, Split, cache};
use crate::os;
use crate::peer::sink::Sink;
use crate::protocol::{Bulk, RecordReader, WriteFrame, stop_frame};
use crate::sync::lock;
use crate::transport::{Append as _, ring};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

#[derive(Debug)]
pub(crate) struct Ringed {
    memory: Arc<ring::RingMemory>,
    sending: Mutex<Sending>,
    receiving: Mutex<Receiving>,
    /// Is the backlog not empty?
    blocked: AtomicBool,
}

#[derive(Debug)]
struct Sending {
    calls: ring::CallSender,
    backlog: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Receiving {
    reports: ring::ReportReceiver,
    /// What has been read and is no whole record yet.
    stream: Vec<u8>,
    /// A value of which much plain data is on its way.
    split: Option<SplitUnderWay>,
    /// How many bytes of the stream are to be left out, as they only fill up the record before them.
    filling: usize,
    /// What is wrong with the worker. It is not listened to any more.
    fault: Option<String>,
}

/// A value while its plain data arrives.
#[derive(Debug)]
struct SplitUnderWay {
    number: u32,
    /// How many bytes are missing.
    missing: usize,
    split: Split,
}

/// The worker has made nonsense of the memory.
#[derive(Debug)]
pub(super) struct Unusable;

/// Room for more is not made in advance.
const MOST_BELIEVED: usize = 1 << 28;
/// Nor is memory for more plain data taken at once, however long a value says to be.
const MOST_SPLIT: usize = 1 << 30;
/// More memory is not kept for the stream.
const KEPT: usize = 1 << 19;

impl Ringed {
    pub(super) fn new(memory: Arc<ring::RingMemory>) -> Self {
        let calls = ring::CallSender::new(memory.clone());
        let reports = ring::ReportReceiver::new(memory.clone());
        Self {
            memory,
            sending: Mutex::new(Sending { calls, backlog: VecDeque::new() }),
            receiving: Mutex::new(Receiving { reports, stream: Vec::new(), split: None, filling: 0, fault: None }),
            blocked: AtomicBool::new(false),
        }
    }

    /// Sends a frame, or as much of it as there is room for.
    pub(super) fn send(&self, frame: &impl WriteFrame) -> Result<(), Unusable> {
        let most = frame.most();
        let mut sending = lock(&self.sending);
        if sending.backlog.is_empty() && most <= ring::WHOLE {
            let sent = sending.calls.send(most, |space| frame.write(space));
            if sent.map_err(|_| Unusable)? {
                return Ok(());
            }
        }
        let mut bytes = Vec::with_capacity(most);
        frame.write(&mut bytes);
        self.put(&mut sending, bytes)
    }

    /// Has the worker exit when it is through.
    pub(super) fn stop(&self) -> Result<(), Unusable> {
        self.put(&mut lock(&self.sending), stop_frame())
    }

    fn put(&self, sending: &mut Sending, frame: Vec<u8>) -> Result<(), Unusable> {
        sending.backlog.push_back(frame);
        // Before it is tried: whoever is rung meanwhile is to find that there is something to go on with.
        self.blocked.store(true, Ordering::Release);
        self.pump(sending)
    }

    fn pump(&self, sending: &mut Sending) -> Result<(), Unusable> {
        let Sending { calls, backlog } = sending;
        while let Some(frame) = backlog.front() {
            if !send_frame(calls, frame)? {
                // There may be room since; if not, the worker rings when there is.
                calls.await_room();
                if !send_frame(calls, frame)? {
                    break;
                }
            }
            backlog.pop_front();
        }
        self.blocked.store(!backlog.is_empty(), Ordering::Release);
        Ok(())
    }

    /// The memory of the rings: who sleeps, and whether there is something to read.
    pub(super) fn memory(&self) -> &ring::RingMemory {
        &self.memory
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Sends what there is room for, reads what there is, and passes it on. Returns whether there was anything. If
    /// somebody else does so just now, it waits for them, or leaves it to them.
    ///
    /// # Errors
    ///
    /// The memory is corrupt, or what the worker says: [`take_fault`](Self::take_fault) tells.
    pub(super) fn serve(&self, sink: &mut dyn Sink, waits: bool) -> Result<bool, Unusable> {
        if self.is_blocked() {
            self.pump(&mut lock(&self.sending))?;
        }
        let mut receiving = match self.receiving.try_lock() {
            Ok(receiving) => receiving,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if waits => lock(&self.receiving),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        let any = receiving.take_in(sink);
        if receiving.fault.is_some() { Err(Unusable) } else { Ok(any) }
    }

    /// What is wrong with the worker.
    pub(super) fn take_fault(&self) -> Option<String> {
        lock(&self.receiving).fault.take()
    }
}

/// Is plain data that much that it gets memory of its own?
fn is_to_be_split(bulk: &Bulk) -> bool {
    (KEPT..=MOST_SPLIT).contains(&bulk.length)
}

fn send_frame(calls: &mut ring::CallSender, frame: &[u8]) -> Result<bool, Unusable> {
    let sent = match frame.len() <= ring::WHOLE {
        true => calls.send(frame.len(), |space| space.put(frame)),
        false => calls.send_in_pieces(frame),
    };
    sent.map_err(|_| Unusable)
}

impl Receiving {
    /// Reads what there is, and passes it on. Returns whether there was anything.
    fn take_in(&mut self, sink: &mut dyn Sink) -> bool {
        let mut any = false;
        while self.fault.is_none() {
            self.split();
            if let Some(unfinished) = &mut self.split {
                match self.reports.read_bulk(unfinished.missing, &mut unfinished.split.data) {
                    Ok(0) => break,
                    Ok(length) => {
                        any = true;
                        unfinished.missing -= length;
                    }
                    Err(_) => self.fault = Some(ring::CORRUPT.to_owned()),
                }
                if let Some(whole) = self.split.take_if(|unfinished| unfinished.missing == 0) {
                    self.fault = sink.split(whole.number, whole.split).err();
                }
                continue;
            }
            self.make_room();
            match self.reports.read(&mut self.stream) {
                Ok(false) => break,
                Ok(true) => {
                    any = true;
                    let filling = self.filling.min(self.stream.len());
                    self.filling -= filling;
                    self.stream.drain(..filling);
                    match sink.records(&mut self.stream) {
                        Ok(whole) => self.forget(whole),
                        Err(fault) => self.fault = Some(fault),
                    }
                }
                Err(_) => self.fault = Some(ring::CORRUPT.to_owned()),
            }
        }
        any
    }

    /// Where much plain data is on its way, it is read into memory of its own, which whoever waits for it can take
    /// over. The stream begins with its record then, and it is known that somebody waits for that.
    fn split(&mut self) {
        let Ok(Some(record)) = RecordReader::new(&self.stream).unfinished() else { return };
        let Some(bulk) = record.bulk.filter(is_to_be_split) else { return };
        let there = self.stream.len();
        if there < bulk.at || there >= bulk.at + bulk.length {
            return;
        }
        let Some(mut data) = Block::with_room(bulk.length, bulk.align) else { return };
        data.append(&self.stream[bulk.at..]);
        let before = self.stream[record.payload..bulk.at].to_vec();
        let missing = bulk.length - (there - bulk.at);
        self.filling = record.size() - bulk.at - bulk.length;
        self.stream.clear();
        self.split = Some(SplitUnderWay { number: record.number, missing, split: Split { before, data } });
    }

    /// A large record is on its way: its place is made at once. What it says of its size is believed up to a limit, and
    /// no page is used before something arrives for it.
    fn make_room(&mut self) {
        let size = match RecordReader::new(&self.stream).unfinished() {
            // For the rest of it, there will be other memory.
            Ok(Some(record)) if record.bulk.filter(is_to_be_split).is_some() => return,
            Ok(Some(record)) => record.size().min(MOST_BELIEVED),
            _ => return,
        };
        if size > KEPT && size > self.stream.capacity() {
            if let Some(mut spare) = cache::take::<u8>(size + KEPT) {
                spare.extend_from_slice(&self.stream);
                self.stream = spare;
                return;
            }
            if self.stream.try_reserve_exact(size + KEPT - self.stream.len()).is_err() {
                // It grows with what arrives.
                return;
            }
            os::prefer_huge_pages(self.stream.spare_capacity_mut());
        }
    }

    fn forget(&mut self, whole: usize) {
        if whole == self.stream.len() {
            self.stream.clear();
            if self.stream.capacity() > KEPT {
                self.stream = Vec::new();
            }
        } else {
            self.stream.drain(..whole);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod fuzz;
