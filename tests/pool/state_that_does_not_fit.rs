//! A task whose state the pool does not make is refused when it is submitted, with a text that says what is wrong, and
//! never reaches a worker. An initializer without a value just runs.

use crate::support::{Signals, builder, count, over_every_transport, pool};
use pool_runtime::{Pool, Ran, task};
use std::path::Path;

over_every_transport! {
    no_initializer,
    an_initializer_of_something_else,
    an_initializer_without_a_value_runs_in_each_worker,
    the_one_that_fits,
}

struct Model(u32);
struct Other;

#[task(initializer)]
fn make_model(n: u32) -> Model {
    Model(n)
}

#[task(initializer)]
fn make_other() -> Result<Other, String> {
    Ok(Other)
}

#[task(initializer)]
fn just_run(ran: &Path) {
    count(ran);
}

#[task(initializer)]
fn just_try(ran: &Path) -> Result<(), String> {
    count(ran);
    Ok(())
}

#[task]
fn predict(#[state] model: &Model, x: u32) -> u32 {
    model.0 + x
}

#[task]
fn other(#[state] other: &mut Other) -> bool {
    matches!(other, Other)
}

#[task]
fn stateless() -> u32 {
    7
}

fn refused(pool: &Pool, made: &str) {
    let expected = format!(
        "task `pool::state_that_does_not_fit::predict` asks for a worker state `pool::state_that_does_not_fit::Model`, but \
         {made}: give the pool an initializer that returns it"
    );
    let job = pool.apply_async(predict::call(1));
    assert!(job.is_ready(), "at once");
    let error = job.get().unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.ran(), Ran::No);
    assert!(!error.is_panic() && !error.is_closed() && !error.is_worker_lost() && !error.is_decode());
    assert_eq!(pool.map(predict::call, 0..10).unwrap_err().to_string(), expected);
    // Of an iterator, it is the result of each input.
    let of_input = |index| expected.replacen(" asks", &format!(" (input {index}) asks"), 1);
    assert_eq!(pool.imap(predict::call, 0..).next().unwrap().unwrap_err().to_string(), of_input(0));
    let unordered = pool.imap_unordered(predict::call, 0..3).map(|result| result.unwrap_err().to_string());
    assert_eq!(unordered.collect::<Vec<_>>(), [0, 1, 2].map(of_input));
    assert_eq!((pool.stats().done, pool.stats().failed), (0, 0), "none was submitted");
    assert_eq!(pool.apply(stateless::call()).unwrap(), 7);
}

fn no_initializer() {
    refused(&pool(1), "this pool has no initializer that makes one");
}

fn an_initializer_of_something_else() {
    let pool = builder().processes(1).initializer(make_other::call()).build().unwrap();
    refused(&pool, "this pool's initializer makes `pool::state_that_does_not_fit::Other`");
    assert!(pool.apply(other::call()).unwrap());
}

fn an_initializer_without_a_value_runs_in_each_worker() {
    for fallible in [false, true] {
        let signals = Signals::new();
        let ran = signals.path("ran");
        let builder = builder().processes(2);
        let pool = match fallible {
            false => builder.initializer(just_run::call(&ran)),
            true => builder.initializer(just_try::call(&ran)),
        };
        let pool = pool.build().unwrap();
        crate::support::until("both have run it", || signals.counted("ran") == 2);
        refused(&pool, "this pool has no initializer that makes one");
    }
}

fn the_one_that_fits() {
    let pool = builder().processes(2).initializer(make_model::call(40)).build().unwrap();
    assert_eq!(pool.map(predict::call, 0..3).unwrap(), [40, 41, 42]);
    let error = pool.apply(other::call()).unwrap_err().to_string();
    assert!(error.contains("this pool's initializer makes `pool::state_that_does_not_fit::Model`"), "{error}");
}

#[test]
fn without_a_pool_a_task_with_state_is_a_plain_function() {
    assert_eq!(predict(&Model(1), 2), 3);
    assert!(other(&mut Other));
}
