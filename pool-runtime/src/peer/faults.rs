//! What goes wrong with calls on purpose: drawn from a seed, and carried out around the worker's own loop.
//!
//! A call's fate is a hash of the seed, its job, and how many workers this job has already lost here. The last one
//! takes the place of the attempt, which does not change when a worker is lost before the call starts: it would be lost
//! again, and again. Nothing in that is a matter of time, so the same seed and the same submissions make the same
//! faults, whoever runs what when.
//!
//! A worker is lost in the way of a thread: its report is held back by the [`Gate`], and the thread ends, having noted
//! the stage at which a process would have been killed. The attendant finds out as it does of any other.

use crate::dossier::Stage;
use crate::memory::packed::Slices;
use crate::peer::lifeline::Lifeline;
use crate::protocol::{CallHeader, Chunk};
use crate::run::{Fault, Series, SeriesEnd};
use crate::sync::lock;
use crate::transport::Outlet;
use crate::transport::local::LocalSender;
use crate::worker::{Duty, Next, One};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The longest delay.
const LATEST: u64 = 5;

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    /// It starts late.
    Late(Duration),
    /// Its report comes late.
    LateReport(Duration),
    /// The worker is lost before it starts the call,
    LostBefore,
    /// or while it decodes the arguments,
    LostDecoding,
    /// or at the task's first instruction,
    LostAtOnce,
    /// or at the task's last one,
    LostRunning,
    /// or while it encodes the result,
    LostEncoding,
    /// or before the report has left.
    LostReport,
    Panic,
    Undecodable,
    Unencodable,
}

/// One in so many attempts, times what is said in [`Fate::of`].
const OUT_OF: u64 = 64;

impl Fate {
    fn of(drawn: u64) -> Self {
        let delay = Duration::from_millis(1 + (drawn >> 32) % LATEST);
        match drawn % OUT_OF {
            0..3 => Self::Late(delay),
            3..6 => Self::LateReport(delay),
            6 => Self::LostBefore,
            7 => Self::LostDecoding,
            8 => Self::LostAtOnce,
            9 => Self::LostRunning,
            10 => Self::LostEncoding,
            11 => Self::LostReport,
            12 | 13 => Self::Panic,
            14 => Self::Undecodable,
            15 => Self::Unencodable,
            _ => Self::Fine,
        }
    }
}

/// What a pool's faults are drawn from.
#[derive(Debug)]
pub(crate) struct Plan {
    seed: u64,
    /// How many workers jobs have lost, those that have lost any.
    losses: Mutex<HashMap<u64, u64>>,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, losses: Mutex::default() }
    }

    fn fate(&self, job: u64) -> Fate {
        let losses = lock(&self.losses).get(&job).copied().unwrap_or(0);
        Fate::of([job, losses].into_iter().fold(mixed(self.seed), |hash, part| mixed(hash ^ mixed(part))))
    }

    fn has_lost(&self, job: u64) {
        *lock(&self.losses).entry(job).or_default() += 1;
    }

    fn text(&self) -> String {
        format!("injected by Backend::Faults({})", self.seed)
    }
}

/// SplitMix64's step and finalizer (Steele, Lea and Flood, 2014).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Reports pass here: late, or not at all.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    reports: LocalSender,
    state: Arc<GateState>,
}

#[derive(Debug, Default)]
struct GateState {
    shut: AtomicBool,
    /// In milliseconds, of the next one.
    delay: AtomicU64,
}

impl Outlet for Gate {
    fn send(&self, frame: &[u8]) -> io::Result<()> {
        if self.state.shut.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        std::thread::sleep(Duration::from_millis(self.state.delay.swap(0, Ordering::Relaxed)));
        self.reports.send(frame)
    }

    fn unhindered(&self) -> usize {
        self.reports.unhindered()
    }
}

/// The faults of one thread.
pub(super) struct Faults {
    plan: Arc<Plan>,
    thread: Arc<Lifeline>,
    gate: Gate,
}

impl Faults {
    pub(super) fn new(plan: Arc<Plan>, thread: Arc<Lifeline>, reports: LocalSender) -> Self {
        Self { plan, thread, gate: Gate { reports, state: Arc::default() } }
    }

    /// What the thread's reports are to pass.
    pub(super) fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// As [`Duty::obey`], one call after the other, each with its fate.
    pub(super) fn obey(&mut self, duty: &mut Duty, frame: &[u8]) -> Result<Next, String> {
        duty.obey_with(frame, |duty, generation, chunk| {
            let (task, mut first) = (chunk.task, chunk.first);
            let mut end = SeriesEnd::Through(false);
            for arguments in chunk.arguments {
                let Some(arguments) = Slices::new(1, Some(0), &[], 0, arguments) else { continue };
                end = self.run(duty, generation, Chunk { task, first, arguments })?;
                if !matches!(end, SeriesEnd::Through(_)) {
                    break;
                }
                first = CallHeader { job: first.job + 1, number: first.number.wrapping_add(1), ..first };
            }
            Ok(end)
        })
    }

    /// Runs the one call of a chunk.
    fn run(&mut self, duty: &mut Duty, generation: u32, chunk: Chunk<'_>) -> Result<SeriesEnd, String> {
        let job = chunk.first.job;
        let fate = self.plan.fate(job);
        let injected = || self.plan.text();
        match fate {
            Fate::Fine => duty.run(generation, chunk),
            // Once it is claimed: before, it would be given to another worker each time, and never start.
            Fate::Late(delay) => duty.run_with(generation, chunk, |one, _, series| {
                series.run(|run| {
                    std::thread::sleep(delay);
                    one(run)
                });
            }),
            Fate::LateReport(delay) => {
                self.gate.state.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
                let end = duty.run(generation, chunk);
                // Where it was taken back, there was no report.
                self.gate.state.delay.store(0, Ordering::Relaxed);
                end
            }
            Fate::LostBefore => self.lose(duty, job, Stage::Idle),
            Fate::LostDecoding => self.lose_in(duty, generation, chunk, Some(Stage::Decoding), without),
            Fate::LostAtOnce => self.lose_in(duty, generation, chunk, Some(Stage::Running), without),
            Fate::LostRunning => self.lose_in(duty, generation, chunk, Some(Stage::Running), with),
            Fate::LostEncoding => self.lose_in(duty, generation, chunk, Some(Stage::Encoding), with),
            Fate::LostReport => self.lose_in(duty, generation, chunk, None, with),
            Fate::Panic => duty.run_with(generation, chunk, |_, _, series| {
                series.run(|run| {
                    run.enter(Stage::Running);
                    panic!("{}", injected());
                });
            }),
            Fate::Undecodable => duty.run_with(generation, chunk, |_, _, series| {
                series.run(|_| Err(Fault::Decode(injected())));
            }),
            Fate::Unencodable => duty.run_with(generation, chunk, |one, _, series| {
                series.run(|run| {
                    one(run)?;
                    run.enter(Stage::Encoding);
                    Err(Fault::Encode(injected()))
                });
            }),
        }
    }

    /// Loses the worker at a stage of this call, or where that leads to if none is said.
    fn lose_in(
        &mut self,
        duty: &mut Duty,
        generation: u32,
        chunk: Chunk<'_>,
        stage: Option<Stage>,
        lead_on: fn(One, &mut Series<'_>),
    ) -> Result<SeriesEnd, String> {
        let job = chunk.first.job;
        self.gate.state.shut.store(true, Ordering::Relaxed);
        match duty.run_with(generation, chunk, |one, _, series| lead_on(one, series))? {
            SeriesEnd::TakenBack => {
                self.gate.state.shut.store(false, Ordering::Relaxed);
                Ok(SeriesEnd::TakenBack)
            }
            _ => self.lose(duty, job, stage.unwrap_or(duty.stage())),
        }
    }

    fn lose(&self, duty: &Duty, job: u64, stage: Stage) -> Result<SeriesEnd, String> {
        self.plan.has_lost(job);
        self.thread.lose(duty.page(), stage);
        Ok(SeriesEnd::Fault("is lost".to_owned()))
    }
}

/// The task runs, to its end.
fn with(one: One, series: &mut Series<'_>) {
    series.run(one);
}

/// The task does not run.
fn without(_: One, series: &mut Series<'_>) {
    series.run(|_| Err(Fault::Decode(String::new())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_four_attempts_meets_something_and_everything_happens() {
        let plan = Plan::new(7);
        let mut met = HashMap::new();
        for job in 0..10_000 {
            *met.entry(format!("{:?}", std::mem::discriminant(&plan.fate(job)))).or_insert(0) += 1;
        }
        assert_eq!(met.len(), 12, "{met:?}");
        let fine = met[&format!("{:?}", std::mem::discriminant(&Fate::Fine))];
        assert!((7_300..7_700).contains(&fine), "{fine}");
    }

    #[test]
    fn a_job_that_has_lost_a_worker_draws_anew_and_others_do_not() {
        let (plan, same) = (Plan::new(1), Plan::new(1));
        let changed = (0..100).filter(|job| {
            let before = plan.fate(*job);
            plan.has_lost(*job);
            plan.fate(*job) != before
        });
        assert!(changed.count() > 10);
        assert_eq!(same.fate(200), plan.fate(200));
        assert!((0..100).any(|job| Plan::new(2).fate(job) != same.fate(job)), "seeds differ");
    }
}
