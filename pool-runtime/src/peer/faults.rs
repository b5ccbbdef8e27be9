//! Injects faults into calls: drawn from a seed, and carried out around the worker's own loop.
//!
//! A call's fate is a hash of the seed, its job, and how many workers the job has lost so far. (Its attempt does not
//! count those that were lost before it started.) So the same seed and submissions always make the same faults.
//!
//! To lose a worker, the [`Gate`] holds back its report, and the thread notes the stage at which a process would have
//! been killed, and ends.

use crate::dossier::Stage;
use crate::locks::lock;
use crate::memory::packed::Slices;
use crate::peer::Lifeline;
use crate::protocol::{CallHeader, Chunk};
use crate::run::{Fault, SeriesEnd};
use crate::transport::{Outlet, local::LocalSender};
use crate::worker::{Duty, Next};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The longest delay, in milliseconds.
const LATEST: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    /// The task starts late.
    Late(Duration),
    LateReport(Duration),
    /// The worker is lost before it starts the call,
    LostBefore,
    /// while it decodes the arguments,
    LostDecoding,
    /// at the task's first instruction,
    LostAtOnce,
    /// at the task's last one,
    LostRunning,
    /// while it encodes the result,
    LostEncoding,
    /// or before the report has left.
    LostReport,
    Panic,
    Undecodable,
    Unencodable,
}

impl Fate {
    fn of(drawn: u64) -> Self {
        let delay = Duration::from_millis(1 + (drawn >> 32) % LATEST);
        match drawn % 64 {
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

pub(crate) struct Plan {
    seed: u64,
    /// How many workers a job has lost, by its number.
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
}

/// SplitMix64's step and finalizer (Steele, Lea and Flood, 2014).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Where reports pass: late, or not at all.
pub(super) struct Gate {
    reports: LocalSender,
    shut: AtomicBool,
    /// The delay of the next report, in milliseconds.
    delay: AtomicU64,
}

impl Outlet for Arc<Gate> {
    fn send(&self, frame: &[u8]) -> io::Result<()> {
        if self.shut.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        std::thread::sleep(Duration::from_millis(self.delay.swap(0, Ordering::Relaxed)));
        self.reports.send(frame)
    }

    fn unhindered(&self) -> usize {
        self.reports.unhindered()
    }
}

pub(super) struct Faults {
    plan: Arc<Plan>,
    thread: Arc<Lifeline>,
    pub(super) gate: Arc<Gate>,
}

impl Faults {
    pub(super) fn new(plan: Arc<Plan>, thread: Arc<Lifeline>) -> Self {
        let gate = Gate { reports: thread.reports.clone(), shut: AtomicBool::new(false), delay: AtomicU64::new(0) };
        Self { plan, thread, gate: Arc::new(gate) }
    }

    /// As [`Duty::obey`], one call after the other, each with its fate.
    pub(super) fn obey(&mut self, duty: &mut Duty, frame: &[u8]) -> Result<Next, String> {
        duty.obey_with(frame, |duty, generation, chunk| {
            let (task, mut first, max_result) = (chunk.task, chunk.first, chunk.max_result);
            let mut end = SeriesEnd::Through(false);
            for arguments in chunk.arguments {
                let Some(arguments) = Slices::new(1, Some(0), &[], 0, arguments) else { continue };
                end = self.run(duty, generation, Chunk { task, first, arguments, max_result })?;
                if !matches!(end, SeriesEnd::Through(_)) {
                    break;
                }
                first = CallHeader { job: first.job + 1, number: first.number.wrapping_add(1), ..first };
            }
            Ok(end)
        })
    }

    fn run(&mut self, duty: &mut Duty, generation: u32, chunk: Chunk<'_>) -> Result<SeriesEnd, String> {
        let job = chunk.first.job;
        let fate = self.plan.fate(job);
        let stage = match fate {
            Fate::Fine => return duty.run(generation, chunk),
            Fate::LostBefore => return self.lose(duty, job, Stage::Idle),
            Fate::LostDecoding => Some(Stage::Decoding),
            Fate::LostAtOnce | Fate::LostRunning => Some(Stage::Running),
            Fate::LostEncoding => Some(Stage::Encoding),
            _ => None,
        };
        let is_lost = stage.is_some() || fate == Fate::LostReport;
        let gate = &self.gate;
        gate.shut.store(is_lost, Ordering::Relaxed);
        if let Fate::LateReport(delay) = fate {
            gate.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
        }
        let injected = || format!("injected by Backend::Faults({})", self.plan.seed);
        // Delays come after the claim: before it, the call would move to another worker each time, and never start.
        let end = duty.run_with(generation, chunk, |one, _, series| {
            series.run(|run| match fate {
                Fate::Late(delay) => {
                    std::thread::sleep(delay);
                    one(run)
                }
                // The gate holds back this report.
                Fate::LostDecoding | Fate::LostAtOnce => Err(Fault::Decode(String::new())),
                Fate::Undecodable => Err(Fault::Decode(injected())),
                Fate::Panic => {
                    run.enter(Stage::Running);
                    panic!("{}", injected());
                }
                Fate::Unencodable => {
                    one(run)?;
                    run.enter(Stage::Encoding);
                    Err(Fault::Encode(injected()))
                }
                _ => one(run),
            });
        })?;
        // A call that was taken back left no report.
        gate.delay.store(0, Ordering::Relaxed);
        if is_lost && !matches!(end, SeriesEnd::TakenBack) {
            return self.lose(duty, job, stage.unwrap_or(Stage::from_u32(duty.page.stage())));
        }
        gate.shut.store(false, Ordering::Relaxed);
        Ok(end)
    }

    fn lose(&self, duty: &Duty, job: u64, stage: Stage) -> Result<SeriesEnd, String> {
        self.plan.has_lost(job);
        self.thread.lose(&duty.page, stage);
        Ok(SeriesEnd::Fault("is lost".to_owned()))
    }
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
