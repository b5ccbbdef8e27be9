//! A process whose task replaces it by another program is waited for as long as that runs.

use crate::support::{Signals, await_given};
use pool_runtime::{Process, task};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[task]
fn become_shell(begun: &Path, end: &Path) {
    let script = "echo begun >$0; while ! [ -s $1 ]; do sleep 0.05; done; exit 7";
    panic!("{}", Command::new("sh").args(["-c", script]).args([begun, end]).exec());
}

#[test]
fn it_is_waited_for_and_its_exit_code_is_known() {
    let signals = Signals::new();
    let process = Process::new(become_shell::call(&signals.path("begun"), &signals.path("end"))).start().unwrap();
    await_given(&signals.path("begun"));
    // Longer than a worker whose connection is closed may live on: nothing is to happen meanwhile.
    assert!(process.join_timeout(Duration::from_secs(3)).unwrap().is_none());
    assert!(process.is_alive());
    signals.give("end");
    assert!(process.join().is_err());
    assert_eq!(process.exit_code(), Some(7));
}
