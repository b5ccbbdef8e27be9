//! A worker that is told to exit joins the processes that its tasks have started, however long they take; a process
//! that could not return a value did not succeed.

use crate::support::{over_every_transport, pool};
use pool_runtime::{Process, task};
use serde::{Deserialize, Serialize};
use std::{path::Path, time::Duration};

over_every_transport! {
    a_worker_that_leaves_joins_its_processes,
    a_callback_after_the_value_was_taken_is_told_so,
}

#[task]
fn write_later(file: &Path) {
    // Longer than a worker may take to die that is not expected to have anything to do.
    std::thread::sleep(Duration::from_millis(2500));
    std::fs::write(file, "done").expect("the file");
}

#[task]
fn start_and_leave(file: &Path) -> bool {
    Process::new(write_later::call(file)).start().is_ok()
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Unreadable {
    Number(u32),
}

#[task]
fn never_reached(_value: Unreadable) {}

#[task]
fn one() -> u32 {
    1
}

fn a_worker_that_leaves_joins_its_processes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let pool = pool(1);
    assert!(pool.apply(start_and_leave::call(&file)).unwrap());
    pool.close();
    pool.join().unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "done");
}

#[test]
fn a_process_whose_argument_cannot_be_read_does_not_succeed() {
    let process = Process::new(never_reached::call(Unreadable::Number(1))).start().unwrap();
    assert!(process.join().unwrap_err().is_decode());
    assert_eq!(process.exit_code(), Some(1));
}

fn a_callback_after_the_value_was_taken_is_told_so() {
    let pool = pool(1);
    let mut job = pool.apply_async(one::call());
    assert_eq!(job.get_timeout(Duration::from_secs(60)).unwrap(), 1);
    let (sender, receiver) = std::sync::mpsc::channel();
    let job = job.on_done(move |result| sender.send(result.is_err()).expect("the test"));
    assert!(receiver.recv().unwrap());
    assert!(job.get().unwrap_err().to_string().contains("given its result away"));
}
