//! Calls that were submitted together, as the pool sees them: what they are made of, and whom to tell how they end.

use crate::error::Error;
use crate::job::{Raw, Slot};
use crate::memory::Split;
use crate::memory::packed::PackedSlice;
use crate::memory::payload::Payload;
use crate::memory::region::Region;
use crate::policy::Policy;
use crate::pool::dispatcher::{Dispatcher, Flight, Work};
use crate::protocol::{CALLS_HEAD, CallsWriter, Values, WriteFrame, chunk_overhead};
use crate::transport::Append;
use std::ops::Range;
use std::sync::Arc;

pub(crate) trait Submission: Work + Send + Sync {
    /// Shows the arguments of some of them.
    fn with_arguments(&self, calls: Range<u32>, see: &mut dyn FnMut(PackedSlice<'_>));

    /// Shows the shared memory of which the arguments speak, if they do.
    fn with_regions(&self, see: &mut dyn FnMut(&[Arc<Region>]));

    /// Calls have ended with these values; the first is that of the call of this index.
    fn values(&self, first: u32, values: Values<'_>);

    /// One has ended with a large value.
    fn large_value(&self, index: u32, payload: Payload);

    /// One has ended with a value whose plain data is in memory of its own.
    fn split_value(&self, index: u32, split: Split);

    fn fail(&self, index: u32, error: Error);
}

impl Work for Slot {
    fn task(&self) -> &'static str {
        Slot::task(self)
    }

    fn first_job(&self) -> u64 {
        self.job
    }

    fn size(&self, calls: Range<u32>) -> usize {
        Slot::size(self) * calls.len()
    }

    fn policy(&self) -> &Policy {
        Slot::policy(self)
    }
}

impl Submission for Slot {
    fn with_arguments(&self, _: Range<u32>, see: &mut dyn FnMut(PackedSlice<'_>)) {
        Slot::with_arguments(self, |bytes| see(PackedSlice::single(bytes)));
    }

    fn with_regions(&self, see: &mut dyn FnMut(&[Arc<Region>])) {
        Slot::with_regions(self, see);
    }

    fn values(&self, _: u32, values: Values<'_>) {
        self.finish(Raw::One(Ok(Payload::copy(values.payload()))));
    }

    fn large_value(&self, _: u32, payload: Payload) {
        self.finish(Raw::One(Ok(payload)));
    }

    fn split_value(&self, _: u32, split: Split) {
        self.finish(Raw::Split(Box::new(split)));
    }

    fn fail(&self, _: u32, error: Error) {
        Slot::fail(self, error);
    }
}

/// A frame of calls that the dispatcher has sent to a seat: those of these numbers.
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
    fn most(&self) -> usize {
        let of = |flight: &Flight<dyn Submission>| {
            let Flight { calls, .. } = flight;
            chunk_overhead(calls.work.task()) + calls.work.size(calls.next..calls.end)
        };
        CALLS_HEAD + self.flights().map(of).sum::<usize>()
    }

    fn write<A: Append>(&self, to: &mut A) {
        let mut writer = CallsWriter::new(to, self.generation);
        for flight in self.flights() {
            let calls = flight.calls.next..flight.calls.end;
            flight.calls.work.with_arguments(calls.clone(), &mut |arguments| {
                writer.chunk(flight.header(), calls.len() as u32, flight.calls.work.task(), arguments);
            });
        }
    }
}
