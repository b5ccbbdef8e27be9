//! What a process says of itself through a whole life: before, while it runs, and after.
//!
//! It counts all children of this process.

use crate::support::children;
use pool_runtime::{Process, Stdio, active_children, task};
use std::{
    io::{Read, Write},
    time::Duration,
};

/// Returns what it reads.
#[task]
fn read_all() -> String {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("a pipe");
    text
}

#[test]
fn a_whole_life() {
    let _turn = crate::support::turn();
    let process = Process::new(read_all::call()).name("reader").stdin(Stdio::piped());
    assert_eq!(process.to_string(), "<Process reader initial>");
    assert!(active_children().is_empty() && children().is_empty());

    let mut process = process.start().expect("it starts");
    let mut input = process.take_stdin().expect("a pipe was asked for");
    assert!(process.take_stdin().is_none());
    for _ in 0..2 {
        assert!(process.is_alive());
        assert_eq!(process.exit_code(), None);
        assert_eq!(process.to_string(), "<Process reader started>");
        // It cannot have ended, so waiting for it ends with the patience.
        assert_eq!(process.join_timeout(Duration::ZERO).expect("it runs"), None);
        assert_eq!(process.join_timeout(Duration::from_millis(20)).expect("it runs"), None);
        let active = active_children();
        assert_eq!(active.len(), 1);
        assert_eq!((active[0].name(), active[0].pid(), active[0].daemon()), ("reader", process.pid(), false));
    }
    input.write_all(b"the end").expect("it reads");
    drop(input);
    assert_eq!(process.join().expect("it returns"), "the end");
    for _ in 0..2 {
        assert!(!process.is_alive());
        assert_eq!(process.exit_code(), Some(0));
        assert_eq!(process.to_string(), "<Process reader stopped>");
        assert_eq!(process.join().expect("the value stays"), "the end");
        assert_eq!(process.join_timeout(Duration::ZERO).expect("the value stays").as_deref(), Some("the end"));
        assert!(active_children().is_empty());
        assert!(children().is_empty(), "it is reaped");
    }
}
