//! Inside of the strictest sandbox, all that a call brings along arrives: large arguments and results, shared slices, a
//! state from an initializer, what is printed.

use crate::support::{builder, over_every_transport};
use pool_runtime::{Sandbox, Shared, task};

over_every_transport! {
    arguments_and_results,
    shared_slices_and_a_state,
    many_calls_on_several_workers,
}

#[task]
fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

#[task]
fn lengths(words: Vec<String>) -> Vec<usize> {
    words.iter().map(String::len).collect()
}

fn arguments_and_results() {
    let pool = builder().processes(1).sandbox(Sandbox::strict()).build().unwrap();
    for length in [0, 1, 1 << 10, 1 << 17, 1 << 20, 40 << 20] {
        let bytes: Vec<u8> = (0..length).map(|index: usize| (index / 7) as u8).collect();
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        assert!(pool.apply(reverse::call(bytes)).unwrap() == reversed, "{length} bytes");
    }
    let words: Vec<String> = (0..100_000).map(|n| "x".repeat(n % 17)).collect();
    let expected: Vec<usize> = words.iter().map(String::len).collect();
    assert_eq!(pool.apply(lengths::call(words)).unwrap(), expected);
}

#[task(initializer)]
fn keep(slice: Shared<[u64]>) -> Shared<[u64]> {
    slice
}

#[task]
fn sum_of_all(#[state] kept: &Shared<[u64]>, given: &Shared<[u64]>, lent: &[u64]) -> u64 {
    kept.iter().chain(given.iter()).chain(lent).sum()
}

fn shared_slices_and_a_state() {
    let kept = Shared::from_fn(1_000_000, |index| index as u64).unwrap();
    let pool = builder().processes(2).sandbox(Sandbox::strict()).initializer(keep::call(kept.clone())).build().unwrap();
    let expected: u64 = kept.iter().sum();
    for round in 0..20 {
        let given = Shared::new(&vec![round; 10_000]).unwrap();
        assert_eq!(pool.apply(sum_of_all::call(&given, &[1, 2])).unwrap(), expected + round * 10_000 + 3);
    }
}

#[task]
fn square(n: u64) -> u64 {
    // Its output is caught, or goes where this program prints.
    if n.is_multiple_of(10_000) {
        println!("at {n}");
    }
    n * n
}

fn many_calls_on_several_workers() {
    let pool = builder().processes(3).max_tasks_per_child(20_000).sandbox(Sandbox::strict()).build().unwrap();
    let squares = pool.map(square::call, 0..50_000).unwrap();
    assert!(squares.iter().enumerate().all(|(n, square)| *square == (n * n) as u64));
    pool.close();
    pool.join().unwrap();
}
