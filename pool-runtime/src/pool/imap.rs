//! The iterators `imap` and `imap_unordered`: they read their inputs a little ahead of the results that are taken.

use crate::error::{Error, Result};
use crate::job::{Awaited, Home, decode_value};
use crate::memory::payload::Payload;
use crate::panic;
use crate::pool::batch::{BatchSink, Gatherer, Submitted, decode_of, task_of, withdraw};
use crate::pool::inner::Inner;
use crate::pool::submission::Submission;
use crate::protocol::Values;
use crate::sync::{lock, sleep_on};
use crate::task::TaskCall;
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Instant;

/// Results on their way to an iterator.
#[derive(Default)]
struct ImapResults {
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

/// Where the results of a batch go in an iterator.
struct ImapEnds {
    results: Arc<ImapResults>,
    first: u64,
    ordered: bool,
}

impl ImapResults {
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
    fn take(&self, inner: &Inner) -> Result<Payload> {
        loop {
            let mut arrived = lock(&self.arrived);
            if let Some(Some(_)) = arrived.results.front() {
                arrived.first += 1;
                if let Some(Some(result)) = arrived.results.pop_front() {
                    return result;
                }
            }
            drop(arrived);
            inner.wait(self, None);
        }
    }
}

impl Awaited for ImapResults {
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

impl BatchSink for ImapEnds {
    fn values(&self, first: u32, values: Values<'_>) {
        let payloads = values.payloads().map(|payload| Ok(Payload::copy(payload)));
        self.results.put(self.first + u64::from(first), self.ordered, payloads);
    }

    fn value(&self, index: u32, payload: &[&[u8]]) {
        self.results.put(self.first + u64::from(index), self.ordered, std::iter::once(Ok(payload.concat().into())));
    }

    fn fail(&self, index: u32, error: Error) {
        self.results.put(self.first + u64::from(index), self.ordered, std::iter::once(Err(error)));
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
    inner: &'p Arc<Inner>,
    inputs: Option<I>,
    f: F,
    ordered: bool,
    chunk_size: u32,
    look_ahead: usize,
    gatherer: Gatherer,
    results: Arc<ImapResults>,
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
    pub(super) fn new(inner: &'p Arc<Inner>, f: F, inputs: I, ordered: bool) -> Self {
        Self {
            inner,
            inputs: Some(inputs),
            f,
            ordered,
            chunk_size: 1,
            look_ahead: 16 * inner.seats,
            gatherer: Gatherer::new(task_of::<C>()),
            results: Arc::new(ImapResults::default()),
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
        let fit = self.inner.check(self.gatherer.task);
        while self.read - self.taken < self.look_ahead as u64 {
            let Some(inputs) = &mut self.inputs else { break };
            let f = &mut self.f;
            // A panic in there is the user's, and its time has come when the results before it have been taken.
            let (arguments, wish) =
                match catch_unwind(AssertUnwindSafe(|| inputs.next().map(|input| f(input).into_raw()))) {
                    Ok(Some(call)) => (call.arguments.and_then(|arguments| fit.clone().map(|()| arguments)), call.wish),
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
                    if self.gatherer.ends_before(&arguments, wish.as_deref()) {
                        self.submit();
                    }
                    self.gatherer.set_wish(wish);
                    if self.gatherer.push(arguments, self.chunk_size) {
                        self.submit();
                    }
                }
                Err(error) => {
                    self.submit();
                    self.results.put(self.submitted, self.ordered, std::iter::once(Err(error)));
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
        let inner = self.inner;
        let batch = self.gatherer.take(inner);
        let length = batch.len();
        let ends = ImapEnds { results: self.results.clone(), first: self.submitted, ordered: self.ordered };
        let submission: Arc<dyn Submission> = Arc::new(Submitted { batch, ends });
        self.submitted += u64::from(length);
        match inner.submit_all(submission.clone(), length) {
            Ok(ticket) => {
                // No more than the look-ahead are under way: an endless input must not leave an endless list.
                if self.tickets.len() / 2 >= self.look_ahead {
                    self.tickets.retain(|(_, sink)| sink.strong_count() > 0);
                }
                self.tickets.push((ticket, Arc::downgrade(&submission)));
            }
            Err(error) => (0..length).for_each(|index| submission.fail(index, error.clone())),
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
        let result = self.results.take(self.inner);
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
        withdraw(self.inner, self.tickets.drain(..).map(|(ticket, _)| ticket));
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
