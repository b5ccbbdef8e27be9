//! `active_children` knows the processes that run, and forgets one that has ended though nobody joined it.
//!
//! It counts all children of this process.

use crate::support::{children, until};
use pool_runtime::{Pool, Process, RunningProcess, Stdio, active_children, task};
use std::collections::BTreeSet;

#[task]
fn read_to_the_end() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("a pipe");
}

#[test]
fn it_knows_those_that_run() {
    let _turn = crate::support::turn();
    // The workers of a pool are the pool's.
    let pool = Pool::new(1).expect("a pool");
    let start = || Process::new(read_to_the_end::call()).stdin(Stdio::piped()).start().expect("it starts");
    let mut processes: Vec<RunningProcess<()>> = (0..3).map(|_| start()).collect();
    let active = || active_children().iter().map(|child| child.pid()).collect::<BTreeSet<_>>();
    while let Some(mut last) = processes.pop() {
        let mut expected: BTreeSet<u32> = processes.iter().map(RunningProcess::pid).collect();
        expected.insert(last.pid());
        assert_eq!(active(), expected);
        drop(last.take_stdin());
        until("it has ended", || !last.is_alive());
        expected.remove(&last.pid());
        assert_eq!(active(), expected);
    }
    drop(pool);
    until("all are reaped", || children().is_empty());
}
