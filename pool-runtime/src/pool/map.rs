//! Many calls of one task: `map`, `map_async`, and the iterators `imap` and `imap_unordered`.
//!
//! Inputs are turned into calls here, on the caller's thread, and gathered into batches, so that a million inputs are
//! not a million allocations. How many calls go to a worker at a time is the dispatcher's business, not that of the size
//! of a batch.

use super::{
    Pool,
    dispatcher::Work,
    shared::{Shared, Submission},
};
use crate::{
    codec,
    error::{Error, Result},
    job::{Awaited, Home, Job, Origin, Raw, Slot, Tickets, decode_value, lock},
    os,
    packed::{Packed, Part},
    panic,
    payload::Payload,
    protocol::Record,
    results::Results,
    shared::{Handle, Regions},
    task::{Encoded, Task, TaskCall, TaskInfo},
};
use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

/// A batch is closed when its arguments have so many bytes.
const BATCH_BYTES: usize = 1 << 15;
/// A batch has at most so many calls.
const BATCH_CALLS: u32 = 1 << 12;
/// A batch is closed when its arguments speak of so many regions of shared memory.
const BATCH_REGIONS: usize = 16;
/// As how many bytes a region counts in the window: each is an open file here and in the workers that have it, and a
/// process has no more than 1,024 of them, usually.
const REGION_BYTES: usize = WINDOW_BYTES / 128;
/// A blocking map reads no more inputs while so many of its calls, for each worker, have not ended: enough that a worker
/// never waits for the reader, little enough to stay in the processor's cache.
const WINDOW_CALLS: usize = 1 << 15;
/// Nor while their arguments take so many bytes, unless there are fewer than a few for each worker.
const WINDOW_BYTES: usize = 1 << 25;

/// How many bytes of results a map makes room for before it has any.
const MOST_RESERVED: usize = 1 << 30;

/// Calls that are being gathered.
struct Gatherer {
    task: &'static TaskInfo,
    arguments: Packed,
    regions: Vec<Handle>,
}

impl Gatherer {
    fn new(task: &'static TaskInfo) -> Self {
        Self { task, arguments: Packed::new(), regions: Vec::new() }
    }

    /// Whether the batch is large enough to be submitted.
    #[inline]
    fn push(&mut self, arguments: Encoded, calls: u32) -> bool {
        self.arguments.push(&arguments.bytes);
        codec::recycle(arguments.bytes);
        self.hold(&arguments.regions);
        self.arguments.len() >= calls || self.arguments.size() >= BATCH_BYTES || self.regions.len() >= BATCH_REGIONS
    }

    /// Most calls of a map speak of the same regions, or of none.
    #[inline]
    fn hold(&mut self, regions: &Regions) {
        for region in &**regions {
            if !self.regions.iter().rev().take(BATCH_REGIONS).any(|held| Arc::ptr_eq(held, region)) {
                self.regions.push(region.clone());
            }
        }
    }

    fn take(&mut self, shared: &Shared) -> Batch {
        let arguments = std::mem::take(&mut self.arguments);
        let first_job = shared.jobs.fetch_add(u64::from(arguments.len()), Ordering::Relaxed);
        Batch { task: self.task.name(), first_job, arguments, regions: std::mem::take(&mut self.regions) }
    }
}

/// Calls that are submitted together.
struct Batch {
    task: &'static str,
    first_job: u64,
    arguments: Packed,
    /// What the arguments speak of, of all calls together.
    regions: Vec<Handle>,
}

impl Batch {
    /// As how many bytes it counts in the window.
    fn weight(&self) -> usize {
        self.arguments.size() + self.regions.len() * REGION_BYTES
    }
}

macro_rules! work_of_batch {
    ($type:ty) => {
        impl Work for $type {
            fn task(&self) -> &'static str {
                self.batch.task
            }

            fn first_job(&self) -> u64 {
                self.batch.first_job
            }

            fn size(&self, calls: Range<u32>) -> usize {
                self.batch.arguments.size_of(calls)
            }
        }
    };
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

/// The inputs of a map on their way to becoming batches.
struct Mapper<'s> {
    shared: &'s Arc<Shared>,
    gatherer: Gatherer,
    gathering: Arc<Gathering>,
    submitted: Submitted<'s>,
    /// Why no worker of this pool could run these calls, if so.
    misfit: Option<Error>,
    /// How large a batch is to be.
    expected: u32,
    read: usize,
}

impl<'s> Mapper<'s> {
    fn new(shared: &'s Arc<Shared>, task: &'static TaskInfo, slot: Option<Arc<Slot>>, inputs: usize) -> Self {
        // So many that every worker gets several, so few that their number does not matter.
        let expected = inputs / (16 * shared.seats());
        Self {
            shared,
            gatherer: Gatherer::new(task),
            gathering: Arc::new(Gathering { state: Mutex::default(), changed: Condvar::new(), slot }),
            submitted: Submitted { shared, tickets: Vec::new() },
            misfit: shared.check(task).err(),
            expected: expected.clamp(1, BATCH_CALLS as usize) as u32,
            read: 0,
        }
    }

    /// Takes a call. Returns whether a batch was submitted.
    #[inline]
    fn add(&mut self, arguments: Result<Encoded>) -> bool {
        match (arguments, &self.misfit) {
            (Ok(arguments), None) => {
                // Where nobody knows how many inputs there are, batches grow with what has been read.
                self.read += 1;
                let full = self.gatherer.push(arguments, self.expected);
                if full {
                    let grown = (self.read / (16 * self.shared.seats())).min(BATCH_CALLS as usize) as u32;
                    self.expected = self.expected.max(grown);
                    self.submit();
                }
                full
            }
            (Err(error), _) => self.fail(error),
            (Ok(_), Some(error)) => {
                let error = error.clone();
                self.fail(error)
            }
        }
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
        let batch = self.gatherer.take(self.shared);
        let length = batch.arguments.len();
        let mut state = lock(&self.gathering.state);
        let position = state.taken + state.batches.len();
        state.batches.push_back(Results::new(length));
        state.missing += length as usize;
        state.missing_bytes += batch.weight();
        drop(state);
        let part: Arc<dyn Submission> = Arc::new(MapPart { batch, gathering: self.gathering.clone(), position });
        match self.shared.tell(|dispatcher, now| dispatcher.submit(part.clone(), length, now)) {
            Ok(ticket) => self.submitted.tickets.push(ticket),
            Err(error) => (0..length).for_each(|index| part.fail(index, error.clone())),
        }
    }
}

pub(super) fn map_async<I, F, C>(shared: &Arc<Shared>, mut f: F, inputs: I) -> Job<Vec<C::Output>>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> C,
    C: TaskCall,
{
    let task = task_of::<C>();
    let slot = Arc::new(Slot::default());
    let id = shared.jobs.fetch_add(1, Ordering::Relaxed);
    let inputs = inputs.into_iter();
    let mut mapper = Mapper::new(shared, task, Some(slot.clone()), inputs.size_hint().0);
    for input in inputs {
        if mapper.add(f(input).into_raw().arguments) {
            shared.help();
        }
    }
    mapper.submit();
    mapper.gathering.update(|gathered| gathered.all_submitted = true);
    let tickets = std::mem::take(&mut mapper.submitted.tickets);
    let home: Arc<dyn Home> = shared.clone();
    Job::<C::Output>::many::<C::Task>(slot, home, Origin { id, task, tickets: Tickets::Many(tickets.into()) })
}

/// As `map_async`, but reads inputs no faster than results come, and decodes those meanwhile: neither takes more memory
/// than the window.
pub(super) fn map<I, F, C>(shared: &Arc<Shared>, mut f: F, inputs: I) -> Result<Vec<C::Output>>
where
    I: IntoIterator,
    F: FnMut(I::Item) -> C,
    C: TaskCall,
{
    let task = task_of::<C>();
    let inputs = inputs.into_iter();
    let expected = inputs.size_hint().0;
    let mut mapper = Mapper::new(shared, task, None, expected);
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
    let seats = shared.seats();
    for input in inputs {
        if !mapper.add(f(input).into_raw().arguments) {
            continue;
        }
        shared.help();
        if gathering.is_full(seats) {
            // Half of it: not once for each batch.
            shared.wait(
                &Progress { gathering: &gathering, calls: WINDOW_CALLS / 2 * seats, bytes: WINDOW_BYTES / 2, seats },
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
        shared.wait(&Progress { gathering: &gathering, calls, bytes: usize::MAX, seats: 0 }, None);
    }
    mapper.submitted.tickets.clear();
    outcome.map(|()| values)
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
    results: VecDeque<Option<Result<Payload>>>,
    first: u64,
    /// Somebody sleeps.
    slept_for: bool,
}

/// One batch of a stream.
struct StreamPart {
    batch: Batch,
    stream: Arc<Stream>,
    first: u64,
    ordered: bool,
}

work_of_batch!(StreamPart);

impl Stream {
    fn put(&self, index: u64, ordered: bool, results: impl Iterator<Item = Result<Payload>>) {
        let mut arrived = lock(&self.arrived);
        for (index, result) in (index..).zip(results) {
            if !ordered {
                arrived.results.push_back(Some(result));
                continue;
            }
            let Some(position) = index.checked_sub(arrived.first) else { continue };
            let position = position as usize;
            if arrived.results.len() <= position {
                arrived.results.resize_with(position + 1, || None);
            }
            arrived.results[position] = Some(result);
        }
        let slept_for = arrived.slept_for;
        drop(arrived);
        if slept_for {
            self.changed.notify_one();
        }
    }

    /// Waits for the next result.
    fn take(&self, shared: &Shared) -> Result<Payload> {
        loop {
            let mut arrived = lock(&self.arrived);
            if let Some(Some(_)) = arrived.results.front() {
                arrived.first += 1;
                if let Some(Some(result)) = arrived.results.pop_front() {
                    return result;
                }
            }
            drop(arrived);
            shared.wait(self, None);
        }
    }
}

impl Awaited for Stream {
    fn is_done(&self) -> bool {
        matches!(lock(&self.arrived).results.front(), Some(Some(_)))
    }

    fn sleep(&self, deadline: Option<Instant>) {
        let mut arrived = lock(&self.arrived);
        while !matches!(arrived.results.front(), Some(Some(_))) {
            arrived.slept_for = true;
            match sleep_on(&self.changed, arrived, deadline) {
                Some(awake) => arrived = awake,
                None => return,
            }
            // To tell somebody who is awake is a system call for nothing.
            arrived.slept_for = false;
        }
    }
}

/// Sleeps until something has changed, at most until `deadline`; None after that.
fn sleep_on<'g, T>(
    changed: &Condvar,
    guard: MutexGuard<'g, T>,
    deadline: Option<Instant>,
) -> Option<MutexGuard<'g, T>> {
    match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
        None => Some(changed.wait(guard).unwrap_or_else(PoisonError::into_inner)),
        Some(Duration::ZERO) => None,
        Some(left) => Some(changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0),
    }
}

impl Submission for StreamPart {
    fn with_arguments(&self, calls: Range<u32>, see: &mut dyn FnMut(Part<'_>)) {
        see(self.batch.arguments.part(calls));
    }

    fn with_regions(&self, see: &mut dyn FnMut(&[Handle])) {
        see(&self.batch.regions);
    }

    fn values(&self, first: u32, count: u32, records: &[u8]) {
        let mut at = 0;
        let payloads = (0..count).map_while(|_| {
            // They were read once before, by whoever found them.
            let record = Record::first(&records[at..]).ok()??;
            let payload = Payload::copy(&records[record.payload(at)]);
            at += record.size();
            Some(Ok(payload))
        });
        self.stream.put(self.first + u64::from(first), self.ordered, payloads);
    }

    fn fail(&self, index: u32, error: Error) {
        codec::doom(&self.batch.regions, &error);
        self.stream.put(self.first + u64::from(index), self.ordered, std::iter::once(Err(error)));
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
    chunk_size: u32,
    look_ahead: usize,
    gatherer: Gatherer,
    stream: Arc<Stream>,
    /// Of the batches that may not have ended; the sink of one that has is gone.
    tickets: Vec<(u64, Weak<dyn Submission>)>,
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
        self.chunk_size = u32::try_from(inputs.max(1)).unwrap_or(u32::MAX);
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
        if self.read - self.taken >= self.look_ahead as u64 {
            return;
        }
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
                    if self.gatherer.push(arguments, self.chunk_size) {
                        self.submit();
                    }
                }
                Err(error) => {
                    self.submit();
                    self.stream.put(self.submitted, self.ordered, std::iter::once(Err(error)));
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
        if self.gatherer.arguments.is_empty() {
            return;
        }
        let shared = &self.pool.shared;
        let batch = self.gatherer.take(shared);
        let length = batch.arguments.len();
        let part: Arc<dyn Submission> =
            Arc::new(StreamPart { batch, stream: self.stream.clone(), first: self.submitted, ordered: self.ordered });
        self.submitted += u64::from(length);
        match shared.tell(|dispatcher, now| dispatcher.submit(part.clone(), length, now)) {
            Ok(ticket) => {
                // No more than the look-ahead are under way: an endless input must not leave an endless list.
                if self.tickets.len() / 2 >= self.look_ahead {
                    self.tickets.retain(|(_, sink)| sink.strong_count() > 0);
                }
                self.tickets.push((ticket, Arc::downgrade(&part)));
            }
            Err(error) => (0..length).for_each(|index| part.fail(index, error.clone())),
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
        let result = self.stream.take(&self.pool.shared);
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
    /// How many bytes the arguments of their batches take, or [count as](Batch::weight).
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
struct Progress<'g> {
    gathering: &'g Gathering,
    calls: usize,
    bytes: usize,
    seats: usize,
}

impl Progress<'_> {
    fn is_made(&self, state: &Gathered) -> bool {
        state.missing <= self.calls && (state.missing_bytes <= self.bytes || state.missing <= 4 * self.seats)
    }
}

impl Awaited for Progress<'_> {
    fn is_done(&self) -> bool {
        self.is_made(&lock(&self.gathering.state))
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

/// One batch of a gathering.
struct MapPart {
    batch: Batch,
    gathering: Arc<Gathering>,
    position: usize,
}

work_of_batch!(MapPart);

impl MapPart {
    fn update(&self, change: impl FnOnce(&mut Results), calls: u32) {
        self.gathering.update(|gathered| {
            gathered.missing -= calls as usize;
            // A batch that was taken away was whole.
            let Some(results) = gathered.batches.get_mut(self.position - gathered.taken) else { return };
            change(results);
            if results.are_whole() {
                gathered.missing_bytes -= self.batch.weight();
            }
        });
    }
}

impl Submission for MapPart {
    fn with_arguments(&self, calls: Range<u32>, see: &mut dyn FnMut(Part<'_>)) {
        see(self.batch.arguments.part(calls));
    }

    fn with_regions(&self, see: &mut dyn FnMut(&[Handle])) {
        see(&self.batch.regions);
    }

    fn values(&self, first: u32, count: u32, records: &[u8]) {
        self.update(|results| results.values(first, count, records), count);
    }

    fn fail(&self, index: u32, error: Error) {
        codec::doom(&self.batch.regions, &error);
        self.update(|results| results.fail(index, error), 1);
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
