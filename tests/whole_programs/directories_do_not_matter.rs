//! Where the program stands and what its directory for temporary files is like makes no difference.

use crate::support::{VARIABLE, directory, over_every_transport, run, transport_name};
use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

over_every_transport! {
    another_directory_after_the_start,
    a_directory_that_is_gone,
    temporary_files,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

fn doubles(command: &mut Command) {
    assert_eq!(run(command.env(VARIABLE, transport_name())).printed(), "42");
}

fn another_directory_after_the_start() {
    // Also where the program was started by a relative path.
    let program = Path::new(SCENARIO);
    let mut command = Command::new(SCENARIO);
    command.arg0("./scenario").current_dir(program.parent().expect("a directory"));
    doubles(command.args(["double-elsewhere", "/", "21"]));
}

fn a_directory_that_is_gone() {
    let directory = directory();
    let gone = directory.path().join("gone");
    std::fs::create_dir(&gone).expect("a directory");
    let script = "rmdir \"$1\" && exec \"$2\" double 21";
    doubles(Command::new("sh").args(["-c", script, "sh"]).arg(&gone).arg(SCENARIO).current_dir(&gone));
}

fn temporary_files() {
    let directory = directory();
    let long = directory.path().join("x".repeat(120));
    std::fs::create_dir(&long).expect("a directory");
    let read_only = directory.path().join("read-only");
    std::fs::create_dir(&read_only).expect("a directory");
    std::fs::set_permissions(&read_only, PermissionsExt::from_mode(0o555)).expect("a directory");
    let missing = directory.path().join("missing");
    // Whoever is root may write into what is read-only, but not into /proc.
    for place in [long.as_path(), &read_only, &missing, Path::new("/proc"), Path::new("/dev/null"), Path::new("")] {
        doubles(Command::new(SCENARIO).args(["double", "21"]).env("TMPDIR", place));
    }
    // None of them left anything behind.
    for place in [&long, &read_only] {
        assert_eq!(std::fs::read_dir(place).expect("a directory").count(), 0);
    }
}

#[test]
fn no_environment_at_all() {
    assert_eq!(run(Command::new(SCENARIO).args(["double", "21"]).env_clear()).printed(), "42");
}
