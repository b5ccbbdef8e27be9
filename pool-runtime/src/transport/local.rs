//! Frames between two threads of this process: a queue each way.
//!
//! Either side can close a queue, and so can every holder of a clone of its sending end. What was sent before arrives;
//! sending later is an error. So it is decided at one moment, under the queue's lock, which reports of a thread count.

use crate::locks::{lock, sleep_on};
use crate::memory::region::Region;
use crate::transport::{Frame, Inlet, Outlet, Received};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

#[derive(Default)]
struct FrameQueue {
    state: Mutex<QueueState>,
    changed: Condvar,
    closed: Condvar,
}

#[derive(Default)]
struct QueueState {
    frames: VecDeque<(Vec<u8>, Vec<Arc<Region>>)>,
    closed: bool,
    /// Wakes the thread of a mark, which sleeps elsewhere.
    bell: Option<Box<dyn Fn(u32) + Send + Sync>>,
    /// The mark with which the bell is rung when something comes; 0 is none.
    armed: u32,
    idle: bool,
}

#[derive(Clone)]
pub(crate) struct LocalSender(Arc<FrameQueue>);

pub(crate) struct LocalReceiver {
    queue: LocalSender,
    /// The regions that came with the latest frame.
    held: Vec<Arc<Region>>,
}

pub(crate) fn queue() -> (LocalSender, LocalReceiver) {
    let queue = LocalSender(Arc::default());
    (queue.clone(), LocalReceiver { queue, held: Vec::new() })
}

impl QueueState {
    fn ring(&mut self) {
        let mark = std::mem::take(&mut self.armed);
        if let Some(bell) = self.bell.as_ref().filter(|_| mark != 0) {
            bell(mark);
        }
    }
}

impl LocalSender {
    /// Closes the queue. Returns whether the receiver was idle.
    pub(crate) fn close(&self) -> bool {
        let mut state = lock(&self.0.state);
        state.closed = true;
        let idle = state.idle;
        state.ring();
        drop(state);
        self.0.changed.notify_all();
        self.0.closed.notify_all();
        idle
    }

    pub(crate) fn await_close(&self) {
        let state = lock(&self.0.state);
        drop(self.0.closed.wait_while(state, |state| !state.closed).unwrap_or_else(PoisonError::into_inner));
    }

    /// Sets what is called, once, when something comes after the queue was [armed](Self::arm).
    pub(crate) fn set_bell(&self, bell: impl Fn(u32) + Send + Sync + 'static) {
        lock(&self.0.state).bell = Some(Box::new(bell));
    }

    /// Has the bell rung with this mark when something comes, or at once if something is there. 0 is none.
    pub(crate) fn arm(&self, mark: u32) {
        let mut state = lock(&self.0.state);
        state.armed = mark;
        if !state.frames.is_empty() || state.closed {
            state.ring();
        }
    }

    pub(crate) fn has_unread(&self) -> bool {
        !lock(&self.0.state).frames.is_empty()
    }
}

impl Outlet for LocalSender {
    fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.send_with(frame.to_vec(), Vec::new())
    }

    fn send_with(&self, frame: Vec<u8>, held: Vec<Arc<Region>>) -> io::Result<()> {
        let mut state = lock(&self.0.state);
        if state.closed {
            drop(state); // Before `held`, which may be freed now.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.frames.push_back((frame, held));
        state.ring();
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl Inlet for LocalReceiver {
    fn receive(&mut self, deadline: Option<Instant>) -> Received {
        // The receiver has finished with the previous frame.
        self.held.clear();
        let mut state = lock(&self.queue.0.state);
        loop {
            if let Some((frame, held)) = state.frames.pop_front() {
                state.idle = false;
                drop(state);
                self.held = held;
                return Received::Frame(Frame::new(frame, 0));
            }
            // Also once the queue is closed, for good.
            state.idle = true;
            if state.closed {
                return Received::Gone;
            }
            state = match sleep_on(&self.queue.0.changed, state, deadline) {
                Some(awake) => awake,
                None => return Received::Nothing,
            };
        }
    }
}

impl Drop for LocalReceiver {
    fn drop(&mut self) {
        self.queue.close();
        let unread = std::mem::take(&mut lock(&self.queue.0.state).frames);
        drop(unread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_before_the_end_arrives_and_nothing_else() {
        let (sender, mut receiver) = queue();
        sender.send(b"first").unwrap();
        assert!(!sender.close(), "there was something to do");
        assert!(sender.clone().send(b"late").is_err());
        assert!(matches!(receiver.receive(None), Received::Frame(frame) if *frame == *b"first"));
        assert!(matches!(receiver.receive(None), Received::Gone));
        assert!(sender.close(), "it knows of the end");
    }
}
