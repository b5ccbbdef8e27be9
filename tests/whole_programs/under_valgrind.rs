//! A program runs under valgrind, alone or with its workers, and no error is found: there the clock is not where the
//! kernel says, the link to the program leads elsewhere, and there may be no handles of processes.

use crate::support::{BUILD_PATIENCE, Running, VARIABLE, over_every_transport, transport_name};
use std::process::Command;

over_every_transport! {
    the_program_alone,
    the_program_and_its_workers,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

fn runs_well(children: &str) {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|version| version.status.success()) {
        eprintln!("skipped: there is no valgrind");
        return;
    }
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=9", children, SCENARIO, "self-check"]).env(VARIABLE, transport_name());
    // Everything takes fifty times as long.
    let ended = Running::start(&mut command).finish_within(BUILD_PATIENCE);
    assert_eq!(ended.printed().lines().last(), Some("ok"), "{ended:#?}");
    assert!(!ended.stderr.contains("== Invalid"), "{ended:#?}");
}

fn the_program_alone() {
    runs_well("--trace-children=no");
}

fn the_program_and_its_workers() {
    runs_well("--trace-children=yes");
}
