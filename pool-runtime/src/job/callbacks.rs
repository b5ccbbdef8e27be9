//! The thread that runs users' callbacks. No other work waits for it.

use crate::locks::{lock, sleep_on};
use crate::{os, panic};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::Instant;

/// Runs callbacks one after the other, on a thread that exists only while there are any.
#[derive(Default)]
pub(crate) struct Callbacks {
    state: Mutex<CallbackState>,
    idle: Condvar,
}

#[derive(Default)]
struct CallbackState {
    queue: VecDeque<Box<dyn FnOnce() + Send>>,
    running: bool,
    runner: Option<ThreadId>,
}

impl Callbacks {
    pub(crate) fn run(self: &Arc<Self>, callback: Box<dyn FnOnce() + Send>) {
        let mut state = lock(&self.state);
        state.queue.push_back(callback);
        if std::mem::replace(&mut state.running, true) {
            return;
        }
        drop(state);
        let all = self.clone();
        let thread = os::spawn_thread("pool-callbacks", None, move || {
            os::block_all_signals();
            all.run_all();
        });
        if thread.is_err() {
            // The system has no more threads: this one runs them.
            self.run_all();
        }
    }

    fn run_all(&self) {
        let mut state = lock(&self.state);
        state.runner = Some(thread::current().id());
        while let Some(callback) = state.queue.pop_front() {
            drop(state);
            let _ = panic::catch(callback);
            state = lock(&self.state);
        }
        (state.running, state.runner) = (false, None);
        drop(state);
        self.idle.notify_all();
    }

    /// Waits until all callbacks have run, at most until `deadline`. Does not wait when called from one of them. Returns
    /// whether it would not have to wait any more.
    pub(crate) fn wait_idle(&self, deadline: Option<Instant>) -> bool {
        let mut state = lock(&self.state);
        while state.running && state.runner != Some(thread::current().id()) {
            let Some(awake) = sleep_on(&self.idle, state, deadline) else { return false };
            state = awake;
        }
        true
    }
}
