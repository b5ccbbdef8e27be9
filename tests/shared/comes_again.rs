//! A worker that had no descriptor left when shared memory came gets it again with the next call: what it lacked for a
//! moment is not lacking for good.

use crate::support::{over_every_transport, pool};
use pool_runtime::{Pool, Shared, Transport, task};
use std::{
    fs::File,
    sync::{Mutex, PoisonError},
};

over_every_transport! { in_turn: shared_slices_come_again }

static OPEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Opens files until there is no descriptor left. Returns how many.
#[task]
fn use_up_descriptors() -> usize {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let before = open.len();
    open.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
    open.len() - before
}

#[task]
fn free_descriptors() {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

#[task]
fn sum_of_shared(numbers: Shared<[u64]>) -> u64 {
    numbers.iter().sum()
}

#[task]
fn sum_of_lent(numbers: &[u64]) -> u64 {
    numbers.iter().sum()
}

fn while_there_are_none(pool: &Pool, call: impl FnOnce()) {
    assert!(pool.apply(use_up_descriptors::call()).unwrap() > 0);
    // What the worker had open for a moment while it started, or received, is free by now.
    let mut rounds_without = 0;
    while rounds_without < 10 {
        let opened = pool.apply(use_up_descriptors::call()).unwrap();
        rounds_without = if opened == 0 { rounds_without + 1 } else { 0 };
    }
    call();
    pool.apply(free_descriptors::call()).unwrap();
}

fn shared_slices_come_again() {
    let (pool, numbers) = (pool(1), Shared::new(&[1, 2, 3]).unwrap());
    while_there_are_none(&pool, || {
        let error = pool.apply(sum_of_shared::call(numbers.clone())).unwrap_err();
        assert!(error.to_string().contains("cannot be taken"), "{error}");
    });
    assert_eq!(pool.apply(sum_of_shared::call(numbers.clone())).unwrap(), 6);
}

/// Over a channel, they travel in the message.
#[test]
fn large_arguments_come_again() {
    let _turn = crate::support::turn();
    let pool = Pool::builder().processes(1).transport(Transport::Ring).build().unwrap();
    let numbers = vec![1; 1 << 20];
    while_there_are_none(&pool, || {
        let error = pool.apply(sum_of_lent::call(&numbers)).unwrap_err();
        assert!(error.to_string().contains("cannot be taken"), "{error}");
    });
    assert_eq!(pool.apply(sum_of_lent::call(&numbers)).unwrap(), 1 << 20);
}
