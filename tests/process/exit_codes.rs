//! How a process ended can be read from its exit code: 0 when the task returns, n on `exit(n)`, 1 on a panic.

use pool_runtime::{Process, Ran, Stdio, task};

#[task]
fn give_back(number: i32) -> i32 {
    number
}

#[task]
fn fail() -> Result<u8, String> {
    Err("a value like any other".into())
}

#[task]
fn exit(code: i32) -> u8 {
    std::process::exit(code)
}

#[task]
fn panic(text: &str) -> u8 {
    panic!("{text}");
}

#[task]
fn panic_with_number() -> u8 {
    std::panic::panic_any(7)
}

#[task]
fn panic_elsewhere() -> bool {
    std::thread::spawn(|| panic!("on a thread of the task's own")).join().is_err()
}

#[test]
fn a_task_that_returns() {
    let process = Process::new(give_back::call(7)).start().expect("it starts");
    assert_eq!((process.join().expect("it returns"), process.exit_code()), (7, Some(0)));
    let process = Process::new(fail::call()).start().expect("it starts");
    assert!(process.join().expect("it returns").is_err());
    assert_eq!(process.exit_code(), Some(0));
}

#[test]
fn no_task() {
    let process = Process::idle().start().expect("it starts");
    process.join().expect("it does nothing");
    assert_eq!(process.exit_code(), Some(0));
}

#[test]
fn a_task_that_exits() {
    for code in [0, 1, 3, 70, 101, 255] {
        let process = Process::new(exit::call(code)).start().expect("it starts");
        let error = process.join().expect_err("it does not return");
        assert_eq!(process.exit_code(), Some(code));
        assert!(error.is_worker_lost() && !error.is_panic(), "{error}");
        assert_eq!((error.exit_code(), error.signal(), error.ran()), (Some(code), None, Ran::Yes), "{error}");
        assert!(error.to_string().contains("process::exit_codes::exit"), "{error}");
    }
}

#[test]
fn a_task_that_panics() {
    let process = Process::new(panic::call("no way")).stderr(Stdio::null()).start().expect("it starts");
    let line = line!() - 1;
    let error = process.join().expect_err("it does not return");
    assert_eq!(process.exit_code(), Some(1));
    let panic = error.panic().expect("it panicked");
    assert_eq!((panic.message(), error.ran()), ("no way", Ran::Yes));
    assert!(panic.file().is_some_and(|file| file.ends_with("tests/process/exit_codes.rs")), "{error}");
    assert!(panic.line().is_some_and(|panicked| panicked < line) && panic.column().is_some(), "{error}");

    let process = Process::new(panic_with_number::call()).stderr(Stdio::null()).start().expect("it starts");
    assert_eq!(process.join().expect_err("it panics").panic().expect("it panicked").message(), "Box<dyn Any>");
    assert_eq!(process.exit_code(), Some(1));
}

#[test]
fn a_panic_on_another_thread_is_not_the_task_s() {
    let process = Process::new(panic_elsewhere::call()).stderr(Stdio::null()).start().expect("it starts");
    assert!(process.join().expect("it returns"));
    assert_eq!(process.exit_code(), Some(0));
}
