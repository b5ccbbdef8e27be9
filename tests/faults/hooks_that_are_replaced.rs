//! A panic hook that a task or an initializer sets, as error reporters do, is called, and the place of a panic is known all
//! the same.

use crate::support::{builder, over_every_transport, pool};
use pool_runtime::{Error, Process, task};
use std::panic::{set_hook, take_hook};
use std::sync::atomic::{AtomicU32, Ordering};

over_every_transport! {
    after_an_initializer_has_set_a_hook,
    after_a_task_has_set_a_hook,
    in_a_process_that_sets_one,
    after_hooks_were_taken_away,
    while_a_hook_calls_the_one_before,
    after_a_hook_was_dropped_by_a_panic,
    when_the_process_does_not_survive,
}

static CALLED: AtomicU32 = AtomicU32::new(0);

fn replace_hook() {
    set_hook(Box::new(|_| _ = CALLED.fetch_add(1, Ordering::Relaxed)));
}

#[track_caller]
fn has_a_place(error: &Error, message: &str) {
    let panic = error.panic().unwrap();
    assert_eq!((panic.message(), panic.file()), (message, Some(file!())), "{error}");
    assert!(panic.line().is_some() && panic.column().is_some(), "{error}");
}

#[task(initializer)]
fn report_errors() {
    replace_hook();
}

#[task]
fn panics(how: &str) {
    match how {
        "replaces" => replace_hook(),
        "takes" => drop(take_hook()),
        "wraps" => {
            let before = take_hook();
            set_hook(Box::new(move |hook| {
                CALLED.fetch_add(1, Ordering::Relaxed);
                before(hook);
            }));
        }
        "loses" => {
            let _before = take_hook();
            panic!("while it holds the hook");
        }
        _ => {}
    }
    panic!("now");
}

#[task]
fn called() -> u32 {
    CALLED.load(Ordering::Relaxed)
}

fn after_an_initializer_has_set_a_hook() {
    let pool = builder().processes(1).initializer(report_errors::call()).build().unwrap();
    for count in 1..4 {
        has_a_place(&pool.apply(panics::call("")).unwrap_err(), "now");
        assert_eq!(pool.apply(called::call()).unwrap(), count, "it is called");
    }
}

fn after_a_task_has_set_a_hook() {
    let pool = pool(1);
    for count in 1..4 {
        // Even in the call that sets it.
        has_a_place(&pool.apply(panics::call("replaces")).unwrap_err(), "now");
        assert_eq!(pool.apply(called::call()).unwrap(), count);
    }
}

fn in_a_process_that_sets_one() {
    let process = Process::new(panics::call("replaces")).start().unwrap();
    has_a_place(&process.join().unwrap_err(), "now");
}

fn after_hooks_were_taken_away() {
    let pool = pool(1);
    for how in ["takes", "takes", ""] {
        has_a_place(&pool.apply(panics::call(how)).unwrap_err(), "now");
    }
}

fn while_a_hook_calls_the_one_before() {
    let pool = pool(1);
    for _ in 0..3 {
        has_a_place(&pool.apply(panics::call("wraps")).unwrap_err(), "now");
    }
    assert_eq!(pool.apply(called::call()).unwrap(), 1 + 2 + 3, "each of them is called");
}

/// What a thread drops while it panics cannot be set again at once.
fn after_a_hook_was_dropped_by_a_panic() {
    let pool = pool(1);
    let error = pool.apply(panics::call("loses")).unwrap_err();
    assert_eq!(error.panic().unwrap().message(), "while it holds the hook", "{error}");
    has_a_place(&pool.apply(panics::call("")).unwrap_err(), "now");
}

struct PanicsToo;

impl Drop for PanicsToo {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

#[task]
fn panics_while_panicking() {
    replace_hook();
    let _too = PanicsToo;
    panic!("now");
}

fn when_the_process_does_not_survive() {
    let error = pool(1).apply(panics_while_panicking::call()).unwrap_err();
    assert_eq!(error.signal(), Some(6), "{error}");
    let panic = error.panic().expect("its last words");
    assert!(panic.message().contains("destructor") && panic.line().is_some(), "{error}");
}
