//! After the start: a worker whose initializer fails beside others that work, and workers that die as soon as they are
//! ready, are not started again for ever.

use crate::support::{builder, over_every_transport, script, until};
use pool_runtime::{Ran, task};
use std::{fs, io::Write as _, path::Path, time::Duration};

over_every_transport! {
    a_seat_where_all_starts_fail_is_given_up_while_the_others_work,
    workers_that_die_as_soon_as_they_are_ready_are_given_up,
    a_large_argument_of_an_initializer_does_not_hide_a_start_that_never_connects,
    a_start_may_be_given_all_the_time_there_is,
}

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

/// Works in the first worker that comes, and in no other.
#[task(initializer)]
fn only_one(dir: &Path) -> Result<(), std::io::Error> {
    let mut starts = fs::File::options().append(true).create(true).open(dir.join("starts"))?;
    writeln!(starts)?;
    fs::File::create_new(dir.join("taken")).map(drop)
}

#[task(initializer)]
fn dies_soon(dir: &Path) {
    let mut starts = fs::File::options().append(true).create(true).open(dir.join("starts")).expect("the file");
    writeln!(starts).expect("the file");
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(20));
        std::process::abort();
    });
}

fn starts(dir: &Path) -> usize {
    fs::read_to_string(dir.join("starts")).map_or(0, |starts| starts.lines().count())
}

fn a_seat_where_all_starts_fail_is_given_up_while_the_others_work() {
    let dir = tempfile::tempdir().unwrap();
    let pool = builder().processes(2).initializer(only_one::call(dir.path())).build().unwrap();
    // The one that works must not hide that the other one fails.
    until("the other worker is given up", || {
        assert_eq!(pool.apply(add::call(1, 2)).unwrap(), 3);
        starts(dir.path()) == 6
    });
    for _ in 0..500 {
        assert_eq!(pool.apply(add::call(1, 2)).unwrap(), 3);
    }
    assert_eq!(starts(dir.path()), 6);
    pool.close();
    pool.join().unwrap();
}

fn workers_that_die_as_soon_as_they_are_ready_are_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let pool = builder().processes(1).initializer(dies_soon::call(dir.path())).build().unwrap();
    until("the last try is made", || starts(dir.path()) >= 5);
    until("the last worker is dead", || pool.workers().is_empty());
    let error = pool.apply(add::call(1, 2)).unwrap_err();
    assert!(error.to_string().contains("the workers cannot start"), "{error}");
    assert_eq!((error.is_worker_lost(), error.signal(), error.ran()), (true, Some(6), Ran::No));
    assert_eq!(starts(dir.path()), 5);
}

fn a_large_argument_of_an_initializer_does_not_hide_a_start_that_never_connects() {
    let sleeper = tempfile::tempdir().unwrap();
    let program = sleeper.path().join("sleeper");
    script(&program, "exec sleep 1000");
    let long = "x".repeat(4 << 20);
    let builder = builder().processes(1).executable(program).start_timeout(Duration::from_millis(100));
    let error = builder.initializer(dies_soon::call(Path::new(&long))).build().unwrap_err();
    assert!(error.to_string().contains("did not become a worker"), "{error}");
}

fn a_start_may_be_given_all_the_time_there_is() {
    let pool = builder().processes(1).start_timeout(Duration::MAX).build().unwrap();
    assert_eq!(pool.apply(add::call(1, 2)).unwrap(), 3);
    assert!(builder().processes(usize::MAX).build().unwrap_err().to_string().contains("at most"));
}
