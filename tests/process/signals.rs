//! A process that a signal ended says which: terminate is −15, kill −9, interrupt −2, abort −6.

use crate::support::{can_be_interrupted, directory, line_in};
use pool_runtime::{Error, Process, Ran, RunningProcess, task};
use std::{path::PathBuf, time::Duration};

#[task]
fn wait_forever(started: PathBuf) {
    std::fs::write(started, "started\n").expect("a file");
    loop {
        std::thread::park();
    }
}

#[task]
fn spin_forever(started: PathBuf) {
    std::fs::write(started, "started\n").expect("a file");
    loop {
        std::hint::spin_loop();
    }
}

#[task]
fn abort() {
    std::process::abort();
}

#[task]
fn raise(signal: i32) {
    // The standard library's handler of SIGSEGV returns from the first one that it did not expect.
    loop {
        // SAFETY: a system call on a plain number.
        unsafe { libc::raise(signal) };
    }
}

/// Runs `end` on a process whose task has begun; expects it to end by `signal`.
fn ends_by(signal: i32, end: impl Fn(&RunningProcess<()>)) {
    for busy in [false, true] {
        let directory = directory();
        let started = directory.path().join("started");
        let process = match busy {
            true => Process::new(spin_forever::call(started.clone())),
            false => Process::new(wait_forever::call(started.clone())),
        };
        let process = process.name("victim").start().expect("it starts");
        line_in(&started);
        assert_eq!(process.join_timeout(Duration::ZERO).expect("it runs"), None);
        assert_eq!(process.exit_code(), None);
        end(&process);
        ended_by(signal, &process, Ran::Yes);
        // It is gone: nobody is signalled any more.
        end(&process);
        ended_by(signal, &process, Ran::Yes);
        assert_eq!(process.to_string(), format!("<Process victim stopped[-{signal}]>"));
    }
}

fn ended_by(signal: i32, process: &RunningProcess<()>, ran: Ran) -> Error {
    let error = process.join().expect_err("it did not return");
    assert!(error.is_worker_lost() && !error.is_panic(), "{error}");
    assert_eq!((error.signal(), error.exit_code(), error.ran()), (Some(signal), None, ran), "{error}");
    assert_eq!((process.exit_code(), process.is_alive()), (Some(-signal), false));
    assert!(process.join_timeout(Duration::ZERO).is_err());
    error
}

#[test]
fn terminate() {
    ends_by(libc::SIGTERM, |process| process.terminate().expect("a child"));
}

#[test]
fn kill() {
    ends_by(libc::SIGKILL, |process| process.kill().expect("a child"));
}

#[test]
fn interrupt() {
    can_be_interrupted();
    ends_by(libc::SIGINT, |process| process.interrupt().expect("a child"));
}

#[test]
fn abort_and_other_signals() {
    let process = Process::new(abort::call()).start().expect("it starts");
    let text = ended_by(libc::SIGABRT, &process, Ran::Yes).to_string();
    assert!(text.contains("process::signals::abort") && text.contains("6 (SIGABRT) while running"), "{text}");
    for signal in [libc::SIGSEGV, libc::SIGUSR1, libc::SIGALRM] {
        let process = Process::new(raise::call(signal)).start().expect("it starts");
        ended_by(signal, &process, Ran::Yes);
    }
}

#[test]
fn terminated_as_soon_as_it_is_started() {
    // However far it is by then.
    for _ in 0..20 {
        let directory = directory();
        let process = Process::new(wait_forever::call(directory.path().join("started"))).start().expect("it starts");
        process.terminate().expect("a child");
        let error = process.join().expect_err("it did not return");
        assert!(error.is_worker_lost(), "{error}");
        assert_eq!((error.signal(), process.exit_code()), (Some(libc::SIGTERM), Some(-libc::SIGTERM)), "{error}");
    }
}

#[test]
fn killed_as_soon_as_it_is_started() {
    for _ in 0..20 {
        let directory = directory();
        let process = Process::new(wait_forever::call(directory.path().join("started"))).start().expect("it starts");
        process.kill().expect("a child");
        let error = process.join().expect_err("it did not return");
        assert_eq!(process.exit_code(), Some(-libc::SIGKILL), "{error}");
        assert!(error.is_worker_lost(), "{error}");
        assert_eq!(error.signal(), Some(libc::SIGKILL), "{error}");
    }
}
