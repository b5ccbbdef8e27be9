//! A pool with one seat and one job: the base of a [`Process`](crate::Process).

use crate::error::{Error, Result};
use crate::job::Slot;
use crate::options::{RestartPolicy, WorkerOptions};
use crate::os::Child;
use crate::peer::spawn::{Launch, Launched};
use crate::peer::{Peer, Source};
use crate::policy::{Policy, SharedPolicy};
use crate::pool::build::CHANNEL;
use crate::pool::dispatcher::Dispatcher;
use crate::pool::{Inner, attendant};
use crate::protocol::Hello;
use crate::sync::{lock, sleep_on};
use crate::task::{Encoded, TaskInfo};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::time::Instant;

/// A process that runs one call, or none, and its attendant.
pub(crate) struct Single(Arc<SingleEnd>);

/// What the call returns, as bytes, once the process has ended.
#[derive(Default)]
struct SingleEnd {
    returned: Mutex<Option<Result<Vec<u8>>>>,
    changed: Condvar,
}

impl Single {
    /// Starts a process on the thread that will attend to it, and runs a call there. `begin` is called once it is
    /// started, and what that returns is returned. `then` is called when the process has ended, before anyone is told.
    ///
    /// # Errors
    ///
    /// The system refuses the thread or the process.
    pub(crate) fn start<B: Send + 'static>(
        launch: Launch,
        options: WorkerOptions,
        hello: Hello,
        call: Option<(&'static TaskInfo, Encoded, Policy)>,
        begin: impl FnOnce(&mut Launched) -> B + Send + 'static,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<(Self, B)> {
        let name = format!("pool-{}", hello.name);
        let dispatcher = Dispatcher::new(1, CHANNEL, RestartPolicy::NEVER);
        let source = Source::Processes(Arc::new(launch));
        let inner = Inner::new(source, vec![options], move |_, _| hello.clone(), dispatcher);
        let inner = Arc::new_cyclic(|itself| Inner { single: true, itself: itself.clone(), ..inner });
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
        let single = Self(told.clone());
        let end = move || {
            then();
            let raw = slot.and_then(|slot| Some(slot.take()?.into_bytes(slot.task?.name())));
            // Without a call, it has done its work if it was ready and left.
            let mut returned = raw.unwrap_or_else(|| {
                let core = lock(&pool.core);
                match process.get().and_then(|process: &Arc<Child>| process.status()) {
                    Some(status) if status.success() && core.dispatcher.ever_ready => Ok(Vec::new()),
                    _ => Err(core.trouble.clone().unwrap_or_else(|| Error::invalid("has ended"))),
                }
            });
            if let Some(dossier) = returned.as_mut().err().and_then(Error::dossier_mut) {
                // The only call has no number.
                (dossier.call, dossier.time) = (None, None);
            }
            *lock(&told.returned) = Some(returned);
            told.changed.notify_all();
        };
        attendant::spawn(inner, 0, name, Some(Box::new(begun)), end)
            .map_err(|error| Error::os("cannot start the thread that attends to a process", error))?;
        let begun = is_told.recv().unwrap_or_else(|_| Err(Error::invalid("nobody attends to a process")))?;
        let begun = begun.ok_or_else(|| Error::invalid("a process was to be started, and is none"))?;
        Ok((single, begun))
    }

    /// Waits until the process has ended, at most until `deadline`, and returns what the call has returned.
    pub(crate) fn await_end(&self, deadline: Option<Instant>) -> Option<Result<Vec<u8>>> {
        let mut returned = lock(&self.0.returned);
        while returned.is_none() {
            returned = sleep_on(&self.0.changed, returned, deadline)?;
        }
        returned.clone()
    }
}
