//! A program that gets the way in for workers wrong is told so at once; no second program runs, and no fork bomb.

use crate::support::{Ended, directory, run};
use std::process::Command;

/// Runs the program; returns how it ended, and how often `main` started and how often the program proper.
fn misuse(how: &str) -> (Ended, usize, usize) {
    let directory = directory();
    let marks = directory.path().join("marks");
    let ended = run(Command::new(env!("CARGO_BIN_EXE_misused_entry")).arg(how).arg(&marks));
    let marks = std::fs::read_to_string(&marks).expect("marks");
    let count = |wanted: &str| marks.lines().filter(|mark| *mark == wanted).count();
    (ended, count("start"), count("program"))
}

#[test]
fn used_well() {
    let (ended, started, programs) = misuse("well");
    assert_eq!(ended.printed(), "42\nprocess: done");
    assert_eq!((started, programs), (1 + 1 + 1, 1));
}

#[test]
fn missing() {
    let (ended, started, programs) = misuse("missing");
    let lines: Vec<&str> = ended.printed().lines().collect();
    assert_eq!(lines.len(), 2, "{ended:?}");
    assert!(lines.iter().all(|line| line.contains("add `pool_main!(run);`")), "{ended:?}");
    assert_eq!((started, programs), (1, 1), "nothing was started");
}

#[test]
fn called_after_the_first_pool() {
    let (ended, started, programs) = misuse("pool-before");
    let lines: Vec<&str> = ended.printed().lines().collect();
    assert!(lines[0].contains("add `pool_main!(run);`") && lines[1].contains("add `pool_main!(run);`"), "{ended:?}");
    // What comes before the late call runs in every worker, where no pool can be made either: it all goes well in the
    // end, and nothing after the call runs twice.
    assert_eq!(lines.last(), Some(&"42"), "{ended:?}");
    assert_eq!((started, programs), (1 + 1, 1 + 1), "{ended:?}");
}

/// What the pool and the process say of a worker that dies on the way in.
#[track_caller]
fn dies_before(how: &str, death: &str) {
    let (ended, started, programs) = misuse(how);
    let lines: Vec<&str> = ended.printed().lines().collect();
    assert_eq!(lines.len(), 2, "{ended:?}");
    for line in lines {
        assert!(line.contains(death), "{ended:?}");
        assert!(line.contains("before it became a worker") || line.contains("before it began"), "{ended:?}");
    }
    assert_eq!(programs, 1, "{ended:?}");
    assert!(started <= 20, "a bounded number of tries, not {started}");
}

#[test]
fn code_before_it_panics() {
    dies_before("panics-before", "exited with code 101");
}

#[test]
fn code_before_it_exits() {
    dies_before("exits-before", "exited with code 3");
    dies_before("exits-well-before", "exited with code 0");
}

#[test]
fn code_before_it_aborts() {
    dies_before("aborts-before", "6 (SIGABRT)");
}

#[test]
fn code_before_it_hangs() {
    let (ended, started, programs) = misuse("hangs-before");
    let text = ended.printed();
    assert!(text.contains("did not become a worker within 100ms"), "{ended:?}");
    assert_eq!(programs, 1, "{ended:?}");
    assert!(started <= 20, "a bounded number of tries, not {started}");
}

#[test]
fn a_process_alone_says_so_too() {
    let (ended, started, programs) = misuse("process");
    assert_eq!((ended.printed(), started, programs), ("42", 2, 1));
}
