//! Brings the reports of workers to the dispatcher, and the ends of calls to their submissions.

use crate::dossier::Ran;
use crate::error::{Error, Kind};
use crate::locks::lock;
use crate::memory::{Payload, Region, Split, joined};
use crate::peer::Sink;
use crate::pool::dispatcher::{Ended, Flight, How, Reported};
use crate::pool::effects::{Todo, tell_ends};
use crate::pool::{Core, Inner, Outcome, Station, Submission};
use crate::protocol::{
    AttachedValue, Failure, FromWorker, Garbled, ParsedHead, REPORTS_HEAD, Record, RecordReader, Values, admit_failure,
};
use std::sync::{Arc, MutexGuard};

/// A result of at least this size takes over the buffer of the stream.
const LARGE: usize = 1 << 16;

/// The most bytes that follow a long record in its frame.
const MOST_BEHIND: usize = 256;

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

/// A value, and the regions to which it refers, which `take` takes.
pub(super) fn attached(
    value: &AttachedValue<'_>,
    take: impl FnOnce(&mut dyn Iterator<Item = u64>) -> Result<Vec<Arc<Region>>, String>,
) -> crate::error::Result<Payload> {
    let regions = take(&mut value.ids());
    let regions = regions.map_err(|why| Error::new(Kind::DecodeResult(why)).with_ran(Ran::Yes))?;
    let bytes = joined(&[value.value]).ok_or_else(|| Error::no_memory(value.value.len()))?;
    Ok(Payload::attached(bytes, regions.into()))
}

/// A worker could not read the arguments of a call: it may have failed to map the regions that they refer to.
fn not_taken(core: &Core, station: &Station, number: u32) {
    let mut flights = core.dispatcher.flights(station.seat, number, number.wrapping_add(u32::MAX / 4));
    let Some(failed) = flights.next() else { return };
    let mut under_way = failed.calls.len() > 1;
    for Flight { calls, .. } in flights {
        calls.work.with_regions(calls.range(), &mut |regions| under_way |= !regions.is_empty());
    }
    let calls = &failed.calls;
    calls.work.with_regions(calls.range(), &mut |regions| station.peer.doubt(regions, under_way));
}

impl Sink for Heard<'_> {
    fn records(&mut self, stream: &mut Vec<u8>) -> Result<usize, String> {
        let (seat, epoch) = (self.station.seat, self.station.epoch);
        let mut reader = RecordReader::new(stream);
        let (mut runs, mut ended, mut with_regions) = (Vec::new(), Vec::new(), Vec::new());
        let mut core = lock(&self.inner.core);
        // Where the latest values begin in the stream.
        let mut begin = 0;
        let corrupt = || Err("sent a report that makes no sense".to_owned());
        let told = loop {
            let at = reader.position();
            let report = match reader.next() {
                Ok(Some(Record::Values(values))) => {
                    if let Err(fault) = self.admit(&core, values) {
                        break Err(fault);
                    }
                    begin = at;
                    runs.push(values);
                    Reported { first: values.first(), count: values.count(), failed: None }
                }
                Ok(Some(Record::Gather { number })) => {
                    if let Err(fault) = core.dispatcher.begins(seat, epoch, number) {
                        break Err(fault.to_owned());
                    }
                    // There may be thousands, and nobody else is to wait for that.
                    drop(core);
                    let gathered = self.station.peer.gather_attached();
                    core = lock(&self.inner.core);
                    match gathered {
                        Ok(()) => continue,
                        Err(fault) => break Err(fault),
                    }
                }
                Ok(Some(Record::Attached(value))) => {
                    if let Err(fault) = self.admit_attached(&core, &value) {
                        break Err(fault);
                    }
                    let report = Reported { first: value.number, count: 1, failed: None };
                    let mut one = Vec::new();
                    if let Err(fault) = core.dispatcher.reported(seat, epoch, report, &mut one) {
                        break Err(fault.to_owned());
                    }
                    with_regions.push((one.pop(), value));
                    continue;
                }
                Ok(Some(Record::Failed { number, failed })) => {
                    if matches!(failed.failure, Failure::Decode(_)) {
                        not_taken(&core, self.station, number);
                    }
                    if let Err(fault) = self.admit_failure(&core, number, reader.position() - at) {
                        break Err(fault);
                    }
                    Reported { first: number, count: 1, failed: Some(failed) }
                }
                Ok(Some(Record::Time { calls, nanos })) => match core.dispatcher.timed(seat, epoch, calls, nanos) {
                    Ok(()) => continue,
                    Err(fault) => break Err(fault.to_owned()),
                },
                // Room is made for a large record only if its call is in flight, and may have such a result.
                Ok(None) => match reader.unfinished() {
                    Ok(Some(record)) => break self.begins(&core, &record),
                    Ok(None) => break Ok(()),
                    Err(_) => break corrupt(),
                },
                Err(_) => break corrupt(),
            };
            if let Err(fault) = core.dispatcher.reported(seat, epoch, report, &mut ended) {
                break Err(fault.to_owned());
            }
        };
        let whole = reader.position();
        let todo = self.settle(core);
        let any = !ended.is_empty() || !with_regions.is_empty();
        for (end, value) in with_regions {
            self.end_attached(end, &value);
        }
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
        told.map(|()| whole)
    }

    fn announced(&mut self, beginning: &[u8], length: u64) -> Result<(), String> {
        let Ok(FromWorker::Reports(records)) = FromWorker::from_frame(beginning) else {
            return Err("sent a message out of turn".into());
        };
        let malformed = |garbled: Garbled| garbled.to_string();
        let mut reader = RecordReader::new(records);
        while reader.next().map_err(malformed)?.is_some() {}
        let mut known = REPORTS_HEAD + reader.position();
        if let Some(record) = reader.unfinished().map_err(malformed)? {
            self.begins(&lock(&self.inner.core), &record)?;
            known += record.size();
        }
        // A worker sends a result as soon as it has one: only a report of time follows it.
        match length <= (known + MOST_BEHIND) as u64 {
            true => Ok(()),
            false => Err(format!("announced a message of {length} bytes, and {known} bytes of reports in it")),
        }
    }

    fn split(&mut self, number: u32, split: Split) -> Result<(), String> {
        let mut ended = Vec::new();
        let mut core = lock(&self.inner.core);
        let report = Reported { first: number, count: 1, failed: None };
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
    /// Whether a record may come of which the beginning has arrived.
    fn begins(&self, core: &Core, record: &ParsedHead) -> Result<(), String> {
        let work = core.dispatcher.begins(self.station.seat, self.station.epoch, record.number)?;
        let limits = |work: &dyn Submission| (self.inner.max_result(work), self.inner.said_max_result(work));
        let (most, said) = work.map_or((self.inner.max_result, self.inner.max_result), |work| limits(&**work));
        record.admit(most, said)
    }

    /// The same for a value that refers to regions and has arrived.
    fn admit_attached(&self, core: &Core, value: &AttachedValue<'_>) -> Result<(), String> {
        let work = core.dispatcher.begins(self.station.seat, self.station.epoch, value.number)?;
        value.admit(work.map_or(self.inner.max_result, |work| self.inner.max_result(&**work)))
    }

    /// Takes the regions to which a value refers, also if nobody waits for it any more.
    fn end_attached(&self, end: Option<Ended<dyn Submission>>, value: &AttachedValue<'_>) {
        let mut given = Vec::new();
        if let Some(Ended { work, first, .. }) = &end {
            work.with_regions(*first..*first + 1, &mut |regions| given.extend_from_slice(regions));
        }
        let payload = attached(value, |ids| self.station.peer.take_attached(ids, &given));
        match end {
            Some(Ended { work, first, how: How::Values { .. }, .. }) => {
                let outcome =
                    payload.map_err(|error| error.of_task(work.task()).of_job(work.first_job() + u64::from(first)));
                work.end(first, Outcome::One(outcome));
            }
            Some(Ended { work, first, how: How::Failed(failure), .. }) => self.inner.fail(&work, first, failure),
            None => {}
        }
    }

    /// The same for a failure that has arrived, whose record has so many bytes.
    fn admit_failure(&self, core: &Core, number: u32, size: usize) -> Result<(), String> {
        let work = core.dispatcher.begins(self.station.seat, self.station.epoch, number)?;
        admit_failure(size as u64, work.map_or(self.inner.max_result, |work| self.inner.said_max_result(&**work)))
    }

    /// Called after calls have ended. A leader that reads is awake.
    fn wake_leader(&self) {
        if self.reader != ReportReader::Leader {
            self.inner.wake_leader();
        }
    }

    /// Checks that no value has more bytes than it may have.
    #[inline]
    fn admit(&self, core: &Core, values: Values<'_>) -> Result<(), String> {
        // Most are too short for any limit.
        if values.are_short() { Ok(()) } else { self.weigh(core, values) }
    }

    #[inline(never)]
    fn weigh(&self, core: &Core, mut values: Values<'_>) -> Result<(), String> {
        let last = values.first().wrapping_add(values.count()).wrapping_sub(1);
        let flights = || core.dispatcher.flights(self.station.seat, values.first(), last);
        let least = flights().map(|flight| self.inner.max_result(&*flight.calls.work)).min();
        if least.is_none_or(|least| values.admit(least).is_ok()) {
            return Ok(());
        }
        let flights: Vec<_> = flights().collect();
        for flight in flights {
            values.take(flight.calls.end - flight.calls.next).admit(self.inner.max_result(&*flight.calls.work))?;
        }
        Ok(())
    }

    /// What follows a report while the core is locked.
    fn settle(&self, mut core: MutexGuard<'_, Core>) -> Todo {
        let (seat, epoch) = (self.station.seat, self.station.epoch);
        let now = self.inner.now();
        core.dispatcher.progressed(seat, epoch, now);
        // Nobody listens to an idle worker.
        if let Some(listener) = &self.inner.listener
            && core.station(seat, epoch).is_some()
            && !core.dispatcher.seat(seat).is_busy()
        {
            listener.is_through(self.station);
        }
        self.inner.settle(core, now)
    }
}
