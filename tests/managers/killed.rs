//! Clients and servers that are killed at any instant.

use crate::clients::CounterProxy;
use crate::support::{Numbers, pids, returns, signal, until};
use pool_runtime::{Atomic, List, Manager, Pool, task};
use std::sync::atomic::Ordering::{Acquire, Release};

#[task]
fn call_without_end(
    counter: &CounterProxy,
    own: &CounterProxy,
    list: &List<Vec<u8>>,
    added: &Atomic<u64>,
    started: &Atomic<u32>,
) {
    started.fetch_add(1, Release);
    for number in 0_usize.. {
        counter.add(1).unwrap();
        added.fetch_add(1, Release);
        list.push(&vec![number as u8; 1 + number * 37 % 3000]).unwrap();
        let bytes = list.pop().unwrap();
        assert!(bytes.is_none_or(|bytes| bytes.iter().all(|byte| *byte == bytes[0])));
        assert_eq!(own.add(1).unwrap(), number as u64 + 1);
    }
}

fn open_files_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn seed() -> Numbers {
    Numbers::from(u64::from(std::process::id()))
}

#[test]
fn whoever_is_killed_while_it_calls_leaves_the_server_working() {
    let mut numbers = seed();
    let manager = Manager::start().unwrap();
    let server = manager.pid().unwrap();
    let (counter, list) = (CounterProxy::new(&manager, 0).unwrap(), List::new(&manager).unwrap());
    let (added, started) = (Atomic::new(0_u64).unwrap(), Atomic::new(0_u32).unwrap());
    let pool = Pool::new(4).unwrap();
    counter.get().unwrap();
    let (open_before, mut kills) = (open_files_of(server), 0);
    for _ in 0..40 {
        let before = started.load(Acquire);
        let jobs = [(); 4].map(|()| {
            let own = CounterProxy::new(&manager, 0).unwrap();
            pool.apply_async(call_without_end::call(&counter, &own, &list, &added, &started))
        });
        until("all have begun", || started.load(Acquire) == before + 4);
        let enough = added.load(Acquire) + numbers.below(100) as u64;
        until("they call", || added.load(Acquire) > enough);
        // Two of four at once, wherever they are; then the others: they go on in between.
        let pids = pids(&pool);
        signal(pids[0], libc::SIGKILL);
        signal(pids[2], libc::SIGKILL);
        kills += 4;
        let known = added.load(Acquire);
        let count = counter.get().unwrap();
        assert!(count >= known, "{known} calls have returned, and {count} were made");
        // One whose worker was killed may just be ending.
        jobs.iter().for_each(|job| until("it has ended", || job.cancel() || job.is_ready()));
        jobs.into_iter().for_each(|job| {
            let error = job.get().unwrap_err();
            assert!(!error.is_panic(), "{error}");
        });
    }
    // A call that was under way may have been made, or not.
    until("the server has read what the dead have sent", || open_files_of(server) <= open_before);
    let (known, count) = (added.load(Acquire), counter.get().unwrap());
    assert!((known..=known + kills).contains(&count), "{known} calls have returned, and {count} were made");
    assert!(list.len().unwrap() as u64 <= kills);
    manager.shutdown().unwrap();
}

#[test]
fn a_server_that_is_killed_while_it_is_called_leaves_its_clients_working() {
    let mut numbers = seed();
    let pool = Pool::new(2).unwrap();
    let mut workers = Vec::new();
    for _ in 0..20 {
        let manager = Manager::start().unwrap();
        let (counter, list) = (CounterProxy::new(&manager, 0).unwrap(), List::new(&manager).unwrap());
        let (added, started) = (Atomic::new(0_u64).unwrap(), Atomic::new(0_u32).unwrap());
        let own = [(); 2].map(|()| CounterProxy::new(&manager, 0).unwrap());
        let jobs = own.map(|own| pool.apply_async(call_without_end::call(&counter, &own, &list, &added, &started)));
        let enough = numbers.below(200) as u64;
        until("they call", || added.load(Acquire) > enough);
        signal(manager.pid().unwrap(), libc::SIGKILL);
        for job in jobs {
            let error = returns("it is told", move || job.get()).unwrap_err();
            assert!(error.is_panic() && error.to_string().contains("the manager"), "{error}");
        }
        assert!(counter.add(1).unwrap_err().is_manager_lost());
        assert_eq!(manager.shutdown().unwrap_err().signal(), Some(libc::SIGKILL));
        // None of them is another one now.
        let known = std::mem::replace(&mut workers, pids(&pool));
        assert!(known.iter().all(|pid| workers.contains(pid)), "{known:?} {workers:?}");
    }
}
