//! A hundred processes, started and then terminated, leave no zombie and no descriptor behind.
//!
//! One test, as it counts what this whole process has.

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Process, RunningProcess, active_children, pool_main, task};
use std::path::PathBuf;
use support::{children, descriptors, directory, line_in, until};

pool_main!();

#[task]
fn wait_forever(started: PathBuf) {
    std::fs::write(started, "started\n").expect("a file");
    loop {
        std::thread::park();
    }
}

#[test]
fn no_zombie_and_no_descriptor_is_left() {
    let directory = directory();
    // What is opened once for all is opened by the first one.
    Process::idle().start().expect("it starts").join().expect("it does nothing");
    until("the first one is gone", || children().is_empty());
    let threads = || std::fs::read_dir("/proc/self/task").expect("/proc").count();
    until("its threads are gone", || threads() <= 2);
    let before = descriptors();

    let file = |n: usize| directory.path().join(n.to_string());
    let start = |n| Process::new(wait_forever::call(file(n))).start().expect("it starts");
    let processes: Vec<RunningProcess<()>> = (0..100).map(start).collect();
    assert_eq!(active_children().len(), 100);
    assert_eq!(children().len(), 100);
    // Half of them are at work by then; the others are wherever they are.
    for n in 0..50 {
        line_in(&file(n));
    }
    for process in &processes {
        process.terminate().expect("a child");
    }
    for process in &processes {
        assert!(process.join().is_err());
        assert_eq!(process.exit_code(), Some(-libc::SIGTERM));
    }
    assert!(children().is_empty(), "zombies: {:?}", children());
    assert!(active_children().is_empty());
    drop(processes);
    // The threads that attended to them close what they have as they end.
    until("their threads are gone", || threads() <= 2);
    let after = descriptors();
    assert_eq!(after.len(), before.len(), "{before:?} {after:?}");
}
