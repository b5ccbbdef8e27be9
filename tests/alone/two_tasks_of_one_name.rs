//! Two tasks of one name are an error that names both places, raised by the first pool or process.

use pool_runtime::{Error, Pool, Process, pool_main, task};

pool_main!();

#[task(name = "shared name")]
fn first() -> u8 {
    1
}
const FIRST: u32 = line!() - 4;

#[task(name = "shared name")]
fn second() -> u8 {
    2
}
const SECOND: u32 = line!() - 4;

#[track_caller]
fn names_both(error: &Error) {
    let text = error.to_string();
    assert!(text.contains("`shared name`"), "{text}");
    // The line is that of the function or of its attribute.
    for line in [FIRST, SECOND] {
        let place = |line: u32| text.contains(&format!("two_tasks_of_one_name.rs:{line}"));
        assert!(place(line) || place(line + 1), "{text}");
    }
}

#[test]
fn a_pool_names_both_places() {
    names_both(&Pool::new(1).unwrap_err());
}

#[test]
fn a_process_names_both_places() {
    names_both(&Process::new(first::call()).start().unwrap_err());
    names_both(&Process::new(second::call()).start().unwrap_err());
    names_both(&Process::idle().start().unwrap_err());
}

#[test]
fn the_functions_still_work_here() {
    assert_eq!((first(), second()), (1, 2));
    assert_eq!(Process::new(second::call()).run().expect("here no table is asked"), 2);
}
