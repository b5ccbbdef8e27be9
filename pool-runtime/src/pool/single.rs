//! A seat with one job: what a [`Process`](crate::Process) stands on.

use crate::error::{Error, Result};
use crate::memory::Split;
use crate::memory::packed::PackedSlice;
use crate::memory::payload::Payload;
use crate::memory::region::Region;
use crate::options::{RestartPolicy, WorkerOptions};
use crate::peer::Source;
use crate::peer::spawn::Launched;
use crate::policy::Policy;
use crate::pool::attendant;
use crate::pool::build::limits_of_one;
use crate::pool::dispatcher::{Dispatcher, Work};
use crate::pool::inner::Inner;
use crate::pool::submission::Submission;
use crate::protocol::{Hello, Values};
use crate::sync::{lock, sleep_on};
use crate::task::{Encoded, TaskInfo};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// A process that runs one call, or none, and its attendant.
pub(crate) struct Single {
    outcome: Arc<Outcome>,
}

/// What the call returns, as bytes.
type ReturnedBytes = Result<Vec<u8>>;

/// What becomes of the process.
#[derive(Default)]
struct Outcome {
    /// What the call has come to, as soon as that is known.
    returned: Mutex<Option<ReturnedBytes>>,
    /// The same, once the process has ended.
    over: Mutex<Option<ReturnedBytes>>,
    changed: Condvar,
}

/// The one job.
struct SingleCall {
    task: &'static TaskInfo,
    arguments: Encoded,
    policy: Policy,
    outcome: Arc<Outcome>,
}

impl Single {
    /// Has a process run a call, which was started for that. `then` is called when it has ended, before anybody is
    /// told.
    ///
    /// # Errors
    ///
    /// The system has no threads left.
    pub(crate) fn attend(
        launched: Launched,
        hello: Hello,
        call: Option<(&'static TaskInfo, Encoded, Policy)>,
        then: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (process, name) = (launched.child.clone(), format!("pool-{}", hello.name));
        let outcome = Arc::new(Outcome::default());
        let dispatcher = Dispatcher::new(1, limits_of_one(), RestartPolicy::NEVER);
        let source = Source::Processes(launched.launch.clone());
        let inner = Inner::new(source, vec![WorkerOptions::default()], move |_, _| hello.clone(), dispatcher);
        let inner = Arc::new_cyclic(|itself| Inner { single: true, itself: itself.clone(), ..inner });
        if let Some((task, arguments, policy)) = call {
            let call =
                SingleCall { task, arguments, policy: Policy { retries: 0, ..policy }, outcome: outcome.clone() };
            // It takes calls until it is closed, when its worker is ready.
            let submitted = inner.submit_all(Arc::new(call), 1);
            debug_assert!(submitted.is_ok());
        }
        let (told, pool) = (outcome.clone(), inner.clone());
        let end = move || {
            then();
            let returned = lock(&told.returned).take();
            // Without a call, it has done its work if it was ready and left.
            let returned = returned.unwrap_or_else(|| {
                let core = lock(&pool.core);
                match process.status() {
                    Some(status) if status.success() && core.dispatcher.ever_ready() => Ok(Vec::new()),
                    _ => Err(core.trouble.clone().unwrap_or_else(|| Error::invalid("has ended"))),
                }
            });
            *lock(&told.over) = Some(returned);
            told.changed.notify_all();
        };
        attendant::spawn(inner, 0, name, Some(launched.into()), end)?;
        Ok(Self { outcome })
    }

    /// What the call has returned, once the process has ended; waits for that at most until `deadline`.
    pub(crate) fn await_end(&self, deadline: Option<Instant>) -> Option<ReturnedBytes> {
        let mut over = lock(&self.outcome.over);
        loop {
            if let Some(returned) = &*over {
                return Some(returned.clone());
            }
            over = sleep_on(&self.outcome.changed, over, deadline)?;
        }
    }
}

impl SingleCall {
    fn end(&self, returned: ReturnedBytes) {
        lock(&self.outcome.returned).get_or_insert(returned);
    }
}

impl Work for SingleCall {
    fn task(&self) -> &'static str {
        self.task.name()
    }

    fn first_job(&self) -> u64 {
        1
    }

    fn size(&self, _: Range<u32>) -> usize {
        self.arguments.bytes.len()
    }

    fn policy(&self) -> &Policy {
        &self.policy
    }
}

impl Submission for SingleCall {
    fn with_arguments(&self, _: Range<u32>, see: &mut dyn FnMut(PackedSlice<'_>)) {
        see(PackedSlice::single(&self.arguments.bytes));
    }

    fn with_regions(&self, see: &mut dyn FnMut(&[Arc<Region>])) {
        see(&self.arguments.regions);
    }

    fn values(&self, _: u32, values: Values<'_>) {
        self.end(Ok(values.payload().to_vec()));
    }

    fn large_value(&self, _: u32, payload: Payload) {
        self.end(Ok(payload.to_vec()));
    }

    fn split_value(&self, _: u32, split: Split) {
        self.end(Ok([&split.before, split.data.bytes()].concat()));
    }

    fn fail(&self, _: u32, mut error: Error) {
        if let Some(dossier) = error.dossier_mut() {
            // There is but one call, and it has no number.
            (dossier.call, dossier.time) = (None, None);
        }
        self.end(Err(error));
    }
}
