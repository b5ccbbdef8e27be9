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
    threads_are_limited_with_those_of_their_user,
    roots_threads_cannot_be_limited,
    what_is_printed_arrives_whole_and_in_order,
    nobody_waits_for_who_holds_standard_output,
    streams_are_shared_where_that_is_asked_for,
    the_terminal_of_the_program_is_out_of_reach,
    nobody_takes_a_higher_priority,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

fn scenario(name: &str) -> Command {
    let mut command = Command::new(SCENARIO);
    command.arg(name).env(VARIABLE, transport_name());
    command
}

fn is_root() -> bool {
    // SAFETY: it takes nothing.
    unsafe { libc::geteuid() == 0 }
}

/// Runs a copy of the program, if this one is root's as another user.
fn run_as(user: u32, name: &str) -> Ended {
    let directory = directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("program");
    copy_program(SCENARIO, &program);
    let mut command = Command::new(&program);
    command.arg(name).env(VARIABLE, transport_name()).current_dir("/");
    if is_root() {
        command.uid(user).gid(65534);
    }
    run(&mut command)
}

/// Root loses its privileges in a sandbox, which is enough to keep it out; so this is an ordinary user.
fn no_worker_reaches_its_parent_whatever_it_is_denied() {
    let Ended { status, stdout, stderr } = run_as(65534, "traces-its-parent");
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

fn threads_are_limited_with_those_of_their_user() {
    if !is_root() {
        return eprintln!("skipped: only root can be a user who has no other processes");
    }
    // Nobody else is this user.
    let ended =
        run_as(1_000_000_000 + 2 * std::process::id() + u32::from(transport_name() == "rings"), "threads-in-a-sandbox");
    let lines: Vec<&str> = ended.printed().lines().collect();
    assert_eq!(lines[0], "(100, None)");
    for limited in [lines[1], lines[2]] {
        let started = limited.strip_prefix('(').and_then(|rest| rest.strip_suffix(", Some(11))"));
        let started: usize = started.unwrap_or_else(|| panic!("{limited}")).parse().unwrap();
        assert!((20..60).contains(&started), "the program has some itself: {limited}");
    }
}

fn roots_threads_cannot_be_limited() {
    if !is_root() {
        return eprintln!("skipped: this is not root");
    }
    let ended = run(&mut scenario("threads-in-a-sandbox"));
    let lines: Vec<&str> = ended.printed().lines().collect();
    assert!(lines[1].contains("which the kernel does not do for root"), "{lines:?}");
    assert_eq!(lines[2], "(100, None)");
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

/// A read from the background would stop the whole program. The terminal's own name is a file among others: it is given
/// with all files, or where it was named.
fn the_terminal_of_the_program_is_out_of_reach() {
    let printed = run(&mut scenario("beside-a-terminal"));
    let lines: Vec<&str> = printed.printed().lines().collect();
    // Permission denied; no such device: no terminal controls them.
    let expected = [
        "below /: [13, 13, 0] 13",
        "below /dev: [13, 13, 0] 13",
        "written: [13, 13, 0] 13",
        "files: [6, 0, 0] 6",
        "named: [13, 0, 0] 13",
        "exit status: 0",
    ];
    assert_eq!(lines, expected);
}

/// Some users may, without any privileges.
fn nobody_takes_a_higher_priority() {
    let printed = run(&mut scenario("priority-in-a-sandbox"));
    let lines: Vec<&str> = printed.printed().lines().collect();
    if lines[0] == "[0, 0]" {
        assert_eq!(lines[1..], ["[1, 13]"; 2]);
    } else {
        eprintln!("skipped: no priority can be raised here: {lines:?}");
    }
}
