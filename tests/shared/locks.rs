//! Locks and values in shared memory: one holder at a time, in each way to call and in a sandbox; whole values, and
//! whoever comes after a holder that has ended is told.

over_every_transport! {
    in_turn:
    one_at_a_time_has_the_lock,
    a_value_is_always_whole,
    the_next_one_is_told_of_a_holder_that_ended,
    a_holder_that_is_killed_anywhere_leaves_a_whole_value,
    a_panic_changes_nothing,
    a_lock_is_seen_to_be_held_everywhere,
    a_lock_travels_as_values_do,
    whoever_waits_has_it_in_the_end,
    a_sandbox_may_use_the_lock_that_it_was_given,
    a_forked_process_has_none_of_its_parents_locks,
}

use crate::support::{builder, over_every_transport, signal, until};
use pool_runtime::sync::{Mutex, Poisoned, TryLockError};
use pool_runtime::{Array, Atomic, Backend, Pool, Process, Sandbox, Value, task};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread;
use std::time::{Duration, Instant};

/// Counts in steps that another one would see, under the lock and in the value.
#[task]
fn count_up(lock: &Mutex<()>, plain: &Array<u64>, guarded: &Mutex<[u64; 3]>, value: &Value<u64>, times: u64) {
    for _ in 0..times {
        {
            let _alone = lock.lock().unwrap();
            plain.set(0, plain.get(0) + 1);
        }
        guarded.lock().unwrap().iter_mut().for_each(|number| *number += 1);
        value.update(|value| *value += 1);
    }
}

fn one_at_a_time_has_the_lock() {
    let pool = builder().processes(3).build().unwrap();
    let (lock, plain) = (Mutex::new(()).unwrap(), Array::zeroed(1).unwrap());
    let (guarded, value) = (Mutex::new([0; 3]).unwrap(), Value::new(0).unwrap());
    let call = |times| count_up::call(&lock, &plain, &guarded, &value, times);
    let jobs: Vec<_> = (0..3).map(|_| pool.apply_async(call(2000))).collect();
    // Threads of this process at the same time.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| Pool::builder().processes(1).backend(Backend::Inline).build().unwrap().apply(call(2000)));
        }
    });
    jobs.into_iter().for_each(|job| job.get().unwrap());
    assert_eq!((plain.get(0), *guarded.lock().unwrap(), value.get()), (10_000, [10_000; 3], 10_000));
    Process::new(call(5)).start().unwrap().join().unwrap();
    assert_eq!((plain.get(0), value.replace(7), value.get()), (10_005, 10_005, 7));
}

#[task]
fn write_all_alike(value: &Value<[u64; 40]>, started: &Atomic<u32>, stop: &Atomic<u32>) {
    let mut number = 0;
    started.fetch_add(1, Relaxed);
    while stop.load(Relaxed) == 0 {
        number += 1;
        value.set([number; 40]);
    }
}

fn a_value_is_always_whole() {
    let pool = builder().processes(2).build().unwrap();
    let (value, started, stop) = (Value::new([0; 40]).unwrap(), Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let jobs = [(); 2].map(|()| pool.apply_async(write_all_alike::call(&value, &started, &stop)));
    until("both write it", || started.load(Relaxed) == 2 && value.get()[0] > 0);
    for _ in 0..5000 {
        let read = value.get();
        assert_eq!(read, [read[0]; 40]);
    }
    stop.store(1, Relaxed);
    jobs.into_iter().for_each(|job| job.get().unwrap());
}

#[task]
fn die_holding(lock: &Mutex<u64>, given: &Atomic<u32>) {
    let mut guard = lock.lock().unwrap();
    *guard = 99;
    given.store(std::process::id(), Release);
    loop {
        thread::park();
    }
}

fn the_next_one_is_told_of_a_holder_that_ended() {
    let pool = builder().processes(1).build().unwrap();
    let (lock, given) = (Mutex::new(5).unwrap(), Atomic::new(0).unwrap());
    let job = pool.apply_async(die_holding::call(&lock, &given));
    until("it is held", || given.load(Acquire) != 0);
    let pid = given.load(Acquire);
    assert_eq!((lock.holder(), lock.is_poisoned()), (Some(pid), false));
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    thread::scope(|scope| {
        // One that waits already, without a limit.
        let waits = scope.spawn(|| lock.lock().map(|_| ()).map_err(|poisoned| *poisoned.into_inner()));
        signal(pid, 9);
        assert_eq!(waits.join().unwrap(), Err(5), "what it changed was not stored");
    });
    assert!(job.get().unwrap_err().is_worker_lost());
    // And all later ones, in any process.
    assert!(lock.is_poisoned() && lock.holder().is_none());
    assert_eq!(pool.apply(look::call(&lock)).unwrap(), Err(5));
    let mut guard = lock.lock().unwrap_err().into_inner();
    *guard += 1;
    drop(guard);
    assert!(matches!(lock.try_lock(), Err(TryLockError::Poisoned(poisoned)) if **poisoned.get_ref() == 6));
    lock.clear_poison();
    assert_eq!((pool.apply(look::call(&lock)).unwrap(), *lock.lock().unwrap()), (Ok(6), 6));
}

#[task]
fn look(lock: &Mutex<u64>) -> Result<u64, u64> {
    lock.lock().map(|guard| *guard).map_err(|poisoned: Poisoned<_>| *poisoned.into_inner())
}

#[task]
fn keep_counting(pair: &Mutex<[u64; 2]>, value: &Value<[u64; 2]>) {
    loop {
        let mut guard = pair.lock().unwrap_or_else(Poisoned::into_inner);
        let [one, two] = &mut *guard;
        *one += 1;
        *two += 1;
        drop(guard);
        value.update(|[one, two]| (*one, *two) = (*one + 1, *two + 1));
    }
}

fn a_holder_that_is_killed_anywhere_leaves_a_whole_value() {
    let pool = builder().processes(2).build().unwrap();
    let (pair, value) = (Mutex::new([0; 2]).unwrap(), Value::new([0; 2]).unwrap());
    let mut last = 0;
    for round in 0..40 {
        let jobs = [(); 2].map(|()| pool.apply_async(keep_counting::call(&pair, &value)));
        until("they count", || value.get()[0] > last + round % 7 * 100);
        last = value.get()[0];
        // While this thread takes it, too: some die in line, some with the lock, some with half of the value written.
        jobs.iter().for_each(|job| assert!(job.cancel() || job.is_ready()));
        let guard = pair.lock().unwrap_or_else(Poisoned::into_inner);
        assert_eq!(guard[0], guard[1]);
        drop(guard);
        jobs.into_iter().for_each(|job| assert!(job.get().is_err()));
        let [one, two] = value.get();
        assert_eq!(one, two);
        assert!(pair.lock_timeout(Duration::from_secs(20)).is_ok_and(|guard| guard[0] > 0) || pair.is_poisoned());
    }
}

#[task]
fn panic_holding(lock: &Mutex<u64>, value: &Value<u64>, which: bool) {
    if which {
        let mut guard = lock.lock().unwrap();
        *guard = 1000;
        panic!("with the guard");
    }
    value.update(|value| {
        *value = 1000;
        panic!("while it changes");
    });
}

fn a_panic_changes_nothing() {
    let pool = builder().processes(1).build().unwrap();
    let (lock, value) = (Mutex::new(3).unwrap(), Value::new(4).unwrap());
    for which in [true, false] {
        assert!(pool.apply(panic_holding::call(&lock, &value, which)).unwrap_err().is_panic());
    }
    assert_eq!((value.get(), value.update(|value| *value + 1)), (4, 5));
    let poisoned = lock.lock().unwrap_err();
    assert!(poisoned.to_string().contains("`clear_poison`") && **poisoned.get_ref() == 3);
    let error = pool_runtime::Error::from(poisoned);
    assert!(error.to_string().contains("held this lock"));
    assert!(lock.is_poisoned() && lock.holder().is_none(), "the error gave it back");
}

#[task]
fn hold(lock: &Mutex<u8>, go: &Atomic<u32>) {
    let _held = lock.lock().unwrap();
    go.store(1, Release);
    while go.load(Acquire) != 2 {
        thread::yield_now();
    }
}

#[task]
fn try_it(lock: &Mutex<u8>) -> (bool, Option<u32>) {
    (lock.try_lock().is_ok(), lock.holder())
}

fn a_lock_is_seen_to_be_held_everywhere() {
    let pool = builder().processes(2).build().unwrap();
    let (lock, go) = (Mutex::new(0).unwrap(), Atomic::new(0).unwrap());
    let job = pool.apply_async(hold::call(&lock, &go));
    until("it is held", || go.load(Acquire) == 1);
    let (free, holder) = pool.apply(try_it::call(&lock)).unwrap();
    assert!(!free && holder.is_some() && holder == lock.holder());
    let began = Instant::now();
    assert!(lock.lock_timeout(Duration::from_millis(30)).is_err() && lock.lock_timeout(Duration::ZERO).is_err());
    assert!(began.elapsed() >= Duration::from_millis(30));
    go.store(2, Release);
    job.get().unwrap();
    let guard = lock.lock().unwrap();
    assert_eq!(pool.apply(try_it::call(&lock)).unwrap(), (false, Some(std::process::id())));
    assert!(format!("{lock:?}").contains(&format!("holder: Some({})", std::process::id())));
    drop(guard);
    assert!(pool.apply(try_it::call(&lock)).unwrap().0);
}

#[derive(Serialize, Deserialize)]
struct Locks {
    names: Vec<String>,
    locks: Vec<Mutex<u16>>,
    best: Option<Value<[f32; 3]>>,
}

#[task]
fn use_all(mut locks: Locks) -> usize {
    for lock in &mut locks.locks {
        *lock.lock().unwrap() += 1;
    }
    locks.best.iter().for_each(|best| best.update(|best| best[1] += 0.5));
    locks.names.len()
}

#[task]
fn pass_on(locks: Locks) -> usize {
    Process::new(use_all::call(locks)).start().unwrap().join().unwrap()
}

#[task]
fn give_back(lock: Mutex<u16>) -> Mutex<u16> {
    lock
}

fn a_lock_travels_as_values_do() {
    let pool = builder().processes(1).build().unwrap();
    let locks: Vec<_> = (0..3).map(|n| Mutex::new(n).unwrap()).collect();
    let best = Value::new([0.0; 3]).unwrap();
    let all = || Locks { names: vec!["a".into()], locks: locks.clone(), best: Some(best.clone()) };
    assert_eq!(pool.apply(use_all::call(all())).unwrap(), 1);
    assert_eq!(pool.apply(pass_on::call(all())).unwrap(), 1);
    assert_eq!(Process::new(pass_on::call(all())).start().unwrap().join().unwrap(), 1);
    assert_eq!(locks.iter().map(|lock| *lock.lock().unwrap()).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!((best.get(), format!("{best:?}")), ([0.0, 1.5, 0.0], "Value([0.0, 1.5, 0.0])".into()));
    let back = pool.apply(give_back::call(locks[0].clone())).unwrap();
    *back.lock().unwrap() = 9;
    assert_eq!(*locks[0].lock().unwrap(), 9);
}

#[task]
fn take_again_and_again(lock: &Mutex<u64>, stop: &Atomic<u32>) {
    while stop.load(Relaxed) == 0 {
        *lock.lock().unwrap() += 1;
    }
}

fn whoever_waits_has_it_in_the_end() {
    let pool = builder().processes(2).build().unwrap();
    let (lock, stop) = (Mutex::new(0).unwrap(), Atomic::new(0).unwrap());
    let jobs = [(); 2].map(|()| pool.apply_async(take_again_and_again::call(&lock, &stop)));
    until("they are busy", || *lock.lock().unwrap() > 100);
    for _ in 0..200 {
        drop(lock.lock().unwrap());
    }
    stop.store(1, Relaxed);
    jobs.into_iter().for_each(|job| job.get().unwrap());
}

fn a_sandbox_may_use_the_lock_that_it_was_given() {
    let pool = builder().processes(2).sandbox(Sandbox::strict()).build().unwrap();
    let (lock, given) = (Mutex::new(5).unwrap(), Atomic::new(0).unwrap());
    let job = pool.apply_async(die_holding::call(&lock, &given));
    until("it is held", || given.load(Acquire) != 0 || job.is_ready());
    let holder = given.load(Acquire);
    assert_ne!(holder, 0, "the call has ended before");
    signal(holder, 9);
    assert_eq!(pool.apply(look::call(&lock)).unwrap(), Err(5));
    assert!(job.get().unwrap_err().is_worker_lost());
    let value = Value::new(1_u8).unwrap();
    let (plain, guarded) = (Array::zeroed(1).unwrap(), Mutex::new([0; 3]).unwrap());
    let counted = Value::new(0).unwrap();
    pool.apply(count_up::call(&Mutex::new(()).unwrap(), &plain, &guarded, &counted, 100)).unwrap();
    assert_eq!((counted.get(), value.get()), (100, 1));
}

fn a_forked_process_has_none_of_its_parents_locks() {
    let (lock, value) = (Mutex::new(5).unwrap(), Value::new(0).unwrap());
    let mut guard = lock.lock().unwrap();
    *guard = 6;
    // SAFETY: the child uses only what it may: atomic words, and system calls.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        *guard = 7;
        drop(guard);
        value.set(1);
        let held = matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if held { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: waits for the child of this test.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!((status, value.get()), (0, 1), "it takes part itself, and has no lock");
    drop(guard);
    assert_eq!(*lock.lock().unwrap(), 6);
}
