//! A worker in a sandbox reaches neither its parent's memory nor its standard streams, and what it prints arrives at
//! those, whole and in order.

use crate::support::{Ended, VARIABLE, copy_program, directory, over_every_transport, run, transport_name};
use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::Command,
};

over_every_transport! {
    no_worker_reaches_its_parent_whatever_it_is_denied,
    what_is_printed_arrives_whole_and_in_order,
    nobody_waits_for_who_holds_standard_output,
    streams_are_shared_where_that_is_asked_for,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

fn scenario(name: &str) -> Command {
    let mut command = Command::new(SCENARIO);
    command.arg(name).env(VARIABLE, transport_name());
    command
}

/// As a user without privileges: those of root are lost in a sandbox, which is enough to keep it out.
fn no_worker_reaches_its_parent_whatever_it_is_denied() {
    let directory = directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("program");
    copy_program(SCENARIO, &program);
    let mut command = Command::new(&program);
    command.arg("traces-its-parent").env(VARIABLE, transport_name()).current_dir("/");
    // SAFETY: it takes nothing.
    if unsafe { libc::geteuid() } == 0 {
        command.uid(65534).gid(65534);
    }
    let Ended { status, stdout, stderr } = run(&mut command);
    assert!(status.success(), "{stdout}\n{stderr}");
    let (none, others) = stdout.split_once('\n').unwrap();
    assert_eq!(others.lines().count(), 6, "{others}");
    if none == "none [0, 0, 0, 0]" {
        for line in others.lines() {
            assert!(line.ends_with(" [13, 13, 13, 1]"), "{line}");
        }
    } else {
        eprintln!("skipped: no process may trace its parent here: {none}");
    }
}

fn what_is_printed_arrives_whole_and_in_order() {
    let Ended { status, stdout, stderr } = run(&mut scenario("prints-in-a-sandbox"));
    assert!(status.success(), "{stdout}\n{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    let at = |text: &str| lines.iter().position(|line| *line == text).unwrap_or_else(|| panic!("{text} in {stdout}"));
    let ends = [at("the pool has ended"), at("the process has ended")];
    assert!(at("a line before the end") < at("the last words: the error was told"), "{stdout}");
    assert!(at("the last words: the error was told") < ends[0], "{stdout}");
    for worker in 0..5 {
        let of_worker: Vec<_> = (0..500).map(|line| at(&format!("{worker}:{line}:{}", "x".repeat(200)))).collect();
        assert!(of_worker.is_sorted(), "{of_worker:?}");
        assert!(of_worker[499] < ends[usize::from(worker == 4)], "{stdout}");
    }
    assert_eq!(lines.len(), 5 * 500 + 4, "nothing twice: {stdout}");
}

fn nobody_waits_for_who_holds_standard_output() {
    let Ended { status, stdout, stderr } = run(&mut scenario("prints-while-locked"));
    assert!(status.success(), "{stdout}\n{stderr}");
    assert_eq!(stdout.lines().count(), 10 * 501, "{stdout}");
}

fn streams_are_shared_where_that_is_asked_for() {
    let printed = run(&mut scenario("streams-in-a-sandbox"));
    assert_eq!(printed.printed().lines().collect::<Vec<_>>(), ["0 0", "0 0", "2 2"]);
}
