//! Of many inputs, each failure knows which one it is of, and each result can be told apart.

use crate::support::{over_every_transport, pool};
use pool_runtime::{Pool, Ran, Result, task};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

over_every_transport! {
    an_error_of_map_knows_its_input,
    an_error_of_imap_knows_its_input,
    results_in_no_order_come_with_their_index,
    try_map_keeps_all_results,
    a_closed_pool_is_not_the_failure_of_an_input,
    a_worker_that_dies_fails_its_own_input,
    what_cannot_be_encoded_fails_its_own_input,
    what_cannot_be_decoded_fails_its_own_input,
}

#[task]
fn invert(n: i64) -> i64 {
    1000 / n
}

#[task]
fn dies_at(n: u32, at: u32) -> u32 {
    if n == at {
        std::process::exit(3);
    }
    n
}

/// Cannot be written if it is 1, nor read if it is 2.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Picky(u8);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 1 { Err(ser::Error::custom("not written")) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let n = u8::deserialize(deserializer)?;
        if n == 2 { Err(de::Error::custom("not read")) } else { Ok(Self(n)) }
    }
}

#[task]
fn take(picky: Picky) -> u8 {
    picky.0
}

#[task]
fn make(n: u8) -> Picky {
    Picky(n)
}

/// All at once, one of them at `at`.
fn zero_at(at: usize, all: usize) -> impl Iterator<Item = i64> {
    (0..all).map(move |index| if index == at { 0 } else { 10 })
}

fn an_error_of_map_knows_its_input() {
    let pool = pool(2);
    // In the first batch, in later ones, and the last of all.
    for (at, all) in [(0, 1), (3, 10), (70_000, 100_000), (99_999, 100_000)] {
        let error = pool.map(invert::call, zero_at(at, all)).unwrap_err();
        assert_eq!(error.index(), Some(at));
        assert!(error.job().is_some() && error.is_panic());
        let start = format!("task `pool::which_input_failed::invert` (input {at}) panicked at ");
        assert!(error.to_string().starts_with(&start), "{error}");
        let error = pool.map_async(invert::call, zero_at(at, all)).get().unwrap_err();
        assert_eq!(error.index(), Some(at));
    }
    assert_eq!(pool.map(invert::call, [5, 0, 0, 0]).unwrap_err().index(), Some(1), "the first of several");
    assert_eq!(pool.apply(invert::call(0)).unwrap_err().index(), None);
}

fn an_error_of_imap_knows_its_input() {
    let pool = pool(2);
    let failed = |results: &mut dyn Iterator<Item = Result<i64>>| -> Vec<Option<usize>> {
        results.filter_map(|result| result.err().map(|error| error.index())).collect()
    };
    for chunk_size in [1, 7] {
        assert_eq!(failed(&mut pool.imap(invert::call, zero_at(137, 300)).chunk_size(chunk_size)), [Some(137)]);
        let mut unordered = pool.imap_unordered(invert::call, zero_at(137, 300)).chunk_size(chunk_size);
        assert_eq!(failed(&mut unordered), [Some(137)]);
    }
}

fn results_in_no_order_come_with_their_index() {
    let pool = pool(3);
    let inputs: Vec<i64> = (0..500).map(|n| n % 10).collect();
    let mut seen = vec![false; inputs.len()];
    for (index, result) in pool.imap_unordered(invert::call, inputs.iter().copied()).chunk_size(3).indexed() {
        assert!(!std::mem::replace(&mut seen[index], true), "{index} came twice");
        match result {
            Ok(value) => assert_eq!(value, 1000 / inputs[index]),
            Err(error) => assert_eq!((error.index(), inputs[index]), (Some(index), 0)),
        }
    }
    assert!(seen.iter().all(|seen| *seen));
    let indices: Vec<usize> = pool.imap(invert::call, 1..50).indexed().map(|(index, _)| index).collect();
    assert_eq!(indices, (0..49).collect::<Vec<_>>());
}

fn try_map_keeps_all_results() {
    let pool = pool(2);
    let results = pool.try_map(invert::call, (0..10_000).map(|n| n % 10)).unwrap();
    assert_eq!(results.len(), 10_000);
    for (index, result) in results.into_iter().enumerate() {
        match (result, index as i64 % 10) {
            (Err(error), 0) => assert_eq!((error.index(), error.is_panic()), (Some(index), true)),
            (result, n) => assert_eq!(result.unwrap(), 1000 / n),
        }
    }
    assert!(pool.try_map(invert::call, 0..0).unwrap().is_empty());
}

fn a_closed_pool_is_not_the_failure_of_an_input() {
    let pool = pool(1);
    pool.close();
    let refused = |error: pool_runtime::Error| {
        assert!(error.is_closed(), "{error}");
        assert_eq!((error.index(), error.job(), error.ran()), (None, None, Ran::No));
    };
    refused(pool.map(invert::call, [1, 2]).unwrap_err());
    refused(pool.map_async(invert::call, [1, 2]).get().unwrap_err());
    refused(pool.try_map(invert::call, [1, 2]).unwrap_err());
    refused(pool.imap(invert::call, [1, 2]).next().unwrap().unwrap_err());
    let (index, result) = pool.imap_unordered(invert::call, [1, 2]).indexed().next().unwrap();
    assert_eq!(index, 0);
    refused(result.unwrap_err());
}

fn a_worker_that_dies_fails_its_own_input() {
    let pool = pool(2);
    let results = pool.try_map(|n| dies_at::call(n, 40), 0..100).unwrap();
    let failed: Vec<usize> = results.iter().filter_map(|result| result.as_ref().err()?.index()).collect();
    assert_eq!(failed, [40]);
    let error = results.into_iter().nth(40).unwrap().unwrap_err();
    assert_eq!((error.exit_code(), error.ran()), (Some(3), Ran::Yes));
    assert_eq!(error.dossier().unwrap().job(), error.job());
    assert!(error.to_string().contains("dies_at` (input 40) lost its worker"), "{error}");
}

fn what_cannot_be_encoded_fails_its_own_input() {
    let pool = pool(1);
    only_one_fails(&pool, [0, 3, 4, 1, 5], 3, |error| {
        assert!(error.is_encode() && error.job().is_none(), "{error}");
    });
}

fn what_cannot_be_decoded_fails_its_own_input() {
    let pool = pool(1);
    only_one_fails(&pool, [0, 3, 2, 4, 5], 2, |error| assert!(error.is_decode(), "{error}"));
    // The result, which is decoded here.
    let inputs = [0, 3, 4, 5, 2, 6];
    let check = |error: pool_runtime::Error| {
        assert!(error.is_decode() && error.ran() == Ran::Yes, "{error}");
        assert_eq!(error.index(), Some(4));
    };
    check(pool.map(make::call, inputs).unwrap_err());
    check(pool.map_async(make::call, inputs).get().unwrap_err());
    check(pool.imap(make::call, inputs).find_map(Result::err).unwrap());
    let results = pool.try_map(make::call, inputs).unwrap();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 5);
    assert_eq!(*results[5].as_ref().unwrap(), Picky(6));
    check(results.into_iter().nth(4).unwrap().unwrap_err());
}

fn only_one_fails(pool: &Pool, inputs: [u8; 5], at: usize, check: impl Fn(&pool_runtime::Error)) {
    let call = |n| take::call(Picky(n));
    let all = [
        pool.map(call, inputs).unwrap_err(),
        pool.map_async(call, inputs).get().unwrap_err(),
        pool.imap(call, inputs).find_map(Result::err).unwrap(),
        pool.imap_unordered(call, inputs).find_map(Result::err).unwrap(),
    ];
    let results = pool.try_map(call, inputs).unwrap();
    for (index, (result, input)) in results.into_iter().zip(inputs).enumerate() {
        match result {
            Ok(value) => assert_eq!(value, input),
            Err(error) => {
                assert_eq!((index, error.index()), (at, Some(at)));
                check(&error);
            }
        }
    }
    for error in all {
        assert_eq!(error.index(), Some(at), "{error}");
        check(&error);
    }
}
