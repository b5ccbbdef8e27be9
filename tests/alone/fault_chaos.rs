//! A thousand random kills under load: every job has exactly one outcome, none is lost, none is run twice unless that
//! is allowed.
//!
//! `POOL_CHAOS_JOBS` says how many jobs there are (in `cargo test`, as many as take a few seconds).

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Pool, Ran, Result, WorkerState, pool_main, task};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use support::{Signals, builder, over, over_every_transport, transport};

pool_main!();

over_every_transport! {
    in_turn:
    every_job_has_one_outcome_and_none_is_run_twice,
    jobs_that_may_be_tried_again_all_succeed,
}

/// Notes each run, and takes a few to some hundred microseconds.
#[task]
fn note(log: &Path, id: u32, payload: Vec<u8>) -> (u32, usize) {
    static LOG: OnceLock<File> = OnceLock::new();
    let open = || File::options().append(true).create(true).open(log).expect("the log");
    // One write is one note, whoever else writes.
    LOG.get_or_init(open).write_all(&id.to_le_bytes()).expect("the log");
    let busy = Duration::from_micros(u64::from(id.wrapping_mul(2_654_435_761) >> 24));
    let began = Instant::now();
    while began.elapsed() < busy {
        std::hint::spin_loop();
    }
    (id, payload.len())
}

/// Now and then one with a large argument: a kill in the middle of it is to be survived, too.
fn payload(id: u32) -> Vec<u8> {
    vec![1; if id.is_multiple_of(500) { 300_000 } else { (id % 40) as usize }]
}

/// The job's number, and how long its payload was.
type Outcome = Result<(u32, usize)>;

fn jobs() -> u32 {
    std::env::var("POOL_CHAOS_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(6_000)
}

/// Kills workers at random, every few milliseconds, until it is told to stop. Returns how many.
fn kill(pool: &Pool, stop: &AtomicBool) -> usize {
    let (mut kills, mut ended, mut random) = (0, 0, 0x2545_f491_4f6c_dd1d_u64);
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 20) as usize % limit.max(1)
    };
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_micros(1_000 + below(3_000) as u64));
        // None while nothing gets done: on a busy machine it takes longer to come than kills are apart, and a pool
        // whose workers all die before they have done anything gives up, as it should.
        let stats = pool.stats();
        if std::mem::replace(&mut ended, stats.done) == stats.done {
            continue;
        }
        let mut workers = pool.workers();
        workers.retain(|worker| worker.state != WorkerState::Starting || below(8) == 0);
        let Some(pid) = workers.get(below(workers.len())).map(|worker| worker.pid) else { continue };
        let Some(handle) = Pid::from_raw(pid as i32).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
            continue;
        };
        // It could have been replaced, and its pid be somebody else's.
        if !pool.workers().iter().any(|worker| worker.pid == pid) {
            continue;
        }
        let signal = [Signal::KILL, Signal::KILL, Signal::SEGV, Signal::TERM][below(4)];
        kills += usize::from(pidfd_send_signal(handle, signal).is_ok());
    }
    kills
}

/// Submits all jobs, in every way there is, from several threads, while workers are killed. Returns how each has ended,
/// and how often each was run.
fn storm(pool: &Pool, jobs: u32) -> (Vec<Outcome>, Vec<u32>, usize) {
    let signals = Signals::new();
    let log = &signals.path("log");
    let stop = &AtomicBool::new(false);
    let left = &AtomicUsize::new(3);
    let transport = transport();
    let call = &|id: u32| note::call(log, id, payload(id));
    let third = jobs / 3;
    let (outcomes, kills) = std::thread::scope(|scope| {
        let killer = scope.spawn(move || kill(pool, stop));
        // The storm ends with the last of them, also with one that panics.
        struct Leaves<'l>(&'l AtomicUsize, &'l AtomicBool);
        impl Drop for Leaves<'_> {
            fn drop(&mut self) {
                if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
                    self.1.store(true, Ordering::Relaxed);
                }
            }
        }
        let one_by_one = scope.spawn(move || {
            let _leaves = Leaves(left, stop);
            over(transport, || {
                let all: Vec<_> = (0..third).map(|id| pool.apply_async(call(id))).collect();
                all.into_iter().map(|job| job.get()).collect::<Vec<_>>()
            })
        });
        let streamed = scope.spawn(move || {
            let _leaves = Leaves(left, stop);
            over(transport, || pool.imap(call, third..2 * third).collect::<Vec<_>>())
        });
        let blocking = scope.spawn(move || {
            let _leaves = Leaves(left, stop);
            over(transport, || (2 * third..3 * third).map(|id| pool.apply(call(id))).collect::<Vec<_>>())
        });
        let parts = [one_by_one, streamed, blocking].map(|part| part.join().expect("no panic"));
        (parts.into_iter().flatten().collect::<Vec<_>>(), killer.join().expect("no panic"))
    });
    let mut runs = vec![0; outcomes.len()];
    for id in std::fs::read(log).expect("the log").as_chunks().0 {
        runs[u32::from_le_bytes(*id) as usize] += 1;
    }
    (outcomes, runs, kills)
}

fn every_job_has_one_outcome_and_none_is_run_twice() {
    let jobs = jobs();
    let pool = builder().processes(6).build().unwrap();
    let (outcomes, runs, kills) = storm(&pool, jobs);
    assert_eq!(outcomes.len() as u32, jobs / 3 * 3);
    let mut lost = 0;
    for (id, (outcome, runs)) in outcomes.iter().zip(&runs).enumerate() {
        match outcome {
            Ok((same, length)) => {
                assert_eq!((*same as usize, *length, *runs), (id, payload(id as u32).len(), 1));
            }
            Err(error) => {
                assert!(error.is_worker_lost(), "{error}");
                assert!(*runs <= 1, "job {id} ran {runs} times: {error}");
                assert!(error.ran() != Ran::No || *runs == 0, "job {id} ran: {error}");
                lost += 1;
            }
        }
    }
    let stats = pool.stats();
    assert_eq!((stats.waiting, stats.running), (0, 0));
    assert_eq!((stats.done as usize, stats.failed as usize), (outcomes.len() - lost, lost));
    assert!(lost <= kills, "{lost} jobs were lost by {kills} kills");
    println!("{jobs} jobs, {kills} kills, {lost} jobs lost with their workers");
    pool.close();
    pool.join().unwrap();
}

fn jobs_that_may_be_tried_again_all_succeed() {
    let jobs = jobs();
    let pool = builder().processes(6).retries(1_000).retry_delay(Duration::ZERO).build().unwrap();
    let (outcomes, runs, kills) = storm(&pool, jobs);
    for (id, (outcome, runs)) in outcomes.iter().zip(&runs).enumerate() {
        let (same, length) = outcome.as_ref().unwrap_or_else(|error| panic!("job {id}: {error}"));
        assert_eq!((*same as usize, *length), (id, payload(id as u32).len()));
        assert!(*runs >= 1, "job {id} has a value and never ran");
    }
    println!("{jobs} jobs, {kills} kills, {} runs", runs.iter().sum::<u32>());
}
