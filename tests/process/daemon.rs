//! Daemonic or not: inherited by default, overridden on request. A daemonic process cannot start others.

use pool_runtime::{Pool, Process, current_process, task};

#[task]
fn am_i_daemonic() -> bool {
    current_process().daemon()
}

/// What a process that it would start would be, by default and on request; and what becomes of the start.
#[task]
fn start_one() -> ([String; 3], Result<bool, String>, Result<bool, String>) {
    let new = || Process::new(am_i_daemonic::call()).name("below");
    let shown = [new().to_string(), new().daemon(true).to_string(), new().daemon(false).to_string()];
    let started =
        |process: Process<bool>| process.start().and_then(|process| process.join()).map_err(|error| error.to_string());
    (shown, started(new()), started(new().daemon(true)))
}

#[task]
fn start_all_kinds() -> [String; 3] {
    let refusal = |refused: Option<pool_runtime::Error>| refused.map_or("none".into(), |error| error.to_string());
    [
        refusal(Process::idle().start().err()),
        refusal(Process::idle().daemon(false).start().err()),
        refusal(Pool::new(1).err()),
    ]
}

const NOT_DAEMONIC: &str = "<Process below initial>";
const DAEMONIC: &str = "<Process below initial daemon>";

#[test]
fn said_by_the_process_itself() {
    for daemon in [false, true] {
        let process = Process::new(am_i_daemonic::call()).daemon(daemon).start().expect("it starts");
        assert_eq!(process.daemon(), daemon);
        assert_eq!(process.to_string().contains("daemon"), daemon, "{process}");
        assert_eq!(process.join().expect("it returns"), daemon);
    }
    let process = Process::new(am_i_daemonic::call()).start().expect("it starts");
    assert!(!process.daemon() && !process.join().expect("it returns"));
}

#[test]
fn inherited_and_overridden_below_one_that_is_not() {
    let process = Process::new(start_one::call()).start().expect("it starts");
    let (shown, by_default, on_request) = process.join().expect("it returns");
    assert_eq!(shown, [NOT_DAEMONIC, DAEMONIC, NOT_DAEMONIC]);
    assert_eq!((by_default, on_request), (Ok(false), Ok(true)));
}

#[test]
fn inherited_by_what_a_daemonic_one_would_start() {
    let process = Process::new(start_one::call()).daemon(true).start().expect("it starts");
    let (shown, ..) = process.join().expect("it returns");
    assert_eq!(shown, [DAEMONIC, DAEMONIC, NOT_DAEMONIC]);
}

#[test]
fn a_daemonic_process_starts_none() {
    let process = Process::new(start_all_kinds::call()).daemon(true).start().expect("it starts");
    for refusal in process.join().expect("it returns") {
        assert!(refusal.contains("a daemonic process cannot start processes"), "{refusal}");
    }
}
