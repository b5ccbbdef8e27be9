//! Brings the reports of workers to the dispatcher, and the ends of calls to their submissions.

use crate::memory::{Payload, Split};
use crate::peer::Sink;
use crate::pool::dispatcher::{Ended, How, Report};
use crate::pool::effects::{Todo, tell_ends};
use crate::pool::{Core, Inner, Outcome, Station};
use crate::protocol::{Failure, Record, RecordReader};
use crate::sync::lock;
use std::sync::MutexGuard;

/// A result of at least this size takes over the buffer of the stream.
const LARGE: usize = 1 << 16;

/// The thread that reads reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReportReader {
    Leader,
    Collector,
    /// A thread that submits.
    Helper,
    Attendant,
}

/// The reports of one worker on their way into the pool.
pub(super) struct Heard<'p> {
    pub(super) inner: &'p Inner,
    pub(super) station: &'p Station,
    pub(super) reader: ReportReader,
}

/// A worker could not read the arguments of a call: it may have failed to map the regions that they refer to.
fn not_taken(core: &Core, station: &Station, number: u32) {
    let mut flights = core.dispatcher.flights(station.seat, number, number.wrapping_add(u32::MAX / 4));
    let Some(failed) = flights.next() else { return };
    let mut under_way = failed.calls.len() > 1;
    flights.for_each(|flight| flight.calls.work.with_regions(&mut |regions| under_way |= !regions.is_empty()));
    failed.calls.work.with_regions(&mut |regions| station.peer.doubt(regions, under_way));
}

impl Sink for Heard<'_> {
    fn records(&mut self, stream: &mut Vec<u8>) -> Result<usize, String> {
        let (seat, epoch) = (self.station.seat, self.station.epoch);
        let mut reader = RecordReader::new(stream);
        let (mut runs, mut ended) = (Vec::new(), Vec::new());
        let mut core = lock(&self.inner.core);
        // Where the latest values begin in the stream.
        let mut begin = 0;
        let corrupt = Err("sent a report that makes no sense");
        let told = loop {
            let at = reader.position();
            let report = match reader.next() {
                Ok(Some(Record::Values(values))) => {
                    begin = at;
                    runs.push(values);
                    Report { first: values.first(), count: values.count(), failed: None }
                }
                Ok(Some(Record::Failed { number, failed })) => {
                    if matches!(failed.failure, Failure::Decode(_)) {
                        not_taken(&core, self.station, number);
                    }
                    Report { first: number, count: 1, failed: Some(failed) }
                }
                Ok(Some(Record::Time { calls, nanos })) => {
                    core.dispatcher.timed(seat, calls, nanos);
                    continue;
                }
                // Room is made for a large record only if its call is in flight.
                Ok(None) => match reader.unfinished() {
                    Ok(Some(record)) => break core.dispatcher.begins(seat, epoch, record.number),
                    Ok(None) => break Ok(()),
                    Err(_) => break corrupt,
                },
                Err(_) => break corrupt,
            };
            let told = core.dispatcher.reported(seat, epoch, report, &mut ended);
            if told.is_err() {
                break told;
            }
        };
        let whole = reader.position();
        let todo = self.settle(core);
        let any = !ended.is_empty();
        let whole = match (&ended[..], &runs[..]) {
            ([Ended { how: How::Values { .. }, first, .. }], [only])
                if begin == 0 && only.count() == 1 && only.size() >= LARGE =>
            {
                let (first, payload, size) = (*first, only.payload_range(), only.size());
                let rest = stream.split_off(size.min(stream.len()));
                let record = std::mem::replace(stream, rest);
                ended[0].work.end(first, Outcome::One(Ok(Payload::part(record, payload))));
                whole - size
            }
            _ => {
                tell_ends(self.inner, ended, &runs);
                whole
            }
        };
        self.inner.carry_out(todo);
        if any {
            self.wake_leader();
        }
        told.map(|()| whole).map_err(str::to_owned)
    }

    fn split(&mut self, number: u32, split: Split) -> Result<(), String> {
        let mut ended = Vec::new();
        let mut core = lock(&self.inner.core);
        let report = Report { first: number, count: 1, failed: None };
        let told = core.dispatcher.reported(self.station.seat, self.station.epoch, report, &mut ended);
        let todo = self.settle(core);
        match ended.pop() {
            Some(Ended { work, first, how: How::Values { .. }, .. }) => work.end(first, Outcome::Split(split)),
            Some(Ended { work, first, how: How::Failed(failure), .. }) => self.inner.fail(&work, first, failure),
            None => {}
        }
        self.inner.carry_out(todo);
        self.wake_leader();
        told.map_err(str::to_owned)
    }
}

impl Heard<'_> {
    /// Called after calls have ended. A leader that reads is awake.
    fn wake_leader(&self) {
        if self.reader != ReportReader::Leader {
            self.inner.wake_leader();
        }
    }

    /// What follows a report while the core is locked.
    fn settle(&self, mut core: MutexGuard<'_, Core>) -> Todo {
        let (seat, epoch) = (self.station.seat, self.station.epoch);
        core.dispatcher.progressed(seat, epoch, self.inner.now());
        // Nobody listens to an idle worker.
        if let Some(listener) = &self.inner.listener
            && core.station(seat, epoch).is_some()
            && !core.dispatcher.seat(seat).is_busy()
        {
            listener.is_through(self.station);
        }
        self.inner.settle(core)
    }
}
