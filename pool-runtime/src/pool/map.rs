//! `map`, `try_map` and `map_async`: make calls of many inputs, on the caller's thread, and gather their results into a
//! vector.

use crate::error::{Error, Result};
use crate::job::{Awaited, Home, Job, Origin, Raw, Results, Slot, Tickets, decode_many, sleep_until};
use crate::locks::lock;
use crate::os;
use crate::pool::{Gatherer, Inner, Outcome, Pool};
use crate::task::{RawCall, Registered, Task, TaskCall};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A batch has at most so many calls.
const BATCH_CALLS: usize = 1 << 12;
/// A blocking map reads no more inputs while so many of its calls per worker have not ended: enough that no worker
/// waits for the reader, and small enough for the processor's cache.
const WINDOW_CALLS: usize = 1 << 15;
/// Nor while their arguments take so many bytes, unless there are fewer than four calls per worker.
const WINDOW_BYTES: usize = 1 << 25;
/// A region counts as so many bytes in the window. Each is an open file here and in the workers that have it, and a
/// process usually has no more than 1,024 of them.
const REGION_BYTES: usize = WINDOW_BYTES / 128;
/// The longest delay in noticing the end of a map. The workers have less than this left to do by then.
const LONG_NAP: Duration = Duration::from_millis(4);
/// The bytes that a map reserves for results before it has any.
const MOST_RESERVED: usize = 1 << 30;

/// Makes batches of the inputs of a map.
struct Mapper<'p> {
    gatherer: Gatherer<'p>,
    gathering: Arc<Gathering>,
    /// How many calls make a batch.
    expected: u32,
    read: usize,
    /// How many inputs are in the batches before the next one.
    begun: usize,
    /// The pool takes no more calls, so no more inputs are read.
    refused: bool,
}

impl<'p> Mapper<'p> {
    fn new<C: TaskCall>(inner: &'p Arc<Inner>, slot: Option<Arc<Slot>>, inputs: usize) -> Self {
        let gatherer = Gatherer::of::<C>(inner);
        let gathering = Arc::new(Gathering { state: Mutex::default(), changed: Condvar::new(), slot });
        Self { gatherer, gathering, expected: batch_size(inner, inputs), read: 0, begun: 0, refused: false }
    }

    /// Takes a call. Returns whether a batch was submitted.
    #[inline(always)]
    fn add(&mut self, RawCall { arguments, wish, task }: RawCall) -> bool {
        match arguments.and_then(|arguments| self.gatherer.inner.accept(arguments, task)) {
            Ok(arguments) => {
                self.read += 1;
                if self.gatherer.ends_before(&arguments, wish.as_deref()) {
                    self.submit();
                }
                self.gatherer.push(arguments, wish, self.expected) && self.submit_full()
            }
            Err(error) => self.fail(error),
        }
    }

    /// The next call fails without being submitted.
    #[cold]
    fn fail(&mut self, error: Error) -> bool {
        self.submit();
        lock(&self.gathering.state).batches.push_back(Results::failed(self.begun, error));
        self.begun += 1;
        true
    }

    /// The pool takes no calls.
    #[cold]
    fn end_refused(&mut self, error: Error) {
        self.submit();
        if !std::mem::replace(&mut self.refused, true) {
            lock(&self.gathering.state).batches.push_back(Results::refused(error));
        }
    }

    /// Whether to stop reading, as the pool takes no more calls. Then the map has failed.
    #[inline(always)]
    fn is_refused(&mut self) -> bool {
        self.gatherer.inner.over.load(Ordering::Relaxed) && self.refuse()
    }

    #[cold]
    fn refuse(&mut self) -> bool {
        let Some(error) = self.gatherer.inner.accepts(self.gatherer.task).err() else { return false };
        self.end_refused(error);
        true
    }

    #[inline(never)]
    fn submit_full(&mut self) -> bool {
        // Where the number of inputs is unknown, batches grow with what was read.
        self.expected = self.expected.max(batch_size(self.gatherer.inner, self.read));
        self.submit();
        true
    }

    fn submit(&mut self) {
        let (gathering, begun) = (&self.gathering, self.begun);
        let (mut calls, mut weight) = (0, 0);
        let submitted = self.gatherer.submit(|arguments, regions| {
            calls = arguments.len() as usize;
            weight = arguments.size() + regions.len() * REGION_BYTES;
            let mut state = lock(&gathering.state);
            let position = state.taken + state.batches.len();
            state.batches.push_back(Results::new(begun, arguments.len()));
            state.missing += calls;
            state.missing_bytes += weight;
            let (gathering, weight) = (gathering.clone(), weight);
            move |first: u32, outcome: Outcome<'_>| gathering.end(position, weight, first, outcome)
        });
        if let Err(error) = submitted {
            self.refused = true;
            // The batch has failed as a whole, before it was anybody's.
            let mut state = lock(&gathering.state);
            state.batches.pop_back();
            state.missing -= calls;
            state.missing_bytes -= weight;
            state.batches.push_back(Results::refused(error));
        }
        self.begun += calls;
    }
}

/// How many calls make a batch: every worker gets several, and there are not too many.
fn batch_size(inner: &Inner, inputs: usize) -> u32 {
    let most = inner.bound.as_ref().map_or(BATCH_CALLS, |bound| bound.most_together().calls.min(BATCH_CALLS));
    (inputs / (16 * inner.seats)).clamp(1, most) as u32
}

impl Pool {
    /// Makes a call of each input with `f`, on this thread, runs them all, and returns their results in the order of the
    /// inputs.
    ///
    /// `f` is `name::call` for a task with one parameter, or a closure that returns a call. Inputs and parameter have to
    /// be of the same type for `name::call` itself; a closure borrows, copies and converts:
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// use std::path::{Path, PathBuf};
    ///
    /// #[task]
    /// fn depth(path: &Path) -> usize {
    ///     path.components().count()
    /// }
    ///
    /// #[task]
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::new(2)?;
    ///     let (paths, numbers) = (vec![PathBuf::from("a/b"), PathBuf::from("c")], vec![1, 2]);
    ///     assert_eq!(pool.map(|path| depth::call(path), &paths)?, [2, 1]);
    ///     assert_eq!(pool.map(|path| depth::call(&path), paths)?, [2, 1]);
    ///     assert_eq!(pool.map(|&n| square::call(n), &numbers)?, [1, 4]);
    ///     assert_eq!(pool.map(square::call, numbers)?, [1, 4]);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// The first failure in the order of the inputs; [`Error::index`] says which input that is. The other calls run in
    /// any case. Once the pool is closed or terminated, no more inputs are read, and the error is that of the pool: at
    /// once if it was before.
    ///
    /// # Panics
    ///
    /// If `inputs` or `f` panics. Calls that have not started are then cancelled.
    pub fn map<I: IntoIterator, F: FnMut(I::Item) -> C, C: TaskCall>(&self, f: F, inputs: I) -> Result<Vec<C::Output>> {
        self.map_with::<_, _, C, _>(f, inputs, |results, task, values| {
            results.decode_into(<C::Task as Task>::decode, task, values)
        })
    }

    /// As [`map`](Self::map), but one failure does not hide the other results: returns a result for each input, in the
    /// order of the inputs.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// #[task]
    /// fn invert(n: i32) -> i32 {
    ///     100 / n
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let results = Pool::new(2)?.try_map(invert::call, [5, 0, 1])?;
    ///     assert_eq!(results[0].as_ref().ok(), Some(&20));
    ///     assert!(results[1].as_ref().is_err_and(|error| error.is_panic()));
    ///     assert_eq!(results[2].as_ref().ok(), Some(&100));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Only what is not the failure of one input: the pool takes no more calls, as it is closed, terminated, or cannot
    /// start workers, before all inputs are read. The results of calls before that are then lost;
    /// [`imap`](Self::imap) gives them.
    ///
    /// # Panics
    ///
    /// As [`map`](Self::map).
    pub fn try_map<I: IntoIterator, F: FnMut(I::Item) -> C, C: TaskCall>(
        &self,
        f: F,
        inputs: I,
    ) -> Result<Vec<Result<C::Output>>> {
        self.map_with::<_, _, C, _>(f, inputs, |results, task, values| {
            results.decode_each(<C::Task as Task>::decode, task, values)
        })
    }

    /// `decode` appends the results of a batch.
    #[inline]
    fn map_with<I: IntoIterator, F: FnMut(I::Item) -> C, C: TaskCall, V>(
        &self,
        mut f: F,
        inputs: I,
        decode: impl Fn(Results, &'static str, &mut Vec<V>) -> Result<()>,
    ) -> Result<Vec<V>> {
        // Reads inputs no faster than results arrive, and decodes those meanwhile: neither takes more memory than the
        // window.
        let inputs = inputs.into_iter();
        let expected = inputs.size_hint().0;
        let mut mapper = Mapper::new::<C>(&self.inner, None, expected);
        self.inner.accepts(mapper.gatherer.task)?;
        self.inner.check(mapper.gatherer.task)?;
        let (task, gathering) = (mapper.gatherer.task.name(), mapper.gathering.clone());
        // Some iterators promise more than there is memory for.
        let mut values = Vec::new();
        let _ = values.try_reserve(expected.min(MOST_RESERVED / size_of::<V>().max(1)));
        os::prefer_huge_pages(values.spare_capacity_mut());
        let mut outcome = Ok(());
        let mut decode_all = |whole: Vec<Results>| {
            for results in whole {
                if outcome.is_ok() {
                    outcome = decode(results, task, &mut values);
                }
            }
        };
        let (inner, seats) = (&*self.inner, self.inner.seats);
        let progress = |calls, bytes| MapProgress { gathering: &gathering, calls, bytes, seats };
        for input in inputs {
            if mapper.is_refused() {
                break;
            }
            if !mapper.add(f(input).into_raw()) {
                continue;
            }
            inner.help();
            if !progress(WINDOW_CALLS * seats, WINDOW_BYTES).is_done() {
                // Half of the window, so that it does not wait for each batch.
                inner.wait(&progress(WINDOW_CALLS / 2 * seats, WINDOW_BYTES / 2), None);
            }
            decode_all(gathering.take_whole());
        }
        mapper.submit();
        loop {
            decode_all(gathering.take_whole());
            let missing = match &*lock(&gathering.state) {
                state if state.batches.is_empty() => break,
                state => state.missing,
            };
            inner.wait(&progress(missing.saturating_sub(WINDOW_CALLS / 2), usize::MAX), None);
        }
        mapper.gatherer.submitted.clear();
        outcome.map(|()| values)
    }

    /// As [`map`](Self::map), but returns as soon as all inputs were read. The job has the result of `map`.
    ///
    /// # Panics
    ///
    /// If `inputs` or `f` panics. Calls that have not started are then cancelled.
    pub fn map_async<I: IntoIterator, F: FnMut(I::Item) -> C, C: TaskCall>(
        &self,
        mut f: F,
        inputs: I,
    ) -> Job<Vec<C::Output>> {
        let inner = &self.inner;
        let id = inner.jobs.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot::of_calls(<C::Task as Registered>::info(), id));
        let inputs = inputs.into_iter();
        let mut mapper = Mapper::new::<C>(inner, Some(slot.clone()), inputs.size_hint().0);
        let task = mapper.gatherer.task;
        match inner.accepts(task).and_then(|()| inner.check(task)) {
            Ok(()) => {
                for input in inputs {
                    if mapper.is_refused() {
                        break;
                    }
                    if mapper.add(f(input).into_raw()) {
                        inner.help();
                    }
                }
                mapper.submit();
            }
            Err(error) => mapper.end_refused(error),
        }
        mapper.gathering.update(|gathered| gathered.all_submitted = true);
        let tickets = Tickets::Many(mapper.gatherer.submitted.drain(..).map(|(ticket, _)| ticket).collect());
        let origin = Origin { id, task: mapper.gatherer.task, tickets };
        Job::new(slot, decode_many::<C::Task>, inner.clone(), origin)
    }
}

/// The results of all batches of a map.
struct Gathering {
    state: Mutex<Gathered>,
    changed: Condvar,
    /// Gets all results at once.
    slot: Option<Arc<Slot>>,
}

#[derive(Default)]
struct Gathered {
    batches: VecDeque<Results>,
    /// How many complete batches were removed from the front.
    taken: usize,
    /// Calls without a result.
    missing: usize,
    /// The bytes in the window of batches that are not complete.
    missing_bytes: usize,
    all_submitted: bool,
    sleepers: u32,
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
        } else if state.sleepers > 0 {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The calls from index `first` on, of the batch at this position, have ended.
    fn end(&self, position: usize, weight: usize, first: u32, outcome: Outcome<'_>) {
        self.update(|gathered| {
            gathered.missing -= if let Outcome::Values(values) = &outcome { values.count() as usize } else { 1 };
            // A batch that was removed was complete.
            let Some(results) = gathered.batches.get_mut(position - gathered.taken) else { return };
            match outcome {
                Outcome::Values(values) => results.values(first, values),
                Outcome::One(Ok(payload)) => results.payload(first, &payload),
                Outcome::Split(split) => results.value(first, &[&split.before, split.data.bytes()]),
                Outcome::One(Err(error)) | Outcome::WithPool(error) => results.fail(first, error),
            }
            if results.are_whole() {
                gathered.missing_bytes -= weight;
            }
        });
    }

    /// Removes the complete batches, up to the first that is not.
    fn take_whole(&self) -> Vec<Results> {
        let mut state = lock(&self.state);
        let whole = state.batches.iter().take_while(|results| results.are_whole()).count();
        state.taken += whole;
        state.batches.drain(..whole).collect()
    }
}

/// Is done when no more than so many calls and bytes of a map are missing.
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

    /// No single call is urgent. Other threads that wait meanwhile have their own patience.
    fn patience(&self) -> Duration {
        LONG_NAP
    }

    fn sleep(&self, deadline: Option<Instant>) {
        let Gathering { state, changed, .. } = self.gathering;
        sleep_until((state, changed), deadline, |state| self.is_made(state), |state| &mut state.sleepers);
    }
}
