//! A limit of memory holds where `/proc` numbers processes differently, as in a container without one of its own; where
//! memory cannot be seen at all, it is refused. It is never silently left out.

use crate::support::{VARIABLE, over_every_transport, run, transport_name};
use std::process::Command;

over_every_transport! {
    where_proc_is_of_another_name_space,
    where_there_is_no_proc,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

/// Runs a command with `unshare`; None, and a word, if this user may not.
fn unshared(arguments: &[&str]) -> Option<Command> {
    let command = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(arguments).env(VARIABLE, transport_name());
        command
    };
    if command(arguments).arg("true").output().is_ok_and(|probe| probe.status.success()) {
        return Some(command(arguments));
    }
    eprintln!("skipped: this user may not run `unshare {arguments:?}`");
    None
}

/// What the scenario says of the calls in a pool, of pools with limits, and of a process.
fn said(mut command: Command) -> Vec<String> {
    let ended = run(command.args([SCENARIO, "weighed", SCENARIO]));
    ended.printed().lines().map(str::to_owned).collect()
}

fn where_proc_is_of_another_name_space() {
    let Some(command) = unshared(&["--pid", "--fork"]) else { return };
    let out = "out of memory";
    assert_eq!(said(command), [out, out, out, "it went well", out]);
}

fn where_there_is_no_proc() {
    let script = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
    let Some(command) = unshared(&["--mount", "sh", "-c", script]) else { return };
    let said = said(command);
    assert_eq!(said.len(), 5);
    // No worker is started there at all, so the first calls have no pool.
    assert!(said[..2].iter().all(|line| line.starts_with("error: ")), "{said:?}");
    for line in &said[2..] {
        for part in ["error: ", "cannot keep a limit of memory", "mount the `/proc`"] {
            assert!(line.contains(part), "no {part:?} in {line}");
        }
    }
}
