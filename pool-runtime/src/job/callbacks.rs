//! The thread that runs users' callbacks. No other work waits for it.

use crate::sync::lock;
use crate::{os, panic};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};

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
        let thread = thread::Builder::new().name("pool-callbacks".into()).spawn(move || {
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

    /// Waits until all callbacks have run. Does not wait when called from one of them.
    pub(crate) fn wait_idle(&self) {
        let busy = |state: &mut CallbackState| state.running && state.runner != Some(thread::current().id());
        drop(self.idle.wait_while(lock(&self.state), busy).unwrap_or_else(PoisonError::into_inner));
    }
}
