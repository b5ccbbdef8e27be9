//! Where the system does not let the program kill its workers, as a filter denies the system calls, limits hold all the same,
//! and a pool ends: the connection of the worker is closed, whose watcher then ends it.

use crate::support::{VARIABLE, over_every_transport, run, transport_name};
use std::process::Command;

over_every_transport! {
    by_the_newer_system_call,
    by_both_system_calls,
}

fn all_end(ways: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
    let ended = run(command.args(["unkillable", ways]).env(VARIABLE, transport_name()));
    assert_eq!(ended.printed(), "all have ended");
}

fn by_the_newer_system_call() {
    all_end("pidfd");
}

fn by_both_system_calls() {
    all_end("pidfd,pid");
}
