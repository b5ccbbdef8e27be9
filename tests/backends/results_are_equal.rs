//! Values, their order, counts, callbacks, futures and iterators are the same wherever the calls run.

use crate::support::{PATIENCE, on_every_backend, pool_on};
use pool_runtime::{Backend, Result, Shared, current_job, task};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
};

on_every_backend! {
    every_way_to_submit,
    values_of_every_shape,
    large_values,
    shared_slices,
    shared_slices_in_results,
    a_map_of_many,
    an_input_without_end,
    callbacks,
    futures,
    jobs_know_themselves,
    errors_of_tasks_are_values,
    pools_in_tasks,
    threads_share_a_pool,
    the_life_of_a_pool,
}

#[task]
fn square(n: u64) -> u64 {
    n * n
}

fn every_way_to_submit(backend: Backend) {
    let pool = pool_on(backend, 2);
    let squares: Vec<u64> = (0..50).map(|n| n * n).collect();
    assert_eq!(pool.processes(), 2);
    assert_eq!(pool.apply(square::call(7)).unwrap(), 49);
    assert_eq!(pool.apply_async(square::call(8)).get().unwrap(), 64);
    assert_eq!(pool.map(square::call, 0..50).unwrap(), squares);
    assert_eq!(pool.map(square::call, []).unwrap(), [0; 0]);
    assert_eq!(pool.map_async(square::call, 0..50).get().unwrap(), squares);
    assert_eq!(pool.map_async(square::call, []).get().unwrap(), [0; 0]);
    for chunk in [1, 7] {
        let all: Result<Vec<_>> = pool.imap(square::call, 0..50).chunk_size(chunk).collect();
        assert_eq!(all.unwrap(), squares);
        let all: Result<Vec<_>> = pool.imap_unordered(square::call, 0..50).chunk_size(chunk).collect();
        let mut all = all.unwrap();
        all.sort_unstable();
        assert_eq!(all, squares);
    }
    assert_eq!((pool.stats().done, pool.stats().failed), (302, 0));
    assert_eq!((pool.stats().waiting, pool.stats().running), (0, 0));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Dot,
    Named { name: String, at: (i8, f32) },
    Many(Vec<Shape>),
    Keyed(BTreeMap<String, Option<Shape>>),
}

#[task]
fn double(shape: &Shape) -> Vec<Shape> {
    vec![shape.clone(), shape.clone()]
}

#[task]
fn nothing() {}

#[task]
fn join(words: &[String], between: &str) -> String {
    words.join(between)
}

fn values_of_every_shape(backend: Backend) {
    let pool = pool_on(backend, 1);
    let named = Shape::Named { name: "a point".into(), at: (-3, 0.5) };
    let keyed = Shape::Keyed([("x".to_owned(), None), ("y".to_owned(), Some(Shape::Dot))].into());
    let shape = Shape::Many(vec![Shape::Dot, named, keyed]);
    assert_eq!(pool.apply(double::call(&shape)).unwrap(), [shape.clone(), shape]);
    pool.apply(nothing::call()).unwrap();
    assert_eq!(pool.apply(join::call(&["to".into(), "be".into()], " ")).unwrap(), "to be");
}

#[task]
fn reversed(xs: &[f64]) -> Vec<f64> {
    xs.iter().rev().copied().collect()
}

fn large_values(backend: Backend) {
    let pool = pool_on(backend, 2);
    let xs: Vec<f64> = (0..300_000).map(f64::from).collect();
    let back = pool.apply(reversed::call(&xs)).unwrap();
    assert!(back.iter().rev().eq(&xs));
    let all = pool.map(|n| reversed::call(&xs[..n]), [0, 1, 40_000, 300_000]).unwrap();
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 40_000, 300_000]);
    assert_eq!(all[3], back);
}

#[task]
fn sum(all: Shared<[u64]>, from: usize, to: usize) -> u64 {
    all[from..to].iter().sum()
}

fn shared_slices(backend: Backend) {
    let pool = pool_on(backend, 2);
    let all = Shared::from_fn(10_000, |index| index as u64).unwrap();
    let sums = pool.map(|part| sum::call(all.clone(), part * 100, (part + 1) * 100), 0..100).unwrap();
    assert_eq!(sums.iter().sum::<u64>(), all.iter().sum());
    let job = pool.apply_async(sum::call(all, 0, 3));
    assert_eq!(job.get().unwrap(), 3);
}

fn a_map_of_many(backend: Backend) {
    let pool = pool_on(backend, 2);
    let squares = pool.map(square::call, 0..100_000).unwrap();
    assert!(squares.into_iter().eq((0..100_000).map(|n| n * n)));
}

fn an_input_without_end(backend: Backend) {
    let pool = pool_on(backend, 2);
    let read = AtomicUsize::new(0);
    let inputs = (0..).inspect(|_| _ = read.fetch_add(1, Ordering::Relaxed));
    let mut results = pool.imap(square::call, inputs).look_ahead(10);
    assert_eq!(read.load(Ordering::Relaxed), 0, "nothing is read before a result is asked for");
    for n in 0..1000 {
        assert_eq!(results.next().unwrap().unwrap(), n * n);
        assert!(read.load(Ordering::Relaxed) as u64 <= n + 10);
    }
    drop(results);
    assert_eq!(pool.apply(square::call(3)).unwrap(), 9);
}

fn callbacks(backend: Backend) {
    let pool = Arc::new(pool_on(backend, 2));
    let (sender, receiver) = mpsc::channel();
    let (again, own) = (pool.clone(), sender.clone());
    let first = pool.apply_async(square::call(5)).on_done(move |result| {
        let more = again.apply(square::call(*result.as_ref().unwrap())).unwrap();
        own.send(more).unwrap();
    });
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), 625);
    assert_eq!(first.get().unwrap(), 25);
    let panics = pool.map_async(square::call, 1..4).on_done(|_| panic!("a callback of a test"));
    assert_eq!(panics.get().unwrap(), [1, 4, 9]);
    let last = pool.apply_async(square::call(1)).on_done(move |_| sender.send(1).unwrap());
    pool.close();
    pool.join().unwrap();
    assert_eq!((receiver.try_recv(), last.is_successful()), (Ok(1), Some(true)));
}

fn futures(backend: Backend) {
    let pool = pool_on(backend, 1);
    let mut job = pin!(pool.apply_async(square::call(12)));
    let value = loop {
        match job.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => break value.unwrap(),
            Poll::Pending => std::thread::yield_now(),
        }
    };
    assert_eq!(value, 144);
}

#[task]
fn who() -> (Option<u64>, Option<String>, u32) {
    let job = current_job();
    (job.id(), job.task_name().map(str::to_owned), job.attempt())
}

fn jobs_know_themselves(backend: Backend) {
    let pool = pool_on(backend, 1);
    for _ in 0..3 {
        let job = pool.apply_async(who::call());
        let id = job.id();
        assert_eq!(job.task_name(), "backends::results_are_equal::who");
        assert_eq!(job.get().unwrap(), (Some(id), Some("backends::results_are_equal::who".to_owned()), 1));
    }
    let ids: Vec<_> = pool.map(|()| who::call(), [(); 5]).unwrap().into_iter().map(|(id, ..)| id.unwrap()).collect();
    assert!(ids.is_sorted_by(|one, next| one + 1 == *next), "{ids:?}");
    assert_eq!(current_job().id(), None);
}

#[task]
fn parse(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn errors_of_tasks_are_values(backend: Backend) {
    fn parsed(pool: &pool_runtime::Pool, text: &str) -> Result<u32, Box<dyn std::error::Error>> {
        Ok(pool.apply(parse::call(text))??)
    }
    let pool = pool_on(backend, 1);
    assert_eq!(parsed(&pool, "17").unwrap(), 17);
    assert_eq!(parsed(&pool, "ten").unwrap_err().to_string(), "\"ten\" is no number");
}

#[task]
fn sum_of_squares(to: u64, threads: bool) -> u64 {
    let backend = if threads { Backend::Threads } else { Backend::Inline };
    let pool = pool_on(backend, 2);
    pool.map(square::call, 0..to).unwrap().into_iter().sum()
}

fn pools_in_tasks(backend: Backend) {
    let pool = pool_on(backend, 2);
    for threads in [false, true] {
        assert_eq!(pool.map(|to| sum_of_squares::call(to, threads), [2, 3]).unwrap(), [1, 5]);
    }
}

fn threads_share_a_pool(backend: Backend) {
    let pool = pool_on(backend, 2);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for n in thread * 100..thread * 100 + 50 {
                    assert_eq!(pool.apply(square::call(n)).unwrap(), n * n);
                }
                let job = pool.map_async(square::call, 0..50);
                assert!(job.get().unwrap().into_iter().eq((0..50).map(|n| n * n)));
            });
        }
    });
    assert_eq!(pool.stats().done, 400);
}

fn the_life_of_a_pool(backend: Backend) {
    let pool = pool_on(backend, 2);
    assert!(pool.join().unwrap_err().to_string().contains("close or terminate it first"));
    let jobs: Vec<_> = (0..20).map(|n| pool.apply_async(square::call(n))).collect();
    pool.close();
    pool.close();
    let error = pool.apply(square::call(1)).unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("the pool is closed"), "{error}");
    assert!(pool.map(square::call, 0..3).unwrap_err().is_closed());
    assert!(pool.imap(square::call, 0..3).next().unwrap().unwrap_err().is_closed());
    pool.join().unwrap();
    for (n, job) in (0..).zip(jobs) {
        assert!(job.is_ready());
        assert_eq!(job.get().unwrap(), n * n);
    }
    assert_eq!((pool.stats().done, pool.workers().len()), (20, 0));

    let pool = pool_on(backend, 2);
    pool.terminate();
    pool.terminate();
    let error = pool.apply_async(square::call(1)).get().unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("the pool is terminated"), "{error}");
    pool.join().unwrap();
}

#[task]
fn evens(length: usize) -> Vec<Shared<[u64]>> {
    (0..length).map(|index| Shared::new(&[2 * index as u64]).unwrap()).collect()
}

fn shared_slices_in_results(backend: Backend) {
    let pool = pool_on(backend, 2);
    let check = |index: usize, made: Vec<Shared<[u64]>>| {
        assert_eq!(made.len(), index);
        made.iter().enumerate().for_each(|(index, one)| assert_eq!(**one, [2 * index as u64]));
    };
    for length in [0, 1, 300] {
        check(length, pool.apply(evens::call(length)).unwrap());
    }
    pool.map(evens::call, 0..20).unwrap().into_iter().enumerate().for_each(|(index, made)| check(index, made));
    let some: Vec<_> = pool.imap(evens::call, 0..20).map(Result::unwrap).collect();
    some.into_iter().enumerate().for_each(|(index, made)| check(index, made));
}
