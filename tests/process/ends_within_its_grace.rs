//! A process whose task has returned ends, or is killed after a grace: what has come counts, and whoever joins it gets it.
//! One that joins the processes that it has started has its time.

use crate::support::{Signals, await_given, give, returns, until};
use pool_runtime::{Process, task};
use std::{path::Path, time::Duration};

const GRACE: Duration = Duration::from_millis(200);

extern "C" fn hang() {
    loop {
        std::thread::park();
    }
}

fn hang_when_it_exits() {
    // SAFETY: a function that may run at any time.
    assert_eq!(unsafe { libc::atexit(hang) }, 0);
}

#[task]
fn hang_at_exit(n: u32) -> u32 {
    hang_when_it_exits();
    n
}

#[task]
fn panic_and_hang_at_exit() {
    hang_when_it_exits();
    panic!("on purpose");
}

#[test]
fn a_process_that_hangs_at_exit_is_joined() {
    let process = Process::new(hang_at_exit::call(7)).exit_grace(GRACE).start().unwrap();
    let (returned, code) = returns("join", move || (process.join(), process.exit_code()));
    assert_eq!((returned.unwrap(), code), (7, Some(-libc::SIGKILL)));
}

#[test]
fn a_process_that_hangs_at_exit_after_a_panic_is_joined() {
    let process = Process::new(panic_and_hang_at_exit::call()).exit_grace(GRACE).start().unwrap();
    let error = returns("join", move || process.join().unwrap_err());
    assert!(error.is_panic(), "{error}");
}

#[test]
fn the_grace_is_some_seconds_if_nobody_says() {
    let process = Process::new(hang_at_exit::call(8)).start().unwrap();
    assert_eq!(returns("join", move || process.join()).unwrap(), 8);
}

#[task]
fn write_when_told(go: &Path, file: &Path) {
    await_given(go);
    // The process that joins this one is looked at again and again.
    std::thread::sleep(GRACE * 5);
    give(file);
}

#[task]
fn start_and_hang_at_exit(go: &Path, file: &Path) -> u32 {
    hang_when_it_exits();
    Process::new(write_when_told::call(go, file)).start().unwrap().pid()
}

#[test]
fn a_process_that_joins_its_own_outlives_the_grace() {
    let signals = Signals::new();
    let (go, file) = (signals.path("go"), signals.path("file"));
    let process = Process::new(start_and_hang_at_exit::call(&go, &file)).exit_grace(GRACE).start().unwrap();
    assert_eq!(process.join_timeout(GRACE * 5).unwrap(), None, "it still joins");
    signals.give("go");
    returns("join", move || process.join()).unwrap();
    until("the process of the process has done its work", || file.exists());
}
