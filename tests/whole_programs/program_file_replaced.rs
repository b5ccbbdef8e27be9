//! A program whose file is deleted or replaced while it runs starts workers of its own build all the same.

use crate::support::{Running, VARIABLE, copy_program, directory, line_in, over_every_transport, transport_name};
use std::{os::unix::fs::PermissionsExt, path::Path, process::Command};

over_every_transport! {
    deleted,
    replaced_by_another_program,
    replaced_by_something_that_cannot_run,
    made_unreadable,
    moved_away_with_its_directory,
}

/// Starts a copy of the program, does something to its file, and only then lets it make its pool.
fn with_file_changed(change: impl FnOnce(&Path)) {
    let directory = directory();
    let path = |name| directory.path().join(name);
    let copy = path("program");
    copy_program(env!("CARGO_BIN_EXE_scenario"), &copy);
    let mut command = Command::new(&copy);
    command.arg("double-after-event").args([path("ready"), path("go")]).arg("21").env(VARIABLE, transport_name());
    let program = Running::start(&mut command);
    line_in(&path("ready"));
    change(&copy);
    std::fs::write(path("go"), "").expect("a file");
    assert_eq!(program.finish().printed(), "42");
}

fn deleted() {
    with_file_changed(|file| std::fs::remove_file(file).expect("a file"));
}

fn replaced_by_another_program() {
    with_file_changed(|file| {
        let other = file.with_extension("new");
        copy_program("/bin/false", &other);
        std::fs::rename(&other, file).expect("a file");
    });
}

fn replaced_by_something_that_cannot_run() {
    with_file_changed(|file| {
        let other = file.with_extension("new");
        std::fs::write(&other, "").and_then(|()| std::fs::rename(&other, file)).expect("a file");
    });
}

fn made_unreadable() {
    with_file_changed(|file| {
        let executable_only = std::fs::Permissions::from_mode(0o111);
        std::fs::set_permissions(file, executable_only).expect("a file");
    });
}

fn moved_away_with_its_directory() {
    with_file_changed(|file| {
        let directory = file.parent().expect("a directory");
        let moved = directory.join("elsewhere");
        std::fs::create_dir(&moved).and_then(|()| std::fs::rename(file, moved.join("program"))).expect("a file");
    });
}
