//! A panic with a payload that is no string, in a destructor, also in one of an argument or a result, while panicking,
//! one that is raised again, and one whose payload panics when it is dropped.

use crate::support::{over_every_transport, pool};
use pool_runtime::{Error, Process, Ran, parent_process, task};

over_every_transport! {
    a_strange_panic_is_one_error_and_no_more,
    what_a_task_drops_behind_its_back_is_its_own_panic,
    a_panic_while_panicking_costs_the_worker_and_is_told,
    a_panic_that_cannot_unwind_is_told,
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("a panic in a destructor");
    }
}

#[task]
fn with_a_number() {
    std::panic::panic_any(42);
}

#[task]
fn with_a_payload_that_panics() {
    std::panic::panic_any(PanicsWhenDropped);
}

#[task]
fn in_a_destructor() {
    drop(PanicsWhenDropped);
}

/// Raised again, without a word from the hook.
#[task]
fn resumed(text: Option<String>) {
    match text {
        Some(text) => std::panic::resume_unwind(Box::new(text)),
        None => std::panic::resume_unwind(Box::new(7.5)),
    }
}

/// Panics when it is dropped in a worker: as an argument, or as a result.
#[derive(serde::Serialize, serde::Deserialize)]
struct Grudge;

impl Drop for Grudge {
    fn drop(&mut self) {
        if parent_process().is_some() {
            panic!("a panic in the destructor of a value");
        }
    }
}

/// The argument is dropped when the task has returned.
#[task]
fn takes(_grudge: Grudge) -> u32 {
    1
}

/// The result is dropped when it has been encoded.
#[task]
fn gives() -> Grudge {
    Grudge
}

const FIRST_LINE: u32 = line!() + 7;

#[task]
fn while_panicking() {
    // A panic that was caught is none of them.
    let _ = std::panic::catch_unwind(|| panic!("nobody's business"));
    let _guard = PanicsWhenDropped;
    panic!("the first panic");
}

#[task]
fn where_none_may_be() {
    extern "C" fn never() {
        panic!("over the edge");
    }
    never();
}

#[task]
fn caught_by_itself() -> u32 {
    std::panic::catch_unwind(|| panic!("nobody's business")).unwrap_err();
    7
}

fn a_strange_panic_is_one_error_and_no_more() {
    let pool = pool(1);
    let error = pool.apply(with_a_number::call()).unwrap_err();
    assert_eq!(error.panic().unwrap().message(), "Box<dyn Any>");
    assert!(error.panic().unwrap().line().is_some());
    let error = pool.apply(with_a_payload_that_panics::call()).unwrap_err();
    assert!(error.is_panic() && !error.is_worker_lost(), "{error}");
    let error = pool.apply(resumed::call(Some("raised again".into()))).unwrap_err();
    assert_eq!((error.panic().unwrap().message(), error.panic().unwrap().line()), ("raised again", None));
    let error = pool.apply(resumed::call(None)).unwrap_err();
    assert_eq!((error.panic().unwrap().message(), error.panic().unwrap().line()), ("Box<dyn Any>", None));
    let error = pool.apply(in_a_destructor::call()).unwrap_err();
    assert_eq!(error.panic().unwrap().message(), "a panic in a destructor");
    assert_eq!(pool.apply(caught_by_itself::call()).unwrap(), 7);
}

fn what_a_task_drops_behind_its_back_is_its_own_panic() {
    let pool = pool(1);
    let check = |error: Error| {
        assert_eq!(error.panic().unwrap().message(), "a panic in the destructor of a value");
        assert_eq!((error.ran(), error.is_worker_lost()), (Ran::Yes, false), "{error}");
        assert_eq!(pool.apply(caught_by_itself::call()).unwrap(), 7);
    };
    check(pool.apply(takes::call(Grudge)).unwrap_err());
    check(pool.apply(gives::call()).map(drop).unwrap_err());
}

fn a_panic_while_panicking_costs_the_worker_and_is_told() {
    let pool = pool(1);
    let error = pool.apply(while_panicking::call()).unwrap_err();
    assert_eq!((error.is_worker_lost(), error.signal(), error.ran()), (true, Some(6), Ran::Yes));
    let panic = error.panic().unwrap();
    assert!(panic.message().starts_with("the first panic; "), "{error}");
    assert!(panic.message().contains("a destructor panicked at"), "{error}");
    assert!(panic.message().ends_with(": a panic in a destructor"), "{error}");
    assert_eq!((panic.file(), panic.line()), (Some(file!()), Some(FIRST_LINE)), "{error}");
    assert_eq!(pool.apply(caught_by_itself::call()).unwrap(), 7);
}

fn a_panic_that_cannot_unwind_is_told() {
    let error = pool(1).apply(where_none_may_be::call()).unwrap_err();
    assert_eq!((error.is_worker_lost(), error.signal()), (true, Some(6)), "{error}");
    assert_eq!(error.panic().unwrap().message(), "over the edge; that was in a function that cannot unwind");
}

#[test]
fn a_process_tells_the_same() {
    let process = Process::new(with_a_number::call()).start().unwrap();
    assert!(process.join().unwrap_err().is_panic());
    assert_eq!(process.exit_code(), Some(1));
    let process = Process::new(while_panicking::call()).start().unwrap();
    assert!(process.join().unwrap_err().is_worker_lost());
    assert_eq!(process.exit_code(), Some(-6));
}
