//! The loop over the calls of a chunk in a worker: decode, run, encode, report, one after the other.
//!
//! A short call costs less than what surrounds it. So the loop is compiled for each task, with the task inlined; and
//! reading the clock and checking whether the parent sleeps, which cost more than a short call, are done once for several
//! short calls.

use crate::codec::{Reader, Writer};
use crate::dossier::Stage;
use crate::memory::upward::{MOST_ATTACHED, SendFault};
use crate::memory::{CallId, Hold, Regions, StatusPage, Upward, packed::Slices};
use crate::panic::{self, PanicInfo};
use crate::protocol::{Failed, Failure, RecordHead};
use crate::run::{Fault, Reporter, Run, current::JobClock};
use std::any::Any;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Calls of one task while they run.
pub struct Series<'s> {
    /// Told when a call starts, if the calls have time limits.
    pub(crate) timed: Option<&'s JobClock>,
    pub(crate) arguments: Slices<'s>,
    pub(crate) next: CallId,
    pub(crate) claimed: &'s mut u32,
    pub(crate) page: &'s StatusPage,
    pub(crate) reporter: &'s mut Reporter,
    pub(crate) result: &'s mut Writer,
    /// The regions to which that refers, and how they are sent.
    pub(crate) attached: Regions,
    pub(crate) upward: &'s Upward,
    /// How many bytes a result may have, unless it is short.
    pub(crate) max_result: u64,
    pub(crate) state: Option<&'s mut Box<dyn Any>>,
    /// The task uses the worker's state, which a panic may break: the worker exits after one.
    pub(crate) frail: bool,
    pub(crate) pace: &'s mut Pace,
    pub(crate) end: SeriesEnd,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SeriesEnd {
    Through(bool),
    /// The parent has taken the remaining calls back.
    TakenBack,
    /// After a panic, the worker's state may be broken.
    Broken,
    /// Reports cannot be sent any more.
    Fault(String),
}

impl Series<'_> {
    #[doc(hidden)]
    pub fn run(&mut self, body: impl Fn(&mut Run<'_>) -> Result<(), Fault>) {
        // One `catch_unwind` for the whole chunk: setting it up costs as much as a short call.
        while let Err(panic) = panic::catch(|| self.run_on(&body)) {
            if !self.panicked(panic) {
                return;
            }
        }
    }

    #[inline]
    fn run_on(&mut self, body: &impl Fn(&mut Run<'_>) -> Result<(), Fault>) {
        while let Some(arguments) = self.arguments.next() {
            // Before the claim: after a death, the stage found beside the claim must not be that of the previous call.
            self.page.begin(Stage::Decoding as u32);
            if !self.claim() {
                return;
            }
            self.result.clear();
            if !self.attached.is_empty() {
                // Those of a call that has panicked, or failed, after its result was written.
                self.attached = Regions::default();
            }
            let hold = Hold::default();
            let mut run = Run::new(Reader::of_arguments(arguments, &hold), self.result);
            (run.state, run.page) = (self.state.as_deref_mut(), Some(self.page));
            run.attached = Some(&mut self.attached);
            let returned = body(&mut run);
            // By reference: it was written as two words, and one load of both would stall on store forwarding.
            let short = &run.short;
            let reported = match returned {
                Ok(()) => {
                    self.end = SeriesEnd::Through(true);
                    match short {
                        Some(short) => self.reporter.push_short(self.next.number(), short),
                        None => self.push_result(),
                    }
                }
                Err(fault) => self.failed(fault.into(), false),
            };
            if let Err(fault) = reported.and_then(|()| self.after_call()) {
                self.end = SeriesEnd::Fault(fault);
                return;
            }
        }
    }

    #[inline]
    fn push_result(&mut self) -> Result<(), String> {
        if !self.attached.is_empty() {
            return self.push_attached();
        }
        let (number, (bytes, tail)) = (self.next.number(), self.result.parts());
        let length = (bytes.len() + tail.map_or(0, |tail| tail.bytes().len())) as u64;
        if length > self.max_result {
            self.result.clear();
            return self.failed(Failure::TooLarge { length, most: self.max_result }, false);
        }
        let Some(tail) = tail else { return self.reporter.push(RecordHead::value(number, bytes.len()), bytes) };
        let pushed = self.reporter.push_bulk(number, bytes, tail);
        self.result.clear();
        pushed
    }

    /// A result that refers to regions: they leave before it.
    #[cold]
    fn push_attached(&mut self) -> Result<(), String> {
        let regions = std::mem::take(&mut self.attached);
        let (bytes, tail) = self.result.parts();
        let parts = [bytes, tail.map_or(&[], |tail| tail.bytes())];
        let length = (8 + 8 * regions.len() + bytes.len() + parts[1].len()) as u64;
        if length > self.max_result {
            return self.failed(Failure::TooLarge { length, most: self.max_result }, false);
        }
        if regions.len() > MOST_ATTACHED {
            let what = "pieces of shared memory and open files, and a result may hold";
            return self.failed(Failure::Encode(format!("it holds {} {what} {MOST_ATTACHED}", regions.len())), false);
        }
        let number = self.next.number();
        let sent = self.upward.send(&regions, || {
            self.reporter.push(RecordHead::gather(number), &[])?;
            self.reporter.flush(true)
        });
        match sent {
            Ok(()) => {}
            Err(SendFault::Refused(why)) => return self.failed(Failure::Encode(why), false),
            Err(SendFault::Broken(fault)) => return Err(fault),
        }
        let ids: Vec<_> = regions.iter().map(|region| region.id()).collect();
        self.reporter.push_attached(number, &ids, parts)?;
        self.result.clear();
        Ok(())
    }

    /// Claims the next call, unless the parent has taken it back.
    #[inline(always)]
    fn claim(&mut self) -> bool {
        if let Some(clock) = self.timed {
            clock.start();
        }
        if self.page.claim(self.next, *self.claimed) {
            *self.claimed = self.next.number();
            return true;
        }
        self.stopped()
    }

    #[cold]
    fn stopped(&mut self) -> bool {
        // If the calls were skipped for another reason, the parent would wait for them for ever.
        self.end = match self.page.is_taken_back(self.next.generation()) {
            true => SeriesEnd::TakenBack,
            false => SeriesEnd::Fault("its status page was written over".into()),
        };
        false
    }

    #[inline]
    fn after_call(&mut self) -> Result<(), String> {
        self.next = self.next.next();
        self.pace.calls += 1;
        if self.pace.calls < self.pace.limit { Ok(()) } else { self.pace.look(self.reporter) }
    }

    #[cold]
    fn failed(&mut self, failure: Failure, leaving: bool) -> Result<(), String> {
        self.end = SeriesEnd::Through(false);
        let stage = Stage::from_u32(self.page.stage());
        let payload = Failed { stage, leaving, failure }.to_payload(self.max_result);
        self.reporter.push(RecordHead::failed(self.next.number(), payload.len()), &payload)
    }

    /// Reports a panic. Returns whether the series goes on.
    #[cold]
    fn panicked(&mut self, panic: PanicInfo) -> bool {
        // The process survives it: these are not its last words.
        self.page.clear_words();
        match self.failed(Failure::Panicked(panic), self.frail).and_then(|()| self.after_call()) {
            Err(fault) => self.end = SeriesEnd::Fault(fault),
            Ok(()) if self.frail => self.end = SeriesEnd::Broken,
            Ok(()) => return true,
        }
        false
    }
}

/// How many calls end between two reads of the clock: as many as take about [`INTERVAL`](Self::INTERVAL).
pub(crate) struct Pace {
    since: Instant,
    calls: u32,
    limit: u32,
}

impl Pace {
    const INTERVAL: Duration = Duration::from_micros(8);

    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), calls: 0, limit: 1 }
    }

    pub(crate) fn start(&mut self) {
        self.since = Instant::now();
    }

    /// Reads the clock, reports the time of the latest calls, and wakes the parent if it sleeps.
    #[cold]
    pub(crate) fn look(&mut self, reporter: &mut Reporter) -> Result<(), String> {
        if self.calls > 0 {
            let now = Instant::now();
            let (calls, time) = (self.calls, now - self.since);
            (self.since, self.calls) = (now, 0);
            let each = (time / calls).max(Duration::from_nanos(1));
            let fitting = (Self::INTERVAL.as_nanos() / each.as_nanos()) as u32;
            // Grows slowly, so that a long call after some short ones is soon noticed.
            self.limit = fitting.clamp(1, (2 * self.limit).min(reporter.most_untimed()));
            reporter.push(RecordHead::time(calls), &(time.as_nanos() as u64).to_le_bytes())?;
            // So that the output of finished calls is not lost if the worker is killed later.
            let _ = std::io::stdout().flush();
        }
        reporter.flush(false)
    }
}
