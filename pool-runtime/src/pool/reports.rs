//! What workers say: told to the dispatcher, and how calls have ended to those who wait.

use crate::memory::Split;
use crate::memory::payload::Payload;
use crate::peer::Sink;
use crate::pool::dispatcher::{Ended, How, Report};
use crate::pool::inner::{Core, Inner};
use crate::pool::station::Station;
use crate::pool::submission::Submission;
use crate::protocol::{Failure, Record, RecordReader, Values};
use crate::sync::lock;

/// From this size on, a result is not copied out of the stream that it came in.
const LARGE: usize = 1 << 16;

/// The reports of one worker on their way into the pool.
pub(super) struct Heard<'p> {
    pub(super) inner: &'p Inner,
    pub(super) station: &'p Station,
}

/// Tells those who wait how their calls have ended, in the order in which they did: `runs` has the values.
fn tell_ends(inner: &Inner, ended: Vec<Ended<dyn Submission>>, runs: &[Values<'_>]) {
    let mut runs = runs.iter().copied();
    let mut run = runs.next();
    for Ended { work, first, count, how } in ended {
        let number = match how {
            How::Failed(failure) => {
                inner.fail(&work, first, failure);
                continue;
            }
            How::Values { number } => number,
        };
        // Some values may be of no interest to anybody.
        while run.is_some_and(|run| number.wrapping_sub(run.first()) >= run.count()) {
            run = runs.next();
        }
        let Some(run) = &mut run else { return };
        run.skip_to(number);
        work.values(first, run.take(count));
    }
}

/// A worker could not read the arguments of a call: maybe it could not take the memory that they speak of.
fn not_taken(core: &Core, station: &Station, number: u32) {
    let mut flights = core.dispatcher.flights(station.seat, number, number.wrapping_add(u32::MAX / 4));
    let Some(failed) = flights.next() else { return };
    let mut under_way = failed.calls.len() > 1;
    flights.for_each(|flight| flight.calls.work.with_regions(&mut |regions| under_way |= !regions.is_empty()));
    failed.calls.work.with_regions(&mut |regions| station.peer.doubt(regions, under_way));
}

impl Sink for Heard<'_> {
    /// A large value takes its bytes out of the stream.
    fn records(&mut self, stream: &mut Vec<u8>) -> Result<usize, String> {
        let (seat, epoch) = (self.station.seat, self.station.epoch);
        let mut reader = RecordReader::new(stream);
        let (mut runs, mut ended) = (Vec::new(), Vec::new());
        let mut core = lock(&self.inner.core);
        let told = loop {
            let told = match reader.next() {
                Ok(Some(Record::Values(values))) => {
                    runs.push(values);
                    let report = Report { first: values.first(), count: values.count(), failed: None };
                    core.dispatcher.reported(seat, epoch, report, &mut ended)
                }
                Ok(Some(Record::Failed { number, failed })) => {
                    if matches!(failed.failure, Failure::Decode(_)) {
                        not_taken(&core, self.station, number);
                    }
                    let report = Report { first: number, count: 1, failed: Some(failed) };
                    core.dispatcher.reported(seat, epoch, report, &mut ended)
                }
                Ok(Some(Record::Time { calls, nanos })) => {
                    core.dispatcher.timed(seat, calls, nanos);
                    Ok(())
                }
                // However long the next one says to be, somebody has to be waiting for it.
                Ok(None) => match reader.unfinished() {
                    Ok(Some(record)) => break core.dispatcher.begins(seat, epoch, record.number),
                    Ok(None) => break Ok(()),
                    Err(_) => Err("sent a report that makes no sense"),
                },
                Err(_) => Err("sent a report that makes no sense"),
            };
            if told.is_err() {
                break told;
            }
        };
        let whole = reader.position();
        let now = self.inner.now();
        core.dispatcher.progressed(seat, epoch, now);
        self.may_be_through(&core);
        let todo = self.inner.settle(core);
        let any = !ended.is_empty();
        let whole = match (&ended[..], &runs[..]) {
            // It need not be copied once more.
            ([Ended { how: How::Values { .. }, first, .. }], [only]) if only.count() == 1 && only.size() >= LARGE => {
                let (first, payload, size) = (*first, only.payload_range(), only.size());
                let rest = stream.split_off(size.min(stream.len()));
                let record = std::mem::replace(stream, rest);
                ended[0].work.large_value(first, Payload::part(record, payload));
                whole - size
            }
            _ => {
                tell_ends(self.inner, ended, &runs);
                whole
            }
        };
        self.inner.carry_out(todo);
        if any {
            self.inner.ended();
        }
        told.map(|()| whole).map_err(str::to_owned)
    }

    fn split(&mut self, number: u32, split: Split) -> Result<(), String> {
        let (seat, epoch) = (self.station.seat, self.station.epoch);
        let mut ended = Vec::new();
        let mut core = lock(&self.inner.core);
        let report = Report { first: number, count: 1, failed: None };
        let told = core.dispatcher.reported(seat, epoch, report, &mut ended);
        let now = self.inner.now();
        core.dispatcher.progressed(seat, epoch, now);
        self.may_be_through(&core);
        let todo = self.inner.settle(core);
        match ended.pop() {
            Some(Ended { work, first, how: How::Values { .. }, .. }) => work.split_value(first, split),
            Some(Ended { work, first, how: How::Failed(failure), .. }) => self.inner.fail(&work, first, failure),
            None => {}
        }
        self.inner.carry_out(todo);
        self.inner.ended();
        told.map_err(str::to_owned)
    }
}

impl Heard<'_> {
    /// A worker that has nothing to do is not listened to.
    fn may_be_through(&self, core: &Core) {
        if let Some(listener) = &self.inner.listener
            && core.station(self.station.seat, self.station.epoch).is_some()
            && !core.dispatcher.seat(self.station.seat).is_busy()
        {
            listener.is_through(self.station);
        }
    }
}
