//! Locks that several guards may have: one thread again and again, or many readers.

over_every_transport! {
    in_turn:
    a_thread_takes_its_lock_again,
    one_thread_at_a_time_has_a_reentrant_lock,
    what_a_holder_stored_stays_when_it_ends,
    a_reentrant_lock_is_tried_and_waited_for,
    many_read_at_a_time_and_one_writes,
    what_readers_see_is_whole,
    a_reader_that_ends_is_not_counted,
    a_writer_that_ends_is_told_of,
    a_panic_stores_nothing_and_is_told_of,
    a_writer_gets_it_in_spite_of_readers,
    whoever_is_killed_anywhere_leaves_the_lock_usable,
    such_locks_travel_as_values_do,
    a_sandbox_may_use_such_locks,
}

use crate::support::{builder, over_every_transport, signal, until};
use pool_runtime::sync::{Poisoned, ReentrantMutex, RwLock, TryLockError};
use pool_runtime::{Atomic, Process, Sandbox, task};
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(50);

fn a_thread_takes_its_lock_again() {
    let lock = ReentrantMutex::new([1, 2]).unwrap();
    let first = lock.lock().unwrap();
    let second = lock.lock().unwrap();
    let third = lock.try_lock().unwrap();
    first.set([3, 4]);
    assert_eq!((second.get(), third.update(|value| std::mem::replace(value, [5, 6]))), ([3, 4], [3, 4]));
    // In whatever order they are dropped.
    drop((first, third));
    assert_eq!((lock.holder(), format!("{second:?}")), (Some(std::process::id()), "[5, 6]".into()));
    thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))).join().unwrap();
        drop(second);
        assert!(lock.holder().is_none());
        scope.spawn(|| assert_eq!(lock.try_lock().unwrap().get(), [5, 6])).join().unwrap();
    });
    assert!(format!("{lock:?}").contains("holder: None"));
}

/// Counts in steps that another one would see.
#[task]
fn count_up(lock: &ReentrantMutex<u64>, times: u64) {
    count(lock, times);
}

fn count(lock: &ReentrantMutex<u64>, times: u64) {
    for _ in 0..times {
        let outer = lock.lock().unwrap();
        let before = outer.get();
        lock.lock().unwrap().update(|value| *value += 1);
        let inner = lock.lock_timeout(LONG).unwrap();
        inner.set(inner.get() + 1);
        assert_eq!(outer.get(), before + 2);
    }
}

fn one_thread_at_a_time_has_a_reentrant_lock() {
    let pool = builder().processes(2).build().unwrap();
    let lock = ReentrantMutex::new(0).unwrap();
    let jobs = [(); 2].map(|()| pool.apply_async(count_up::call(&lock, 500)));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| count(&lock, 500));
        }
    });
    jobs.into_iter().for_each(|job| job.get().unwrap());
    assert_eq!(lock.lock().unwrap().get(), 4000);
}

#[task]
fn hold(lock: &ReentrantMutex<u64>, pid: &Atomic<u32>) {
    let outer = lock.lock().unwrap();
    let _inner = lock.lock().unwrap();
    outer.set(77);
    pid.store(std::process::id(), Release);
    loop {
        thread::park();
    }
}

fn what_a_holder_stored_stays_when_it_ends() {
    let pool = builder().processes(1).build().unwrap();
    let (lock, pid) = (ReentrantMutex::new(5).unwrap(), Atomic::new(0).unwrap());
    let job = pool.apply_async(hold::call(&lock, &pid));
    until("it is held", || pid.load(Acquire) != 0);
    assert_eq!(lock.holder(), Some(pid.load(Acquire)));
    thread::scope(|scope| {
        let waits = scope.spawn(|| lock.lock().map(|_| ()).map_err(|told| told.into_inner().get()));
        signal(pid.load(Acquire), 9);
        assert_eq!(waits.join().unwrap(), Err(77));
    });
    assert!(job.get().unwrap_err().is_worker_lost() && lock.is_poisoned());
    // Each guard of later ones, too.
    let outer = lock.lock().unwrap_err().into_inner();
    let inner = lock.lock().unwrap_err();
    assert!(inner.to_string().contains("held this lock"));
    drop(inner);
    lock.clear_poison();
    drop(lock.lock().unwrap());
    drop(outer);
    pool.apply(count_up::call(&lock, 1)).unwrap();
    assert_eq!(lock.lock().unwrap().get(), 79);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let guard = lock.lock().unwrap();
        let _inner = lock.lock().unwrap();
        guard.update(|value| {
            *value = 0;
            panic!("while it changes");
        })
    }));
    assert!(panicked.is_err() && lock.is_poisoned() && lock.holder().is_none());
    assert_eq!(lock.lock().unwrap_err().into_inner().get(), 79);
}

fn a_reentrant_lock_is_tried_and_waited_for() {
    let pool = builder().processes(1).build().unwrap();
    let (lock, pid) = (ReentrantMutex::new(5).unwrap(), Atomic::new(0).unwrap());
    let job = pool.apply_async(hold::call(&lock, &pid));
    until("it is held", || pid.load(Acquire) != 0);
    let began = Instant::now();
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    assert!(matches!(lock.lock_timeout(Duration::from_millis(30)), Err(TryLockError::WouldBlock)));
    assert!(began.elapsed() >= Duration::from_millis(30));
    signal(pid.load(Acquire), 9);
    assert!(matches!(lock.lock_timeout(LONG), Err(TryLockError::Poisoned(_))));
    assert!(job.get().unwrap_err().is_worker_lost());
}

/// Reads until it is told to stop, and returns the most that read at a time.
#[task]
fn read_until(lock: &RwLock<[u64; 2]>, readers: &Atomic<u32>, stop: &Atomic<u32>) {
    let guard = lock.read().unwrap();
    readers.fetch_add(1, AcqRel);
    while stop.load(Acquire) == 0 {
        thread::yield_now();
    }
    assert_eq!(*guard, [1, 2]);
}

#[task]
fn try_both(lock: &RwLock<[u64; 2]>) -> [bool; 2] {
    let may_read = lock.try_read().is_ok();
    [may_read, lock.try_write().is_ok()]
}

fn many_read_at_a_time_and_one_writes() {
    let pool = builder().processes(3).build().unwrap();
    let lock = RwLock::new([1, 2]).unwrap();
    let (readers, stop) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let jobs = [(); 2].map(|()| pool.apply_async(read_until::call(&lock, &readers, &stop)));
    until("both read", || readers.load(Acquire) == 2);
    let own = lock.read().unwrap();
    assert_eq!((*own, pool.apply(try_both::call(&lock)).unwrap()), ([1, 2], [true, false]));
    assert!(format!("{lock:?}").contains("readers: 3, is_written: false"));
    let began = Instant::now();
    assert!(matches!(lock.write_timeout(Duration::from_millis(30)), Err(TryLockError::WouldBlock)));
    assert!(began.elapsed() >= Duration::from_millis(30));
    drop(own);
    thread::scope(|scope| {
        let writes = scope.spawn(|| *lock.write().unwrap() = [3, 4]);
        stop.store(1, Release);
        writes.join().unwrap();
    });
    jobs.into_iter().for_each(|job| job.get().unwrap());
    let mut guard = lock.write().unwrap();
    assert_eq!(pool.apply(try_both::call(&lock)).unwrap(), [false, false]);
    assert!(lock.read_timeout(Duration::ZERO).is_err());
    guard[1] = 5;
    drop(guard);
    assert_eq!((pool.apply(try_both::call(&lock)).unwrap(), *lock.read_timeout(LONG).unwrap()), ([true, true], [3, 5]));
}

#[task]
fn write_all_alike(lock: &RwLock<[u64; 30]>, times: u64) {
    for _ in 0..times {
        lock.write().unwrap().iter_mut().for_each(|number| *number += 1);
        let read = lock.read().unwrap();
        assert_eq!(*read, [read[0]; 30]);
    }
}

fn what_readers_see_is_whole() {
    let pool = builder().processes(2).build().unwrap();
    let lock = RwLock::new([0; 30]).unwrap();
    let jobs = [(); 2].map(|()| pool.apply_async(write_all_alike::call(&lock, 200)));
    thread::scope(|scope| {
        scope.spawn(|| (0..200).for_each(|_| lock.write().unwrap().iter_mut().for_each(|number| *number += 1)));
        for _ in 0..200 {
            let read = lock.read().unwrap();
            assert_eq!(*read, [read[0]; 30]);
        }
    });
    jobs.into_iter().for_each(|job| job.get().unwrap());
    assert_eq!(*lock.read().unwrap(), [600; 30]);
}

#[task]
fn hold_rw(lock: &RwLock<[u64; 2]>, to_write: bool, pid: &Atomic<u32>) {
    let (read, write);
    if to_write {
        write = lock.write();
        *write.unwrap() = [8, 8];
        let mut guard = lock.write().unwrap();
        *guard = [9, 9];
        pid.store(std::process::id(), Release);
        loop {
            thread::park();
        }
    }
    read = [lock.read(), lock.read()];
    pid.store(std::process::id(), Release);
    loop {
        assert!(read.iter().all(Result::is_ok));
        thread::park();
    }
}

fn a_reader_that_ends_is_not_counted() {
    let pool = builder().processes(1).build().unwrap();
    let (lock, pid) = (RwLock::new([1, 2]).unwrap(), Atomic::new(0).unwrap());
    let job = pool.apply_async(hold_rw::call(&lock, false, &pid));
    until("it reads", || pid.load(Acquire) != 0);
    assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
    thread::scope(|scope| {
        let waits = scope.spawn(|| *lock.write().unwrap() = [3, 4]);
        signal(pid.load(Acquire), 9);
        waits.join().unwrap();
    });
    assert!(job.get().unwrap_err().is_worker_lost());
    assert!(!lock.is_poisoned() && *lock.read().unwrap() == [3, 4]);
}

fn a_writer_that_ends_is_told_of() {
    let pool = builder().processes(1).build().unwrap();
    let (lock, pid) = (RwLock::new([1, 2]).unwrap(), Atomic::new(0).unwrap());
    let job = pool.apply_async(hold_rw::call(&lock, true, &pid));
    until("it writes", || pid.load(Acquire) != 0);
    thread::scope(|scope| {
        let waits = scope.spawn(|| lock.read().map(|_| ()).map_err(|told| *told.into_inner()));
        signal(pid.load(Acquire), 9);
        assert_eq!(waits.join().unwrap(), Err([8, 8]), "what it changed was not stored");
    });
    assert!(job.get().unwrap_err().is_worker_lost() && lock.is_poisoned());
    assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(told)) if **told.get_ref() == [8, 8]));
    lock.clear_poison();
    assert_eq!((pool.apply(try_both::call(&lock)).unwrap(), *lock.read().unwrap()), ([true, true], [8, 8]));
}

fn a_panic_stores_nothing_and_is_told_of() {
    let lock = RwLock::new([1, 2]).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        *lock.write().unwrap() = [0, 0];
        let _read = lock.read().unwrap();
        panic!("with a guard to read");
    }));
    assert!(panicked.is_err() && !lock.is_poisoned() && *lock.read().unwrap() == [0, 0]);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = lock.write().unwrap();
        *guard = [7, 7];
        panic!("with a guard to write");
    }));
    assert!(panicked.is_err() && *lock.write().unwrap_err().into_inner() == [0, 0]);
}

#[task]
fn read_again_and_again(lock: &RwLock<[u64; 2]>, reads: &Atomic<u64>, stop: &Atomic<u32>) {
    // Some guard is there at any time.
    let mut last = lock.read().unwrap();
    while stop.load(Acquire) == 0 {
        if let Ok(next) = lock.try_read() {
            last = next;
        } else {
            drop(last);
            last = lock.read().unwrap();
        }
        assert_eq!(last[0], last[1]);
        reads.fetch_add(1, Relaxed);
    }
}

fn a_writer_gets_it_in_spite_of_readers() {
    let pool = builder().processes(2).build().unwrap();
    let lock = RwLock::new([0, 0]).unwrap();
    let (reads, stop) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let jobs = [(); 2].map(|()| pool.apply_async(read_again_and_again::call(&lock, &reads, &stop)));
    until("they read", || reads.load(Relaxed) > 100);
    for number in 1..=30 {
        *lock.write().unwrap() = [number; 2];
        let before = reads.load(Relaxed);
        until("they read again", || reads.load(Relaxed) > before);
    }
    stop.store(1, Release);
    jobs.into_iter().for_each(|job| job.get().unwrap());
}

#[task]
fn keep_counting(lock: &RwLock<[u64; 2]>, reentrant: &ReentrantMutex<[u64; 2]>) {
    loop {
        let mut guard = lock.write().unwrap_or_else(Poisoned::into_inner);
        let [one, two] = &mut *guard;
        (*one, *two) = (*one + 1, *two + 1);
        drop(guard);
        let read = lock.read().unwrap_or_else(Poisoned::into_inner);
        assert_eq!(read[0], read[1]);
        drop(read);
        let outer = reentrant.lock().unwrap_or_else(Poisoned::into_inner);
        let inner = reentrant.lock().unwrap_or_else(Poisoned::into_inner);
        outer.update(|[one, two]| (*one, *two) = (*one + 1, *two + 1));
        inner.update(|[one, two]| (*one, *two) = (*one + 1, *two + 1));
    }
}

fn whoever_is_killed_anywhere_leaves_the_lock_usable() {
    let pool = builder().processes(2).build().unwrap();
    let (lock, reentrant) = (RwLock::new([0; 2]).unwrap(), ReentrantMutex::new([0; 2]).unwrap());
    for round in 0..20 {
        let last = lock.read().unwrap_or_else(Poisoned::into_inner)[0];
        let jobs = [(); 2].map(|()| pool.apply_async(keep_counting::call(&lock, &reentrant)));
        until("they count", || lock.read().unwrap_or_else(Poisoned::into_inner)[0] > last + 5 + round % 7 * 5);
        for job in &jobs {
            job.cancel();
        }
        let [one, two] = *lock.write().unwrap_or_else(Poisoned::into_inner);
        assert_eq!(one, two);
        jobs.into_iter().for_each(|job| assert!(job.get().is_err()));
        assert!(!matches!(lock.write_timeout(LONG), Err(TryLockError::WouldBlock)));
        let [one, two] = reentrant.lock().unwrap_or_else(Poisoned::into_inner).get();
        assert_eq!(one, two);
    }
    assert!(format!("{lock:?}").contains("readers: 0, is_written: false"));
}

#[derive(Serialize, Deserialize)]
struct Locks {
    name: String,
    locks: Vec<RwLock<u16>>,
    reentrant: Option<ReentrantMutex<[f32; 3]>>,
}

#[task]
fn use_all(locks: Locks) -> usize {
    locks.locks.iter().for_each(|lock| *lock.write().unwrap() += 1);
    locks.reentrant.iter().for_each(|lock| lock.lock().unwrap().update(|value| value[1] += 0.5));
    locks.name.len()
}

#[task]
fn pass_on(locks: Locks) -> usize {
    Process::new(use_all::call(locks)).start().unwrap().join().unwrap()
}

#[task]
fn give_back(lock: RwLock<u16>) -> RwLock<u16> {
    lock
}

fn such_locks_travel_as_values_do() {
    let pool = builder().processes(1).build().unwrap();
    let locks: Vec<_> = (0..2).map(|number| RwLock::new(number).unwrap()).collect();
    let reentrant = ReentrantMutex::new([0.0; 3]).unwrap();
    let all = || Locks { name: "ab".into(), locks: locks.clone(), reentrant: Some(reentrant.clone()) };
    assert_eq!(pool.apply(use_all::call(all())).unwrap(), 2);
    assert_eq!(pool.apply(pass_on::call(all())).unwrap(), 2);
    assert_eq!(Process::new(pass_on::call(all())).start().unwrap().join().unwrap(), 2);
    assert_eq!(locks.iter().map(|lock| *lock.read().unwrap()).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(reentrant.lock().unwrap().get(), [0.0, 1.5, 0.0]);
    let back = pool.apply(give_back::call(locks[0].clone())).unwrap();
    *back.write().unwrap() = 9;
    assert_eq!(*locks[0].read().unwrap(), 9);
}

fn a_sandbox_may_use_such_locks() {
    let pool = builder().processes(2).sandbox(Sandbox::strict()).build().unwrap();
    let (lock, reentrant) = (RwLock::new([1, 2]).unwrap(), ReentrantMutex::new(0).unwrap());
    for to_write in [false, true] {
        let pid = Atomic::new(0).unwrap();
        let job = pool.apply_async(hold_rw::call(&lock, to_write, &pid));
        until("it is held", || pid.load(Acquire) != 0 || job.is_ready());
        signal(pid.load(Acquire), 9);
        assert!(job.get().unwrap_err().is_worker_lost());
        assert_eq!(pool.apply(try_both::call(&lock)).unwrap(), [!to_write; 2], "after a writer, both are told");
    }
    pool.apply(count_up::call(&reentrant, 10)).unwrap();
    assert_eq!(reentrant.lock().unwrap().get(), 20);
}
