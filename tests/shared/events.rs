//! Events and semaphores: whoever waits is woken, in processes and threads, and nobody who ends takes anything along.

over_every_transport! {
    in_turn:
    an_event_wakes_all_who_wait,
    who_waits_for_an_event_returns_though_it_is_cleared,
    an_event_that_is_not_set_ends_with_the_time,
    who_ends_waiting_for_an_event_disturbs_nobody,
    no_more_have_a_permit_than_there_are,
    permits_of_who_was_killed_come_back,
    who_waits_gets_a_permit_of_who_was_killed,
    who_is_killed_in_line_keeps_nobody,
    a_permit_that_was_forgotten_belongs_to_nobody,
    no_more_permits_come_back_than_there_were,
    permits_are_given_in_turn,
    whoever_waits_gets_a_permit_in_the_end,
    whoever_is_killed_anywhere_loses_no_permit,
    events_and_semaphores_travel_as_values_do,
    a_sandbox_may_use_what_it_was_given,
}

use crate::support::{builder, over_every_transport, signal, until};
use pool_runtime::sync::{Event, Semaphore};
use pool_runtime::{Atomic, Process, Sandbox, task};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::thread;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(50);

#[task]
fn wait_for(event: &Event, waiting: &Atomic<u32>, woken: &Atomic<u32>) {
    waiting.fetch_add(1, AcqRel);
    event.wait();
    woken.fetch_add(1, AcqRel);
}

fn an_event_wakes_all_who_wait() {
    let pool = builder().processes(2).build().unwrap();
    let (event, waiting, woken) = (Event::new().unwrap(), Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let jobs = [(); 2].map(|()| pool.apply_async(wait_for::call(&event, &waiting, &woken)));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                waiting.fetch_add(1, AcqRel);
                assert!(event.wait_timeout(LONG));
                woken.fetch_add(1, AcqRel);
            });
        }
        until("all wait", || waiting.load(Acquire) == 4);
        assert_eq!((woken.load(Acquire), event.is_set()), (0, false));
        event.set();
    });
    jobs.into_iter().for_each(|job| job.get().unwrap());
    assert_eq!((woken.load(Acquire), format!("{event:?}")), (4, "Event { is_set: true, .. }".into()));
    pool.apply(wait_for::call(&event, &waiting, &woken)).unwrap();
    event.clear();
    assert!(!event.is_set() && !event.wait_timeout(Duration::ZERO));
}

#[task]
fn set_and_clear(event: &Event, stop: &Atomic<u32>) {
    while stop.load(Acquire) == 0 {
        event.set();
        event.clear();
        thread::sleep(Duration::from_millis(1));
    }
}

fn who_waits_for_an_event_returns_though_it_is_cleared() {
    let pool = builder().processes(1).build().unwrap();
    let (event, stop) = (Event::new().unwrap(), Atomic::new(0).unwrap());
    let job = pool.apply_async(set_and_clear::call(&event, &stop));
    (0..20).for_each(|_| event.wait());
    stop.store(1, Release);
    job.get().unwrap();
}

fn an_event_that_is_not_set_ends_with_the_time() {
    let event = Event::new().unwrap();
    let began = Instant::now();
    assert!(!event.wait_timeout(Duration::from_millis(30)));
    assert!(began.elapsed() >= Duration::from_millis(30));
    event.set();
    assert!(event.wait_timeout(Duration::ZERO) && event.wait_timeout(Duration::MAX));
}

#[task]
fn say_and_wait(event: &Event, pid: &Atomic<u32>) {
    pid.store(std::process::id(), Release);
    event.wait();
}

fn who_ends_waiting_for_an_event_disturbs_nobody() {
    let pool = builder().processes(2).build().unwrap();
    let (event, pids) = (Event::new().unwrap(), [(); 2].map(|()| Atomic::new(0).unwrap()));
    let mut jobs = pids.each_ref().map(|pid| pool.apply_async(say_and_wait::call(&event, pid)));
    until("both wait", || pids.iter().all(|pid| pid.load(Acquire) != 0));
    signal(pids[0].load(Acquire), 9);
    assert!(jobs[0].get_timeout(LONG).unwrap_err().is_worker_lost());
    event.set();
    jobs[1].get_timeout(LONG).unwrap();
}

/// Returns the most that had a permit at a time, as far as this one has seen.
#[task]
fn enter_and_leave(semaphore: &Semaphore, inside: &Atomic<i32>, times: u32) -> i32 {
    let mut most = 0;
    for turn in 0..times {
        let permit = match turn % 3 {
            0 => semaphore.acquire().unwrap(),
            1 => semaphore.acquire_timeout(LONG).unwrap().unwrap(),
            _ => loop {
                match semaphore.try_acquire().unwrap() {
                    Some(permit) => break permit,
                    None => thread::yield_now(),
                }
            },
        };
        most = most.max(inside.fetch_add(1, AcqRel) + 1);
        thread::yield_now();
        inside.fetch_sub(1, AcqRel);
        drop(permit);
    }
    most
}

fn no_more_have_a_permit_than_there_are() {
    let pool = builder().processes(2).build().unwrap();
    let (semaphore, inside) = (Semaphore::new(2).unwrap(), Atomic::new(0).unwrap());
    let jobs = [(); 2].map(|()| pool.apply_async(enter_and_leave::call(&semaphore, &inside, 300)));
    thread::scope(|scope| {
        let threads = [(); 2].map(|()| {
            scope.spawn(|| {
                for _ in 0..300 {
                    let _permit = semaphore.acquire().unwrap();
                    assert!(inside.fetch_add(1, AcqRel) < 2);
                    inside.fetch_sub(1, AcqRel);
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    for job in jobs {
        assert!((1..=2).contains(&job.get().unwrap()));
    }
    assert_eq!((semaphore.available(), inside.load(Relaxed)), (2, 0));
}

#[task]
fn hold_permits(semaphore: &Semaphore, permits: u32, pid: &Atomic<u32>) {
    let _held: Vec<_> = (0..permits).map(|_| semaphore.acquire().unwrap()).collect();
    pid.store(std::process::id(), Release);
    loop {
        thread::park();
    }
}

#[task]
fn take_permits(semaphore: &Semaphore, permits: u32) -> u32 {
    let _held: Vec<_> = (0..permits).map(|_| semaphore.acquire().unwrap()).collect();
    semaphore.available()
}

fn permits_of_who_was_killed_come_back() {
    let pool = builder().processes(1).build().unwrap();
    let semaphore = Semaphore::new(3).unwrap();
    for _ in 0..3 {
        let pid = Atomic::new(0).unwrap();
        let job = pool.apply_async(hold_permits::call(&semaphore, 2, &pid));
        until("it has them", || pid.load(Acquire) != 0);
        let own = semaphore.try_acquire().unwrap().unwrap();
        assert!(semaphore.try_acquire().unwrap().is_none(), "their owner lives");
        assert!(semaphore.acquire_timeout(Duration::from_millis(20)).unwrap().is_none());
        signal(pid.load(Acquire), 9);
        assert!(job.get().unwrap_err().is_worker_lost());
        let others = [(); 2].map(|()| semaphore.try_acquire().unwrap().unwrap());
        assert!(semaphore.try_acquire().unwrap().is_none());
        drop((own, others));
        assert_eq!(semaphore.available(), 3);
    }
    assert_eq!(pool.apply(take_permits::call(&semaphore, 3)).unwrap(), 0);
}

fn who_waits_gets_a_permit_of_who_was_killed() {
    let pool = builder().processes(2).build().unwrap();
    let (semaphore, pid) = (Semaphore::new(2).unwrap(), Atomic::new(0).unwrap());
    let holds = pool.apply_async(hold_permits::call(&semaphore, 2, &pid));
    until("it has them", || pid.load(Acquire) != 0);
    let waits = pool.apply_async(take_permits::call(&semaphore, 2));
    thread::scope(|scope| {
        let thread = scope.spawn(|| drop(semaphore.acquire().unwrap()));
        signal(pid.load(Acquire), 9);
        thread.join().unwrap();
    });
    assert_eq!(waits.get().unwrap(), 0);
    assert!(holds.get().unwrap_err().is_worker_lost());
    assert_eq!(semaphore.available(), 2);
}

#[task]
fn say_and_acquire(semaphore: &Semaphore, pid: &Atomic<u32>) {
    pid.store(std::process::id(), Release);
    drop(semaphore.acquire().unwrap());
}

fn who_is_killed_in_line_keeps_nobody() {
    let pool = builder().processes(1).build().unwrap();
    let (semaphore, pid) = (Semaphore::new(1).unwrap(), Atomic::new(0).unwrap());
    let held = semaphore.acquire().unwrap();
    let waits = pool.apply_async(say_and_acquire::call(&semaphore, &pid));
    until("it is in line", || waiting(&semaphore) == 1);
    thread::scope(|scope| {
        let behind = scope.spawn(|| drop(semaphore.acquire().unwrap()));
        signal(pid.load(Acquire), 9);
        assert!(waits.get().unwrap_err().is_worker_lost());
        drop(held);
        behind.join().unwrap();
    });
    assert!(semaphore.try_acquire().unwrap().is_some());
}

#[task]
fn forget_one(semaphore: &Semaphore) {
    semaphore.acquire().unwrap().forget();
}

fn a_permit_that_was_forgotten_belongs_to_nobody() {
    let semaphore = Semaphore::new(2).unwrap();
    Process::new(forget_one::call(&semaphore)).start().unwrap().join().unwrap();
    let held = semaphore.try_acquire().unwrap().unwrap();
    assert!(semaphore.try_acquire().unwrap().is_none(), "its process has ended, and it is still taken");
    assert!(semaphore.add_permits(2).is_err(), "the other one is held");
    thread::scope(|scope| {
        let waits = scope.spawn(|| drop(semaphore.acquire().unwrap()));
        semaphore.add_permits(1).unwrap();
        waits.join().unwrap();
    });
    drop(held);
    assert_eq!(
        (semaphore.available(), format!("{semaphore:?}")),
        (2, "Semaphore { available: 2, permits: 2, waiting: 0, .. }".into())
    );
}

fn no_more_permits_come_back_than_there_were() {
    let semaphore = Semaphore::new(3).unwrap();
    let error = semaphore.add_permits(1).unwrap_err();
    assert!(error.to_string().contains("more permits were given back"), "{error}");
    semaphore.acquire().unwrap().forget();
    assert!(semaphore.add_permits(2).is_err() && semaphore.available() == 2);
    semaphore.add_permits(0).unwrap();
    semaphore.add_permits(1).unwrap();
    assert!(semaphore.add_permits(1).is_err() && semaphore.add_permits(u32::MAX).is_err());
    let none = Semaphore::new(0).unwrap();
    assert!(none.try_acquire().unwrap().is_none() && none.add_permits(1).is_err());
}

fn waiting(semaphore: &Semaphore) -> usize {
    let shown = format!("{semaphore:?}");
    let (_, waiting) = shown.split_once("waiting: ").unwrap();
    waiting.split(',').next().unwrap().parse().unwrap()
}

fn permits_are_given_in_turn() {
    let pool = builder().processes(1).build().unwrap();
    let semaphore = Semaphore::new(1).unwrap();
    let (order, pid) = (std::sync::Mutex::new(Vec::new()), Atomic::new(0).unwrap());
    let held = semaphore.acquire().unwrap();
    thread::scope(|scope| {
        let join = |turn: usize| {
            let (semaphore, order) = (&semaphore, &order);
            scope.spawn(move || {
                let permit = semaphore.acquire().unwrap();
                order.lock().unwrap().push(turn);
                drop(permit);
            });
            until("it is in line", || waiting(semaphore) > turn);
        };
        join(0);
        // One that does not live until its turn.
        let dies = pool.apply_async(say_and_acquire::call(&semaphore, &pid));
        until("it is in line", || waiting(&semaphore) == 2);
        (2..5).for_each(join);
        signal(pid.load(Acquire), 9);
        assert!(dies.get().unwrap_err().is_worker_lost());
        assert!(semaphore.try_acquire().unwrap().is_none());
        drop(held);
    });
    assert_eq!(*order.lock().unwrap(), [0, 2, 3, 4]);
    assert_eq!((waiting(&semaphore), semaphore.available()), (0, 1));
}

#[task]
fn acquire_again_and_again(semaphore: &Semaphore, count: &Atomic<u64>, stop: &Atomic<u32>) {
    while stop.load(Acquire) == 0 {
        let _permit = semaphore.acquire().unwrap();
        count.fetch_add(1, Relaxed);
    }
}

fn whoever_waits_gets_a_permit_in_the_end() {
    let pool = builder().processes(2).build().unwrap();
    let (semaphore, stop) = (Semaphore::new(1).unwrap(), Atomic::new(0).unwrap());
    let count = Atomic::new(0).unwrap();
    let jobs = [(); 2].map(|()| pool.apply_async(acquire_again_and_again::call(&semaphore, &count, &stop)));
    until("they are busy", || count.load(Relaxed) > 50);
    for _ in 0..50 {
        drop(semaphore.acquire().unwrap());
    }
    stop.store(1, Release);
    jobs.into_iter().for_each(|job| job.get().unwrap());
}

fn whoever_is_killed_anywhere_loses_no_permit() {
    let pool = builder().processes(2).build().unwrap();
    let (semaphore, stop) = (Semaphore::new(2).unwrap(), Atomic::new(0).unwrap());
    for round in 0..20 {
        let count = Atomic::new(0).unwrap();
        let jobs = [(); 2].map(|()| pool.apply_async(acquire_again_and_again::call(&semaphore, &count, &stop)));
        until("they are busy", || count.load(Relaxed) > 10 + round % 5 * 7);
        for job in &jobs {
            job.cancel();
        }
        drop(semaphore.acquire_timeout(LONG).unwrap().expect("a permit"));
        jobs.into_iter().for_each(|job| assert!(job.get().is_err()));
        let both = [(); 2].map(|()| semaphore.acquire_timeout(LONG).unwrap().expect("both permits"));
        assert!(semaphore.try_acquire().unwrap().is_none());
        drop(both);
    }
    assert_eq!(semaphore.available(), 2);
}

#[derive(Serialize, Deserialize)]
struct Signals {
    name: String,
    events: Vec<Event>,
    semaphore: Option<Semaphore>,
}

#[task]
fn use_all(signals: Signals) -> usize {
    signals.events.iter().for_each(Event::set);
    signals.semaphore.iter().for_each(|semaphore| semaphore.acquire().unwrap().forget());
    signals.name.len()
}

#[task]
fn pass_on(signals: Signals) -> usize {
    Process::new(use_all::call(signals)).start().unwrap().join().unwrap()
}

#[task]
fn give_back(event: Event) -> Event {
    event
}

fn events_and_semaphores_travel_as_values_do() {
    let pool = builder().processes(1).build().unwrap();
    let (events, semaphore) = ([(); 2].map(|()| Event::new().unwrap()), Semaphore::new(9).unwrap());
    let all = || Signals { name: "ab".into(), events: events.to_vec(), semaphore: Some(semaphore.clone()) };
    assert_eq!(pool.apply(use_all::call(all())).unwrap(), 2);
    assert!(events.iter().all(Event::is_set) && semaphore.available() == 8);
    events.iter().for_each(Event::clear);
    assert_eq!(pool.apply(pass_on::call(all())).unwrap(), 2);
    assert_eq!(Process::new(pass_on::call(all())).start().unwrap().join().unwrap(), 2);
    assert!(events.iter().all(Event::is_set) && semaphore.available() == 6);
    let back = pool.apply(give_back::call(events[0].clone())).unwrap();
    back.clear();
    assert!(!events[0].is_set());
}

fn a_sandbox_may_use_what_it_was_given() {
    let pool = builder().processes(2).sandbox(Sandbox::strict()).build().unwrap();
    let (semaphore, pid, event) = (Semaphore::new(2).unwrap(), Atomic::new(0).unwrap(), Event::new().unwrap());
    let holds = pool.apply_async(hold_permits::call(&semaphore, 2, &pid));
    until("it has them", || pid.load(Acquire) != 0 || holds.is_ready());
    let waits = pool.apply_async(take_permits::call(&semaphore, 2));
    signal(pid.load(Acquire), 9);
    assert_eq!(waits.get().unwrap(), 0);
    assert!(holds.get().unwrap_err().is_worker_lost());
    let (waiting, woken) = (Atomic::new(0).unwrap(), Atomic::new(0).unwrap());
    let job = pool.apply_async(wait_for::call(&event, &waiting, &woken));
    until("it waits", || waiting.load(Acquire) == 1);
    event.set();
    job.get().unwrap();
}
