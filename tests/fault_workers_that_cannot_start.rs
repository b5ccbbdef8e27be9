//! F7: workers that die at start every time: bounded tries, then an error. F8: a start that never connects: a deadline.

mod fault_support;

use fault_support::builder;
use pool_runtime::{Pool, pool_main, task};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

pool_main!();

#[task]
fn nothing() {}

/// A program that is none of ours.
fn script(dir: &tempfile::TempDir, body: &str) -> PathBuf {
    let path = dir.path().join("script");
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn refused(pool: pool_runtime::Result<Pool>) -> String {
    pool.expect_err("such a worker cannot work").to_string()
}

#[test]
fn workers_that_die_at_start_every_time_are_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let count = dir.path().join("count");
    let program = script(&dir, &format!("echo >> {}\nexit 3", count.display()));
    let error = refused(builder().processes(2).executable(program).build());
    assert!(error.contains("exited with code 3"), "{error}");
    let starts = fs::read_to_string(count).unwrap().lines().count();
    assert!((1..20).contains(&starts), "{starts} starts");
}

#[test]
fn a_start_that_never_connects_has_a_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(&dir, "exec sleep 1000");
    let timeout = Duration::from_millis(100);
    let error = refused(builder().processes(1).executable(program).start_timeout(timeout).build());
    assert!(error.contains("did not become a worker within 100ms"), "{error}");
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let error = refused(builder().processes(1).executable("/no/such/program").build());
    assert!(error.contains("cannot start a process of this program"), "{error}");
}

#[test]
fn a_replacement_that_cannot_start_fails_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("own");
    fs::copy(std::env::current_exe().unwrap(), &own).unwrap();
    let pool = builder().processes(1).executable(&own).build().unwrap();
    pool.apply(nothing::call()).unwrap();
    fs::write(dir.path().join("broken"), "#!/bin/false\n").unwrap();
    fs::rename(dir.path().join("broken"), &own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o755)).unwrap();
    fault_support::signal(fault_support::pids(&pool)[0], libc::SIGKILL);
    let error = pool.apply(nothing::call()).unwrap_err();
    assert!(error.to_string().contains("the workers cannot start"), "{error}");
    assert_eq!(error.ran(), pool_runtime::Ran::No);
}
