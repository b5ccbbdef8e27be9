//! A program that was started through the loader (`/lib64/ld-linux-x86-64.so.2 ./program`) starts its workers in the same
//! way, or says why it cannot.

use crate::support::{Running, VARIABLE, copy_program, directory, line_in, over_every_transport, run, transport_name};
use std::path::{Path, PathBuf};
use std::process::Command;

over_every_transport! {
    workers_are_started_through_it_too,
    from_a_directory_that_is_left,
    a_file_that_is_gone_is_named,
    a_command_for_a_replay_names_both,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

/// A command that begins with the loader of this very process. None, and a line that says so, if it has none.
fn through_loader() -> Option<Command> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    let files = maps.lines().filter_map(|line| Some(Path::new(&line[line.find('/')?..])));
    let is_loader = |file: &&Path| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-"));
    let Some(loader) = files.map(Path::to_path_buf).find(|file| is_loader(&file.as_path())) else {
        eprintln!("skipped: programs are static here");
        return None;
    };
    let mut command = Command::new::<PathBuf>(loader);
    command.env(VARIABLE, transport_name());
    Some(command)
}

fn workers_are_started_through_it_too() {
    let Some(mut command) = through_loader() else { return };
    let ended = run(command.arg(SCENARIO).args(["double-in-processes", "21"]));
    assert_eq!(ended.printed(), "42\n42");
    // With its options.
    let Some(mut command) = through_loader() else { return };
    let ended = run(command.args(["--library-path", "/no/such", SCENARIO, "double-in-processes", "4"]));
    assert_eq!(ended.printed(), "8\n8");
}

fn from_a_directory_that_is_left() {
    let Some(mut command) = through_loader() else { return };
    let directory = directory();
    let (here, name) = (Path::new(SCENARIO).parent().expect("a directory"), "./scenario");
    let ended = run(command.current_dir(here).args([name, "double-elsewhere"]).arg(directory.path()).arg("21"));
    assert_eq!(ended.printed(), "42");
}

fn a_file_that_is_gone_is_named() {
    let Some(mut command) = through_loader() else { return };
    let directory = directory();
    let path = |name| directory.path().join(name);
    let copy = path("program");
    copy_program(SCENARIO, &copy);
    command.arg(&copy).arg("double-after-event").args([path("ready"), path("go")]).arg("21");
    let program = Running::start(&mut command);
    line_in(&path("ready"));
    std::fs::remove_file(&copy).and_then(|()| std::fs::write(path("go"), "")).expect("a file");
    let ended = program.finish();
    let printed = ended.printed();
    assert!(printed.starts_with("error: ") && printed.contains("started through the loader"), "{printed}");
    assert!(printed.contains("its own file is gone"), "{printed}");
}

fn a_command_for_a_replay_names_both() {
    let Some(mut command) = through_loader() else { return };
    let directory = directory();
    let ended = run(command.arg(SCENARIO).arg("dies-with-a-dossier").arg(directory.path()));
    let shell = ended.printed().to_owned();
    let again = run(Command::new("sh").args(["-c", &shell]));
    assert!(again.stderr.contains("again, with"), "{shell}\n{again:#?}");
    // The shell's code for the signal with which it crashes again.
    assert_eq!(again.status.code(), Some(128 + libc::SIGABRT), "{shell}\n{again:#?}");
}
