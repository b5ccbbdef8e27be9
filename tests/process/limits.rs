//! A process is killed when its call takes too long, or too much memory, also once that has returned.

use pool_runtime::{Process, Ran, current_job, task};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(3600);

#[task(timeout = "50ms")]
fn hang() {
    std::thread::sleep(LONG);
}

#[test]
fn a_process_that_takes_too_long_is_killed() {
    let process = Process::new(hang::call()).start().unwrap();
    let error = process.join().unwrap_err();
    assert!(error.is_timeout() && !error.is_pending() && error.ran() == Ran::Yes, "{error}");
    assert!(error.to_string().contains("hang"), "{error}");
    assert_eq!((process.exit_code(), process.is_alive()), (Some(-9), false));
    assert_eq!(error.dossier().unwrap().pid(), process.pid());
}

#[task]
fn fill() {
    let mut all = Vec::new();
    for _ in 0..4096 {
        all.push(vec![1u8; 1 << 20]);
        std::thread::sleep(Duration::from_micros(300));
    }
}

#[test]
fn a_process_that_uses_too_much_memory_is_killed() {
    let error = Process::new(fill::call().memory(64 << 20)).start().unwrap().join().unwrap_err();
    assert!(error.is_out_of_memory(), "{error}");
}

#[task]
fn work_until_told() -> bool {
    while !current_job().is_cancelled() {
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

#[test]
fn a_process_is_told_to_stop() {
    assert!(Process::new(work_until_told::call().soft_timeout(SHORT).timeout(LONG)).start().unwrap().join().unwrap());
}

#[task]
fn leave_a_child() -> u32 {
    // It is joined when this process ends.
    Process::new(sleep::call(300)).start().unwrap().pid()
}

#[task]
fn sleep(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

#[test]
fn one_that_has_returned_may_take_its_time() {
    let process = Process::new(leave_a_child::call().timeout(Duration::from_millis(200))).start().unwrap();
    assert!(process.join().unwrap() > 0);
    assert_eq!(process.exit_code(), Some(0));
}

extern "C" fn hang_at_exit() {
    loop {
        std::thread::park();
    }
}

/// Returns at once, and then uses its memory, or just time, for ever.
#[task]
fn go_on(fills: bool) -> u8 {
    if fills {
        std::thread::spawn(fill);
    }
    // SAFETY: the function is never unloaded.
    unsafe { libc::atexit(hang_at_exit) };
    1
}

#[test]
fn its_limits_hold_until_it_has_ended() {
    let started = [
        Process::new(go_on::call(true).memory(64 << 20)).exit_grace(LONG).start().unwrap(),
        Process::new(go_on::call(false).timeout(SHORT)).exit_grace(LONG).start().unwrap(),
    ];
    for process in started {
        // What it has returned counts.
        assert_eq!(process.join().unwrap(), 1);
        assert_eq!(process.exit_code(), Some(-9));
    }
    let process = Process::new(go_on::call(false)).exit_grace(LONG).start().unwrap();
    assert!(process.join_timeout(Duration::from_secs(3)).unwrap().is_none(), "without limits, its grace alone counts");
    process.kill().unwrap();
}
