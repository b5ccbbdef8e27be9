//! What workers say: told to the dispatcher, and its outcome to those who wait.

use crate::{
    job::Split,
    pool::{
        dispatcher::Effect,
        ear,
        shared::{Core, Line, Shared, Station, Todo},
    },
    protocol::{Failure, FromWorker, Garbled, Record, Told},
    sync::lock,
    transport::Received,
};

/// From this size on, a result is not copied out of the stream that it came in.
const LARGE: usize = 1 << 16;

/// Values of consecutive calls in a stream of records.
struct ValueRun {
    /// The number of the first call.
    first: u32,
    count: u32,
    /// Where their records are in the stream.
    begin: usize,
    end: usize,
    /// The dispatcher knows.
    told: bool,
}

impl ValueRun {
    fn tell(&mut self, core: &mut Core, seat: usize, epoch: u32) -> Result<(), &'static str> {
        if std::mem::replace(&mut self.told, true) {
            return Ok(());
        }
        core.dispatcher.reported(seat, epoch, (self.first, self.count), None)
    }
}

/// Tells those who wait how their calls have ended: hands out the values in these records, and the failures between
/// them in their turn. Returns whether there were any.
fn tell_ends(todo: &mut Todo, runs: &[ValueRun], stream: &mut Vec<u8>) -> bool {
    if let [ValueRun { count: 1, begin: 0, end, .. }] = *runs
        && end >= LARGE
        && let Some(at) = todo.effects.iter().position(|effect| matches!(effect, Effect::Values { .. }))
        && let Some(Effect::Values { work, first, .. }) = todo.effects.remove(at)
    {
        // It need not be copied once more.
        let rest = stream.split_off(end);
        work.large_value(first, std::mem::replace(stream, rest));
        return true;
    }
    let (mut runs, mut any) = (runs.iter(), false);
    // What has been handed out of the current run.
    let nothing = ValueRun { first: 0, count: 0, begin: 0, end: 0, told: true };
    let mut run = runs.next().unwrap_or(&nothing);
    let (mut number, mut at) = (run.first, run.begin);
    // In the order in which the calls have ended.
    for _ in 0..todo.effects.len() {
        let (work, first, count, wanted) = match todo.effects.pop_front() {
            Some(Effect::Values { work, first, count, number }) => (work, first, count, number),
            Some(Effect::Failed { work, index, error }) => {
                work.fail(index, error);
                any = true;
                continue;
            }
            Some(other) => {
                todo.effects.push_back(other);
                continue;
            }
            None => break,
        };
        // A few calls of a run may be of no interest to anybody.
        while wanted.wrapping_sub(run.first) >= run.count {
            let Some(next) = runs.next() else { return any };
            (run, number, at) = (next, next.first, next.begin);
        }
        let mut skip = |to: u32, at: &mut usize| {
            if to == run.first.wrapping_add(run.count) {
                (number, *at) = (to, run.end);
            }
            while number != to {
                let Ok(Some(record)) = Record::first(&stream[*at..]) else { return };
                *at += record.size();
                number = number.wrapping_add(1);
            }
        };
        skip(wanted, &mut at);
        let begin = at;
        skip(wanted.wrapping_add(count), &mut at);
        any = true;
        work.values(first, count, &stream[begin..at]);
    }
    any
}

/// A worker could not read the arguments of a call: maybe it could not take the memory that they speak of.
fn not_taken(core: &Core, station: &Station, number: u32) {
    let mut flights = core.dispatcher.flights(station.seat, number, number.wrapping_add(u32::MAX / 4));
    let Some(failed) = flights.next() else { return };
    let mut under_way = failed.end - failed.next > 1;
    flights.for_each(|flight| flight.work.with_regions(&mut |regions| under_way |= !regions.is_empty()));
    failed.work.with_regions(&mut |regions| station.occupant.doubt(regions, under_way));
}

impl Shared {
    /// Passes on what a worker says, in records. Returns how many bytes of what is left of the stream were whole
    /// records, and whether the worker has more to say, later. A large value takes its bytes out of the stream.
    ///
    /// # Errors
    ///
    /// What it says makes no sense.
    pub(super) fn reported(&self, station: &Station, stream: &mut Vec<u8>) -> Result<(usize, bool), String> {
        let (seat, epoch) = (station.seat, station.epoch);
        let mut todo = Todo::default();
        let mut core = lock(&self.core);
        let (mut at, mut fault) = (0, None);
        let mut unfinished = None;
        // Values of consecutive calls are one event.
        let mut runs: Vec<ValueRun> = Vec::new();
        while fault.is_none() {
            let record = match Record::first(&stream[at..]) {
                Ok(Some(record)) if record.size() <= stream.len() - at => record,
                Ok(record) => {
                    unfinished = record.filter(|record| !record.is_time());
                    break;
                }
                Err(_) => {
                    fault = Some("sent a report that makes no sense");
                    break;
                }
            };
            let begun = at;
            at += record.size();
            if record.is_value() {
                let alike = record.alike_behind(&stream[begun..]);
                at += alike as usize * record.size();
                match runs.last_mut() {
                    Some(run) if run.end == begun && record.number == run.first.wrapping_add(run.count) => {
                        run.count += 1 + alike;
                        run.end = at;
                    }
                    _ => {
                        fault = runs.last_mut().and_then(|run| run.tell(&mut core, seat, epoch).err());
                        runs.push(ValueRun {
                            first: record.number,
                            count: 1 + alike,
                            begin: begun,
                            end: at,
                            told: false,
                        });
                    }
                }
                continue;
            }
            fault = runs.last_mut().and_then(|run| run.tell(&mut core, seat, epoch).err());
            match record.told(&stream[record.payload(begun)]) {
                Ok(Told::Time { calls, nanos }) => core.dispatcher.timed(seat, calls, nanos),
                Ok(Told::Failed(failed)) => {
                    if matches!(failed.failure, Failure::Decode(_)) {
                        not_taken(&core, station, record.number);
                    }
                    let told = core.dispatcher.reported(seat, epoch, (record.number, 1), Some(failed));
                    fault = fault.or(told.err());
                }
                Ok(Told::Value(_)) => {}
                Err(_) => fault = Some("reports a failure that makes no sense"),
            }
        }
        if fault.is_none() {
            fault = runs.last_mut().and_then(|run| run.tell(&mut core, seat, epoch).err());
        }
        // However long it says to be, somebody has to be waiting for it.
        if let (None, Some(record)) = (&fault, unfinished) {
            fault = core.dispatcher.begins(seat, epoch, record.number).err();
        }
        let now = self.now();
        core.dispatcher.progressed(seat, epoch, now);
        let busy = core.dispatcher.is_busy(seat);
        self.may_be_through(&core, station);
        self.settle(core, &mut todo);
        let taken = stream.len();
        let told = tell_ends(&mut todo, &runs, stream);
        at -= taken - stream.len();
        self.carry_out(todo, None);
        if told {
            self.ended();
        }
        match fault {
            Some(fault) => Err(fault.to_owned()),
            None => Ok((at, busy)),
        }
    }

    /// Passes on the value of the call of this number, which has been read into memory of its own.
    ///
    /// # Errors
    ///
    /// What the worker says makes no sense.
    pub(super) fn reported_split(&self, station: &Station, number: u32, split: Split) -> Result<(), String> {
        let (seat, epoch) = (station.seat, station.epoch);
        let mut todo = Todo::default();
        let mut core = lock(&self.core);
        let told = core.dispatcher.reported(seat, epoch, (number, 1), None);
        let now = self.now();
        core.dispatcher.progressed(seat, epoch, now);
        self.may_be_through(&core, station);
        self.settle(core, &mut todo);
        let at = todo.effects.iter().position(|effect| matches!(effect, Effect::Values { .. }));
        if let Some(Effect::Values { work, first, .. }) = at.and_then(|at| todo.effects.remove(at)) {
            work.split_value(first, split);
        }
        self.carry_out(todo, None);
        self.ended();
        told.map_err(str::to_owned)
    }

    /// Passes on what a worker says over its channel. Returns whether it has more to say, or what its end is.
    pub(super) fn hear(&self, station: &Station, received: Received) -> Result<bool, ear::End> {
        let frame = match received {
            Received::Frame(frame) => frame,
            Received::Gone => return Err(None),
            Received::Garbled(fault) => return Err(Some(fault)),
            Received::Nothing => return Ok(true),
        };
        match FromWorker::from_frame(&frame) {
            Ok(FromWorker::Reports(records)) if matches!(station.line, Line::Channel(_)) => {
                let mut stream = records.to_vec();
                match self.reported(station, &mut stream) {
                    Ok((whole, more)) if whole == stream.len() => Ok(more),
                    Ok(_) => Err(Some(Garbled::cut_off().to_string())),
                    Err(fault) => Err(Some(fault)),
                }
            }
            Ok(_) => Err(Some("sent a message out of turn".into())),
            Err(garbled) => Err(Some(garbled.to_string())),
        }
    }

    /// A worker that has nothing to do is not listened to.
    fn may_be_through(&self, core: &Core, station: &Station) {
        if let (Some(collector), Line::Ring(line)) = (&self.collector, &station.line)
            && core.station(station.seat, station.epoch).is_some()
            && !core.dispatcher.is_busy(station.seat)
        {
            collector.is_through(station.seat, line);
        }
    }
}
