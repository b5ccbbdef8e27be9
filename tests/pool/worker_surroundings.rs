//! Workers start with the environment, directory, priority and processors that were chosen for all or for each.

use crate::support::{builder, over_every_transport, until};
use pool_runtime::{Pool, Process, Scheduler, task};
use std::collections::HashSet;

over_every_transport! {
    each_worker_has_its_own,
    what_is_chosen_for_all_holds_unless_one_has_its_own,
    a_worker_that_replaces_another_has_its_place,
    what_cannot_be_had_is_refused,
    the_makers_processors_and_scheduler_are_handed_on_unless_others_are_chosen,
}

#[derive(Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
struct Surroundings {
    place: String,
    dir: String,
    nice: i32,
    cpus: Vec<usize>,
}

fn usable() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None).unwrap();
    (0..1024).filter(|cpu| set.is_set(*cpu)).collect()
}

#[task]
fn look_around() -> Surroundings {
    // In a thread of its own: what holds for the worker holds for what it starts.
    let look = || Surroundings {
        place: std::env::var("PLACE").unwrap_or_default(),
        dir: std::env::current_dir().unwrap().display().to_string(),
        nice: rustix::process::getpriority_process(None).unwrap(),
        cpus: usable(),
    };
    std::thread::spawn(look).join().unwrap()
}

/// What all workers of a pool see.
fn all(pool: &Pool) -> HashSet<Surroundings> {
    let mut seen = HashSet::new();
    until("all workers have answered", || {
        seen.extend(pool.map(|_| look_around::call(), 0..64).unwrap());
        seen.len() == pool.processes()
    });
    seen
}

fn surroundings(place: &str, dir: &str, nice: i32, cpus: Vec<usize>) -> Surroundings {
    Surroundings { place: place.into(), dir: dir.into(), nice, cpus }
}

fn each_worker_has_its_own() {
    let cpus = usable();
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    let builder = builder().processes(2).each_worker(move |index, worker| {
        let worker = worker.env("PLACE", index.to_string()).nice(3 + index as i32).current_dir(["/", "/tmp"][index]);
        worker.cpus([[first, last][index]])
    });
    let expected = [surroundings("0", "/", 3, vec![first]), surroundings("1", "/tmp", 4, vec![last])];
    assert_eq!(all(&builder.build().unwrap()), expected.into());
}

fn what_is_chosen_for_all_holds_unless_one_has_its_own() {
    let builder = builder().processes(2).nice(2).env("PLACE", "anywhere").current_dir("/");
    let pool = builder.each_worker(|index, worker| if index == 1 { worker.nice(7) } else { worker }).build().unwrap();
    let expected = [surroundings("anywhere", "/", 2, usable()), surroundings("anywhere", "/", 7, usable())];
    assert_eq!(all(&pool), expected.into());
}

fn a_worker_that_replaces_another_has_its_place() {
    let builder = builder().processes(1).max_tasks_per_child(1);
    let pool = builder.each_worker(|index, worker| worker.env("PLACE", format!("seat {index}"))).build().unwrap();
    for _ in 0..3 {
        assert_eq!(pool.apply(look_around::call()).unwrap().place, "seat 0");
    }
}

fn what_cannot_be_had_is_refused() {
    let refused = |builder: pool_runtime::PoolBuilder| builder.processes(1).build().unwrap_err().to_string();
    assert!(refused(builder().cpus([100_000])).contains("cannot run on processor 100000"));
    assert!(refused(builder().cpus([])).contains("at least 1 processor"));
    assert!(refused(builder().nice(20)).contains("between -20 and 19"));
    assert!(refused(builder().scheduler(Scheduler::Fifo(0))).contains("between 1 and 99"));
    assert!(refused(builder().each_worker(|_, worker| worker.nice(-21))).contains("between -20 and 19"));
}

/// The scheduler and the processors of the worker, as it is told to a thread of it.
#[task]
fn scheduled() -> (i32, Vec<usize>) {
    // SAFETY: a system call on plain numbers, about the calling thread.
    std::thread::spawn(|| (unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) } as i32, usable())).join().unwrap()
}

fn set_scheduler(policy: i32, priority: i32) -> bool {
    // SAFETY: all zeroes is a value of the parameters; the pointer is theirs.
    unsafe {
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = priority;
        libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) == 0
    }
}

fn the_makers_processors_and_scheduler_are_handed_on_unless_others_are_chosen() {
    let all = usable();
    let (first, last) = (all[0], all[all.len() - 1]);
    let mut bound = rustix::thread::CpuSet::new();
    bound.set(first);
    // Of this test's own thread.
    rustix::thread::sched_setaffinity(None, &bound).unwrap();
    assert!(set_scheduler(libc::SCHED_BATCH, 0));
    let of =
        |builder: pool_runtime::PoolBuilder| builder.processes(1).build().unwrap().apply(scheduled::call()).unwrap();
    assert_eq!(of(builder()), (libc::SCHED_BATCH, vec![first]));
    let other = || builder().scheduler(Scheduler::Normal).cpus([last]);
    assert_eq!(of(other()), (libc::SCHED_OTHER, vec![last]));
    assert_eq!(of(builder().cpus(all.clone()).scheduler(Scheduler::Idle)), (libc::SCHED_IDLE, all));
    let process = Process::new(scheduled::call()).cpus([last]).scheduler(Scheduler::Normal);
    assert_eq!(process.start().unwrap().join().unwrap(), (libc::SCHED_OTHER, vec![last]));
    // In real time.
    if !set_scheduler(libc::SCHED_FIFO, 1) {
        eprintln!("skipped: this user may not run anything in real time");
        return;
    }
    assert_eq!(of(builder()), (libc::SCHED_FIFO, vec![first]));
    assert_eq!(of(other()), (libc::SCHED_OTHER, vec![last]));
    assert_eq!(of(other().scheduler(Scheduler::RoundRobin(2))), (libc::SCHED_RR, vec![last]));
}

#[test]
fn a_process_has_its_own_too() {
    let process = Process::new(look_around::call()).env("PLACE", "own").current_dir("/").nice(9).cpus([usable()[0]]);
    let seen = process.start().unwrap().join().unwrap();
    assert_eq!(seen, surroundings("own", "/", 9, vec![usable()[0]]));
    assert!(Process::new(look_around::call()).nice(99).start().unwrap_err().to_string().contains("between -20 and 19"));
}
