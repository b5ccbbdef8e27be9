//! `map` and `map_async`: many inputs to calls, on the caller's thread, and their results to a vector.

use crate::error::{Error, Result};
use crate::job::{Awaited, Home, Job, Origin, Raw, Results, Slot, Tickets};
use crate::os;
use crate::pool::batch::{Batch, BatchSink, Gatherer, Submitted, task_of, withdraw};
use crate::pool::inner::Inner;
use crate::pool::submission::Submission;
use crate::protocol::Values;
use crate::sync::{lock, sleep_on};
use crate::task::{Encoded, RawCall, Task, TaskCall, TaskInfo};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A batch has at most so many calls.
const BATCH_CALLS: u32 = 1 << 12;
/// As how many bytes a region counts in the window: each is an open file here and in the workers that have it, and a
/// process has no more than 1,024 of them, usually.
const REGION_BYTES: usize = WINDOW_BYTES / 128;
/// A blocking map reads no more inputs while so many of its calls, for each worker, have not ended: enough that a
/// worker never waits for the reader, little enough to stay in the processor's cache.
const WINDOW_CALLS: usize = 1 << 15;
/// Nor while their arguments take so many bytes, unless there are fewer than a few for each worker.
const WINDOW_BYTES: usize = 1 << 25;

/// The end of a map is never noticed later: the workers have no more to do by then than this takes.
const LONG_NAP: Duration = Duration::from_millis(4);

/// How many bytes of results a map makes room for before it has any.
const MOST_RESERVED: usize = 1 << 30;

/// As how many bytes a batch counts in the window.
fn weight(batch: &Batch) -> usize {
    batch.size() + batch.regions() * REGION_BYTES
}

/// The tickets of a map while its inputs are read; if that panics, what waits is cancelled.
struct Withdrawn<'s> {
    inner: &'s Inner,
    tickets: Vec<u64>,
}

impl Drop for Withdrawn<'_> {
    fn drop(&mut self) {
        withdraw(self.inner, self.tickets.drain(..));
    }
}

/// The inputs of a map on their way to becoming batches.
struct Mapper<'s> {
    inner: &'s Arc<Inner>,
    gatherer: Gatherer,
    gathering: Arc<Gathering>,
    submitted: Withdrawn<'s>,
    /// Why no worker of this pool could run these calls, if so.
    misfit: Option<Error>,
    /// How large a batch is to be.
    expected: u32,
    read: usize,
}

impl<'s> Mapper<'s> {
    fn new(inner: &'s Arc<Inner>, task: &'static TaskInfo, slot: Option<Arc<Slot>>, inputs: usize) -> Self {
        // So many that every worker gets several, so few that their number does not matter.
        let expected = inputs / (16 * inner.seats);
        Self {
            inner,
            gatherer: Gatherer::new(task),
            gathering: Arc::new(Gathering { state: Mutex::default(), changed: Condvar::new(), slot }),
            submitted: Withdrawn { inner, tickets: Vec::new() },
            misfit: inner.check(task).err(),
            expected: expected.clamp(1, BATCH_CALLS as usize) as u32,
            read: 0,
        }
    }

    /// Takes a call. Returns whether a batch was submitted.
    #[inline(always)]
    fn add(&mut self, call: RawCall) -> bool {
        let RawCall { arguments, wish, .. } = call;
        match arguments {
            Ok(arguments) if self.misfit.is_none() => {
                // Where nobody knows how many inputs there are, batches grow with what has been read.
                self.read += 1;
                if self.gatherer.ends_before(&arguments, wish.as_deref()) {
                    self.submit();
                }
                self.gatherer.set_wish(wish);
                self.gatherer.push(arguments, self.expected) && self.submit_full()
            }
            arguments => self.refuse(arguments),
        }
    }

    #[cold]
    fn refuse(&mut self, arguments: Result<Encoded>) -> bool {
        let error = arguments.err().or_else(|| self.misfit.clone());
        error.is_some_and(|error| self.fail(error))
    }

    #[inline(never)]
    fn submit_full(&mut self) -> bool {
        let grown = (self.read / (16 * self.inner.seats)).min(BATCH_CALLS as usize) as u32;
        self.expected = self.expected.max(grown);
        self.submit();
        true
    }

    fn fail(&mut self, error: Error) -> bool {
        self.submit();
        lock(&self.gathering.state).batches.push_back(Results::failed(error));
        true
    }

    fn submit(&mut self) {
        if self.gatherer.arguments.is_empty() {
            return;
        }
        let batch = self.gatherer.take(self.inner);
        let (length, weight) = (batch.len(), weight(&batch));
        let mut state = lock(&self.gathering.state);
        let position = state.taken + state.batches.len();
        state.batches.push_back(Results::new(length));
        state.missing += length as usize;
        state.missing_bytes += weight;
        drop(state);
        let ends = MapEnds { gathering: self.gathering.clone(), position, weight };
        let submission: Arc<dyn Submission> = Arc::new(Submitted { batch, ends });
        match self.inner.submit_all(submission.clone(), length) {
            Ok(ticket) => self.submitted.tickets.push(ticket),
            Err(error) => (0..length).for_each(|index| submission.fail(index, error.clone())),
        }
    }
}

pub(super) fn map_async<I, F, C>(inner: &Arc<Inner>, mut f: F, inputs: I) -> Job<Vec<C::Output>>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> C,
    C: TaskCall,
{
    let task = task_of::<C>();
    let slot = Arc::new(Slot::default());
    let id = inner.jobs.fetch_add(1, Ordering::Relaxed);
    let inputs = inputs.into_iter();
    let mut mapper = Mapper::new(inner, task, Some(slot.clone()), inputs.size_hint().0);
    for input in inputs {
        if mapper.add(f(input).into_raw()) {
            inner.help();
        }
    }
    mapper.submit();
    mapper.gathering.update(|gathered| gathered.all_submitted = true);
    let tickets = std::mem::take(&mut mapper.submitted.tickets);
    let home: Arc<dyn Home> = inner.clone();
    Job::<C::Output>::many::<C::Task>(slot, home, Origin { id, task, tickets: Tickets::Many(tickets.into()) })
}

/// As `map_async`, but reads inputs no faster than results come, and decodes those meanwhile: neither takes more memory
/// than the window.
pub(super) fn map<I, F, C>(inner: &Arc<Inner>, mut f: F, inputs: I) -> Result<Vec<C::Output>>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> C,
    C: TaskCall,
{
    let task = task_of::<C>();
    let inputs = inputs.into_iter();
    let expected = inputs.size_hint().0;
    let mut mapper = Mapper::new(inner, task, None, expected);
    let gathering = mapper.gathering.clone();
    // Some iterators promise more than there is memory for.
    let mut values = Vec::new();
    let _ = values.try_reserve(expected.min(MOST_RESERVED / size_of::<C::Output>().max(1)));
    os::prefer_huge_pages(values.spare_capacity_mut());
    let mut outcome = Ok(());
    let mut decode = |whole: Vec<Results>| {
        for results in whole {
            if outcome.is_ok() {
                outcome = results.decode_into(<C::Task as Task>::decode, task.name(), &mut values);
            }
        }
    };
    let seats = inner.seats;
    for input in inputs {
        if !mapper.add(f(input).into_raw()) {
            continue;
        }
        inner.help();
        if gathering.is_full(seats) {
            // Half of it: not once for each batch.
            inner.wait(
                &MapProgress { gathering: &gathering, calls: WINDOW_CALLS / 2 * seats, bytes: WINDOW_BYTES / 2, seats },
                None,
            );
        }
        decode(gathering.take_whole());
    }
    mapper.submit();
    loop {
        decode(gathering.take_whole());
        if lock(&gathering.state).batches.is_empty() {
            break;
        }
        let missing = lock(&gathering.state).missing;
        let calls = missing.saturating_sub(WINDOW_CALLS / 2);
        inner.wait(&MapProgress { gathering: &gathering, calls, bytes: usize::MAX, seats: 0 }, None);
    }
    mapper.submitted.tickets.clear();
    outcome.map(|()| values)
}

/// Gathers the results of all batches of a map.
struct Gathering {
    state: Mutex<Gathered>,
    changed: Condvar,
    /// Where all of them are to arrive at once.
    slot: Option<Arc<Slot>>,
}

#[derive(Default)]
struct Gathered {
    batches: VecDeque<Results>,
    /// How many batches were whole and have been taken away before the first of those.
    taken: usize,
    /// Calls without a result.
    missing: usize,
    /// How many bytes the arguments of their batches take, or [count as](weight).
    missing_bytes: usize,
    all_submitted: bool,
    /// Somebody sleeps.
    slept_for: bool,
}

impl Gathering {
    fn update(&self, change: impl FnOnce(&mut Gathered)) {
        let mut state = lock(&self.state);
        change(&mut state);
        if state.missing == 0
            && state.all_submitted
            && let Some(slot) = &self.slot
        {
            let batches = std::mem::take(&mut state.batches);
            drop(state);
            slot.finish(Raw::Many(Vec::from(batches).into()));
        } else if state.slept_for {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The batches that are whole, up to the first that is not.
    fn take_whole(&self) -> Vec<Results> {
        let mut state = lock(&self.state);
        let whole = state.batches.iter().take_while(|results| results.are_whole()).count();
        state.taken += whole;
        state.batches.drain(..whole).collect()
    }

    fn is_full(&self, seats: usize) -> bool {
        let state = lock(&self.state);
        state.missing > WINDOW_CALLS * seats || (state.missing_bytes > WINDOW_BYTES && state.missing > 4 * seats)
    }
}

/// Waits until no more than so many calls of a map are missing.
struct MapProgress<'g> {
    gathering: &'g Gathering,
    calls: usize,
    bytes: usize,
    seats: usize,
}

impl MapProgress<'_> {
    fn is_made(&self, state: &Gathered) -> bool {
        state.missing <= self.calls && (state.missing_bytes <= self.bytes || state.missing <= 4 * self.seats)
    }
}

impl Awaited for MapProgress<'_> {
    fn is_done(&self) -> bool {
        self.is_made(&lock(&self.gathering.state))
    }

    /// Whoever waits for all of them waits for none in particular. Others who wait meanwhile have less patience.
    fn patience(&self) -> Duration {
        LONG_NAP
    }

    fn sleep(&self, deadline: Option<Instant>) {
        let mut state = lock(&self.gathering.state);
        while !self.is_made(&state) {
            state.slept_for = true;
            match sleep_on(&self.gathering.changed, state, deadline) {
                Some(awake) => state = awake,
                None => return,
            }
            state.slept_for = false;
        }
    }
}

/// Where the results of a batch go in a gathering.
struct MapEnds {
    gathering: Arc<Gathering>,
    position: usize,
    /// As how many bytes it counts in the window.
    weight: usize,
}

impl MapEnds {
    fn update(&self, change: impl FnOnce(&mut Results), calls: u32) {
        self.gathering.update(|gathered| {
            gathered.missing -= calls as usize;
            // A batch that was taken away was whole.
            let Some(results) = gathered.batches.get_mut(self.position - gathered.taken) else { return };
            change(results);
            if results.are_whole() {
                gathered.missing_bytes -= self.weight;
            }
        });
    }
}

impl BatchSink for MapEnds {
    fn values(&self, first: u32, values: Values<'_>) {
        self.update(|results| results.values(first, values), values.count());
    }

    fn value(&self, index: u32, payload: &[&[u8]]) {
        self.update(|results| results.value(index, payload), 1);
    }

    fn fail(&self, index: u32, error: Error) {
        self.update(|results| results.fail(index, error), 1);
    }
}
