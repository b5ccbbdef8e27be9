//! Notices that a target does not come to an end, which the thread that it runs on cannot say.

use crate::fuzz::{Fault, Found};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// No input takes longer; on a machine that is overloaded a hundred times less would do.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

struct Watched {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Default)]
struct State {
    input: Vec<u8>,
    since: Option<Instant>,
    over: bool,
}

pub(super) struct Watch<'w>(&'w Watched);

impl Watch<'_> {
    pub(super) fn begin(&self, input: &[u8]) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.input.clear();
        state.input.extend_from_slice(input);
        state.since = Some(Instant::now());
    }

    pub(super) fn end(&self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).since = None;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.0.over.notify_all();
    }
}

/// Does something that says when it begins and ends with each input. `hung` is told of one that has no end.
pub(super) fn over<R>(hung: impl FnOnce(&[u8]) + Send, work: impl FnOnce(&Watch<'_>) -> R) -> R {
    over_within(PATIENCE, hung, work)
}

pub(super) fn over_within<R>(
    patience: Duration,
    hung: impl FnOnce(&[u8]) + Send,
    work: impl FnOnce(&Watch<'_>) -> R,
) -> R {
    let watched = Watched { state: Mutex::default(), over: Condvar::new() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = watched.state.lock().unwrap_or_else(PoisonError::into_inner);
            while !state.over {
                if state.since.is_some_and(|since| since.elapsed() > patience) {
                    return hung(&state.input);
                }
                let look = patience / 4;
                state = watched.over.wait_timeout(state, look).unwrap_or_else(PoisonError::into_inner).0;
            }
        });
        work(&Watch(&watched))
    })
}

/// Says what hangs, and ends the process: nothing else ends a thread.
pub(super) fn give_up(name: &str, seed: u64) -> impl FnOnce(&[u8]) + Send {
    move |input| {
        let found = Found { fault: Fault::Hung, seed, input: input.to_vec() };
        // Not `eprintln!`: what a test prints is not shown if the process ends in it.
        crate::os::write_stderr(format!("{name} does not withstand an input: {found}\n").as_bytes());
        std::process::abort();
    }
}
