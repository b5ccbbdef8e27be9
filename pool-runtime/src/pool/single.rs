//! A pool with one seat and one job: the base of a [`Process`](crate::Process).

use crate::error::{Error, Result};
use crate::job::{Callbacks, Slot};
use crate::locks::{lock, sleep_on};
use crate::memory::Payload;
use crate::options::{RestartPolicy, WorkerOptions};
use crate::os::Child;
use crate::panic;
use crate::peer::spawn::{Launch, Launched};
use crate::peer::{Peer, Source};
use crate::policy::{Policy, SharedPolicy};
use crate::pool::build::CHANNEL;
use crate::pool::dispatcher::{Dispatcher, Limits, nanos};
use crate::pool::{Inner, attendant};
use crate::protocol::Hello;
use crate::task::{Encoded, TaskInfo};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::task::Waker;
use std::time::{Duration, Instant};

/// A process that runs one call, or none, and its attendant.
pub(crate) struct Single(Arc<SingleEnd>);

/// What the call returns, as bytes, once the process has ended, and who is to know.
///
/// Callbacks see it first, one after the other on a thread of their own; then the end is over, and all others are told.
#[derive(Default)]
struct SingleEnd {
    state: Mutex<SingleState>,
    changed: Condvar,
    callbacks: Arc<Callbacks>,
}

/// The bytes are made once: a result may be large.
pub(crate) type ReturnedBytes = Result<Arc<Payload>>;

#[derive(Default)]
struct SingleState {
    returned: Option<ReturnedBytes>,
    /// Callbacks before the end.
    first: Vec<Box<dyn FnOnce(ReturnedBytes) + Send>>,
    /// How many callbacks have yet to return, after the end.
    running: usize,
    /// Called when all callbacks have returned, and before anyone else is told.
    then: Option<Box<dyn FnOnce() + Send>>,
    over: bool,
    waker: Option<Waker>,
}

impl SingleEnd {
    fn end(self: &Arc<Self>, returned: ReturnedBytes) {
        let mut state = lock(&self.state);
        let first = std::mem::take(&mut state.first);
        // One more, until they all are on their way.
        state.running = first.len() + 1;
        state.returned = Some(returned.clone());
        drop(state);
        for callback in first {
            self.run(callback, returned.clone());
        }
        self.callback_returned();
    }

    fn run(self: &Arc<Self>, callback: Box<dyn FnOnce(ReturnedBytes) + Send>, returned: ReturnedBytes) {
        let itself = self.clone();
        self.callbacks.run(Box::new(move || {
            // A panic of the user's was caught before.
            let _ = panic::catch(|| callback(returned));
            itself.callback_returned();
        }));
    }

    fn callback_returned(&self) {
        let mut state = lock(&self.state);
        state.running -= 1;
        if state.running > 0 {
            return;
        }
        let then = state.then.take();
        drop(state);
        if let Some(then) = then {
            then();
        }
        let mut state = lock(&self.state);
        // One that came meanwhile has its turn first.
        if state.running > 0 {
            return;
        }
        state.over = true;
        let waker = state.waker.take();
        drop(state);
        self.changed.notify_all();
        // A panic of the async runtime is ignored.
        let _ = panic::catch(|| waker.map(Waker::wake));
    }
}

impl Single {
    /// Starts a process on the thread that will attend to it, and runs a call there. After that, it has `exit_grace` to
    /// end. `begin` is called once it is started, and what that returns is returned. `then` is called when the process has
    /// ended and its callbacks have returned, before anyone else is told.
    ///
    /// # Errors
    ///
    /// The system refuses the thread or the process.
    pub(crate) fn start<B: Send + 'static>(
        launch: Launch,
        options: WorkerOptions,
        hello: Hello,
        call: Option<(&'static TaskInfo, Encoded, Policy)>,
        exit_grace: Duration,
        begin: impl FnOnce(&mut Launched) -> B + Send + 'static,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<(Self, B)> {
        let name = format!("pool-{}", hello.name);
        let memory = launch.weighed_memory();
        let limits = Limits { exit_grace: nanos(exit_grace), until_gone: true, memory, ..CHANNEL };
        let dispatcher = Dispatcher::new(1, limits, RestartPolicy::NEVER);
        let source = Source::Processes(Arc::new(launch));
        let inner = Inner::new(source, vec![options], move |_, _| hello.clone(), dispatcher);
        let inner = Arc::new_cyclic(|itself| Inner { single: true, exit_grace, itself: itself.clone(), ..inner });
        let slot = call.map(|(task, arguments, policy)| {
            let policy = SharedPolicy::new(Policy { retries: 0, ..policy });
            Arc::new(Slot::of_call(task, 1, arguments, policy))
        });
        if let Some(slot) = &slot {
            // The pool takes calls until its worker is ready.
            let submitted = inner.submit_all(slot.clone(), 1);
            debug_assert!(submitted.is_ok());
        }
        let process = Arc::new(OnceLock::new());
        let started = process.clone();
        let (tell, is_told) = mpsc::sync_channel(1);
        let begun = move |peer: std::result::Result<&mut Peer, &Error>| {
            let peer = peer.map(|peer| {
                peer.process_mut().map(|launched| {
                    let _ = started.set(launched.child.clone());
                    begin(launched)
                })
            });
            // Whoever starts it waits for this.
            let _ = tell.send(peer.map_err(Clone::clone));
        };
        let (told, pool) = (Arc::new(SingleEnd::default()), inner.clone());
        lock(&told.state).then = Some(Box::new(then));
        let single = Self(told.clone());
        let end = move || {
            let raw = slot.and_then(|slot| Some(slot.take()?.into_payload(slot.task?.name()).map(Arc::new)));
            // Without a call, it has done its work if it was ready and left.
            let mut returned = raw.unwrap_or_else(|| {
                let core = lock(&pool.core);
                match process.get().and_then(|process: &Arc<Child>| process.status()) {
                    Some(status) if status.success() && core.dispatcher.ever_ready => Ok(Arc::default()),
                    _ => Err(core.trouble.clone().unwrap_or_else(|| Error::invalid("has ended"))),
                }
            });
            if let Some(dossier) = returned.as_mut().err().and_then(Error::dossier_mut) {
                // The only call has no number.
                (dossier.call, dossier.time) = (None, None);
            }
            told.end(returned);
        };
        attendant::spawn(inner, 0, name, Some(Box::new(begun)), end)
            .map_err(|error| Error::os("cannot start the thread that attends to a process", error))?;
        let begun = is_told.recv().unwrap_or_else(|_| Err(Error::invalid("nobody attends to a process")))?;
        let begun = begun.ok_or_else(|| Error::invalid("a process was to be started, and is none"))?;
        Ok((single, begun))
    }

    /// Waits until the process has ended and its callbacks have returned, at most until `deadline`. Returns what the call
    /// has returned.
    pub(crate) fn await_end(&self, deadline: Option<Instant>) -> Option<ReturnedBytes> {
        let mut state = lock(&self.0.state);
        while !state.over {
            state = sleep_on(&self.0.changed, state, deadline)?;
        }
        state.returned.clone()
    }

    /// As [`await_end`](Self::await_end), but wakes `waker` instead of waiting. The latest one counts.
    pub(crate) fn poll_end(&self, waker: &Waker) -> Option<ReturnedBytes> {
        // Cloning and dropping a waker run code of the async runtime, so nothing must be locked.
        let waker = waker.clone();
        let mut state = lock(&self.0.state);
        if state.over {
            return state.returned.clone();
        }
        let before = state.waker.replace(waker);
        drop(state);
        drop(before);
        None
    }

    /// Calls `callback` with what the call has returned, when the process has ended; at once, on this thread, if that is
    /// over.
    pub(crate) fn then(&self, callback: Box<dyn FnOnce(ReturnedBytes) + Send>) {
        let mut state = lock(&self.0.state);
        match state.returned.clone() {
            None => state.first.push(callback),
            Some(returned) if state.over => {
                drop(state);
                callback(returned);
            }
            Some(returned) => {
                state.running += 1;
                drop(state);
                self.0.run(callback, returned);
            }
        }
    }
}
