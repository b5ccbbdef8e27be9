//! What comes to life in a worker's place and is not this program is refused before any work, and nobody waits for it.

use crate::support::{
    VARIABLE, builder, copy_program, directory, over_every_transport, pool, run, script, transport_name,
};
use pool_runtime::{Error, task};
use std::{os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

over_every_transport! {
    other_tasks,
    a_copy_of_the_program_is_the_program,
    no_worker_at_all,
    nothing_that_can_be_started,
    a_program_that_never_answers,
    the_program_itself_goes_on,
}

#[task]
fn answer() -> u32 {
    42
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");
const OTHER: &str = env!("CARGO_BIN_EXE_misused_entry");

fn scenario() -> Command {
    let mut command = Command::new(SCENARIO);
    command.env(VARIABLE, transport_name());
    command
}

fn refusal(executable: impl AsRef<Path>) -> Error {
    let pool = builder().processes(2).start_timeout(Duration::from_secs(20)).executable(executable.as_ref());
    pool.build().expect_err("it is not this program")
}

fn other_tasks() {
    // From a program with a `main`, whose workers get its own command line.
    let directory = directory();
    let marks = directory.path().join("marks");
    std::fs::write(&marks, "").expect("a file");
    let ended = run(scenario().args(["double-with-executable", "21", OTHER]).arg(&marks));
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
    assert!(ended.stderr.contains("refuses to work") && ended.stderr.contains("other tasks"), "{ended:?}");
    // It came as far as its own way in, and never into the program.
    let marks = std::fs::read_to_string(marks).expect("a file");
    assert!(marks.lines().count() > 0 && marks.lines().all(|mark| mark == "start"), "{marks}");
}

fn a_copy_of_the_program_is_the_program() {
    let directory = directory();
    let copy = directory.path().join("copy");
    copy_program(SCENARIO, &copy);
    let ended = run(scenario().args(["double-with-executable", "21"]).arg(&copy));
    assert_eq!(ended.printed(), "42");
}

fn no_worker_at_all() {
    for (program, code) in [("/bin/true", 0), ("/bin/false", 1)] {
        let text = refusal(program).to_string();
        assert!(text.contains(&format!("exited with code {code}")), "{text}");
        assert!(text.contains("before it became a worker"), "{text}");
    }
}

fn nothing_that_can_be_started() {
    let directory = directory();
    let missing = directory.path().join("missing");
    let text = format!("{:?}", refusal(&missing));
    assert!(text.contains("cannot start a process") && text.contains("No such file"), "{text}");

    let not_a_program = directory.path().join("text");
    std::fs::write(&not_a_program, "nothing to execute\n").expect("a file");
    let text = format!("{:?}", refusal(&not_a_program));
    assert!(text.contains("cannot start a process") && text.contains("ermission denied"), "{text}");
    std::fs::set_permissions(&not_a_program, PermissionsExt::from_mode(0o755)).expect("a file");
    refusal(&not_a_program);
    refusal(directory.path());
}

fn a_program_that_never_answers() {
    let directory = directory();
    let silent = directory.path().join("silent");
    script(&silent, "exec sleep 1000");
    let pool = builder().processes(1).start_timeout(Duration::from_millis(50)).executable(&silent);
    let text = pool.build().expect_err("it never answers").to_string();
    assert!(text.contains("did not become a worker within 50ms"), "{text}");
}

fn the_program_itself_goes_on() {
    refusal("/bin/true");
    assert_eq!(pool(1).apply(answer::call()).expect("a pool of this program"), 42);
}
