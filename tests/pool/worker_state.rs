//! Worker state: what an initializer makes is kept in its worker between calls, is not shared with other workers, need
//! not be serializable, and is lent to tasks as `&T` or `&mut T`.

use crate::support::{Signals, await_given, builder, count, over_every_transport};
use pool_runtime::{Pool, task};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    rc::Rc,
};

over_every_transport! {
    state_is_kept_between_calls,
    workers_do_not_share_their_state,
    a_panic_with_state_replaces_the_worker,
    a_panic_without_state_keeps_the_worker_and_its_state,
    a_replaced_worker_makes_its_state_anew,
}

/// Neither serializable nor `Send`.
struct Ledger {
    entries: Rc<RefCell<Vec<u32>>>,
    written_at_the_end: PathBuf,
    _open: std::fs::File,
    step: Box<dyn Fn(u32) -> u32>,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        count(&self.written_at_the_end);
    }
}

#[task(initializer)]
fn open_ledger(step: u32, made: &Path, dropped: &Path) -> Result<Ledger, std::io::Error> {
    count(made);
    Ok(Ledger {
        entries: Rc::default(),
        written_at_the_end: dropped.to_owned(),
        _open: std::fs::File::open("/dev/null")?,
        step: Box::new(move |n| n + step),
    })
}

#[task]
fn enter_one(#[state] ledger: &mut Ledger, n: u32) -> (u32, usize) {
    ledger.entries.borrow_mut().push((ledger.step)(n));
    (std::process::id(), ledger.entries.borrow().len())
}

#[task]
fn entries(#[state] ledger: &Ledger) -> Vec<u32> {
    ledger.entries.borrow().clone()
}

/// Meets the other worker, so that both have this call.
#[task]
fn entries_of_each(#[state] ledger: &Ledger, arrived: &Path, both: &Path) -> (u32, Vec<u32>) {
    count(arrived);
    await_given(both);
    (std::process::id(), ledger.entries.borrow().clone())
}

#[task]
fn stateless(n: u32) -> u32 {
    n + 1
}

#[task]
fn panic_with_state(#[state] ledger: &mut Ledger) {
    ledger.entries.borrow_mut().push(0);
    panic!("halfway in {}", std::process::id());
}

#[task]
fn panic_without_state() {
    panic!("in {}", std::process::id());
}

fn ledgers(processes: usize, signals: &Signals) -> Pool {
    let (made, dropped) = (signals.path("made"), signals.path("dropped"));
    let call = open_ledger::call(100, &made, &dropped);
    builder().processes(processes).initializer(call).build().unwrap()
}

fn state_is_kept_between_calls() {
    let signals = Signals::new();
    let pool = ledgers(1, &signals);
    let lengths: Vec<usize> = (0..5).map(|n| pool.apply(enter_one::call(n)).unwrap().1).collect();
    assert_eq!(lengths, [1, 2, 3, 4, 5]);
    assert_eq!(pool.apply(stateless::call(1)).unwrap(), 2);
    let mapped: Vec<usize> = pool.map(enter_one::call, 5..100).unwrap().into_iter().map(|(_, length)| length).collect();
    assert!(mapped.into_iter().eq(6..=100));
    assert_eq!(pool.apply(entries::call()).unwrap(), (100..200).collect::<Vec<_>>());
    pool.close();
    pool.join().unwrap();
    assert_eq!((signals.counted("made"), signals.counted("dropped")), (1, 1), "made once, and dropped in order");
}

fn workers_do_not_share_their_state() {
    let signals = Signals::new();
    let pool = ledgers(2, &signals);
    let mut by_pid: BTreeMap<u32, usize> = BTreeMap::new();
    for (pid, length) in pool.map(enter_one::call, 0..200).unwrap() {
        let longest = by_pid.entry(pid).or_default();
        assert!(length > *longest || pool.processes() > 1);
        *longest = length.max(*longest);
    }
    assert_eq!(by_pid.values().sum::<usize>(), 200, "each call is in one ledger: {by_pid:?}");
    let (arrived, both) = (signals.path("arrived"), signals.path("both"));
    let all = pool.map_async(|_| entries_of_each::call(&arrived, &both), 0..2);
    crate::support::until("both are there", || signals.counted("arrived") == 2);
    signals.give("both");
    let all = all.get().unwrap();
    assert_eq!(all.iter().map(|(pid, _)| pid).collect::<HashSet<_>>().len(), 2);
    for (pid, entries) in &all {
        assert_eq!(entries.len(), by_pid.get(pid).copied().unwrap_or(0));
    }
    let mut together: Vec<u32> = all.into_iter().flat_map(|(_, entries)| entries).collect();
    together.sort_unstable();
    assert_eq!(together, (100..300).collect::<Vec<_>>());
    assert_eq!(signals.counted("made"), 2);
}

fn a_panic_with_state_replaces_the_worker() {
    let signals = Signals::new();
    let pool = ledgers(1, &signals);
    let (before, _) = pool.apply(enter_one::call(1)).unwrap();
    let broken = pool.apply_async(panic_with_state::call());
    let behind: Vec<_> = (0..5).map(|n| pool.apply_async(enter_one::call(n))).collect();
    let error = broken.get().unwrap_err();
    assert!(error.is_panic() && !error.is_worker_lost());
    assert_eq!(error.panic().unwrap().message(), format!("halfway in {before}"));
    let behind: Vec<_> = behind.into_iter().map(|job| job.get().unwrap()).collect();
    assert!(behind.iter().all(|(pid, _)| *pid != before), "nobody sees the broken state");
    assert!(behind.iter().map(|(_, length)| *length).eq(1..=5), "the new one begins afresh");
    assert_eq!(signals.counted("made"), 2);
}

fn a_panic_without_state_keeps_the_worker_and_its_state() {
    let signals = Signals::new();
    let pool = ledgers(1, &signals);
    let (before, _) = pool.apply(enter_one::call(1)).unwrap();
    assert!(pool.apply(panic_without_state::call()).unwrap_err().is_panic());
    assert_eq!(pool.apply(enter_one::call(1)).unwrap(), (before, 2));
}

fn a_replaced_worker_makes_its_state_anew() {
    let signals = Signals::new();
    let (made, dropped) = (signals.path("made"), signals.path("dropped"));
    let call = open_ledger::call(1, &made, &dropped);
    let pool = builder().processes(1).max_tasks_per_child(3).initializer(call).build().unwrap();
    let lengths: Vec<usize> = (0..9).map(|n| pool.apply(enter_one::call(n)).unwrap().1).collect();
    assert_eq!(lengths, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
    pool.close();
    pool.join().unwrap();
    assert_eq!(signals.counted("made"), signals.counted("dropped"));
}
