//! `Backend::Faults`: things go wrong as they do with processes, drawn from a seed: every job ends once, the same seed
//! does the same, everything happens, and nothing runs twice unless it is retried.

use crate::support::{pool_on, returns};
use pool_runtime::{Backend, Error, Pool, Ran, Result, task};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// How often each call has run, by the test that made it.
static RUNS: Mutex<BTreeMap<(u32, u32), u32>> = Mutex::new(BTreeMap::new());

#[task]
fn run(test: u32, n: u32) -> u32 {
    *RUNS.lock().unwrap().entry((test, n)).or_default() += 1;
    n
}

/// The calls of this test that have run, and how often, in order.
fn runs(test: u32) -> Vec<(u32, u32)> {
    RUNS.lock().unwrap().range((test, 0)..=(test, u32::MAX)).map(|((_, n), runs)| (*n, *runs)).collect()
}

fn fresh() -> u32 {
    static TESTS: AtomicU32 = AtomicU32::new(0);
    TESTS.fetch_add(1, Ordering::Relaxed)
}

/// What became of a call, without what is another's each time.
fn outcome(result: Result<u32, Error>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(error) => format!("{error} {:?} {:?} {}", error.ran(), error.signal(), error.attempts()),
    }
}

fn outcomes(pool: &Pool, test: u32, calls: u32) -> Vec<String> {
    let jobs: Vec<_> = (0..calls).map(|n| pool.apply_async(run::call(test, n))).collect();
    jobs.into_iter().map(|job| outcome(job.get())).collect()
}

#[test]
fn the_same_seed_does_the_same_and_others_do_not() {
    returns("all jobs end", || {
        let tell = |seed, processes| {
            let test = fresh();
            let outcomes = outcomes(&pool_on(Backend::Faults(seed), processes), test, 150);
            (outcomes, runs(test))
        };
        let first = tell(3, 1);
        assert_eq!(first, tell(3, 1));
        assert_eq!(first, tell(3, 4), "the number of threads makes no difference");
        assert_ne!(first, tell(4, 1));
    });
}

#[test]
fn everything_happens_and_nothing_else() {
    returns("all jobs end", || {
        let mut met = BTreeSet::new();
        for seed in 0..6 {
            let (test, pool) = (fresh(), pool_on(Backend::Faults(seed), 2));
            let outcomes = outcomes(&pool, test, 100);
            let stats = pool.stats();
            assert_eq!((stats.done + stats.failed, stats.waiting, stats.running), (100, 0, 0));
            let runs: BTreeMap<_, _> = runs(test).into_iter().collect();
            for (n, outcome) in (0..).zip(outcomes) {
                let ran = runs.get(&n).copied().unwrap_or_default();
                if outcome == n.to_string() {
                    assert_eq!(ran, 1, "{n} with {seed}");
                    continue;
                }
                let text = outcome.strip_prefix("task `backends::faults::run` ").unwrap();
                let text = text.replace(&format!("process {}", std::process::id()), "it");
                assert!(ran == 0 || (ran == 1 && !text.contains(" No ")), "{n} with {seed}: ran {ran} times, {text}");
                met.insert((text.replace(&format!("Faults({seed})"), "Faults"), ran));
            }
            pool.close();
            pool.join().unwrap();
        }
        let lost = |stage: &str, ran: Ran| {
            format!("lost its worker: it was killed by signal 9 (SIGKILL) while {stage} {ran:?} Some(9) 1")
        };
        let injected = "injected by Backend::Faults";
        let panics = met.iter().filter(|(text, ran)| text.starts_with("panicked at") && *ran == 0);
        let panics: Vec<_> = panics.cloned().collect();
        assert!(panics.len() == 1 && panics[0].0.ends_with(&format!(": {injected} Yes None 1")), "{panics:?}");
        met.remove(&panics[0]);
        let expected = [
            (lost("decoding the arguments", Ran::No), 0),
            (lost("running", Ran::Yes), 0),
            (lost("running", Ran::Yes), 1),
            (lost("encoding the result", Ran::Yes), 1),
            (format!("cannot read its arguments: {injected} No None 1"), 0),
            (format!("has a result that cannot be sent back: {injected} Yes None 1"), 1),
        ];
        assert_eq!(met, expected.into_iter().collect());
    });
}

#[test]
fn what_is_retried_ends_well_but_for_what_is_never_retried() {
    returns("all jobs end", || {
        let test = fresh();
        let pool = Pool::builder().processes(2).backend(Backend::Faults(1)).retries(20);
        let pool = pool.retry_delay(Duration::from_millis(1)).build().unwrap();
        let outcomes = outcomes(&pool, test, 300);
        assert!(outcomes.iter().all(|outcome| !outcome.contains("lost")), "{outcomes:?}");
        assert!(outcomes.iter().filter(|outcome| outcome.contains("injected")).count() > 5);
        let runs = runs(test);
        assert!(runs.iter().any(|(_, runs)| *runs > 1), "some ran again after they had run");
    });
}

#[test]
fn maps_and_iterators_end() {
    returns("all of them end", || {
        for seed in 0..3 {
            let pool = pool_on(Backend::Faults(seed), 3);
            let test = fresh();
            let error = pool.map(|n| run::call(test, n), 0..200).unwrap_err();
            assert!(error.is_panic() || error.is_worker_lost() || error.is_encode() || error.is_decode(), "{error}");
            assert!(pool.map_async(|n| run::call(test, n), 200..400).get().is_err());
            let mut seen = 0;
            for (n, result) in (400..).zip(pool.imap(|n| run::call(test, n), 400..600)) {
                seen += 1;
                assert!(result.is_err_and(|error| error.task_name().is_some()) || runs(test).contains(&(n, 1)));
            }
            assert_eq!(seen, 200);
            assert_eq!(pool.imap_unordered(|n| run::call(test, n), 600..700).count(), 100);
            assert!(runs(test).iter().all(|(_, runs)| *runs == 1));
            let stats = pool.stats();
            assert_eq!(stats.done + stats.failed, 700);
            pool.close();
            pool.join().unwrap();
        }
    });
}

#[test]
fn a_pool_can_be_terminated_and_jobs_cancelled_in_the_middle_of_it() {
    returns("all pools end", || {
        for seed in 0..20 {
            let (test, pool) = (fresh(), pool_on(Backend::Faults(seed), 2));
            let jobs: Vec<_> = (0..60).map(|n| pool.apply_async(run::call(test, n))).collect();
            for job in jobs.iter().step_by(7) {
                job.cancel();
            }
            if seed % 2 == 0 {
                pool.terminate();
            } else {
                pool.close();
            }
            pool.join().unwrap();
            for job in jobs {
                assert!(job.is_ready());
                drop(job.get());
            }
            assert_eq!(pool.stats().done + pool.stats().failed, 60);
            assert!(runs(test).iter().all(|(_, runs)| *runs == 1));
        }
    });
}

/// Made anew with each worker.
struct Model;

#[task(initializer)]
fn load() -> Model {
    Model
}

#[task]
fn classify(#[state] _model: &mut Model, n: u32) -> u32 {
    n
}

#[test]
fn worker_state_is_made_anew() {
    returns("all jobs end", || {
        let pool = Pool::builder().processes(2).backend(Backend::Faults(5)).initializer(load::call()).build().unwrap();
        let results: Vec<_> = pool.imap(classify::call, 0..200).collect();
        let values = results.iter().zip(0..).filter(|(result, n)| result.as_ref().is_ok_and(|value| value == n));
        assert!((100..190).contains(&values.count()));
    });
}
