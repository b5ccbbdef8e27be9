//! Calls of one task that are submitted together: how they are gathered, and how they end.
//!
//! Arguments lie one behind the other in one piece of memory, so that a million inputs are not a million allocations.
//! How many calls go to a worker at a time is the dispatcher's business, not that of the size of a batch.

use crate::error::Error;
use crate::memory::packed::{Packed, PackedSlice};
use crate::memory::payload::Payload;
use crate::memory::region::{Region, Regions};
use crate::memory::{Split, cache};
use crate::policy::{Policy, SharedPolicy, Wish};
use crate::pool::dispatcher::Work;
use crate::pool::inner::Inner;
use crate::pool::submission::Submission;
use crate::protocol::Values;
use crate::task::{Encoded, Registered, Task, TaskCall, TaskInfo};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A batch is closed when its arguments have so many bytes.
const BATCH_BYTES: usize = 1 << 15;
/// A batch is closed when its arguments speak of so many regions of shared memory.
const BATCH_REGIONS: usize = 16;

/// Calls that are being gathered.
pub(super) struct Gatherer {
    pub(super) task: &'static TaskInfo,
    /// What is asked for these calls alone.
    wish: Option<Box<Wish>>,
    pub(super) arguments: Packed,
    regions: Vec<Arc<Region>>,
}

impl Gatherer {
    pub(super) fn new(task: &'static TaskInfo) -> Self {
        Self { task, wish: None, arguments: Packed::new(), regions: Vec::new() }
    }

    /// A call with large arguments begins a batch: where those of a batch end is counted in 32 bits. So does one that
    /// asks for something else than those before it.
    #[inline]
    pub(super) fn ends_before(&self, arguments: &Encoded, wish: Option<&Wish>) -> bool {
        let large = matches!(&arguments.bytes, Payload::Heap(bytes) if bytes.len() >= BATCH_BYTES);
        (large || self.wish.as_deref() != wish) && !self.arguments.is_empty()
    }

    /// What is asked for the calls of the batch that begins.
    #[inline]
    pub(super) fn set_wish(&mut self, wish: Option<Box<Wish>>) {
        if self.wish != wish {
            self.wish = wish;
        }
    }

    /// Whether the batch is large enough to be submitted.
    #[inline(always)]
    pub(super) fn push(&mut self, arguments: Encoded, calls: u32) -> bool {
        match &arguments {
            // Read where it lies: it was written in two words, and a copy of both at once would have to wait for them.
            Encoded { bytes: Payload::Few(few), regions } if regions.is_empty() => {
                self.arguments.push_few(few);
                // There is nothing in it to be dropped: neither a few bytes nor no regions own any memory.
                std::mem::forget(arguments);
            }
            _ => self.push_any(arguments),
        }
        self.arguments.len() >= calls || self.arguments.size() >= BATCH_BYTES || self.regions.len() >= BATCH_REGIONS
    }

    /// Most calls of a map speak of the same regions, or of none.
    #[inline(never)]
    fn push_any(&mut self, arguments: Encoded) {
        let Encoded { bytes, regions } = arguments;
        self.arguments.push(&bytes);
        if let Payload::Heap(bytes) = bytes {
            cache::recycle(bytes);
        }
        self.hold(&regions);
    }

    fn hold(&mut self, regions: &Regions) {
        for region in &**regions {
            if !self.regions.iter().rev().take(BATCH_REGIONS).any(|held| Arc::ptr_eq(held, region)) {
                self.regions.push(region.clone());
            }
        }
    }

    pub(super) fn take(&mut self, inner: &Inner) -> Batch {
        let arguments = std::mem::take(&mut self.arguments);
        let first_job = inner.jobs.fetch_add(u64::from(arguments.len()), Ordering::Relaxed);
        let policy = inner.policy(self.wish.as_deref(), self.task);
        Batch { task: self.task.name(), first_job, arguments, policy, regions: std::mem::take(&mut self.regions) }
    }
}

/// Calls that are submitted together.
pub(super) struct Batch {
    task: &'static str,
    first_job: u64,
    arguments: Packed,
    policy: SharedPolicy,
    /// What the arguments speak of, of all calls together.
    regions: Vec<Arc<Region>>,
}

impl Batch {
    /// How many calls it has.
    pub(super) fn len(&self) -> u32 {
        self.arguments.len()
    }

    /// How many bytes the arguments take.
    pub(super) fn size(&self) -> usize {
        self.arguments.size()
    }

    /// Of how many regions they speak.
    pub(super) fn regions(&self) -> usize {
        self.regions.len()
    }
}

/// Whom to tell how the calls of a batch end.
pub(super) trait BatchSink: Send + Sync {
    /// Calls have ended with these values; the first is that of the call of this index.
    fn values(&self, first: u32, values: Values<'_>);

    /// One has ended with a value, whose payload these parts are.
    fn value(&self, index: u32, payload: &[&[u8]]);

    fn fail(&self, index: u32, error: Error);
}

/// A batch on its way.
pub(super) struct Submitted<E> {
    pub(super) batch: Batch,
    pub(super) ends: E,
}

impl<E> Work for Submitted<E> {
    fn task(&self) -> &'static str {
        self.batch.task
    }

    fn first_job(&self) -> u64 {
        self.batch.first_job
    }

    fn size(&self, calls: Range<u32>) -> usize {
        self.batch.arguments.size_of(calls)
    }

    fn policy(&self) -> &Policy {
        self.batch.policy.get()
    }
}

impl<E: BatchSink> Submission for Submitted<E> {
    fn with_arguments(&self, calls: Range<u32>, see: &mut dyn FnMut(PackedSlice<'_>)) {
        see(self.batch.arguments.part(calls));
    }

    fn with_regions(&self, see: &mut dyn FnMut(&[Arc<Region>])) {
        see(&self.batch.regions);
    }

    fn values(&self, first: u32, values: Values<'_>) {
        self.ends.values(first, values);
    }

    fn large_value(&self, index: u32, payload: Payload) {
        self.ends.value(index, &[&payload]);
    }

    fn split_value(&self, index: u32, split: Split) {
        self.ends.value(index, &[&split.before, split.data.bytes()]);
    }

    fn fail(&self, index: u32, error: Error) {
        self.ends.fail(index, error);
    }
}

/// Cancels what waits, and leaves alone what runs.
pub(super) fn withdraw(inner: &Inner, tickets: impl Iterator<Item = u64>) {
    inner.tell(|dispatcher, now| {
        for ticket in tickets {
            dispatcher.cancel(ticket, false, now);
        }
    });
}

/// What a map and its like need to know of a task at run time.
pub(super) fn task_of<C: TaskCall>() -> &'static TaskInfo {
    <C::Task as Registered>::info()
}

/// Decodes results of the task of `C`.
pub(super) fn decode_of<C: TaskCall>() -> crate::job::Decode<C::Output> {
    <C::Task as Task>::decode
}
