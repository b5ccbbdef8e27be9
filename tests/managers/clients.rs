//! Several clients of one object at once: processes, and threads.

use crate::support::{Signals, await_given, give};
use pool_runtime::{Backend, Dict, Manager, Pool, Process, managed, task};
use std::path::Path;

pub struct Counter {
    n: u64,
}

#[managed]
impl Counter {
    pub fn new(start: u64) -> Self {
        Self { n: start }
    }

    pub fn add(&mut self, n: u64) -> u64 {
        self.n += n;
        self.n
    }

    pub fn get(&self) -> u64 {
        self.n
    }

    /// Says that it is there, and waits for another one to be.
    pub fn meet(&self, me: &Path, other: &Path) {
        give(me);
        await_given(other);
    }

    pub fn add_slowly(&mut self, goes_on: &Path) {
        let before = self.n;
        await_given(goes_on);
        self.n = before + 1;
    }

    pub fn fail(&mut self) {
        self.n += 1000;
        panic!("as it should");
    }
}

#[task]
fn count(counter: &CounterProxy, times: u32) {
    for _ in 0..times {
        counter.add(1).unwrap();
    }
}

#[task]
fn count_on_threads(counter: CounterProxy, threads: u32, times: u32) {
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| count(&counter, times));
        }
    });
}

#[test]
fn counts_of_many_clients_are_exact() {
    let manager = Manager::start().unwrap();
    let counter = CounterProxy::new(&manager, 5).unwrap();
    let pool = Pool::new(2).unwrap();
    let jobs: Vec<_> = (0..4).map(|_| pool.apply_async(count::call(&counter, 100))).collect();
    let processes: Vec<_> =
        (0..2).map(|_| Process::new(count_on_threads::call(counter.clone(), 3, 50)).start().unwrap()).collect();
    count_on_threads(counter.clone(), 4, 25);
    jobs.into_iter().for_each(|job| job.get().unwrap());
    processes.iter().for_each(|process| process.join().unwrap());
    assert_eq!(counter.get().unwrap(), 5 + 400 + 300 + 100);
}

#[test]
fn every_backend_has_clients() {
    let manager = Manager::start().unwrap();
    let counter = CounterProxy::new(&manager, 0).unwrap();
    for backend in [Backend::Processes, Backend::Threads, Backend::Inline] {
        let pool = Pool::builder().processes(2).backend(backend).build().unwrap();
        pool.map(|times| count::call(&counter, times), [10, 20]).unwrap();
    }
    assert_eq!(counter.get().unwrap(), 90);
}

#[test]
fn methods_that_only_read_run_at_once() {
    let manager = Manager::start().unwrap();
    let (counter, signals) = (CounterProxy::new(&manager, 0).unwrap(), Signals::new());
    let [one, other] = ["one", "other"].map(|name| signals.path(name));
    std::thread::scope(|scope| {
        scope.spawn(|| counter.meet(&one, &other).unwrap());
        counter.meet(&other, &one).unwrap();
    });
}

#[test]
fn a_method_that_writes_runs_alone_and_other_objects_go_on() {
    let manager = Manager::start().unwrap();
    let (counter, signals) = (CounterProxy::new(&manager, 0).unwrap(), Signals::new());
    let goes_on = signals.path("go on");
    std::thread::scope(|scope| {
        let slow = [(); 3].map(|()| scope.spawn(|| counter.add_slowly(&goes_on).unwrap()));
        assert_eq!(CounterProxy::new(&manager, 7).unwrap().add(1).unwrap(), 8);
        signals.give("go on");
        slow.into_iter().for_each(|slow| slow.join().unwrap());
    });
    assert_eq!(counter.get().unwrap(), 3);
}

#[test]
fn a_panic_of_one_client_does_not_concern_others() {
    let manager = Manager::start().unwrap();
    let counter = CounterProxy::new(&manager, 0).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| count(&counter, 200));
        scope.spawn(|| (0..50).for_each(|_| assert!(counter.fail().unwrap_err().is_panic())));
        scope.spawn(|| count(&counter, 200));
    });
    assert_eq!(counter.get().unwrap(), 50_400);
}

#[test]
fn more_threads_than_connections_are_kept() {
    let manager = Manager::start().unwrap();
    let counter = CounterProxy::new(&manager, 0).unwrap();
    for _ in 0..2 {
        count_on_threads(counter.clone(), 100, 3);
    }
    assert_eq!(counter.get().unwrap(), 600);
}

#[task]
fn start_one_of_its_own() -> u64 {
    let manager = Manager::start().expect("it starts");
    let counter = CounterProxy::new(&manager, 1).expect("a counter");
    count_on_threads(counter.clone(), 2, 10);
    counter.get().expect("a number")
}

#[test]
fn tasks_and_processes_start_managers() {
    assert_eq!(Pool::new(1).unwrap().apply(start_one_of_its_own::call()).unwrap(), 21);
    assert_eq!(Process::new(start_one_of_its_own::call()).start().unwrap().join().unwrap(), 21);
}

#[task]
fn make_one_there(manager: &Manager, start: u64) -> CounterProxy {
    CounterProxy::new(manager, start).expect("a counter")
}

#[test]
fn tasks_make_objects_at_a_manager_that_they_are_given() {
    let manager = Manager::start().unwrap();
    let pool = Pool::new(2).unwrap();
    let counters = pool.map(|start| make_one_there::call(&manager, start), [3, 4]).unwrap();
    let sums = counters.iter().map(|counter| counter.add(1).unwrap()).collect::<Vec<_>>();
    assert_eq!(sums, [4, 5]);
    let dict = Dict::<u32, CounterProxy>::new(&manager).unwrap();
    dict.update(counters.into_iter().enumerate().map(|(at, counter)| (at as u32, counter))).unwrap();
    assert_eq!(dict.get(&1).unwrap().unwrap().get().unwrap(), 5);
}
