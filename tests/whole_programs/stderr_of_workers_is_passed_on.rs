//! What workers write to standard error arrives at that of the program: at once, with whole lines, and before the error
//! of a worker that died is told; also what those have to say that a worker has started, and that outlive the pool.

use crate::support::{Ended, Running, VARIABLE, directory, over_every_transport, transport_name};
use std::process::Command;

over_every_transport! {
    all_arrives_in_order_and_whole,
    nobody_is_held_up_by_a_standard_error_that_is_stuck,
}

fn scenario(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
    command.args(arguments).env(VARIABLE, transport_name());
    command
}

fn all_arrives_in_order_and_whole() {
    let directory = directory();
    let go = directory.path().join("go");
    let running = Running::start(&mut scenario(&["complains", go.to_str().unwrap()]));
    // The beginning of a line does not wait for its end, if that does not come.
    crate::support::until("half a line", || running.stderr().contains("half a line"));
    crate::support::give(&go);
    crate::support::until("the child of a worker", || running.stderr().contains("the child of a worker"));
    crate::support::give(&go.with_extension("end"));
    let Ended { status, stdout, stderr } = running.finish();
    assert!(status.success(), "{stdout}\n{stderr}");
    assert!(stderr.contains("half a line, and the other half\n"), "{stderr}");
    let at = |text: &str| stderr.find(text).unwrap_or_else(|| panic!("{text} in {stderr}"));
    assert!(at("the last words") < at("the error was told"), "{stderr}");
    for worker in 0..4 {
        for line in 0..500 {
            let line = format!("{worker}:{line}:{}", "x".repeat(200));
            assert_eq!(stderr.lines().filter(|found| *found == line).count(), 1, "{line}");
        }
    }
    assert!(at("the pool has ended") < at("the child of a worker"), "{stderr}");
}

fn nobody_is_held_up_by_a_standard_error_that_is_stuck() {
    // The reader of this pipe does not read.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = scenario(&["complains-at-length"]).stderr(writer).spawn().unwrap();
    let mut status = None;
    crate::support::until("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.unwrap().success(), "{status:?}");
    drop(reader);
}
