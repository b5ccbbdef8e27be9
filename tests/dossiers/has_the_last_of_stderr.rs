//! The dossier of a lost worker has the last lines that it wrote to standard error, whatever they are, and nobody is
//! held up by a flood of them.

use crate::support::{builder, over_every_transport, pool};
use pool_runtime::{Pool, task};
use std::io::Write;

over_every_transport! {
    the_last_lines_are_there,
    a_flood_blocks_nobody,
    whoever_holds_the_pipe_is_not_waited_for,
    it_can_be_switched_off,
}

#[task]
fn write_and_die(text: &[u8]) {
    std::io::stderr().write_all(text).unwrap();
    std::process::abort();
}

#[track_caller]
fn last(pool: &Pool, text: &[u8]) -> String {
    let error = pool.apply(write_and_die::call(text)).unwrap_err();
    error.dossier().unwrap().stderr().expect("it was captured").to_owned()
}

fn the_last_lines_are_there() {
    let pool = pool(1);
    assert_eq!(last(&pool, b""), "");
    assert_eq!(last(&pool, b"one\ntwo\n"), "one\ntwo\n");
    assert_eq!(last(&pool, b"one\nthe beginning of a line"), "one\nthe beginning of a line");
    assert_eq!(last(&pool, b"\xff\xfe\0\x1b[31m\n"), "\u{fffd}\u{fffd}\0\u{1b}[31m\n");
    let error = pool.apply(write_and_die::call(b"\x1b[31m\x07 one\ntwo\n")).unwrap_err();
    let report = error.dossier().unwrap().to_string();
    assert!(report.contains(" one") && report.contains("two") && !report.contains(['\x1b', '\x07']), "{report:?}");
    // Without the line that is cut.
    let lines: String = (0..1000).map(|n| format!("line {n}\n")).collect();
    let kept = last(&pool, lines.as_bytes());
    assert!(lines.ends_with(&kept) && kept.starts_with("line ") && kept.len() > 4000, "{kept}");
    assert_eq!(last(&pool, &[b'x'; 100_000]), "x".repeat(4096));
}

#[task]
fn flood_and_die(bytes: usize) {
    let line = [b"....".repeat(25), b"\n".to_vec()].concat();
    let mut stderr = std::io::stderr().lock();
    for _ in 0..bytes / line.len() {
        stderr.write_all(&line).unwrap();
    }
    stderr.write_all(b"the end\n").unwrap();
    std::process::abort();
}

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

fn a_flood_blocks_nobody() {
    let pool = pool(2);
    let flood = pool.apply_async(flood_and_die::call(10 << 20));
    assert_eq!(pool.map(double::call, 0..1000).unwrap()[999], 1998);
    let error = flood.get().unwrap_err();
    let kept = error.dossier().unwrap().stderr().unwrap().to_owned();
    assert!(kept.ends_with("....\nthe end\n") && kept.len() > 4000, "{kept}");
}

#[task]
fn leave_a_child_and_die(wait_for: &std::path::Path) {
    eprintln!("before");
    // A child has the worker's standard error for as long as it lives.
    let script = format!("while ! [ -e '{}' ]; do sleep 0.05; done", wait_for.display());
    let child = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
    eprintln!("child {}", child.id());
    std::process::abort();
}

fn whoever_holds_the_pipe_is_not_waited_for() {
    let signals = crate::support::Signals::new();
    let pool = pool(1);
    let error = pool.apply(leave_a_child_and_die::call(&signals.path("end"))).unwrap_err();
    let kept = error.dossier().unwrap().stderr().unwrap().to_owned();
    let child = kept.lines().last().unwrap().strip_prefix("child ").unwrap().parse().unwrap();
    assert!(kept.starts_with("before\n") && crate::support::is_alive(child), "{kept}");
    drop(pool);
    assert!(crate::support::is_alive(child), "nor at the end");
    signals.give("end");
    crate::support::until("the child has ended", || !crate::support::is_alive(child));
}

fn it_can_be_switched_off() {
    let pool = builder().processes(1).capture_stderr(false).build().unwrap();
    let error = pool.apply(write_and_die::call(b"not for a dossier\n")).unwrap_err();
    assert_eq!(error.dossier().unwrap().stderr(), None);
}
