//! Calls that were submitted together: their arguments, and who is told how they ended.

use crate::error::{Error, Result};
use crate::job::{Raw, Slot};
use crate::memory::{PackedSlice, Payload, Region, Split};
use crate::policy::Policy;
use crate::pool::dispatcher::{Dispatcher, Flight, Work};
use crate::protocol::{CALLS_HEAD, CallsWriter, Values, WriteFrame, chunk_overhead};
use crate::task::TaskInfo;
use crate::transport::Append;
use std::ops::Range;
use std::sync::Arc;

pub(crate) trait Submission: Work + Send + Sync {
    fn with_arguments(&self, calls: Range<u32>, see: &mut dyn FnMut(PackedSlice<'_>));

    /// Shows the regions that the arguments of these calls refer to, if they do, and no others: a confined worker is
    /// given what is shown.
    fn with_regions(&self, calls: Range<u32>, see: &mut dyn FnMut(&[Arc<Region>]));

    /// The calls from index `first` on have ended.
    fn end(&self, first: u32, outcome: Outcome<'_>);
}

/// All calls of a submission, however many there are.
pub(super) const ALL_CALLS: Range<u32> = 0..u32::MAX;

/// How calls that were submitted together have ended.
pub(crate) enum Outcome<'v> {
    /// Calls with consecutive indices have these values.
    Values(Values<'v>),
    /// One call has this value, or has failed.
    One(Result<Payload>),
    /// One call has failed as its pool has, which was logged.
    WithPool(Error),
    /// One call has a value whose plain data is in memory of its own.
    Split(Split),
}

impl Work for Slot {
    fn task(&self) -> &'static str {
        self.task.map_or("", TaskInfo::name)
    }

    fn first_job(&self) -> u64 {
        self.job
    }

    fn size(&self, calls: Range<u32>) -> usize {
        self.size as usize * calls.len()
    }

    fn policy(&self) -> &Policy {
        self.policy.get()
    }

    fn result_bound(&self) -> u64 {
        self.task.map_or(u64::MAX, |task| task.result_bound)
    }
}

impl Submission for Slot {
    fn with_arguments(&self, _: Range<u32>, see: &mut dyn FnMut(PackedSlice<'_>)) {
        Slot::with_arguments(self, |bytes| see(PackedSlice::single(bytes)));
    }

    fn with_regions(&self, _: Range<u32>, see: &mut dyn FnMut(&[Arc<Region>])) {
        Slot::with_regions(self, see);
    }

    fn end(&self, _: u32, outcome: Outcome<'_>) {
        self.finish(match outcome {
            Outcome::WithPool(error) => return self.fail_with_pool(error),
            Outcome::Values(values) => {
                let payload = values.payload();
                Raw::One(Payload::copy(payload).ok_or_else(|| Error::no_memory(payload.len()).of_task(self.task())))
            }
            Outcome::One(result) => Raw::One(result),
            Outcome::Split(split) => Raw::Split(Box::new(split)),
        });
    }
}

/// A frame of the calls with these numbers, which the dispatcher sends to a seat.
pub(super) struct CallsFrame<'d> {
    pub(super) dispatcher: &'d Dispatcher<dyn Submission>,
    pub(super) seat: usize,
    pub(super) generation: u32,
    pub(super) first: u32,
    pub(super) last: u32,
}

impl<'d> CallsFrame<'d> {
    pub(super) fn flights(&self) -> impl Iterator<Item = &'d Flight<dyn Submission>> {
        self.dispatcher.flights(self.seat, self.first, self.last)
    }
}

impl WriteFrame for CallsFrame<'_> {
    #[inline]
    fn most(&self) -> usize {
        let of = |flight: &Flight<dyn Submission>| {
            let calls = &flight.calls;
            chunk_overhead(calls.work.task()) + calls.work.size(calls.range())
        };
        CALLS_HEAD + self.flights().map(of).sum::<usize>()
    }

    #[inline]
    fn write<A: Append>(&self, to: &mut A) {
        let mut writer = CallsWriter::new(to, self.generation);
        for flight in self.flights() {
            let calls = flight.calls.range();
            flight.calls.work.with_arguments(calls.clone(), &mut |arguments| {
                let work = &flight.calls.work;
                let task = (work.task(), work.policy().max_result);
                writer.chunk(flight.header_of(calls.start), calls.len() as u32, task, arguments);
            });
        }
    }
}
