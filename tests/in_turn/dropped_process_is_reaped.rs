//! A process whose handle is dropped goes on, and is reaped when it ends, though nobody joins it.
//!
//! It counts all children of this process.

use crate::support::{children, directory, exists, line_in, until};
use pool_runtime::{Process, active_children, task};
use std::path::PathBuf;

#[task]
fn finish_when_told(directory: PathBuf) {
    std::fs::write(directory.join("started"), "started\n").expect("a file");
    while !directory.join("go").exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    std::fs::write(directory.join("done"), "done\n").expect("a file");
}

#[test]
fn it_is_reaped_when_it_ends() {
    let _turn = crate::support::turn();
    let directory = directory();
    let process = Process::new(finish_when_told::call(directory.path().to_owned())).start().expect("it starts");
    let pid = process.pid();
    drop(process);
    line_in(&directory.path().join("started"));
    assert_eq!(active_children().iter().map(|child| child.pid()).collect::<Vec<_>>(), [pid]);
    std::fs::write(directory.path().join("go"), "").expect("a file");
    line_in(&directory.path().join("done"));
    until("it is reaped", || !exists(pid));
    assert!(active_children().is_empty());

    // Also if it is dropped at once, or has ended by then.
    for n in 0..20 {
        let process = Process::idle().start().expect("it starts");
        if n % 2 == 0 {
            until("it has ended", || !process.is_alive());
        }
        drop(process);
    }
    until("all are reaped", || children().is_empty());
    until("none is active", || active_children().is_empty());
}
