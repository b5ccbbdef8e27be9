//! A shared slice that a task returns is that job's error, which says what to do, and no more; its values can be
//! returned.

over_every_transport! { in_turn: the_job_fails_and_says_what_to_do }

use crate::support::{builder, over_every_transport};
use pool_runtime::{Error, Process, Ran, Shared, task};

#[task]
fn back(numbers: Shared<[u32]>) -> Shared<[u32]> {
    numbers
}

#[task]
fn made(length: usize) -> Result<Option<Shared<[u32]>>, String> {
    Shared::from_fn(length, |index| index as u32).map(Some).map_err(|error| error.to_string())
}

#[task]
fn values(numbers: Shared<[u32]>) -> Vec<u32> {
    numbers.to_vec()
}

#[track_caller]
fn check(error: &Error) {
    let text = error.to_string();
    assert!(error.is_encode() && error.ran() == Ran::Yes, "{text}");
    assert!(text.contains("as an argument of a task only") && text.contains(".to_vec()"), "{text}");
}

fn the_job_fails_and_says_what_to_do() {
    let numbers = Shared::new(&[1, 2, 3]).unwrap();
    let pool = builder().processes(1).build().unwrap();
    let before = pool.workers();
    check(&pool.apply(back::call(numbers.clone())).unwrap_err());
    check(&pool.apply(made::call(5)).unwrap_err());
    check(&pool.map(|_| back::call(numbers.clone()), 0..3).unwrap_err());
    assert_eq!(pool.apply(values::call(numbers.clone())).unwrap(), [1, 2, 3]);
    assert_eq!(pool.workers()[0].pid, before[0].pid, "the worker goes on");
    check(&Process::new(back::call(numbers.clone())).start().unwrap().join().unwrap_err());
    check(&Process::new(back::call(numbers)).run().unwrap_err());
}
