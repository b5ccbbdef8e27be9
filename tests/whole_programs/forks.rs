//! A program that forks after it has made pools and processes: they stay the parent's. In the child they are refused and
//! harm nobody, and what it makes itself works. A child that a task forks, and that returns from it, answers no call.

use crate::support::{Running, VARIABLE, directory, over_every_transport, pool, transport_name};
use pool_runtime::task;
use std::process::Command;

over_every_transport! {
    pools_jobs_and_processes_belong_to_their_process,
    a_child_that_returns_from_a_task_answers_nothing,
}

fn pools_jobs_and_processes_belong_to_their_process() {
    let directory = directory();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
    command.arg("forked-after-the-pool").arg(directory.path()).env(VARIABLE, transport_name());
    let ended = Running::start(&mut command).finish();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout, "the child has its own\nthe parent goes on\n", "{ended:?}");
}

/// Returns twice: in the child, and in the worker when the child has ended.
#[task]
fn fork(n: u32) -> (u32, bool) {
    // SAFETY: the worker runs one task at a time, and its other thread takes no lock that the child needs.
    let child = unsafe { libc::fork() };
    if child == 0 {
        return (n, true);
    }
    let mut status = 0;
    // SAFETY: the pointer is that of a number.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_ne!(status, 0, "the child has run on");
    (n, false)
}

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn a_child_that_returns_from_a_task_answers_nothing() {
    let pool = pool(1);
    for n in 0..5 {
        assert_eq!(pool.apply(fork::call(n)).unwrap(), (n, false));
        assert_eq!(pool.map(|m| add::call(m, n), 0..100).unwrap(), (n..n + 100).collect::<Vec<_>>());
    }
}
