//! Condition variables: a notification wakes as many as it says, none twice, and none is lost with a process that ends.

over_every_transport! {
    in_turn:
    who_waits_for_a_condition_sees_it,
    as_many_wake_as_are_notified,
    the_time_ends_a_wait,
    a_notification_is_not_lost_with_who_was_killed,
    a_notification_for_one_who_ends_before_noticing_goes_to_another,
    whoever_is_killed_waiting_disturbs_nobody,
    items_are_handed_over,
    a_wait_tells_of_a_holder_that_ended,
    a_condvar_travels_as_values_do,
    a_sandbox_may_wait_and_notify,
}

use crate::support::{builder, over_every_transport, signal, until};
use pool_runtime::sync::{Condvar, Mutex, Poisoned};
use pool_runtime::{Atomic, Process, Sandbox, task};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(50);

#[task]
fn wait_for(stage: &Mutex<u32>, changed: &Condvar, wanted: u32) -> u32 {
    *changed.wait_while(stage.lock().unwrap(), |stage| *stage < wanted).unwrap()
}

fn who_waits_for_a_condition_sees_it() {
    let pool = builder().processes(2).build().unwrap();
    let (stage, changed) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    let jobs = [1, 3].map(|wanted| pool.apply_async(wait_for::call(&stage, &changed, wanted)));
    until("both wait", || changed.waiting() == 2);
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let guard = stage.lock().unwrap();
            let (guard, result) = changed.wait_timeout_while(guard, LONG, |stage| *stage < 2).unwrap();
            assert!(!result.timed_out());
            *guard
        });
        for _ in 0..3 {
            *stage.lock().unwrap() += 1;
            changed.notify_all();
        }
        assert!((2..=3).contains(&waits.join().unwrap()));
    });
    assert!(
        jobs.into_iter().map(|job| job.get().unwrap()).zip([1..=3, 3..=3]).all(|(seen, range)| range.contains(&seen))
    );
    assert_eq!((changed.waiting(), format!("{changed:?}")), (0, "Condvar { waiting: 0, .. }".into()));
}

/// Waits once, not for any condition.
#[task]
fn wait_once(lock: &Mutex<u32>, condvar: &Condvar, pid: &Atomic<u32>) {
    let guard = lock.lock().unwrap();
    pid.store(std::process::id(), Release);
    let mut guard = condvar.wait(guard).unwrap();
    *guard += 1;
}

fn as_many_wake_as_are_notified() {
    let pool = builder().processes(3).build().unwrap();
    let (lock, condvar, pid) = (Mutex::new(0).unwrap(), Condvar::new().unwrap(), Atomic::new(0).unwrap());
    for _ in 0..3 {
        let jobs = [(); 3].map(|()| pool.apply_async(wait_once::call(&lock, &condvar, &pid)));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| *condvar.wait(lock.lock().unwrap()).unwrap() += 1);
            }
            until("six wait", || condvar.waiting() == 6);
            assert_eq!((condvar.notify(0), condvar.notify(2)), (0, 2));
            until("two are awake", || *lock.lock().unwrap() == 2);
            condvar.notify_one();
            until("three are awake", || *lock.lock().unwrap() == 3);
            // Nobody wakes unless it was notified, after several naps either.
            thread::sleep(Duration::from_millis(200));
            assert_eq!((*lock.lock().unwrap(), condvar.waiting()), (3, 3));
            assert_eq!(condvar.notify(7), 3);
            until("all are awake", || *lock.lock().unwrap() == 6);
        });
        jobs.into_iter().for_each(|job| job.get().unwrap());
        assert_eq!(condvar.notify(1), 0);
        *lock.lock().unwrap() = 0;
    }
}

fn the_time_ends_a_wait() {
    let (lock, condvar) = (Mutex::new(5).unwrap(), Condvar::new().unwrap());
    let began = Instant::now();
    let (guard, result) = condvar.wait_timeout(lock.lock().unwrap(), Duration::from_millis(30)).unwrap();
    assert!(result.timed_out() && *guard == 5 && began.elapsed() >= Duration::from_millis(30));
    let (guard, result) = condvar.wait_timeout(guard, Duration::ZERO).unwrap();
    assert!(result.timed_out() && condvar.notify(1) == 0);
    let (guard, result) = condvar.wait_timeout_while(guard, Duration::from_millis(10), |_| true).unwrap();
    assert!(result.timed_out());
    let (_guard, result) = condvar.wait_timeout_while(guard, Duration::ZERO, |_| false).unwrap();
    assert!(!result.timed_out());
}

fn a_notification_is_not_lost_with_who_was_killed() {
    let pool = builder().processes(2).build().unwrap();
    let (lock, condvar) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    let pids = [(); 2].map(|()| Atomic::new(0).unwrap());
    let first = pool.apply_async(wait_once::call(&lock, &condvar, &pids[0]));
    until("one waits", || condvar.waiting() == 1);
    let second = pool.apply_async(wait_once::call(&lock, &condvar, &pids[1]));
    until("both wait", || condvar.waiting() == 2);
    signal(pids[0].load(Acquire), 9);
    assert!(first.get().unwrap_err().is_worker_lost());
    // It is its turn, but it is not there any more.
    assert_eq!(condvar.notify(1), 1);
    second.get().unwrap();
    assert_eq!(*lock.lock().unwrap(), 1);
}

fn a_notification_for_one_who_ends_before_noticing_goes_to_another() {
    let pool = builder().processes(2).build().unwrap();
    let (lock, condvar) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    let pids = [(); 2].map(|()| Atomic::new(0).unwrap());
    let first = pool.apply_async(wait_once::call(&lock, &condvar, &pids[0]));
    until("one waits", || condvar.waiting() == 1);
    let second = pool.apply_async(wait_once::call(&lock, &condvar, &pids[1]));
    until("both wait", || condvar.waiting() == 2);
    let pid = pids[0].load(Acquire);
    // It is stopped when it is notified, and never goes on.
    signal(pid, libc::SIGSTOP);
    assert_eq!(condvar.notify(1), 1);
    signal(pid, 9);
    second.get().unwrap();
    assert!(first.get().unwrap_err().is_worker_lost());
    assert_eq!(*lock.lock().unwrap(), 1);
}

#[task]
fn wait_again_and_again(lock: &Mutex<u32>, condvar: &Condvar, started: &Atomic<u32>) {
    started.fetch_add(1, AcqRel);
    let mut guard = lock.lock().unwrap_or_else(Poisoned::into_inner);
    loop {
        guard = condvar.wait(guard).unwrap_or_else(Poisoned::into_inner);
        *guard += 1;
    }
}

fn whoever_is_killed_waiting_disturbs_nobody() {
    let pool = builder().processes(2).build().unwrap();
    let (lock, condvar) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    for round in 0..10 {
        let started = Atomic::new(0).unwrap();
        let jobs = [(); 2].map(|()| pool.apply_async(wait_again_and_again::call(&lock, &condvar, &started)));
        until("they wait", || started.load(Acquire) == 2);
        let before = *lock.lock().unwrap_or_else(Poisoned::into_inner);
        until("they wake again and again", || {
            condvar.notify_all();
            *lock.lock().unwrap_or_else(Poisoned::into_inner) > before + 5 + round
        });
        for job in &jobs {
            job.cancel();
        }
        let guard = lock.lock().unwrap_or_else(Poisoned::into_inner);
        let waited = condvar.wait_timeout(guard, Duration::from_millis(1));
        drop(waited);
        jobs.into_iter().for_each(|job| assert!(job.get().is_err()));
        // A job that was cancelled has ended before its process has.
        until("nobody is left", || condvar.notify(9) == 0);
    }
}

#[task]
fn take_items(items: &Mutex<[u64; 2]>, changed: &Condvar) -> u64 {
    let mut sum = 0;
    loop {
        let mut guard = changed.wait_while(items.lock().unwrap(), |[waiting, ends]| *waiting + *ends == 0).unwrap();
        if guard[0] == 0 {
            return sum;
        }
        guard[0] -= 1;
        sum += 1;
    }
}

fn items_are_handed_over() {
    let pool = builder().processes(2).build().unwrap();
    let (items, changed) = (Mutex::new([0, 0]).unwrap(), Condvar::new().unwrap());
    let jobs = [(); 2].map(|()| pool.apply_async(take_items::call(&items, &changed)));
    for _ in 0..1000 {
        items.lock().unwrap()[0] += 1;
        changed.notify_one();
    }
    items.lock().unwrap()[1] = 1;
    changed.notify_all();
    assert_eq!(jobs.into_iter().map(|job| job.get().unwrap()).sum::<u64>(), 1000);
}

#[task]
fn die_holding(lock: &Mutex<u32>) {
    let _guard = lock.lock().unwrap();
    signal(std::process::id(), 9);
}

fn a_wait_tells_of_a_holder_that_ended() {
    let pool = builder().processes(1).build().unwrap();
    let (lock, condvar) = (Mutex::new(3).unwrap(), Condvar::new().unwrap());
    thread::scope(|scope| {
        let waits = scope.spawn(|| condvar.wait(lock.lock().unwrap()).map(|_| ()).map_err(|told| *told.into_inner()));
        until("it waits", || condvar.waiting() == 1);
        assert!(pool.apply(die_holding::call(&lock)).unwrap_err().is_worker_lost());
        condvar.notify_one();
        assert_eq!(waits.join().unwrap(), Err(3));
    });
    let guard = lock.lock().unwrap_err().into_inner();
    let poisoned = condvar.wait_timeout(guard, Duration::ZERO).unwrap_err();
    assert!(poisoned.get_ref().1.timed_out());
}

#[derive(Serialize, Deserialize)]
struct Monitor {
    stages: Vec<Mutex<u32>>,
    changed: Option<Condvar>,
}

#[task]
fn next_stage(monitor: Monitor) {
    monitor.stages.iter().for_each(|stage| *stage.lock().unwrap() += 1);
    monitor.changed.iter().for_each(Condvar::notify_all);
}

fn a_condvar_travels_as_values_do() {
    let (stage, changed) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    let monitor = Monitor { stages: vec![stage.clone()], changed: Some(changed.clone()) };
    let guard = stage.lock().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| Process::new(next_stage::call(monitor)).start().unwrap().join().unwrap());
        drop(changed.wait_while(guard, |stage| *stage == 0).unwrap());
    });
}

fn a_sandbox_may_wait_and_notify() {
    let pool = builder().processes(2).sandbox(Sandbox::strict()).build().unwrap();
    let (lock, condvar) = (Mutex::new(0).unwrap(), Condvar::new().unwrap());
    let pids = [(); 2].map(|()| Atomic::new(0).unwrap());
    let first = pool.apply_async(wait_once::call(&lock, &condvar, &pids[0]));
    until("one waits", || condvar.waiting() == 1 || first.is_ready());
    signal(pids[0].load(Acquire), 9);
    assert!(first.get().unwrap_err().is_worker_lost());
    let second = pool.apply_async(wait_for::call(&lock, &condvar, 1));
    pool.apply(next_stage::call(Monitor { stages: vec![lock.clone()], changed: Some(condvar.clone()) })).unwrap();
    assert_eq!(second.get().unwrap(), 1);
}
