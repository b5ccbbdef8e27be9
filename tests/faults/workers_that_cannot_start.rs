//! Workers that die at start every time: bounded tries, then an error. A start that never connects: a deadline.

use crate::support::{builder, copy_program, over_every_transport, pids, script, signal};
use pool_runtime::{Pool, task};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

over_every_transport! {
    workers_that_die_at_start_every_time_are_given_up,
    a_start_that_never_connects_has_a_deadline,
    a_program_that_does_not_exist_is_named,
    a_replacement_that_cannot_start_fails_what_waits,
}

#[task]
fn nothing() {}

/// A program that is none of ours.
fn other_program(dir: &tempfile::TempDir, body: &str) -> PathBuf {
    let path = dir.path().join("script");
    script(&path, body);
    path
}

fn refused(pool: pool_runtime::Result<Pool>) -> String {
    pool.expect_err("such a worker cannot work").to_string()
}

fn workers_that_die_at_start_every_time_are_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let program = other_program(&dir, &format!("echo >> {}\nexit 3", count.display()));
    let error = refused(builder().processes(2).executable(program).build());
    assert!(error.contains("exited with code 3"), "{error}");
    let starts = fs::read_to_string(count).unwrap().lines().count();
    assert!((1..20).contains(&starts), "{starts} starts");
}

fn a_start_that_never_connects_has_a_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let program = other_program(&dir, "exec sleep 1000");
    let timeout = Duration::from_millis(100);
    let error = refused(builder().processes(1).executable(program).start_timeout(timeout).build());
    assert!(error.contains("did not become a worker within 100ms"), "{error}");
}

fn a_program_that_does_not_exist_is_named() {
    let error = refused(builder().processes(1).executable("/no/such/program").build());
    assert!(error.contains("cannot start a process of this program"), "{error}");
}

fn a_replacement_that_cannot_start_fails_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("own");
    copy_program(std::env::current_exe().unwrap(), &own);
    let pool = builder().processes(1).executable(&own).build().unwrap();
    pool.apply(nothing::call()).unwrap();
    fs::write(dir.path().join("broken"), "#!/bin/false\n").unwrap();
    fs::rename(dir.path().join("broken"), &own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    signal(pids(&pool)[0], libc::SIGKILL);
    let error = pool.apply(nothing::call()).unwrap_err();
    assert!(error.to_string().contains("the workers cannot start"), "{error}");
    assert_eq!(error.ran(), pool_runtime::Ran::No);
}
