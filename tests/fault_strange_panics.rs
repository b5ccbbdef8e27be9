//! F20: a panic with a payload that is no string, in a destructor, while panicking, and one whose payload panics when
//! it is dropped.

mod support;

use pool_runtime::{Process, Ran, pool_main, task};
use support::{over_every_transport, pool};

pool_main!();

over_every_transport! {
    a_strange_panic_is_one_error_and_no_more,
    a_panic_while_panicking_costs_the_worker_and_is_told,
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

#[task]
fn while_panicking() {
    let _guard = PanicsWhenDropped;
    panic!("the first panic");
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
    let error = pool.apply(in_a_destructor::call()).unwrap_err();
    assert_eq!(error.panic().unwrap().message(), "a panic in a destructor");
    assert_eq!(pool.apply(caught_by_itself::call()).unwrap(), 7);
}

fn a_panic_while_panicking_costs_the_worker_and_is_told() {
    let pool = pool(1);
    let error = pool.apply(while_panicking::call()).unwrap_err();
    assert_eq!((error.is_worker_lost(), error.signal(), error.ran()), (true, Some(6), Ran::Yes));
    assert!(error.panic().unwrap().message().contains("panic"), "{error}");
    assert_eq!(pool.apply(caught_by_itself::call()).unwrap(), 7);
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
