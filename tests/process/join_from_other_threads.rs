//! A process can be joined from any thread, and from several at once; each gets the value.

use crate::support::PATIENCE;
use pool_runtime::{Process, Stdio, task};
use std::{
    io::{Read, Write},
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[task]
fn read_all() -> String {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("a pipe");
    text
}

#[test]
fn each_of_several_threads_gets_the_value() {
    const THREADS: usize = 8;
    let mut process = Process::new(read_all::call()).stdin(Stdio::piped()).start().expect("it starts");
    let mut input = process.take_stdin().expect("a pipe");
    let (ready, joined) = (Barrier::new(THREADS + 1), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for n in 0..THREADS {
            let (process, ready, joined) = (&process, &ready, &joined);
            scope.spawn(move || {
                assert_eq!(process.join_timeout(Duration::ZERO).expect("it runs"), None);
                ready.wait();
                let value = match n % 2 {
                    0 => process.join().expect("it returns"),
                    _ => process.join_timeout(PATIENCE).expect("it returns").expect("it is in time"),
                };
                assert_eq!(value, "for all");
                joined.fetch_add(1, Ordering::Relaxed);
            });
        }
        ready.wait();
        assert_eq!(joined.load(Ordering::Relaxed), 0, "it still runs");
        input.write_all(b"for all").expect("it reads");
        drop(input);
    });
    assert_eq!(joined.into_inner(), THREADS);
}

#[test]
fn the_handle_moves_to_another_thread() {
    let mut process = Process::new(read_all::call()).stdin(Stdio::piped()).start().expect("it starts");
    let input = process.take_stdin();
    let joiner = std::thread::spawn(move || process.join().map(|text| (text, process.exit_code())));
    drop(input);
    assert_eq!(joiner.join().expect("no panic").expect("it returns"), (String::new(), Some(0)));
}

#[test]
fn a_thread_that_waits_learns_that_another_one_killed_it() {
    let mut process = Process::new(read_all::call()).stdin(Stdio::piped()).start().expect("it starts");
    let _input = process.take_stdin();
    std::thread::scope(|scope| {
        let joiner = scope.spawn(|| process.join());
        process.kill().expect("a child");
        let error = joiner.join().expect("no panic").expect_err("it was killed");
        assert_eq!((error.signal(), process.exit_code()), (Some(9), Some(-9)), "{error}");
    });
}
