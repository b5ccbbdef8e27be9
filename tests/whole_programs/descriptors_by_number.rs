//! What a program was started with under the numbers 3 to 9, and has named in its environment, is not what a worker
//! finds there: it finds nothing. Programs that may have few descriptors work all the same.

use crate::support::{VARIABLE, over_every_transport, run, transport_name};
use std::process::Command;

over_every_transport! {
    what_the_environment_names_is_closed_in_workers,
    a_low_limit_is_enough,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

/// Starts a scenario from a script of the shell.
fn from_script(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{script}; exec \"$@\""), "sh", SCENARIO]).args(arguments);
    command.env(VARIABLE, transport_name());
    command
}

fn what_the_environment_names_is_closed_in_workers() {
    // Also with a limit that leaves no room for high numbers.
    for limit in ["", "ulimit -n 64; "] {
        let script = format!("{limit}exec 3</dev/null 4</dev/null 5</dev/null 9</dev/null; export LISTEN_FDS=3");
        let ended = run(&mut from_script(&script, &["descriptors-of-a-worker"]));
        assert_eq!(ended.printed(), "[] []", "{limit}");
    }
}

fn a_low_limit_is_enough() {
    for limit in [300, 256, 255, 101, 64, 41, 40, 39, 32] {
        let ended = run(&mut from_script(&format!("ulimit -n {limit}"), &["double-in-processes", "21"]));
        assert_eq!(ended.printed(), "42\n42", "{limit}");
    }
}
