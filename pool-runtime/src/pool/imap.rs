//! The iterators `imap` and `imap_unordered`, which read their inputs a little ahead of the results that are taken.

use crate::dossier::Ran;
use crate::error::{Error, Kind, Result};
use crate::job::{Awaited, Home, decode_payload, sleep_until};
use crate::locks::lock;
use crate::memory::{Payload, joined};
use crate::panic;
use crate::pool::{Gatherer, Inner, Load, Outcome, Pool};
use crate::task::{Task, TaskCall};
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::iter::once;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Results that were not taken yet.
struct ImapResults {
    ordered: bool,
    arrived: Mutex<Arrived>,
    changed: Condvar,
}

#[derive(Default)]
struct Arrived {
    /// Ordered: the results of the inputs from `first` on, with gaps. Unordered: what has arrived. Each with the
    /// position of its input.
    results: VecDeque<Option<(u64, Result<Payload>)>>,
    first: u64,
    sleepers: u32,
}

impl Arrived {
    fn has_next(&self) -> bool {
        matches!(self.results.front(), Some(Some(_)))
    }
}

impl ImapResults {
    fn end(&self, index: u64, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Values(values) => {
                let copy = |payload: &[u8]| Payload::copy(payload).ok_or_else(|| Error::no_memory(payload.len()));
                self.put(index, values.payloads().map(copy));
            }
            Outcome::One(result) => self.put(index, once(result)),
            Outcome::WithPool(error) => self.put(index, once(Err(error))),
            Outcome::Split(split) => {
                let parts = [&split.before, split.data.bytes()];
                let whole = joined(&parts).map(Payload::from);
                self.put(index, once(whole.ok_or_else(|| Error::no_memory(split.data.bytes().len()))));
            }
        }
    }

    fn put(&self, index: u64, results: impl Iterator<Item = Result<Payload>>) {
        let mut arrived = lock(&self.arrived);
        for (index, result) in (index..).zip(results) {
            if !self.ordered {
                arrived.results.push_back(Some((index, result)));
                continue;
            }
            let Some(position) = index.checked_sub(arrived.first) else { continue };
            let position = position as usize;
            if arrived.results.len() <= position {
                arrived.results.resize_with(position + 1, || None);
            }
            arrived.results[position] = Some((index, result));
        }
        let sleepers = arrived.sleepers;
        drop(arrived);
        if sleepers > 0 {
            self.changed.notify_one();
        }
    }

    /// Waits for the next result, at most until `deadline`.
    fn take(&self, inner: &Inner, deadline: Option<Instant>) -> Option<(u64, Result<Payload>)> {
        loop {
            let mut arrived = lock(&self.arrived);
            if let Some(result) = arrived.results.pop_front_if(|result| result.is_some()).flatten() {
                arrived.first += 1;
                return Some(result);
            }
            drop(arrived);
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return None;
            }
            inner.wait(self, deadline);
        }
    }
}

impl Awaited for ImapResults {
    fn is_done(&self) -> bool {
        lock(&self.arrived).has_next()
    }

    fn sleep(&self, deadline: Option<Instant>) {
        sleep_until((&self.arrived, &self.changed), deadline, Arrived::has_next, |arrived| &mut arrived.sleepers);
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
    /// The first field, so that calls are cancelled before user code runs in `drop`.
    gatherer: Gatherer<'p>,
    inputs: Option<I>,
    f: F,
    chunk_size: u32,
    look_ahead: usize,
    results: Arc<ImapResults>,
    /// Inputs that were read.
    read: u64,
    /// Inputs whose calls were submitted, or failed before.
    submitted: u64,
    /// Results that were handed out.
    taken: u64,
    /// The panic of the inputs or of `f`.
    panicked: Option<Box<dyn Any + Send>>,
    /// Why the pool takes no more calls: handed out once, after the results of those that it took.
    refused: Option<Error>,
    call: std::marker::PhantomData<fn() -> C>,
}

impl Pool {
    /// An iterator over the results, in the order of the inputs. It reads `inputs` a little ahead of the results that
    /// are taken, so they may be infinite. `f` is as for [`map`](Self::map).
    ///
    /// An [`Error::index`] says which input has failed.
    ///
    /// A panic of `inputs` or `f` is resumed after all results before it. Once the pool is closed or terminated, no more
    /// inputs are read: the results of the calls before that are followed by one error that
    /// [`is_closed`](crate::Error::is_closed), and then by `None`.
    ///
    /// Dropping the iterator cancels the calls that have not started, also those that a worker was already sent. One that
    /// runs goes on.
    pub fn imap<I: IntoIterator, F: FnMut(I::Item) -> C, C: TaskCall>(
        &self,
        f: F,
        inputs: I,
    ) -> Imap<'_, I::IntoIter, F, C> {
        Imap::new(&self.inner, f, inputs.into_iter(), true)
    }

    /// As [`imap`](Self::imap), but results come in the order in which they arrive. [`indexed`](Imap::indexed) says
    /// which input each belongs to; an error knows that itself ([`Error::index`]).
    pub fn imap_unordered<I: IntoIterator, F: FnMut(I::Item) -> C, C: TaskCall>(
        &self,
        f: F,
        inputs: I,
    ) -> Imap<'_, I::IntoIter, F, C> {
        Imap::new(&self.inner, f, inputs.into_iter(), false)
    }
}

impl<'p, I, F, C: TaskCall> Imap<'p, I, F, C> {
    fn new(inner: &'p Arc<Inner>, f: F, inputs: I, ordered: bool) -> Self {
        Self {
            gatherer: Gatherer::of::<C>(inner),
            inputs: Some(inputs),
            f,
            chunk_size: 1,
            look_ahead: 16 * inner.seats,
            results: Arc::new(ImapResults { ordered, arrived: Mutex::default(), changed: Condvar::new() }),
            read: 0,
            submitted: 0,
            taken: 0,
            panicked: None,
            refused: None,
            call: std::marker::PhantomData,
        }
    }

    /// How many inputs are submitted together; at least, and by default, 1. Small calls are sent together in any case.
    pub fn chunk_size(mut self, inputs: usize) -> Self {
        self.chunk_size = u32::try_from(inputs.max(1)).unwrap_or(u32::MAX);
        self
    }

    /// How many inputs are read ahead of the results that are taken; at least 1. The default is 16 for each worker.
    pub fn look_ahead(mut self, inputs: usize) -> Self {
        self.look_ahead = inputs.max(1);
        self
    }

    /// Gives each result with the position of its input, from 0: so the results of
    /// [`imap_unordered`](Pool::imap_unordered) can be told apart.
    ///
    /// (`enumerate` counts the results as they arrive.) If the pool takes no more calls, the one error that says so comes
    /// with the position of the first input whose call it did not take.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// #[task]
    /// fn length(word: &str) -> usize {
    ///     word.len()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let words = ["to", "be", "or", "not"];
    ///     let pool = Pool::new(2)?;
    ///     for (index, result) in pool.imap_unordered(length::call, words).indexed() {
    ///         assert_eq!(result?, words[index].len());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn indexed(self) -> IndexedImap<'p, I, F, C> {
        IndexedImap(self)
    }
}

/// The results of an [`Imap`] with the positions of their inputs: see [`Imap::indexed`].
#[must_use = "nothing is submitted until results are taken"]
pub struct IndexedImap<'p, I, F, C: TaskCall>(Imap<'p, I, F, C>);

impl<I, F, C: TaskCall> IndexedImap<'_, I, F, C> {
    /// As [`Imap::look_ahead`].
    pub fn look_ahead(self, inputs: usize) -> Self {
        Self(self.0.look_ahead(inputs))
    }
}

impl<I: Iterator, F: FnMut(I::Item) -> C, C: TaskCall> IndexedImap<'_, I, F, C> {
    /// As [`next`](Iterator::next), but waits for at most `patience`, as [`Imap::next_timeout`] does. If that is too
    /// short, the result is an error that [`is_pending`](Error::is_pending), and there is no position, as it is not
    /// known yet which result is next.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// # use std::time::Duration;
    /// #[task]
    /// fn length(word: &str) -> usize {
    ///     word.len()
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let words = ["to", "be", "or", "not"];
    ///     let pool = Pool::new(2)?;
    ///     let mut results = pool.imap_unordered(length::call, words).indexed();
    ///     while let Some(next) = results.next_timeout(Duration::from_millis(10)) {
    ///         match next {
    ///             Ok((index, result)) => assert_eq!(result?, words[index].len()),
    ///             Err(error) => assert!(error.is_pending()),
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// The inner result is the call's. The outer one fails if there is none yet.
    pub fn next_timeout(&mut self, patience: Duration) -> Option<Result<(usize, Result<C::Output>)>> {
        Some(self.0.next_until(Instant::now().checked_add(patience))?.ok_or_else(|| self.0.late(patience)))
    }
}

impl<I: Iterator, F: FnMut(I::Item) -> C, C: TaskCall> Iterator for IndexedImap<'_, I, F, C> {
    type Item = (usize, Result<C::Output>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_indexed()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<I: Iterator, F: FnMut(I::Item) -> C, C: TaskCall> Imap<'_, I, F, C> {
    /// Reads inputs up to the look-ahead.
    fn read_ahead(&mut self, deadline: Option<Instant>) {
        if self.read - self.taken >= self.look_ahead as u64 && self.gatherer.load().calls == 0 {
            return;
        }
        let fit = self.gatherer.inner.check(self.gatherer.task);
        while self.read - self.taken < self.look_ahead as u64 {
            if !self.may_read(deadline) {
                break;
            }
            let Some(inputs) = &mut self.inputs else { break };
            let f = &mut self.f;
            // A panic of the user's code is resumed when the results before it were taken.
            let (task, inner) = (self.gatherer.task, self.gatherer.inner);
            let accept = |arguments| fit.clone().and_then(|()| inner.accept(arguments, task));
            let (arguments, wish) =
                match catch_unwind(AssertUnwindSafe(|| inputs.next().map(|input| f(input).into_raw()))) {
                    Ok(Some(call)) => (call.arguments.and_then(accept), call.wish),
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
                    if self.gatherer.ends_before(&arguments, wish.as_deref()) && !self.submit() {
                        break;
                    }
                    // A pool that is over refuses it now.
                    let full = self.gatherer.push(arguments, wish, self.chunk_size);
                    if (full || self.gatherer.inner.over.load(Ordering::Relaxed)) && !self.submit_with_room(deadline) {
                        break;
                    }
                }
                Err(error) => {
                    if !self.submit() {
                        break;
                    }
                    self.results.end(self.submitted, Outcome::One(Err(error)));
                    self.submitted += 1;
                }
            }
        }
        // An incomplete chunk is submitted if no other input follows, or no call is in flight.
        if self.inputs.is_none() || self.submitted == self.taken {
            self.submit_with_room(deadline);
        }
    }

    /// Whether the pool has room for these calls, as far as it has a bound. Waits for that only if there is no result to
    /// wait for.
    #[inline]
    fn await_room(&self, load: Load, deadline: Option<Instant>) -> bool {
        let inner = self.gatherer.inner;
        inner.bound.is_none()
            || inner.has_room(load)
            || self.submitted == self.taken && inner.await_room(load, deadline)
    }

    /// Whether another input is read: there is room for its call behind those that were gathered, or behind none.
    #[inline]
    fn may_read(&mut self, deadline: Option<Instant>) -> bool {
        let another = |Load { calls, bytes }| Load { calls: calls + 1, bytes };
        self.gatherer.inner.bound.as_ref().is_none()
            || self.gatherer.inner.has_room(another(self.gatherer.load()))
            || self.submit_with_room(deadline) && self.await_room(another(self.gatherer.load()), deadline)
    }

    /// As [`submit`](Self::submit), if there [is room](Self::await_room). If not, what was gathered stays. Returns whether
    /// to go on.
    fn submit_with_room(&mut self, deadline: Option<Instant>) -> bool {
        let load = self.gatherer.load();
        load.calls == 0 || self.await_room(load, deadline) && self.submit()
    }

    /// Returns false if the pool takes no more calls. Then those that were not submitted are given up for one error, and
    /// no more inputs are read.
    fn submit(&mut self) -> bool {
        let (results, begin) = (&self.results, self.submitted);
        let mut calls = 0;
        let submitted = self.gatherer.submit(|arguments, _| {
            calls = u64::from(arguments.len());
            let results = results.clone();
            move |first: u32, outcome: Outcome<'_>| results.end(begin + u64::from(first), outcome)
        });
        match submitted {
            Ok(()) => self.submitted += calls,
            Err(error) => {
                self.refused = Some(error);
                self.read = self.submitted + 1;
                panic::drop_quietly(self.inputs.take());
            }
        }
        self.refused.is_none()
    }
}

impl<I: Iterator, F: FnMut(I::Item) -> C, C: TaskCall> Iterator for Imap<'_, I, F, C> {
    type Item = Result<C::Output>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_indexed()?.1)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let read = (self.read - self.taken) as usize;
        let most = self.inputs.as_ref().map_or(Some(0), |inputs| inputs.size_hint().1);
        (read, most.and_then(|most| most.checked_add(read)))
    }
}

impl<I: Iterator, F: FnMut(I::Item) -> C, C: TaskCall> Imap<'_, I, F, C> {
    /// As [`next`](Iterator::next), but waits for at most `patience`. If that is too short, the result is an error that
    /// [`is_pending`](Error::is_pending), nothing is lost, and the same result can be waited for again. Zero polls.
    ///
    /// Reading inputs takes as long as they do.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// # use std::time::Duration;
    /// #[task]
    /// fn square(n: u64) -> u64 {
    ///     n * n
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::new(2)?;
    ///     let mut results = pool.imap(square::call, 1..=3);
    ///     let mut squares = Vec::new();
    ///     while let Some(result) = results.next_timeout(Duration::from_millis(10)) {
    ///         match result {
    ///             Err(error) if error.is_pending() => println!("still waiting"),
    ///             result => squares.push(result?),
    ///         }
    ///     }
    ///     assert_eq!(squares, [1, 4, 9]);
    ///     Ok(())
    /// }
    /// ```
    pub fn next_timeout(&mut self, patience: Duration) -> Option<Result<C::Output>> {
        let next = self.next_until(Instant::now().checked_add(patience))?;
        Some(next.map_or_else(|| Err(self.late(patience)), |(_, result)| result))
    }

    #[cold]
    fn late(&self, patience: Duration) -> Error {
        Error::new(Kind::NotYet(patience)).with_ran(Ran::Maybe).of_task(self.gatherer.task.name())
    }

    /// In a child that was forked from the pool's process, no result comes: one error says so, and nothing follows.
    #[cold]
    fn end_in_fork(&mut self) -> Option<Option<(usize, Result<C::Output>)>> {
        if self.inputs.is_none() && self.taken == self.submitted {
            return None;
        }
        panic::drop_quietly(self.inputs.take());
        (self.read, self.taken) = (self.submitted, self.submitted);
        let error = self.gatherer.inner.made_in.check("pool").err()?;
        Some(Some((self.read as usize, Err(error.of_task(self.gatherer.task.name())))))
    }

    /// The next result, and the position of its input.
    #[inline]
    fn next_indexed(&mut self) -> Option<(usize, Result<C::Output>)> {
        let next = self.next_until(None)?;
        let early = || (self.taken as usize, Err(Error::invalid("the wait for a result ended early")));
        Some(next.unwrap_or_else(early))
    }

    /// The next result, and the position of its input; `Some(None)` if there is none until `deadline`.
    #[inline]
    fn next_until(&mut self, deadline: Option<Instant>) -> Option<Option<(usize, Result<C::Output>)>> {
        if !self.gatherer.inner.made_in.is_here() {
            return self.end_in_fork();
        }
        self.read_ahead(deadline);
        if self.taken == self.submitted {
            if let Some(error) = self.refused.take() {
                let index = self.submitted as usize;
                self.submitted += 1;
                self.taken += 1;
                return Some(Some((index, Err(error))));
            }
            if self.gatherer.load().calls > 0 {
                return Some(None);
            }
            if let Some(payload) = self.panicked.take() {
                resume_unwind(payload);
            }
            // Inputs are left, and there was no room for their calls in time.
            return self.inputs.is_some().then_some(None);
        }
        let Some((index, result)) = self.results.take(self.gatherer.inner, deadline) else { return Some(None) };
        self.taken += 1;
        let (task, index) = (self.gatherer.task.name(), index as usize);
        let result = result.and_then(|bytes| decode_payload(<C::Task as Task>::decode, task, &bytes));
        Some(Some((index, result.map_err(|error| error.at_input(index)))))
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

impl<I, F, C: TaskCall> fmt::Debug for IndexedImap<'_, I, F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IndexedImap").field(&self.0).finish()
    }
}
