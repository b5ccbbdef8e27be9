//! No descriptor of the library has one of the low numbers that an environment variable may name, such as 3 of
//! `LISTEN_FDS`: neither in the program nor in its workers.

use crate::support::{builder, descriptors, directory, over_every_transport, pool, until};
use pool_runtime::{Process, Sandbox, Shared, Stdio, task};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{TryRecvError, channel};

over_every_transport! {
    in_turn: they_have_high_numbers_in_workers, they_have_high_numbers_in_the_program,
    so_they_have_while_others_open_and_close
}

const LOW: std::ops::Range<i32> = 3..100;

#[task]
fn what_is_open_with(shared: &Shared<[u8]>, large: &[u8]) -> Vec<(i32, PathBuf)> {
    assert!(!shared.is_empty() && !large.is_empty());
    descriptors()
}

fn low(open: Vec<(i32, PathBuf)>) -> Vec<(i32, PathBuf)> {
    open.into_iter().filter(|(number, _)| LOW.contains(number)).collect()
}

fn they_have_high_numbers_in_workers() {
    let shared = Shared::new(&[1_u8; 100_000]).expect("memory");
    let call = || what_is_open_with::call(&shared, &[1; 1 << 20]);
    let pool = pool(1);
    for _ in 0..2 {
        assert_eq!(low(pool.apply(call()).expect("it runs")), []);
    }
    let confined = builder().processes(1).sandbox(Sandbox::strict().read("/proc")).build().expect("a pool");
    assert_eq!(low(confined.apply(call()).expect("it runs")), []);
    assert_eq!(low(Process::new(call()).start().expect("it starts").join().expect("it returns")), []);
}

#[task]
fn wait_for_input() {
    std::io::stdin().read_line(&mut String::new()).expect("standard input");
}

fn they_have_high_numbers_in_the_program() {
    // What others have opened here stays where it is.
    let before: BTreeSet<i32> = descriptors().into_iter().map(|(number, _)| number).collect();
    let shared = Shared::new(&[1_u8; 100_000]).expect("memory");
    let pool = builder().processes(2).capture_stderr(true).dossiers(directory().path()).build().expect("a pool");
    pool.apply(what_is_open_with::call(&shared, &[1; 1 << 20])).expect("it runs");
    let weighed = wait_for_input::call().memory(1 << 40);
    let mut process = Process::new(weighed).stdin(Stdio::piped()).stdout(Stdio::piped());
    process = process.stderr(Stdio::piped());
    let mut process = process.start().expect("it starts");
    until("it is weighed", || descriptors().iter().any(|(_, path)| path.ends_with("status")));
    let new = || descriptors().into_iter().filter(|(number, _)| !before.contains(number)).collect::<Vec<_>>();
    assert!(new().len() > 10, "{:?}", new());
    // What has just been opened may not have moved yet.
    until("none has a low number", || low(new()).is_empty());
    drop(process.take_stdin());
    process.join().expect("it returns");
}

#[task]
fn begin() {}

fn so_they_have_while_others_open_and_close() {
    let others = PathBuf::from("/dev/null");
    let before: BTreeSet<i32> = descriptors().into_iter().map(|(number, _)| number).collect();
    std::thread::scope(|threads| {
        let (going_on, ended) = channel::<()>();
        threads.spawn({
            let others = &others;
            move || {
                while ended.try_recv() == Err(TryRecvError::Empty) {
                    drop([(); 8].map(|()| File::open(others).expect("a file")));
                }
            }
        });
        for _ in 0..50 {
            let pool = pool(2);
            pool.apply(begin::call()).expect("it runs");
            until("none has a low number", || {
                low(descriptors()).into_iter().all(|(number, path)| path == others || before.contains(&number))
            });
            pool.terminate();
        }
        drop(going_on);
    });
}
