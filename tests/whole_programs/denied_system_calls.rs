//! A container's filter denies one system call that the library uses: what can be done without it is done, else the
//! error names the call, what it is for, and what has to be allowed.

use crate::support::{VARIABLE, over_every_transport, run, transport_name};
use std::process::Command;

over_every_transport! {
    what_is_not_needed_is_not_missed,
    handles_of_processes,
    shared_memory,
    sockets,
    another_call_tells_how_a_process_ended,
    nobody_is_blamed_for_a_status_that_cannot_be_asked_for,
    a_missing_null_device_is_named,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

/// What a pool and a process say in a program that is denied these calls.
fn denied(calls: &str, error: &str) -> [String; 2] {
    let ended = run(Command::new(SCENARIO).args(["denied", calls, error]).env(VARIABLE, transport_name()));
    let lines: Vec<_> = ended.printed().lines().map(str::to_owned).collect();
    lines.try_into().unwrap_or_else(|_| panic!("two lines: {ended:#?}"))
}

#[track_caller]
fn is_named(call: &str) {
    for (error, text) in [("EPERM", "Operation not permitted"), ("ENOSYS", "Function not implemented")] {
        for line in denied(call, error) {
            assert!(line.starts_with("error: "), "{line}");
            for part in [&format!("`{call}`"), ", which ", text, "filters system calls has to allow"] {
                assert!(line.contains(part), "no {part:?} in {line}");
            }
        }
    }
}

/// Other calls do the same, or less is known, and nothing is lost.
fn what_is_not_needed_is_not_missed() {
    for call in ["membarrier", "prlimit64", "waitid", "pidfd_send_signal", "pidfd_open", "pidfd_open,pidfd_send_signal"]
    {
        for error in ["EPERM", "ENOSYS"] {
            assert_eq!(denied(call, error), ["42", "42"], "{call}");
        }
    }
}

/// A thread can wait in place of a handle, unless that is denied too.
fn handles_of_processes() {
    for lines in [denied("pidfd_open,waitid", "EPERM"), denied("pidfd_open,waitid", "ENOSYS")] {
        for line in lines {
            assert!(line.starts_with("error: ") && line.contains("`pidfd_open`, which "), "{line}");
            assert!(line.contains("filters system calls has to allow"), "{line}");
        }
    }
}

fn shared_memory() {
    is_named("memfd_create");
    is_named("ftruncate");
    is_named("madvise");
}

fn sockets() {
    is_named("socketpair");
}

/// What the loss of a worker that aborts is called.
fn loss(calls: &str) -> String {
    run(Command::new(SCENARIO).args(["denied-and-lost", calls, "EPERM"]).env(VARIABLE, transport_name()))
        .printed()
        .to_owned()
}

fn another_call_tells_how_a_process_ended() {
    for calls in ["waitid", "pidfd_open"] {
        let lost = loss(calls);
        assert!(lost.starts_with("Some(6) ") && lost.contains("SIGABRT"), "{lost}");
    }
}

/// Both calls that tell how a process ended are denied: that is the reason, not another part of the program.
fn nobody_is_blamed_for_a_status_that_cannot_be_asked_for() {
    let lost = loss("waitid,wait4");
    for part in ["`waitid`, which ", "Operation not permitted", "filters system calls has to allow"] {
        assert!(lost.contains(part), "no {part:?} in {lost}");
    }
    assert!(lost.starts_with("None ") && !lost.contains("something else in this program"), "{lost}");
}

fn a_missing_null_device_is_named() {
    // In a mount name space of its own, which nobody else sees.
    let hidden = || {
        let script = "mount -t tmpfs none /dev && exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).env(VARIABLE, transport_name());
        command
    };
    if !hidden().arg("true").output().is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: this user cannot hide /dev");
        return;
    }
    let ended = run(hidden().arg(SCENARIO).args(["double", "21"]));
    let line = ended.printed();
    for part in ["error: ", "`/dev/null`, which ", "No such file or directory", "a container has to have this file"] {
        assert!(line.contains(part), "no {part:?} in {line}");
    }
}
