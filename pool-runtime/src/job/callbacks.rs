//! The thread on which users' callbacks run: never one that others wait for.

use crate::sync::lock;
use crate::{os, panic};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Runs callbacks, one after the other, on a thread that exists while there are any.
#[derive(Default)]
pub(crate) struct Callbacks {
    state: Mutex<CallbackState>,
    idle: Condvar,
}

#[derive(Default)]
struct CallbackState {
    queue: VecDeque<Box<dyn FnOnce() + Send>>,
    runner: Option<std::thread::ThreadId>,
    running: bool,
}

impl Callbacks {
    pub(super) fn run(self: &Arc<Self>, callback: Box<dyn FnOnce() + Send>) {
        let mut state = lock(&self.state);
        state.queue.push_back(callback);
        if state.running {
            return;
        }
        state.running = true;
        drop(state);
        let all = self.clone();
        let thread = std::thread::Builder::new().name("pool-callbacks".into()).spawn(move || {
            os::block_all_signals();
            all.run_all();
        });
        if thread.is_err() {
            // No thread is to be had: late is worse than here.
            self.run_all();
        }
    }

    fn run_all(&self) {
        let mut state = lock(&self.state);
        state.runner = Some(std::thread::current().id());
        while let Some(callback) = state.queue.pop_front() {
            drop(state);
            let _ = panic::catch(callback);
            state = lock(&self.state);
        }
        state.running = false;
        state.runner = None;
        drop(state);
        self.idle.notify_all();
    }

    /// Waits until all callbacks have run; called from one of them, does not wait.
    pub(crate) fn wait_idle(&self) {
        let mut state = lock(&self.state);
        while state.running && state.runner != Some(std::thread::current().id()) {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
