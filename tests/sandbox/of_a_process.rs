//! A process of its own can be in a sandbox too.

use pool_runtime::{Process, Sandbox, task};
use std::{
    io::{Read as _, Write as _},
    path::Path,
};

#[task]
fn read(file: &Path) -> Result<String, Option<i32>> {
    println!("reading");
    std::fs::read_to_string(file).map_err(|error| error.raw_os_error())
}

#[task]
fn copy() -> usize {
    let mut text = String::new();
    let length = std::io::stdin().read_to_string(&mut text).expect("standard input");
    print!("{text}");
    length
}

#[test]
fn it_reads_what_it_was_given() {
    let dir = crate::support::directory();
    let (given, other) = (dir.path().join("given"), dir.path().join("other"));
    std::fs::write(&given, "inside").unwrap();
    std::fs::write(&other, "outside").unwrap();
    let start = |file| Process::new(read::call(file)).sandbox(Sandbox::strict().read(&given)).start().unwrap();
    assert_eq!(start(&given).join().unwrap(), Ok("inside".into()));
    let process = start(&other);
    assert_eq!(process.join().unwrap(), Err(Some(libc::EACCES)));
    assert_eq!(process.exit_code(), Some(0));
}

#[test]
fn its_streams_are_open() {
    let process = Process::new(copy::call()).sandbox(Sandbox::strict());
    let mut process = process.stdin(pool_runtime::Stdio::piped()).stdout(pool_runtime::Stdio::piped()).start().unwrap();
    process.take_stdin().unwrap().write_all(b"through").unwrap();
    let mut text = String::new();
    process.take_stdout().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((process.join().unwrap(), text.as_str()), (7, "through"));
}

#[test]
fn a_mistake_is_told_at_the_start() {
    let error = Process::idle().sandbox(Sandbox::strict().read("no/such/file")).start().unwrap_err().to_string();
    assert!(error.contains("cannot let a sandbox read `no/such/file`"), "{error}");
}
