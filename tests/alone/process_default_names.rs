//! A process without a name of its own has that of its place: the number of its start, below its parent's.
//!
//! One test, as it counts all that this process starts.

use pool_runtime::{Pool, Process, RunningProcess, current_process, parent_process, pool_main, task};

pool_main!();

/// The names of a process, of its parent, and of those that it starts.
#[task]
fn names(below: usize) -> (String, String, Vec<String>) {
    let start = |_| Process::new(names::call(0)).start().expect("it starts");
    let below: Vec<RunningProcess<_>> = (0..below).map(start).collect();
    let parent = parent_process().expect("it has one").name().to_owned();
    let below = below.iter().map(|process| {
        let (name, parent, _) = process.join().expect("it returns");
        assert_eq!((name.as_str(), parent.as_str()), (process.name(), current_process().name()));
        name
    });
    let below = below.collect();
    (current_process().name().to_owned(), parent, below)
}

#[test]
fn numbers_count_all_starts() {
    let start = |process: Process<_>| process.start().expect("it starts");
    let first = start(Process::new(names::call(0)));
    let named = start(Process::new(names::call(1)).name("named"));
    let third = start(Process::new(names::call(2)));
    assert_eq!([first.name(), named.name(), third.name()], ["Process-1", "named", "Process-3"]);
    let here = || "MainProcess".to_owned();
    assert_eq!(first.join().expect("it returns"), ("Process-1".into(), here(), vec![]));
    assert_eq!(named.join().expect("it returns"), ("named".into(), here(), vec!["Process-2:1".into()]));
    let below = vec!["Process-3:1".into(), "Process-3:2".into()];
    assert_eq!(third.join().expect("it returns"), ("Process-3".into(), here(), below));

    // Workers have the names of their pool, and places as all processes do.
    let pool = Pool::builder().processes(1).name("crawler").build().expect("a pool");
    let (name, parent, below) = pool.apply(names::call(1)).expect("it runs");
    assert_eq!((name.as_str(), parent, below), ("crawler-1", here(), vec!["Process-4:1".into()]));
}
