//! What is run, by us and by the peers: the same functions for all.

use pool_runtime::task;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// The trivial function.
#[task]
pub fn add_one(n: u64) -> u64 {
    n + 1
}

/// There and back.
#[task]
pub fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

/// Touches next to nothing of what it is lent: what is measured is how it got there.
#[task]
pub fn ends(numbers: &[f64]) -> f64 {
    numbers[0] + numbers[numbers.len() - 1]
}

/// For procspawn, whose functions own their arguments.
pub fn owned_ends(numbers: Vec<f64>) -> f64 {
    ends(&numbers)
}

/// Keeps a processor busy, in registers alone: a chain of multiplications, each of which needs the one before.
#[task]
#[inline(never)]
pub fn compute(seed: u64, steps: u64) -> u64 {
    (0..steps).fold(seed, |x, _| x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f))
}

/// For procspawn, whose functions have one argument.
pub fn compute_pair((seed, steps): (u64, u64)) -> u64 {
    compute(seed, steps)
}

/// Keeps a worker so long that another has to take the next one.
#[task]
pub fn nap() {
    std::thread::sleep(Duration::from_millis(50));
}

/// Keeps a worker until the file is there.
#[task]
pub fn wait_for(file: &str) {
    while !Path::new(file).exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many steps of [`compute`] take one microsecond.
pub fn steps_per_microsecond() -> f64 {
    let steps = 1 << 20;
    // The best of several, as whatever else happens only makes it slower.
    let times = (0..20).map(|seed| {
        let begun = Instant::now();
        std::hint::black_box(compute(seed, std::hint::black_box(steps)));
        begun.elapsed().as_secs_f64()
    });
    steps as f64 / (times.fold(f64::INFINITY, f64::min) * 1e6)
}
