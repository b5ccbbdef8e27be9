//! A worker passes on what it was sent: to a pool of its own, whose workers pass it on as well, and to a process.

over_every_transport! { in_turn: a_worker_passes_on_what_it_was_sent }

use crate::support::regions::inode;
use crate::support::{builder, over_every_transport, pool};
use pool_runtime::{Process, Result, Shared, task};

#[task]
fn sum(numbers: &Shared<[u64]>) -> (u64, Option<(String, String)>) {
    (numbers.iter().sum(), inode(std::process::id()))
}

/// The sum as it is found so many processes further down.
#[task]
fn sum_below(numbers: Shared<[u64]>, depth: u32) -> Result<(u64, Option<(String, String)>), String> {
    let inner = pool(1);
    let told = match depth {
        0 => inner.apply(sum::call(&numbers)),
        _ => return inner.apply(sum_below::call(numbers, depth - 1)).map_err(|error| error.to_string())?,
    };
    told.map_err(|error| error.to_string())
}

#[task]
fn sum_in_process(numbers: &Shared<[u64]>) -> Result<(u64, Option<(String, String)>), String> {
    let process = Process::new(sum::call(numbers)).start().map_err(|error| error.to_string())?;
    process.join().map_err(|error| error.to_string())
}

/// Makes one of its own, for its own workers.
#[task]
fn made_here() -> u64 {
    let numbers = Shared::from_fn(1000, |index| index as u64).unwrap();
    pool(2).map(|_| sum::call(&numbers), 0..10).unwrap().into_iter().map(|(sum, _)| sum).sum()
}

fn a_worker_passes_on_what_it_was_sent() {
    let numbers = Shared::from_fn(10_000, |index| index as u64).unwrap();
    let expected = ((0..10_000).sum::<u64>(), inode(std::process::id()));
    let pool = builder().processes(1).build().unwrap();
    for depth in [0, 2] {
        assert_eq!(pool.apply(sum_below::call(numbers.clone(), depth)).unwrap().unwrap(), expected);
    }
    assert_eq!(pool.apply(sum_in_process::call(&numbers)).unwrap().unwrap(), expected);
    assert_eq!(pool.apply(made_here::call()).unwrap(), 10 * (0..1000).sum::<u64>());
}
