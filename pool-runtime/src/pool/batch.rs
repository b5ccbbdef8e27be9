//! Calls of one task that are submitted together.
//!
//! Their arguments are packed into one piece of memory, so that a million inputs are not a million allocations. How many
//! calls a worker gets at a time is the dispatcher's decision, and independent of the size of a batch.

use crate::error::Result;
use crate::memory::{Packed, PackedSlice, Payload, Region, cache};
use crate::policy::{Policy, SharedPolicy, Wish};
use crate::pool::dispatcher::{Reach, Ticket, Work};
use crate::pool::regions::BATCH_REGIONS;
use crate::pool::{Inner, Load, Outcome, RegionsOfCalls, Submission};
use crate::task::{Encoded, Registered, TaskCall, TaskInfo};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// A batch is full when its arguments have so many bytes, if not earlier.
const BATCH_BYTES: usize = 1 << 15;

/// Gathers calls into batches, and submits those. Dropping it cancels what has not started, also in a worker,
/// and leaves alone what runs.
pub(super) struct Gatherer<'p> {
    pub(super) inner: &'p Arc<Inner>,
    pub(super) task: &'static TaskInfo,
    /// The options of these calls alone.
    wish: Option<Box<Wish>>,
    arguments: Packed,
    regions: RegionsOfCalls,
    /// A batch is full when its arguments have so many bytes.
    full_at: usize,
    /// What was submitted, until it is forgotten.
    pub(super) submitted: Vec<(Ticket, Weak<dyn Submission>)>,
}

impl<'p> Gatherer<'p> {
    pub(super) fn of<C: TaskCall>(inner: &'p Arc<Inner>) -> Self {
        let task = <C::Task as Registered>::info();
        Self {
            inner,
            task,
            wish: None,
            arguments: Packed::default(),
            regions: RegionsOfCalls::default(),
            full_at: inner.bound.as_ref().map_or(BATCH_BYTES, |bound| bound.most_together().bytes.min(BATCH_BYTES)),
            submitted: Vec::new(),
        }
    }

    /// Whether a call begins a new batch: it has other options, or large arguments, as the ends of those of a batch are
    /// 32-bit offsets.
    #[inline]
    pub(super) fn ends_before(&self, arguments: &Encoded, wish: Option<&Wish>) -> bool {
        let large = matches!(&arguments.bytes, Payload::Heap(bytes) if bytes.len() >= BATCH_BYTES);
        (large || self.wish.as_deref() != wish) && !self.arguments.is_empty()
    }

    /// What was gathered.
    pub(super) fn load(&self) -> Load {
        Load { calls: self.arguments.len() as usize, bytes: self.arguments.size() }
    }

    /// Adds a call. Returns whether the batch is full, at `calls` at the latest.
    #[inline(always)]
    pub(super) fn push(&mut self, arguments: Encoded, wish: Option<Box<Wish>>, calls: u32) -> bool {
        if self.wish != wish {
            self.wish = wish;
        }
        match &arguments {
            // Read in place: it was written as two words, and loading both at once would stall until they are stored.
            Encoded { bytes: Payload::Short(short), regions } if regions.is_empty() => {
                self.arguments.push_short(short);
                // Neither inline bytes nor an empty list of regions own memory.
                std::mem::forget(arguments);
            }
            _ => self.push_any(arguments),
        }
        self.arguments.len() >= calls || self.arguments.size() >= self.full_at || self.regions.len() >= BATCH_REGIONS
    }

    #[inline(never)]
    fn push_any(&mut self, Encoded { bytes, regions }: Encoded) {
        let call = self.arguments.len();
        self.arguments.push(&bytes);
        if let Payload::Heap(bytes) = bytes {
            cache::recycle(bytes);
        }
        regions.iter().for_each(|region| self.regions.add(call, region));
    }

    /// Submits what was gathered, if anything. `ends` makes what is told how the calls have ended.
    ///
    /// # Errors
    ///
    /// The pool takes no more calls. Those that were gathered are dropped, and `ends` is told nothing.
    pub(super) fn submit<E>(&mut self, ends: impl FnOnce(&Packed, &[Arc<Region>]) -> E) -> Result<()>
    where
        E: Fn(u32, Outcome<'_>) + Send + Sync + 'static,
    {
        if self.arguments.is_empty() {
            return Ok(());
        }
        let (arguments, regions) = (std::mem::take(&mut self.arguments), std::mem::take(&mut self.regions));
        let calls = arguments.len();
        let batch: Arc<dyn Submission> = Arc::new(Batch {
            task: self.task,
            first_job: self.inner.jobs.fetch_add(u64::from(calls), Ordering::Relaxed),
            policy: self.inner.policy(self.wish.as_deref(), self.task),
            ends: ends(&arguments, regions.all()),
            arguments,
            regions,
        });
        let ticket = self.inner.submit_all(batch.clone(), calls)?;
        // Those that have ended go before the list grows: an endless input must not make an endless list.
        if self.submitted.len() == self.submitted.capacity() {
            self.submitted.retain(|(_, batch)| batch.strong_count() > 0);
            self.submitted.reserve(self.submitted.len().max(32));
        }
        self.submitted.push((ticket, Arc::downgrade(&batch)));
        Ok(())
    }
}

impl Drop for Gatherer<'_> {
    fn drop(&mut self) {
        let unfinished = self.submitted.drain(..).filter(|(_, batch)| batch.strong_count() > 0);
        let tickets: Vec<_> = unfinished.map(|(ticket, _)| ticket).collect();
        if !tickets.is_empty() && self.inner.made_in.is_here() {
            self.inner.tell(|dispatcher, now| dispatcher.cancel(&tickets, Reach::Waiting, now));
        }
    }
}

/// Calls that were submitted together.
struct Batch<E> {
    task: &'static TaskInfo,
    first_job: u64,
    arguments: Packed,
    policy: SharedPolicy,
    regions: RegionsOfCalls,
    ends: E,
}

impl<E> Work for Batch<E> {
    fn task(&self) -> &'static str {
        self.task.name()
    }

    fn first_job(&self) -> u64 {
        self.first_job
    }

    fn size(&self, calls: Range<u32>) -> usize {
        self.arguments.size_of(calls)
    }

    fn policy(&self) -> &Policy {
        self.policy.get()
    }

    fn result_bound(&self) -> u64 {
        self.task.result_bound
    }
}

impl<E: Fn(u32, Outcome<'_>) + Send + Sync> Submission for Batch<E> {
    fn with_arguments(&self, calls: Range<u32>, see: &mut dyn FnMut(PackedSlice<'_>)) {
        see(self.arguments.part(calls));
    }

    fn with_regions(&self, calls: Range<u32>, see: &mut dyn FnMut(&[Arc<Region>])) {
        self.regions.with_those_of(calls, see);
    }

    fn end(&self, first: u32, outcome: Outcome<'_>) {
        (self.ends)(first, outcome);
    }
}
