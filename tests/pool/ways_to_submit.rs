//! `apply`, `apply_async`, `map`, `map_async`, `imap` and `imap_unordered` give the values of the calls, in the order
//! they promise, as the types that the task returns.

use crate::support::{Signals, await_given, over_every_transport, pool};
use pool_runtime::{Job, Result, task};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

over_every_transport! {
    apply_returns_the_value_of_the_task,
    the_error_of_a_task_is_a_value,
    jobs_may_be_asked_in_any_order,
    map_keeps_the_order_of_the_inputs,
    imap_keeps_the_order_of_the_inputs,
    imap_unordered_gives_each_result_once,
    imap_unordered_does_not_wait_for_the_slowest,
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Word {
    text: String,
    length: Option<usize>,
}

#[task]
fn measure(text: &str) -> Word {
    Word { text: text.to_owned(), length: (!text.is_empty()).then_some(text.len()) }
}

#[task]
fn square(n: u64) -> u64 {
    n * n
}

#[task]
fn quotient(n: i32, by: i32) -> Result<i32, String> {
    n.checked_div(by).ok_or_else(|| format!("{n} by {by}"))
}

#[task]
fn histogram(words: &[String]) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word.clone()).or_default() += 1;
    }
    counts
}

/// Returns `n`; the call of 0 only after a signal.
#[task]
fn zero_waits(n: u32, signal: &Path) -> u32 {
    if n == 0 {
        await_given(signal);
    }
    n
}

fn apply_returns_the_value_of_the_task() {
    let pool = pool(2);
    assert_eq!(pool.apply(square::call(12)).unwrap(), 144);
    assert_eq!(pool.apply(measure::call("four")).unwrap(), Word { text: "four".into(), length: Some(4) });
    assert_eq!(pool.apply(measure::call("")).unwrap(), Word { text: String::new(), length: None });
    let words = ["b", "a", "b"].map(String::from);
    assert_eq!(pool.apply(histogram::call(&words)).unwrap(), histogram(&words));
}

fn the_error_of_a_task_is_a_value() {
    let pool = pool(1);
    assert_eq!(pool.apply(quotient::call(7, 2)).unwrap(), Ok(3));
    assert_eq!(pool.apply(quotient::call(7, 0)).unwrap(), Err("7 by 0".to_owned()));
    let all = pool.map(|by| quotient::call(6, by), [0, 1, 2]).unwrap();
    assert_eq!(all, [Err("6 by 0".to_owned()), Ok(6), Ok(3)]);
}

fn jobs_may_be_asked_in_any_order() {
    let pool = pool(2);
    let jobs: Vec<Job<u64>> = (0..100).map(|n| pool.apply_async(square::call(n))).collect();
    assert!(jobs.windows(2).all(|pair| pair[0].id() < pair[1].id()), "ids rise");
    assert!(jobs.iter().all(|job| job.task_name() == "pool::ways_to_submit::square"));
    for (n, job) in (0..100).zip(jobs).collect::<Vec<_>>().into_iter().rev() {
        assert_eq!(job.get().unwrap(), square(n));
    }
}

fn map_keeps_the_order_of_the_inputs() {
    let pool = pool(3);
    let squares: Vec<u64> = (0..1000).map(square).collect();
    assert_eq!(pool.map(square::call, 0..1000).unwrap(), squares);
    let later = pool.map_async(square::call, 0..1000);
    let also_later = pool.map_async(|n: u64| square::call(n + 1), 0..999);
    assert_eq!(also_later.get().unwrap(), squares[1..]);
    assert_eq!(later.get().unwrap(), squares);
    // Borrowed inputs, and a closure that lends what it captured.
    let words = [String::from("a"), String::from("bc")];
    let lengths = pool.map(|index: usize| measure::call(&words[index]), [1, 0, 1]).unwrap();
    assert_eq!(lengths.iter().map(|word| word.length).collect::<Vec<_>>(), [Some(2), Some(1), Some(2)]);
    assert_eq!(pool.map(|word: &String| measure::call(word), &words).unwrap()[1].text, "bc");
}

fn imap_keeps_the_order_of_the_inputs() {
    let pool = pool(3);
    let squares: Result<Vec<u64>> = pool.imap(square::call, 0..1000).collect();
    assert_eq!(squares.unwrap(), (0..1000).map(square).collect::<Vec<_>>());
    for (chunk_size, look_ahead) in [(1, 1), (7, 100), (100, 7), (5000, 5000)] {
        let results = pool.imap(square::call, 0..500).chunk_size(chunk_size).look_ahead(look_ahead);
        let squares: Result<Vec<u64>> = results.collect();
        assert_eq!(squares.unwrap(), (0..500).map(square).collect::<Vec<_>>(), "{chunk_size} {look_ahead}");
    }
}

fn imap_unordered_gives_each_result_once() {
    let pool = pool(3);
    for (chunk_size, look_ahead) in [(1, 48), (7, 100), (100, 7)] {
        let results = pool.imap_unordered(square::call, 0..500).chunk_size(chunk_size).look_ahead(look_ahead);
        let squares: Vec<u64> = results.collect::<Result<_>>().unwrap();
        assert_eq!(squares.len(), 500);
        assert_eq!(squares.into_iter().collect::<BTreeSet<_>>(), (0..500).map(square).collect());
    }
}

fn imap_unordered_does_not_wait_for_the_slowest() {
    let (pool, signals) = (pool(2), Signals::new());
    let release = signals.path("release");
    let mut results = pool.imap_unordered(|n| zero_waits::call(n, &release), 0..20);
    let mut early: Vec<u32> = results.by_ref().take(19).collect::<Result<_>>().unwrap();
    early.sort_unstable();
    assert_eq!(early, (1..20).collect::<Vec<_>>());
    signals.give("release");
    assert_eq!(results.next().unwrap().unwrap(), 0);
    assert!(results.next().is_none());
    assert!(results.next().is_none(), "and stays at its end");
}
