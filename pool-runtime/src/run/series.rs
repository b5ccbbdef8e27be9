//! What happens in a worker when calls of a task run: decode, run, encode, report, one after the other.
//!
//! A short call costs less than what surrounds it, so the loop here is compiled anew for each task, with the task in
//! it; and what costs more than a short call, a look at the clock or at whether the parent sleeps, is done once for
//! several, as long as those are short.

use crate::codec::{Reader, Writer};
use crate::dossier::Stage;
use crate::memory::packed::Slices;
use crate::memory::{CallId, Hold, StatusPage};
use crate::panic::{self, PanicInfo};
use crate::protocol::{Failed, Failure, RecordHead};
use crate::run::current::JobClock;
use crate::run::reporter::Reporter;
use crate::run::{Fault, Run};
use std::any::Any;
use std::fmt;
use std::io::Write as _;
use std::time::{Duration, Instant};

/// Calls of one task while they run, one after the other.
pub struct Series<'s> {
    /// If the calls are limited in time: whom to tell when one starts.
    pub(crate) timed: Option<&'s JobClock>,
    pub(crate) arguments: Slices<'s>,
    /// The generation and the number of the next call.
    pub(crate) next: CallId,
    /// The number of the latest call that was claimed.
    pub(crate) claimed: &'s mut u32,
    pub(crate) page: &'s StatusPage,
    pub(crate) reporter: &'s mut Reporter,
    /// The result of the latest call.
    pub(crate) result: &'s mut Writer,
    pub(crate) state: Option<&'s mut Box<dyn Any>>,
    /// A panic may break the worker's state, if the task uses one: then the worker is to leave.
    pub(crate) frail: bool,
    pub(crate) pace: &'s mut Pace,
    pub(crate) end: SeriesEnd,
}

/// How a series has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SeriesEnd {
    /// All calls have run. Whether the latest one returned a value.
    Through(bool),
    /// The calls that are left were taken back.
    TakenBack,
    /// After a panic, the worker's state may be broken.
    Broken,
    /// Nothing can be reported any more.
    Fault(String),
}

impl Series<'_> {
    /// Runs them with `body`.
    #[doc(hidden)]
    pub fn run(&mut self, body: impl Fn(&mut Run<'_>) -> Result<(), Fault>) {
        // One net for all of them: to spread it costs as much as a short call.
        while let Err(panic) = panic::catch(|| self.run_on(&body)) {
            if !self.panicked(panic) {
                return;
            }
        }
    }

    #[inline]
    fn run_on(&mut self, body: &impl Fn(&mut Run<'_>) -> Result<(), Fault>) {
        while let Some(arguments) = self.arguments.next() {
            // Before the claim: whoever finds the claim after a death is not to find the stage of the call before.
            self.page.begin(Stage::Decoding as u32);
            if !self.claim() {
                return;
            }
            self.result.clear();
            let hold = Hold::default();
            let mut run = Run {
                arguments: Reader::of_arguments(arguments, &hold),
                result: self.result,
                state: self.state.as_deref_mut(),
                few: None,
                page: Some(self.page),
            };
            let returned = body(&mut run);
            // Read where it lies: it was written in two words, and a copy of both at once would have to wait for them.
            let few = &run.few;
            let reported = match returned {
                Ok(()) if let Some(few) = few => {
                    self.end = SeriesEnd::Through(true);
                    self.reporter.push_few(self.next.number(), few)
                }
                Ok(()) => {
                    let (bytes, tail) = self.result.parts();
                    self.end = SeriesEnd::Through(true);
                    match tail {
                        None => self.reporter.push(RecordHead::value(self.next.number(), bytes.len()), bytes),
                        Some(tail) => {
                            let pushed = self.reporter.push_bulk(self.next.number(), bytes, tail);
                            self.result.clear();
                            pushed
                        }
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

    /// Takes the next call. What the parent has taken back meanwhile is somebody else's.
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
        // The parent would wait for ever for calls that are left out for another reason.
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
        if self.pace.calls < self.pace.limit {
            return Ok(());
        }
        self.pace.look(self.reporter)
    }

    /// Reports that the call that has just run failed.
    #[cold]
    fn failed(&mut self, failure: Failure, leaving: bool) -> Result<(), String> {
        self.end = SeriesEnd::Through(false);
        let stage = Stage::from_u32(self.page.stage());
        let payload = Failed { stage, leaving, failure }.to_payload();
        self.reporter.push(RecordHead::failed(self.next.number(), payload.len()), &payload)
    }

    /// Says whether the series goes on.
    #[cold]
    fn panicked(&mut self, panic: PanicInfo) -> bool {
        // It is a value now, and was not the worker's last word.
        self.page.clear_words();
        let frail = self.frail;
        let reported = self.failed(Failure::Panicked(panic), frail).and_then(|()| self.after_call());
        match (reported, frail) {
            (Err(fault), _) => self.end = SeriesEnd::Fault(fault),
            (Ok(()), true) => self.end = SeriesEnd::Broken,
            (Ok(()), false) => return true,
        }
        false
    }

    /// Reports that none of them can run.
    pub(crate) fn refuse(&mut self, why: &str) {
        while self.arguments.next().is_some() {
            self.page.begin(Stage::Decoding as u32);
            if !self.claim() {
                return;
            }
            let told = self.failed(Failure::Unfit(why.to_owned()), false).and_then(|()| self.after_call());
            if let Err(fault) = told {
                self.end = SeriesEnd::Fault(fault);
                return;
            }
        }
    }
}

impl fmt::Debug for Series<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Series")
    }
}

/// How many calls end between two looks at the clock: as many as take a few microseconds.
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

    /// Calls begin.
    pub(crate) fn start(&mut self) {
        self.since = Instant::now();
    }

    /// A look at the clock, and at whether the parent sleeps.
    #[cold]
    pub(crate) fn look(&mut self, reporter: &mut Reporter) -> Result<(), String> {
        if self.calls > 0 {
            let now = Instant::now();
            let (calls, time) = (self.calls, now - self.since);
            (self.since, self.calls) = (now, 0);
            let each = (time / calls).max(Duration::from_nanos(1));
            let fitting = (Self::INTERVAL.as_nanos() / each.as_nanos()) as u32;
            // A few short ones must not hide a long one for long.
            self.limit = fitting.clamp(1, (2 * self.limit).min(reporter.most_untimed()));
            let nanos = time.as_nanos() as u64;
            reporter.push(RecordHead::time(calls), &nanos.to_le_bytes())?;
            // What a finished call printed is not lost if the worker is killed later.
            let _ = std::io::stdout().flush();
        }
        reporter.flush(false)
    }
}
