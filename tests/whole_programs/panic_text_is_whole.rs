//! The texts of panics on standard error are whole, also where several processes panic at once.

use crate::support::{directory, run, until};
use std::{
    fs::File,
    io::{PipeReader, Read},
    process::Command,
};

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

/// In `all`, the lines from `name/0` to `name/9999`, with nothing between them.
#[track_caller]
fn contains_whole(all: &str, name: &str) {
    let text: Vec<String> = (0..10_000).map(|line| format!("{name}/{line}")).collect();
    let text = text.join("\n");
    assert_eq!(all.matches(&text).count(), 1, "the text of `{name}` is torn");
    let (before, _) = all.split_once(&text).expect("it is there");
    let line = before.rsplit('\n').next().expect("a line");
    assert!(line.starts_with(&format!("process `{name}` panicked at ")), "{line}");
}

/// How many bytes wait in a pipe.
fn holds(pipe: &PipeReader) -> u64 {
    rustix::io::ioctl_fionread(pipe).expect("a pipe")
}

#[test]
fn in_a_file() {
    let directory = directory();
    let ended = run(Command::new(SCENARIO).arg("panics-at-once").arg(directory.path()).env("RUST_BACKTRACE", "0"));
    assert!(ended.status.success(), "{}", ended.status);
    contains_whole(&ended.stderr, "left");
    contains_whole(&ended.stderr, "right");
}

#[test]
fn through_a_pipe() {
    // A pipe holds less than one text: whoever writes waits for the reader.
    for _ in 0..10 {
        let directory = directory();
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = Command::new(SCENARIO);
        command.arg("panics-at-once").arg(directory.path()).env("RUST_BACKTRACE", "0").stderr(writer);
        let mut program = command.spawn().expect("it starts");
        drop(command);
        until("the pipe is full", || holds(&reader) >= 60_000);
        let mut all = String::new();
        reader.read_to_string(&mut all).expect("text");
        assert!(program.wait().expect("a child").success());
        contains_whole(&all, "left");
        contains_whole(&all, "right");
    }
}

#[test]
fn in_a_file_opened_without_append() {
    // Both write through one open file, as the program's standard error is inherited.
    let directory = directory();
    let path = directory.path().join("stderr");
    let mut command = Command::new(SCENARIO);
    command.arg("panics-at-once").arg(directory.path()).env("RUST_BACKTRACE", "0");
    let status = command.stderr(File::create(&path).expect("a file")).status().expect("it starts");
    assert!(status.success());
    let all = std::fs::read_to_string(&path).expect("text");
    contains_whole(&all, "left");
    contains_whole(&all, "right");
}
