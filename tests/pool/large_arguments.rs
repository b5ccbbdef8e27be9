//! Arguments and results larger than any buffer between the processes: several on their way to the same worker, with
//! nobody joining in between, and both ways at once.

use crate::support::{over_every_transport, pool, returns};
use pool_runtime::{Job, task};

over_every_transport! {
    four_arguments_of_a_megabyte_on_two_workers,
    large_results_that_nobody_takes_block_nothing,
    large_and_small_ones_mixed,
    a_hundred_megabytes_both_ways_at_once,
}

const MEGABYTE: usize = 1 << 20;
/// So many bytes apart are those that a task changes: every part of every size has some of them.
const STEP: usize = 4099;

#[task]
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

#[task]
fn increment(mut bytes: Vec<u8>, add: u8) -> Vec<u8> {
    bytes.iter_mut().step_by(STEP).for_each(|byte| *byte = byte.wrapping_add(add));
    bytes
}

/// Bytes that tell a mix-up of parts.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

fn four_arguments_of_a_megabyte_on_two_workers() {
    let pool = pool(2);
    let bytes = pattern(MEGABYTE);
    let jobs: Vec<Job<u64>> = (0..4).map(|_| pool.apply_async(sum::call(&bytes))).collect();
    let expected = sum(&bytes);
    returns("all four", move || jobs.into_iter().for_each(|job| assert_eq!(job.get().unwrap(), expected)));
}

fn large_results_that_nobody_takes_block_nothing() {
    let pool = pool(2);
    let bytes = pattern(3 * MEGABYTE);
    let jobs: Vec<_> = (0..10).map(|add| pool.apply_async(increment::call(bytes.clone(), add))).collect();
    assert_eq!(pool.apply(sum::call(&[1, 2, 3])).unwrap(), 6);
    pool.close();
    pool.join().unwrap();
    for (add, job) in (0..).zip(jobs) {
        assert!(job.get().unwrap() == increment(bytes.clone(), add), "result {add}");
    }
}

fn large_and_small_ones_mixed() {
    let pool = pool(2);
    let bytes = pattern(MEGABYTE);
    let lengths: Vec<usize> = (0..200).map(|n| if n % 7 == 0 { MEGABYTE - n } else { n }).collect();
    let sums = pool.map(|length| sum::call(&bytes[..length]), lengths.iter().copied()).unwrap();
    assert!(sums.into_iter().eq(lengths.iter().map(|length| sum(&bytes[..*length]))));
}

fn a_hundred_megabytes_both_ways_at_once() {
    let pool = pool(2);
    let bytes = pattern(MEGABYTE).repeat(100);
    let jobs: Vec<_> = (1..=2).map(|add| pool.apply_async(increment::call(bytes.clone(), add))).collect();
    for (add, job) in (1u8..).zip(jobs) {
        assert!(job.get().unwrap() == increment(bytes.clone(), add), "result {add}");
    }
}
