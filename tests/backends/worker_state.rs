//! Worker state is made once for each worker, kept from call to call, replaced when a panic may have broken it or its
//! worker is worn, and dropped at the end, wherever the calls run.

use crate::support::{Signals, count, on_every_backend};
use pool_runtime::{Backend, Pool, task};
use std::{
    cell::Cell,
    path::{Path, PathBuf},
    rc::Rc,
};

on_every_backend! {
    a_state_is_made_once_and_kept,
    a_panic_replaces_it,
    a_worn_worker_is_replaced,
    a_state_is_dropped_with_an_orderly_end,
}

/// Cannot leave the thread that made it.
struct Counter {
    calls: Rc<Cell<u32>>,
    ends: PathBuf,
}

impl Drop for Counter {
    fn drop(&mut self) {
        count(&self.ends);
    }
}

#[task(initializer)]
fn begin(begins: &Path, ends: &Path) -> Counter {
    count(begins);
    Counter { calls: Rc::new(Cell::new(0)), ends: ends.to_owned() }
}

#[task]
fn next(#[state] counter: &mut Counter) -> u32 {
    counter.calls.set(counter.calls.get() + 1);
    counter.calls.get()
}

#[task]
fn fail(#[state] counter: &Counter) {
    panic!("after {} calls", counter.calls.get());
}

#[task]
fn stateless(n: u32) -> u32 {
    n
}

fn counting(backend: Backend, signals: &Signals, tasks: u64) -> Pool {
    let (begins, ends) = (signals.path("begins"), signals.path("ends"));
    let builder = Pool::builder().processes(1).backend(backend).initializer(begin::call(&begins, &ends));
    builder.max_tasks_per_child(tasks).build().unwrap()
}

fn a_state_is_made_once_and_kept(backend: Backend) {
    let signals = Signals::new();
    let pool = counting(backend, &signals, u64::MAX);
    assert_eq!(pool.apply(next::call()).unwrap(), 1);
    assert_eq!(pool.apply(stateless::call(7)).unwrap(), 7);
    assert_eq!(pool.map(|()| next::call(), [(); 5]).unwrap(), [2, 3, 4, 5, 6]);
    let rest: Vec<_> = pool.imap(|()| next::call(), [(); 2]).map(Result::unwrap).collect();
    assert_eq!(rest, [7, 8]);
    assert_eq!(signals.counted("begins"), 1);
}

fn a_panic_replaces_it(backend: Backend) {
    let signals = Signals::new();
    let pool = counting(backend, &signals, u64::MAX);
    assert_eq!(pool.map(|()| next::call(), [(); 3]).unwrap(), [1, 2, 3]);
    assert_eq!(pool.apply(fail::call()).unwrap_err().panic().unwrap().message(), "after 3 calls");
    assert_eq!(pool.apply(next::call()).unwrap(), 1);
    assert_eq!(signals.counted("begins"), 2);
}

fn a_worn_worker_is_replaced(backend: Backend) {
    let signals = Signals::new();
    let pool = counting(backend, &signals, 3);
    let counts = pool.map(|()| next::call(), [(); 7]).unwrap();
    assert_eq!(counts, [1, 2, 3, 1, 2, 3, 1]);
    pool.close();
    pool.join().unwrap();
    assert_eq!((signals.counted("begins"), signals.counted("ends")), (3, 3));
}

fn a_state_is_dropped_with_an_orderly_end(backend: Backend) {
    let signals = Signals::new();
    let pool = counting(backend, &signals, u64::MAX);
    assert_eq!(pool.apply(next::call()).unwrap(), 1);
    pool.close();
    pool.join().unwrap();
    assert_eq!(signals.counted("ends"), 1);
}

#[test]
fn inline_each_thread_that_submits_has_its_own() {
    let signals = Signals::new();
    let pool = counting(Backend::Inline, &signals, u64::MAX);
    assert_eq!(pool.apply(next::call()).unwrap(), 1);
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(pool.map(|()| next::call(), [(); 2]).unwrap(), [1, 2])).join().unwrap();
    });
    assert_eq!((signals.counted("begins"), signals.counted("ends")), (2, 1), "that of the other thread went with it");
    assert_eq!(pool.apply(next::call()).unwrap(), 2);
    drop(pool);
    assert_eq!(signals.counted("ends"), 2);
}

#[test]
fn inline_what_a_gone_pool_left_to_a_thread_goes_with_its_next_call() {
    let signals = Signals::new();
    let (to_other, from_here) = std::sync::mpsc::channel::<Pool>();
    let (to_here, from_other) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        let pool = from_here.recv().unwrap();
        assert_eq!(pool.apply(next::call()).unwrap(), 1);
        to_here.send(pool).unwrap();
        let next_pool = from_here.recv().unwrap();
        assert_eq!(next_pool.apply(stateless::call(1)).unwrap(), 1);
        to_here.send(next_pool).unwrap();
        from_here.recv().unwrap_err();
    });
    to_other.send(counting(Backend::Inline, &signals, u64::MAX)).unwrap();
    drop(from_other.recv().unwrap());
    assert_eq!((signals.counted("begins"), signals.counted("ends")), (2, 1), "this thread's alone");
    to_other.send(crate::support::pool_on(Backend::Inline, 1)).unwrap();
    drop(from_other.recv().unwrap());
    assert_eq!(signals.counted("ends"), 2);
    drop(to_other);
    other.join().unwrap();
}
