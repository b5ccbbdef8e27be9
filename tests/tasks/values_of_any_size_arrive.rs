//! Arguments and results of no bytes and of a hundred megabytes arrive whole.

use crate::support::{SharedPool, over_every_transport};
use pool_runtime::{Process, task};
use std::sync::{Mutex, MutexGuard, PoisonError};

over_every_transport! {
    no_bytes,
    every_size_around_the_limits_of_a_message,
    large_results_in_whatever_way_they_are_asked_for,
    a_hundred_megabytes_of_bytes,
    a_hundred_megabytes_of_text,
    a_hundred_megabytes_of_numbers,
}

const LARGE: usize = 100 << 20;

/// One large value at a time: each is in memory several times over.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

static POOL: SharedPool = SharedPool::new();

/// Tells contents apart, and their order.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let mut sum = rest.iter().fold(bytes.len() as u64, |sum, byte| (sum << 8) ^ u64::from(*byte));
    for word in words {
        sum = sum.rotate_left(5).wrapping_add(u64::from_le_bytes(*word));
    }
    sum
}

fn pattern(length: usize) -> Vec<u8> {
    let mut words = vec![0_u64; length.div_ceil(8)];
    for (n, word) in words.iter_mut().enumerate() {
        *word = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    bytemuck::cast_slice(&words)[..length].to_vec()
}

#[task]
fn sum_of_lent(bytes: &[u8]) -> (usize, u64) {
    (bytes.len(), sum(bytes))
}

#[task]
fn length_of_lent(text: &str) -> usize {
    text.len()
}

#[task]
fn sum_of_owned(bytes: Vec<u8>) -> (usize, u64) {
    (bytes.len(), sum(&bytes))
}

#[task]
fn make(length: usize) -> Vec<u8> {
    pattern(length)
}

#[task]
fn make_text(length: usize) -> String {
    "x".repeat(length)
}

#[task]
fn reverse(mut numbers: Vec<f64>) -> Vec<f64> {
    numbers.reverse();
    numbers
}

#[task]
fn mirror(mut pixels: Vec<[u8; 3]>) -> Vec<[u8; 3]> {
    pixels.reverse();
    pixels
}

/// Through serde, element by element.
#[task]
fn count(texts: Vec<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

fn no_bytes() {
    assert_eq!(POOL.apply(sum_of_lent::call(&[])).expect("it runs"), (0, 0));
    assert_eq!(POOL.apply(sum_of_owned::call(vec![])).expect("it runs"), (0, 0));
    assert_eq!(POOL.apply(length_of_lent::call("")).expect("it runs"), 0);
    assert_eq!(POOL.apply(make::call(0)).expect("it runs"), []);
    assert_eq!(POOL.apply(make_text::call(0)).expect("it runs"), "");
    assert_eq!(POOL.apply(reverse::call(vec![])).expect("it runs"), []);
    assert_eq!(POOL.apply(count::call(vec![])).expect("it runs"), []);
    assert_eq!(POOL.apply(count::call(vec![String::new(); 3])).expect("it runs"), [0, 0, 0]);
}

fn every_size_around_the_limits_of_a_message() {
    for size in [1_usize << 12, 1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 19] {
        for length in size - 70..size + 10 {
            let bytes = pattern(length);
            assert_eq!(POOL.apply(sum_of_lent::call(&bytes)).expect("it runs"), (length, sum(&bytes)));
            assert!(POOL.apply(make::call(length)).expect("it runs") == bytes, "{length} bytes");
        }
    }
}

fn large_results_in_whatever_way_they_are_asked_for() {
    let lengths = || (0..12_usize).map(|n| (1 << 19) + 1_000_003 * (n % 3) + n);
    let check = |(length, made): (usize, Vec<u8>)| {
        assert!(made == pattern(length), "{length} bytes");
        assert!(made.capacity() <= length + length / 4, "it has room for {}", made.capacity());
    };
    lengths().zip(POOL.map(make::call, lengths()).expect("they run")).for_each(check);
    for (length, made) in lengths().zip(POOL.imap(make::call, lengths())) {
        check((length, made.expect("it runs")));
    }
    let jobs: Vec<_> = lengths().map(|length| POOL.apply_async(make::call(length))).collect();
    for (length, job) in lengths().zip(jobs) {
        check((length, job.get().expect("it runs")));
    }
    for length in lengths() {
        let pixels: Vec<[u8; 3]> = bytemuck::cast_slice(&pattern(length * 3)).to_vec();
        let mut back = POOL.apply(mirror::call(pixels.clone())).expect("it runs");
        back.reverse();
        assert!(back == pixels, "{length} pixels");
    }
}

fn a_hundred_megabytes_of_bytes() {
    let _turn = one_at_a_time();
    let bytes = pattern(LARGE);
    let expected = (LARGE, sum(&bytes));
    assert_eq!(POOL.apply(sum_of_lent::call(&bytes)).expect("it runs"), expected);
    assert_eq!(POOL.apply(sum_of_owned::call(bytes)).expect("it runs"), expected);
    let made = POOL.apply(make::call(LARGE)).expect("it runs");
    assert_eq!((made.len(), sum(&made)), expected);
}

fn a_hundred_megabytes_of_text() {
    let _turn = one_at_a_time();
    assert_eq!(POOL.apply(length_of_lent::call(&"é".repeat(LARGE / 2))).expect("it runs"), LARGE);
    assert_eq!(POOL.apply(make_text::call(LARGE)).expect("it runs").len(), LARGE);
}

fn a_hundred_megabytes_of_numbers() {
    let _turn = one_at_a_time();
    let numbers: Vec<f64> = (0..LARGE / 8).map(|n| n as f64).collect();
    let mut back = POOL.apply(reverse::call(numbers.clone())).expect("it runs");
    back.reverse();
    assert!(back == numbers);
}

#[test]
fn a_hundred_megabytes_to_and_from_a_process() {
    let _turn = one_at_a_time();
    let bytes = pattern(LARGE);
    let process = Process::new(sum_of_lent::call(&bytes)).start().expect("it starts");
    assert_eq!(process.join().expect("it runs"), (LARGE, sum(&bytes)));
    let process = Process::new(make::call(LARGE)).start().expect("it starts");
    assert!(process.join().expect("it runs") == bytes);
}
