//! A task can ask which job it is, is told when it should come to an end, and can ask for more time.

use crate::support::{over_every_transport, pool};
use pool_runtime::{Process, current_job, task};
use std::time::Duration;

over_every_transport! {
    a_task_knows_its_job,
    after_the_soft_timeout_it_is_told,
    one_that_goes_on_is_killed,
    more_time_is_given_where_there_is_a_soft_timeout,
    no_more_time_is_given_without_one,
    threads_of_a_task_know_it_too,
    a_handle_that_is_kept_says_that_the_job_is_over,
}

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(50);

#[task]
fn who() -> (Option<u64>, Option<String>, u32, bool, bool) {
    let job = current_job();
    let name = job.task_name().map(str::to_owned);
    (job.id(), name, job.attempt(), job.is_cancelled(), job.remaining().is_some())
}

fn a_task_knows_its_job() {
    let pool = pool(2);
    let jobs: Vec<_> = (0..100).map(|_| pool.apply_async(who::call())).collect();
    for job in jobs {
        let id = job.id();
        let name = who::call().task_name().to_owned();
        assert_eq!(job.get().unwrap(), (Some(id), Some(name), 1, false, false));
    }
    assert!(pool.apply(who::call().timeout(LONG)).unwrap().4);
    let mut ids: Vec<_> = pool.map(|_| who::call(), 0..1000).unwrap().into_iter().map(|who| who.0.unwrap()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1000);
    assert!(ids.is_sorted());
    assert_eq!(current_job().id(), None);
    assert!(!current_job().is_cancelled() && !current_job().extend_deadline(LONG));
}

#[test]
fn a_process_of_its_own_has_one_too() {
    let process = Process::new(who::call()).start().unwrap();
    assert_eq!(process.join().unwrap().0, Some(1));
}

#[task]
fn work_until_told() -> bool {
    while !current_job().is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

fn after_the_soft_timeout_it_is_told() {
    assert!(pool(1).apply(work_until_told::call().soft_timeout(SHORT)).unwrap());
    assert!(pool(1).apply(work_until_told::call().soft_timeout(SHORT).timeout(LONG)).unwrap());
}

#[task]
fn do_not_listen() {
    std::thread::sleep(LONG);
}

fn one_that_goes_on_is_killed() {
    let call = do_not_listen::call().soft_timeout(SHORT).timeout(2 * SHORT);
    assert!(pool(1).apply(call).unwrap_err().is_timeout());
}

/// Takes `steps` times 50 ms, and asks for more time in each.
#[task]
fn make_progress(steps: u32) -> Result<u32, u32> {
    for step in 0..steps {
        current_job().extend_deadline(Duration::from_millis(500));
        std::thread::sleep(SHORT);
        if current_job().is_cancelled() {
            return Err(step);
        }
    }
    Ok(steps)
}

fn more_time_is_given_where_there_is_a_soft_timeout() {
    let limit = Duration::from_millis(600);
    let call = || make_progress::call(30).soft_timeout(Duration::from_millis(500)).timeout(limit);
    assert_eq!(pool(1).apply(call()).unwrap(), Ok(30), "it took 1.5 s");
    let killed = pool(1).apply(ask_once_and_hang::call().soft_timeout(SHORT).timeout(2 * SHORT)).unwrap_err();
    assert!(killed.is_timeout(), "{killed}");
    assert!(killed.dossier().unwrap().duration().unwrap() >= 4 * SHORT);
}

#[task]
fn ask_once_and_hang() {
    assert!(current_job().extend_deadline(3 * SHORT));
    std::thread::sleep(LONG);
}

#[task]
fn ask_in_vain() {
    assert!(!current_job().extend_deadline(LONG));
    std::thread::sleep(LONG);
}

fn no_more_time_is_given_without_one() {
    assert!(pool(1).apply(ask_in_vain::call().timeout(SHORT)).unwrap_err().is_timeout());
}

#[task]
fn ask_from_a_thread() -> bool {
    let own = current_job().id();
    std::thread::spawn(move || own.is_some() && current_job().id() == own).join().unwrap()
}

fn threads_of_a_task_know_it_too() {
    assert!(pool(1).apply(ask_from_a_thread::call()).unwrap());
}

#[task]
fn keep_a_handle() {
    let job = current_job();
    KEPT.set(Some(job));
}

#[task]
fn look_at_the_handle() -> bool {
    KEPT.take().unwrap().is_cancelled() && !current_job().is_cancelled()
}

thread_local! {
    static KEPT: std::cell::Cell<Option<pool_runtime::CurrentJob>> = const { std::cell::Cell::new(None) };
}

fn a_handle_that_is_kept_says_that_the_job_is_over() {
    let pool = pool(1);
    pool.apply(keep_a_handle::call()).unwrap();
    assert!(pool.apply(look_at_the_handle::call()).unwrap());
}
