//! Processes and workers whose parent was killed end by themselves, idle or busy, with all that they have started.

use crate::support::{Running, VARIABLE, directory, is_alive, line_in, over_every_transport, transport_name, until};
use std::process::Command;

over_every_transport! {
    idle_and_busy_ones_started_from_a_thread_that_has_ended,
    those_in_a_sandbox,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

fn idle_and_busy_ones_started_from_a_thread_that_has_ended() {
    orphans_end("orphans");
}

fn those_in_a_sandbox() {
    orphans_end("orphans-in-a-sandbox");
}

fn orphans_end(scenario: &str) {
    let directory = directory();
    let mut command = Command::new(SCENARIO);
    command.arg(scenario).arg(directory.path()).env(VARIABLE, transport_name());
    let mut program = Running::start(&mut command);
    let lines = program.lines(1);
    let orphans: Vec<u32> = lines[0].split(' ').map(|pid| pid.parse().expect("a pid")).collect();
    assert_eq!(orphans.len(), 3);
    // The thread that started them has ended, and they live.
    assert!(orphans.iter().all(|pid| is_alive(*pid)));
    program.kill();
    until("they have ended", || !orphans.iter().any(|pid| is_alive(*pid)));
    program.finish();
}

#[test]
fn a_whole_tree() {
    let directory = directory();
    let mut program = Running::start(Command::new(SCENARIO).arg("orphans-of-a-tree").arg(directory.path()));
    let levels = ["2", "1", "0"].map(|level| line_in(&directory.path().join(level)).parse().expect("a pid"));
    assert!(levels.into_iter().all(is_alive));
    program.kill();
    until("they have ended", || !levels.into_iter().any(is_alive));
    program.finish();
}

#[test]
fn the_lower_part_of_a_tree() {
    let directory = directory();
    let program = Running::start(Command::new(SCENARIO).arg("orphans-of-a-tree").arg(directory.path()));
    let levels = ["2", "1", "0"].map(|level| line_in(&directory.path().join(level)).parse().expect("a pid"));
    // SAFETY: a system call on plain numbers; the process is one of this test's, and its parent has not reaped it.
    unsafe { libc::kill(levels[1] as i32, libc::SIGKILL) };
    until("what it had started has ended", || !is_alive(levels[2]) && !is_alive(levels[1]));
    assert!(is_alive(program.pid()) && is_alive(levels[0]));
}
