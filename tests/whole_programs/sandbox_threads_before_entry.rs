//! A thread that runs before the way in for workers would stay outside of their sandbox: that is refused, and said.

use crate::support::{directory, run};
use std::process::Command;

#[test]
fn a_sandbox_is_refused_and_says_why() {
    // Also where no file is denied: capabilities are of a thread.
    for how in ["threads-before", "threads-before-offline"] {
        let directory = directory();
        let mut command = Command::new(env!("CARGO_BIN_EXE_misused_entry"));
        let ended = run(command.arg(how).arg(directory.path().join("marks")));
        let start =
            "error: the workers cannot start: the worker refuses to work: its sandbox would not reach 1 other threads";
        assert!(ended.printed().starts_with(start), "{ended:#?}");
        assert!(ended.printed().contains("run already (`telemetry`)"), "{ended:#?}");
        assert!(ended.printed().ends_with("process: done"), "without a sandbox they do no harm: {ended:#?}");
    }
}
