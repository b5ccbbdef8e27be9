//! A peer that is reached through whole frames: over ipc-channel's sockets, or a queue between two threads.
//!
//! Frames leave in the order in which they were put in, which happens while the pool decides; they are sent later, by
//! whoever comes first, as a socket may be full. What arrives are frames of records.

use crate::memory::region::Region;
use crate::os;
use crate::peer::sink::Sink;
use crate::protocol::{FromWorker, Garbled};
use crate::sync::lock;
use crate::transport::{Inlet, Outlet, Received};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Instant;

const GREETING: u8 = 0;
const OPEN: u8 = 1;
const CLOSED: u8 = 2;

#[derive(Debug)]
pub(crate) struct Framed {
    /// Locked by whoever sends.
    outlet: Mutex<Arc<dyn Outlet>>,
    backlog: Mutex<VecDeque<(Vec<u8>, Vec<Arc<Region>>)>>,
    /// Locked by whoever reads.
    inlet: Arc<Mutex<Box<dyn Inlet>>>,
    /// Whether reports may come: not before it was greeted, nor after its end was heard.
    state: AtomicU8,
    /// What is wrong with the worker. It is not listened to any more.
    fault: Mutex<Option<String>>,
}

impl Framed {
    pub(super) fn new(outlet: Arc<dyn Outlet>, inlet: Arc<Mutex<Box<dyn Inlet>>>) -> Arc<Self> {
        Arc::new(Self {
            outlet: Mutex::new(outlet),
            backlog: Mutex::default(),
            inlet,
            state: AtomicU8::new(GREETING),
            fault: Mutex::default(),
        })
    }

    /// Reports may come from now on.
    pub(super) fn open(&self) {
        self.state.store(OPEN, Ordering::Release);
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }

    /// Puts a frame behind all others; [`flush`](Self::flush) is to follow.
    pub(super) fn put(&self, frame: Vec<u8>, held: Vec<Arc<Region>>) {
        lock(&self.backlog).push_back((frame, held));
    }

    /// Sends what is there, unless somebody else is just doing so. A frame for which the worker has to read first is
    /// sent by a thread of its own: the caller may be the one who listens to all others.
    pub(super) fn flush(self: &Arc<Self>) {
        if self.try_flush(false) {
            return;
        }
        let link = self.clone();
        let sender = std::thread::Builder::new().name("pool-sender".into()).spawn(move || {
            os::block_all_signals();
            link.try_flush(true);
        });
        if sender.is_err() {
            // The worker is idle, or it would not be sent something large: it reads.
            self.try_flush(true);
        }
    }

    /// False, with the work undone, if it would have to wait for the worker to read.
    fn try_flush(&self, may_wait: bool) -> bool {
        loop {
            let outlet = match self.outlet.try_lock() {
                Ok(outlet) => outlet,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Whoever is sending looks again before leaving.
                Err(TryLockError::WouldBlock) => return true,
            };
            loop {
                let mut backlog = lock(&self.backlog);
                let Some((frame, _)) = backlog.front() else { break };
                if !may_wait && frame.len() > outlet.unhindered() {
                    return false;
                }
                let Some((frame, held)) = backlog.pop_front() else { break };
                drop(backlog);
                // The worker is gone if this fails; its attendant notices, and nothing is lost.
                let _ = outlet.send_with(frame, held);
            }
            drop(outlet);
            if lock(&self.backlog).is_empty() {
                return true;
            }
        }
    }

    /// Reads what has come, and passes it on. Returns whether there was anything. If somebody else reads just now, it
    /// waits for them, or leaves it to them.
    pub(super) fn serve(&self, sink: &mut dyn Sink, waits: bool) -> bool {
        let mut inlet = match self.inlet.try_lock() {
            Ok(inlet) => inlet,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if waits => lock(&self.inlet),
            Err(TryLockError::WouldBlock) => return false,
        };
        let mut any = false;
        while self.is_open() {
            match inlet.receive(Some(Instant::now())) {
                Received::Nothing => break,
                received => any |= self.hear(received, sink),
            }
        }
        any
    }

    /// As [`serve`](Self::serve), until the worker's end. Returns what is wrong with it, if it has to be killed. For an
    /// attendant to which nobody else listens.
    pub(super) fn listen(&self, sink: &mut dyn Sink) -> Option<String> {
        let mut inlet = lock(&self.inlet);
        while self.is_open() {
            let received = inlet.receive(None);
            self.hear(received, sink);
        }
        self.take_fault()
    }

    fn hear(&self, received: Received, sink: &mut dyn Sink) -> bool {
        let fault = match received {
            Received::Frame(frame) => match FromWorker::from_frame(&frame) {
                Ok(FromWorker::Reports(records)) => {
                    let mut stream = records.to_vec();
                    match sink.records(&mut stream) {
                        Ok(whole) if whole == stream.len() => return true,
                        Ok(_) => Some(Garbled::cut_off().to_string()),
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
        self.state.store(CLOSED, Ordering::Release);
        if fault.is_some() {
            *lock(&self.fault) = fault;
        }
        true
    }

    pub(super) fn take_fault(&self) -> Option<String> {
        lock(&self.fault).take()
    }

    /// Is there a fault for which the worker is to be killed?
    pub(super) fn has_fault(&self) -> bool {
        lock(&self.fault).is_some()
    }
}
