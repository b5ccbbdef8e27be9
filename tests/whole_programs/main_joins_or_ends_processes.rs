//! When `main` returns, daemonic processes are ended and the others joined, also those whose handles are gone.

use crate::support::{Running, directory, is_alive, line_in, until};
use std::process::Command;

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

fn pid_in(path: &std::path::Path) -> u32 {
    line_in(path).parse().expect("a pid")
}

#[test]
fn daemons_are_ended_and_the_others_joined() {
    let directory = directory();
    let path = |name| directory.path().join(name);
    let mut program = Running::start(Command::new(SCENARIO).arg("main-returns").arg(directory.path()));
    let joined = pid_in(&path("started"));
    let daemons = [pid_in(&path("idle")), pid_in(&path("busy"))];
    line_in(&path("returned"));
    // The daemons end though the program still waits for the other.
    until("the daemons are ended", || !daemons.into_iter().any(is_alive));
    assert!(!program.has_ended() && is_alive(joined) && !path("done").exists());
    std::fs::write(path("go"), "").expect("a file");
    let ended = program.finish();
    assert!(ended.status.success(), "{ended:?}");
    assert!(path("done").exists(), "it was joined");
    assert!(!is_alive(joined));
}

#[test]
fn a_daemon_that_ignores_being_told_is_killed() {
    let directory = directory();
    let program = Running::start(Command::new(SCENARIO).arg("daemon-ignores-terminate").arg(directory.path()));
    let daemon = pid_in(&directory.path().join("stubborn"));
    let ended = program.finish();
    assert!(ended.status.success(), "{ended:?}");
    assert!(!is_alive(daemon));
}
