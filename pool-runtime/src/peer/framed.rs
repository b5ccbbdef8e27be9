//! A peer that is reached through whole frames: over ipc-channel's sockets, or a queue between two threads.
//!
//! Frames enter the backlog under the pool's lock, and any thread sends them later without it, as a socket may be full.

use crate::locks::{lock, try_lock};
use crate::memory::region::Region;
use crate::os;
use crate::peer::ringed::{MOST_WAITING, UNREAD};
use crate::peer::{Sent, Sink};
use crate::protocol::{FromWorker, Garbled};
use crate::transport::{Inlet, Outlet, Received, ring::Corrupt};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// How many frames are read at a time, and how many bytes of them before the last one.
const MOST_FRAMES: usize = 32;
const MOST_BYTES: usize = 1 << 24;

/// Frames, and the memory that a thread has to keep while it is busy with each.
type Backlog = VecDeque<(Vec<u8>, Vec<Arc<Region>>)>;

pub(crate) struct Framed {
    /// Locked while a thread sends.
    outlet: Mutex<Arc<dyn Outlet>>,
    backlog: Mutex<Backlog>,
    /// Locked while a thread reads.
    pub(super) inlet: Arc<Mutex<Box<dyn Inlet>>>,
    /// Whether reports may come: from the greeting until the worker's end or a fault.
    open: AtomicBool,
    fault: Mutex<Option<String>>,
}

impl Framed {
    pub(super) fn new(outlet: Arc<dyn Outlet>, inlet: Arc<Mutex<Box<dyn Inlet>>>) -> Arc<Self> {
        let (outlet, open) = (Mutex::new(outlet), AtomicBool::new(false));
        Arc::new(Self { outlet, backlog: Mutex::default(), inlet, open, fault: Mutex::default() })
    }

    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Do too many frames wait? Then the worker has a fault.
    pub(super) fn has_too_many(&self) -> bool {
        let has = lock(&self.backlog).len() >= MOST_WAITING;
        if has {
            self.open.store(false, Ordering::Release);
            lock(&self.fault).get_or_insert_with(|| UNREAD.to_owned());
        }
        has
    }

    /// Puts a frame behind all others; [`flush`](Self::flush) has to follow.
    pub(super) fn put(&self, frame: Vec<u8>, held: Vec<Arc<Region>>) -> Sent {
        lock(&self.backlog).push_back((frame, held));
        Sent::Unflushed
    }

    /// Sends the backlog, unless another thread is sending it. A frame for which the worker has to read first gets a
    /// thread of its own, as the caller may be the one that listens to all other workers.
    pub(super) fn flush(self: &Arc<Self>) {
        if self.try_flush(false) {
            return;
        }
        let link = self.clone();
        let sender = os::spawn_thread("pool-sender", None, move || {
            os::block_all_signals();
            link.try_flush(true);
        });
        if sender.is_err() {
            // The worker is idle, or it would not be sent something large: it reads.
            self.try_flush(true);
        }
    }

    /// Returns false, with the work undone, if it would have to wait for the worker to read.
    fn try_flush(&self, may_wait: bool) -> bool {
        while !lock(&self.backlog).is_empty() {
            // The thread that sends looks into the backlog again after it has released the lock.
            let Some(outlet) = try_lock(&self.outlet) else { return true };
            loop {
                let mut backlog = lock(&self.backlog);
                if !may_wait && backlog.front().is_some_and(|(frame, _)| frame.len() > outlet.unhindered()) {
                    return false;
                }
                let Some((frame, held)) = backlog.pop_front() else { break };
                drop(backlog);
                // If sending fails, the worker is gone: its attendant notices, and no call is lost.
                if may_wait {
                    let _ = outlet.send_with(frame, held);
                } else if let Err(unsent) = outlet.try_send_with(frame, held) {
                    // The only thread that takes frames from the front is this one.
                    lock(&self.backlog).push_front(unsent);
                    return false;
                }
            }
        }
        true
    }

    /// As [`Peer::serve`](crate::peer::Peer::serve); fails if what the worker says is corrupt.
    pub(super) fn serve(&self, sink: &mut dyn Sink, waits: bool) -> Result<bool, Corrupt> {
        let mut any = false;
        if let Some(mut inlet) = try_lock(&self.inlet).or_else(|| waits.then(|| lock(&self.inlet))) {
            // The listener looks at the other workers, too, however much this one has to say.
            let mut length = 0;
            for _ in 0..MOST_FRAMES {
                if !self.is_open() || length > MOST_BYTES {
                    break;
                }
                let mut admit = |beginning: &[u8], length| sink.announced(beginning, length);
                match inlet.receive_admitted(Some(Instant::now()), &mut admit) {
                    Received::Nothing => break,
                    received => {
                        if let Received::Frame(frame) = &received {
                            length += frame.len();
                        }
                        any |= self.hear(received, sink);
                    }
                }
            }
        }
        if self.has_fault() { Err(Corrupt) } else { Ok(any) }
    }

    /// As [`Peer::listen`](crate::peer::Peer::listen).
    pub(super) fn listen(&self, sink: &mut dyn Sink) -> Option<String> {
        let mut inlet = lock(&self.inlet);
        while self.is_open() {
            let received = inlet.receive_admitted(None, &mut |beginning, length| sink.announced(beginning, length));
            self.hear(received, sink);
        }
        self.take_fault()
    }

    fn hear(&self, received: Received, sink: &mut dyn Sink) -> bool {
        let fault = match received {
            Received::Frame(frame) => match FromWorker::from_frame(&frame) {
                Ok(FromWorker::Reports(records)) => {
                    let mut stream = Vec::new();
                    let taken = match stream.try_reserve_exact(records.len()) {
                        Ok(()) => {
                            stream.extend_from_slice(records);
                            sink.records(&mut stream)
                        }
                        Err(_) => Err(format!("sent {} bytes, for which there is no memory", records.len())),
                    };
                    match taken {
                        Ok(whole) if whole == stream.len() => return true,
                        Ok(_) => Some(Garbled::CUT_OFF.to_string()),
                        Err(fault) => Some(fault),
                    }
                }
                Ok(_) => Some("sent a message out of turn".to_owned()),
                Err(garbled) => Some(garbled.to_string()),
            },
            Received::Nothing => return false,
            Received::Gone => None,
            Received::Garbled(fault) => Some(fault),
        };
        self.open.store(false, Ordering::Release);
        if fault.is_some() {
            *lock(&self.fault) = fault;
        }
        true
    }

    pub(super) fn take_fault(&self) -> Option<String> {
        lock(&self.fault).take()
    }

    pub(super) fn has_fault(&self) -> bool {
        lock(&self.fault).is_some()
    }
}
