//! Many calls of one task: `map`, `map_async`, and the iterators `imap` and `imap_unordered`.
//!
//! Inputs are turned into calls here, on the caller's thread, and gathered into batches, so that a million inputs are
//! not a million allocations. How many calls go to a worker at a time is the dispatcher's business, not that of the size
//! of a batch.

use super::{
    Pool,
    dispatcher::Batch,
    shared::{Shared, Sink},
};
use crate::{
    error::Result,
    job::{Home, Job, Origin, Raw, Results, Slot, decode_value, lock},
    panic,
    task::{Task, TaskCall, TaskInfo},
};
use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError, Weak, atomic::Ordering},
};

/// A batch is closed when its arguments have so many bytes.
const BATCH_BYTES: usize = 1 << 18;
/// A batch has at most so many calls.
const BATCH_CALLS: usize = 512;

/// Calls that are being gathered.
struct Gatherer {
    task: &'static TaskInfo,
    arguments: Vec<u8>,
    ends: Vec<usize>,
}

impl Gatherer {
    fn new(task: &'static TaskInfo) -> Self {
        Self { task, arguments: Vec::new(), ends: Vec::new() }
    }

    /// Whether the batch is large enough to be submitted.
    fn push(&mut self, arguments: &[u8], calls: usize) -> bool {
        self.arguments.extend_from_slice(arguments);
        self.ends.push(self.arguments.len());
        self.ends.len() >= calls || self.arguments.len() >= BATCH_BYTES
    }

    fn take(&mut self, shared: &Shared, sink: Arc<dyn Sink>) -> Batch<Arc<dyn Sink>> {
        let ends = std::mem::take(&mut self.ends);
        Batch {
            task: self.task.name(),
            first_job: shared.jobs.fetch_add(ends.len() as u64, Ordering::Relaxed),
            arguments: std::mem::take(&mut self.arguments),
            ends,
            sink,
        }
    }
}

/// The tickets of a map while its inputs are read; if that panics, what waits is cancelled.
struct Submitted<'s> {
    shared: &'s Shared,
    tickets: Vec<u64>,
}

impl Drop for Submitted<'_> {
    fn drop(&mut self) {
        withdraw(self.shared, self.tickets.drain(..));
    }
}

/// Cancels what waits, and leaves alone what runs.
fn withdraw(shared: &Shared, tickets: impl Iterator<Item = u64>) {
    shared.tell(|dispatcher, now| {
        for ticket in tickets {
            dispatcher.cancel(ticket, false, now);
        }
    });
}

pub(super) fn map_async<I, F, C>(shared: &Arc<Shared>, mut f: F, inputs: I) -> Job<Vec<C::Output>>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> C,
    C: TaskCall,
{
    let task = task_of::<C>();
    let slot = Arc::new(Slot::default());
    let gathering = Arc::new(Gathering { state: Mutex::new(Gathered::default()), slot: slot.clone() });
    let id = shared.jobs.fetch_add(1, Ordering::Relaxed);
    let mut submitted = Submitted { shared, tickets: Vec::new() };
    let fit = shared.check(task);

    let inputs = inputs.into_iter();
    // So many that every worker gets several, so few that their number does not matter.
    let expected = inputs.size_hint().0 / (16 * shared.seats.len());
    let expected = expected.clamp(1, BATCH_CALLS);
    let mut read = 0;
    let mut gatherer = Gatherer::new(task);
    let mut submit = |gatherer: &mut Gatherer| {
        if gatherer.ends.is_empty() {
            return;
        }
        let length = gatherer.ends.len();
        let mut state = lock(&gathering.state);
        let position = state.batches.len();
        state.batches.push(Results::new(length));
        state.missing += length;
        drop(state);
        let part: Arc<dyn Sink> = Arc::new(Part { gathering: gathering.clone(), position });
        let batch = gatherer.take(shared, part.clone());
        match shared.tell(|dispatcher, now| dispatcher.submit(batch, now)) {
            Ok(ticket) => submitted.tickets.push(ticket),
            Err(error) => (0..length as u32).for_each(|index| part.finish(index, Err(error.clone()))),
        }
    };
    for input in inputs {
        let arguments = f(input).into_raw().arguments.and_then(|arguments| fit.clone().map(|()| arguments));
        match arguments {
            Ok(arguments) => {
                // Where nobody knows how many inputs there are, batches grow with what has been read.
                read += 1;
                let grown = (read / (16 * shared.seats.len())).min(BATCH_CALLS);
                if gatherer.push(&arguments, expected.max(grown)) {
                    submit(&mut gatherer);
                }
            }
            Err(error) => {
                submit(&mut gatherer);
                lock(&gathering.state).batches.push(Results::failed(error));
            }
        }
    }
    submit(&mut gatherer);
    gathering.update(|gathered| gathered.all_submitted = true);
    let tickets = std::mem::take(&mut submitted.tickets);
    let home: Arc<dyn Home> = shared.clone();
    Job::<C::Output>::many::<C::Task>(slot, home, Origin { id, task: task.name(), tickets })
}

/// Results on their way to an iterator.
#[derive(Default)]
struct Stream {
    arrived: Mutex<Arrived>,
    changed: Condvar,
}

#[derive(Default)]
struct Arrived {
    /// In order of the inputs: what has arrived of those from `first` on. Else: just what has arrived.
    results: VecDeque<Option<Result<Vec<u8>>>>,
    first: u64,
}

/// One batch of a stream.
struct StreamPart {
    stream: Arc<Stream>,
    first: u64,
    ordered: bool,
}

impl Stream {
    fn put(&self, index: u64, ordered: bool, result: Result<Vec<u8>>) {
        let mut arrived = lock(&self.arrived);
        if ordered {
            let Some(position) = index.checked_sub(arrived.first) else { return };
            let position = position as usize;
            if arrived.results.len() <= position {
                arrived.results.resize_with(position + 1, || None);
            }
            arrived.results[position] = Some(result);
        } else {
            arrived.results.push_back(Some(result));
        }
        drop(arrived);
        self.changed.notify_one();
    }

    /// Waits for the next result.
    fn take(&self) -> Result<Vec<u8>> {
        let mut arrived = lock(&self.arrived);
        loop {
            if let Some(Some(_)) = arrived.results.front() {
                arrived.first += 1;
                if let Some(Some(result)) = arrived.results.pop_front() {
                    return result;
                }
            }
            arrived = self.changed.wait(arrived).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Sink for StreamPart {
    fn finish(&self, index: u32, result: Result<Vec<u8>>) {
        self.stream.put(self.first + u64::from(index), self.ordered, result);
    }
}

/// The results of [`Pool::imap`] and [`Pool::imap_unordered`].
///
/// ```
/// # use pool_runtime::{Pool, Result, enter, task};
/// #[task]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let pool = Pool::new(2)?;
///     let squares: Vec<u64> = pool.imap(square::call, 1..).look_ahead(10).take(3).collect::<Result<_>>()?;
///     assert_eq!(squares, [1, 4, 9]);
///     Ok(())
/// }
/// ```
#[must_use = "nothing is submitted until results are taken"]
pub struct Imap<'p, I, F, C: TaskCall> {
    pool: &'p Pool,
    inputs: Option<I>,
    f: F,
    ordered: bool,
    chunk_size: usize,
    look_ahead: usize,
    gatherer: Gatherer,
    stream: Arc<Stream>,
    /// Of the batches that may not have ended; the sink of one that has is gone.
    tickets: Vec<(u64, Weak<dyn Sink>)>,
    /// Inputs that were read.
    read: u64,
    /// Inputs whose calls were submitted, or failed before.
    submitted: u64,
    /// Results that were handed out.
    taken: u64,
    /// What reading the inputs ended with, if that was a panic.
    panicked: Option<Box<dyn Any + Send>>,
    call: std::marker::PhantomData<fn() -> C>,
}

impl<'p, I, F, C: TaskCall> Imap<'p, I, F, C> {
    pub(super) fn new(pool: &'p Pool, f: F, inputs: I, ordered: bool) -> Self {
        Self {
            pool,
            inputs: Some(inputs),
            f,
            ordered,
            chunk_size: 1,
            look_ahead: 16 * pool.processes(),
            gatherer: Gatherer::new(task_of::<C>()),
            stream: Arc::new(Stream::default()),
            tickets: Vec::new(),
            read: 0,
            submitted: 0,
            taken: 0,
            panicked: None,
            call: std::marker::PhantomData,
        }
    }

    /// How many inputs are submitted together; at least, and by default, 1. Small calls are sent together all the same.
    pub fn chunk_size(mut self, inputs: usize) -> Self {
        self.chunk_size = inputs.max(1);
        self
    }

    /// How many inputs are read before the result of the first of them has been taken; at least 1. The default is 16
    /// for each worker.
    pub fn look_ahead(mut self, inputs: usize) -> Self {
        self.look_ahead = inputs.max(1);
        self
    }
}

impl<I: Iterator, F: FnMut(I::Item) -> C, C: TaskCall> Imap<'_, I, F, C> {
    /// Reads inputs until enough are on their way.
    fn read_ahead(&mut self) {
        let fit = self.pool.shared.check(self.gatherer.task);
        while self.read - self.taken < self.look_ahead as u64 {
            let Some(inputs) = &mut self.inputs else { break };
            let f = &mut self.f;
            // A panic in there is the user's, and its time has come when the results before it have been taken.
            let arguments = match catch_unwind(AssertUnwindSafe(|| inputs.next().map(|input| f(input).into_raw()))) {
                Ok(Some(call)) => call.arguments.and_then(|arguments| fit.clone().map(|()| arguments)),
                Ok(None) => {
                    self.inputs = None;
                    break;
                }
                Err(payload) => {
                    panic::drop_quietly(self.inputs.take());
                    self.panicked = Some(payload);
                    break;
                }
            };
            self.read += 1;
            match arguments {
                Ok(arguments) => {
                    if self.gatherer.push(&arguments, self.chunk_size) {
                        self.submit();
                    }
                }
                Err(error) => {
                    self.submit();
                    self.stream.put(self.submitted, self.ordered, Err(error));
                    self.submitted += 1;
                }
            }
        }
        // What is no whole chunk goes when nothing else is to come, or is under way.
        if self.inputs.is_none() || self.submitted == self.taken {
            self.submit();
        }
    }

    fn submit(&mut self) {
        let length = self.gatherer.ends.len();
        if length == 0 {
            return;
        }
        let shared = &self.pool.shared;
        let part: Arc<dyn Sink> =
            Arc::new(StreamPart { stream: self.stream.clone(), first: self.submitted, ordered: self.ordered });
        let batch = self.gatherer.take(shared, part.clone());
        self.submitted += length as u64;
        match shared.tell(|dispatcher, now| dispatcher.submit(batch, now)) {
            Ok(ticket) => {
                // No more than the look-ahead are under way: an endless input must not leave an endless list.
                if self.tickets.len() / 2 >= self.look_ahead {
                    self.tickets.retain(|(_, sink)| sink.strong_count() > 0);
                }
                self.tickets.push((ticket, Arc::downgrade(&part)));
            }
            Err(error) => (0..length as u32).for_each(|index| part.finish(index, Err(error.clone()))),
        }
    }
}

impl<I: Iterator, F: FnMut(I::Item) -> C, C: TaskCall> Iterator for Imap<'_, I, F, C> {
    type Item = Result<C::Output>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_ahead();
        if self.taken == self.submitted {
            if let Some(payload) = self.panicked.take() {
                resume_unwind(payload);
            }
            return None;
        }
        let result = self.stream.take();
        self.taken += 1;
        let task = self.gatherer.task.name();
        Some(result.and_then(|bytes| decode_value(decode_of::<C>(), task, &bytes)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let under_way = (self.read - self.taken) as usize;
        match self.inputs.as_ref().map(Iterator::size_hint) {
            None => (under_way, Some(under_way)),
            Some((_, most)) => (under_way, most.and_then(|most| most.checked_add(under_way))),
        }
    }
}

impl<I, F, C: TaskCall> Drop for Imap<'_, I, F, C> {
    fn drop(&mut self) {
        withdraw(&self.pool.shared, self.tickets.drain(..).map(|(ticket, _)| ticket));
    }
}

impl<I, F, C: TaskCall> fmt::Debug for Imap<'_, I, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("task", &self.gatherer.task.name())
            .field("read", &self.read)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

/// Gathers the results of all batches of a map.
struct Gathering {
    state: Mutex<Gathered>,
    slot: Arc<Slot>,
}

#[derive(Default)]
struct Gathered {
    batches: Vec<Results>,
    /// Calls without a result.
    missing: usize,
    all_submitted: bool,
}

impl Gathering {
    fn update(&self, change: impl FnOnce(&mut Gathered)) {
        let mut state = lock(&self.state);
        change(&mut state);
        if state.missing == 0 && state.all_submitted {
            let batches = std::mem::take(&mut state.batches);
            drop(state);
            self.slot.finish(Raw::Many(batches));
        }
    }
}

/// One batch of a gathering.
struct Part {
    gathering: Arc<Gathering>,
    position: usize,
}

impl Sink for Part {
    fn finish(&self, index: u32, result: Result<Vec<u8>>) {
        self.gathering.update(|gathered| {
            gathered.batches[self.position].set(index, result);
            gathered.missing -= 1;
        });
    }
}

/// What a map and its like need to know of a task at run time.
fn task_of<C: TaskCall>() -> &'static TaskInfo {
    <C::Task as crate::task::Registered>::info()
}

/// Decodes results of the task of `C`.
fn decode_of<C: TaskCall>() -> crate::job::Decode<C::Output> {
    <C::Task as Task>::decode
}
