//! Ctrl-C, which reaches the whole process group, ends the program: no orphan is left, and no storm of traces. A user's
//! own handler is respected: the workers live on, and the calls go on. SIGTERM and SIGHUP, to the group or to the program
//! alone, do the same.

use crate::support::{
    Running, VARIABLE, can_be_interrupted, directory, give, over_every_transport, pids, pool, signal, transport_name,
};
use pool_runtime::task;
use std::{os::unix::process::ExitStatusExt as _, path::Path, process::Command};

over_every_transport! {
    ctrl_c_ends_the_program_and_all_that_it_started,
    terminating_the_program_alone_ends_all_that_it_started,
    a_handler_of_its_own_keeps_the_workers_of_an_interrupted_program,
    a_handler_of_its_own_keeps_the_workers_of_a_terminated_program,
    a_handler_of_its_own_keeps_the_workers_of_a_terminated_group,
    a_handler_of_its_own_keeps_the_workers_of_a_group_whose_terminal_is_closed,
    terminating_the_group_ends_the_program_and_all_that_it_started,
    programs_that_a_task_starts_can_be_interrupted,
    a_task_may_handle_interrupts_itself,
}

/// Starts the scenario, and waits until everything in it is under way.
fn started(scenario: &[&str], directory: &Path) -> Running {
    can_be_interrupted();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
    command.arg(scenario[0]).arg(directory).args(&scenario[1..]).env(VARIABLE, transport_name());
    let program = Running::start(&mut command);
    program.lines(1);
    program
}

/// What Ctrl-C in a terminal does.
fn signal_group(program: &Running, signal: i32) {
    // SAFETY: a system call on plain numbers; the group is of this test's making.
    assert_eq!(unsafe { libc::kill(-(program.pid() as i32), signal) }, 0);
}

fn ctrl_c_ends_the_program_and_all_that_it_started() {
    let directory = directory();
    let program = started(&["interrupted"], directory.path());
    signal_group(&program, libc::SIGINT);
    let ended = program.finish();
    assert_eq!((ended.status.signal(), &*ended.stderr), (Some(libc::SIGINT), ""));
}

fn terminating_the_program_alone_ends_all_that_it_started() {
    let directory = directory();
    let program = started(&["interrupted"], directory.path());
    signal(program.pid(), libc::SIGTERM);
    let ended = program.finish();
    assert_eq!((ended.status.signal(), &*ended.stderr), (Some(libc::SIGTERM), ""));
}

fn goes_on(number: i32, send: impl Fn(&Running)) {
    let directory = directory();
    let program = started(&["interrupted-handled", &number.to_string()], directory.path());
    for _ in 0..3 {
        send(&program);
    }
    program.lines(2);
    // Also while it knows of the first one.
    send(&program);
    give(&directory.path().join("go"));
    let ended = program.finish();
    assert_eq!((ended.printed(), &*ended.stderr), ("ready\nseen\ndone", ""));
}

fn a_handler_of_its_own_keeps_the_workers_of_an_interrupted_program() {
    goes_on(libc::SIGINT, |program| signal_group(program, libc::SIGINT));
}

fn a_handler_of_its_own_keeps_the_workers_of_a_terminated_program() {
    goes_on(libc::SIGTERM, |program| signal(program.pid(), libc::SIGTERM));
}

/// What a service manager does.
fn a_handler_of_its_own_keeps_the_workers_of_a_terminated_group() {
    goes_on(libc::SIGTERM, |program| signal_group(program, libc::SIGTERM));
}

fn a_handler_of_its_own_keeps_the_workers_of_a_group_whose_terminal_is_closed() {
    goes_on(libc::SIGHUP, |program| signal_group(program, libc::SIGHUP));
}

fn terminating_the_group_ends_the_program_and_all_that_it_started() {
    let directory = directory();
    let program = started(&["interrupted"], directory.path());
    signal_group(&program, libc::SIGTERM);
    let ended = program.finish();
    assert_eq!((ended.status.signal(), &*ended.stderr), (Some(libc::SIGTERM), ""));
}

/// Has a shell interrupt itself. Returns the signal that it died of, or what it printed.
#[task]
fn interrupted_shell() -> Result<String, i32> {
    let output = Command::new("sh").args(["-c", "kill -INT $$; echo it lives"]).output().expect("sh");
    output.status.signal().map_or_else(|| Ok(String::from_utf8_lossy(&output.stdout).into_owned()), Err)
}

fn programs_that_a_task_starts_can_be_interrupted() {
    can_be_interrupted();
    assert_eq!(pool(1).apply(interrupted_shell::call()).unwrap(), Err(libc::SIGINT));
}

extern "C" fn leave(_: i32) {
    // SAFETY: it may be called at any time.
    unsafe { libc::_exit(31) };
}

#[task]
fn exit_when_interrupted(begun: &Path) {
    // SAFETY: the handler does nothing that is not allowed in one.
    unsafe { libc::signal(libc::SIGINT, leave as extern "C" fn(i32) as usize) };
    give(begun);
    loop {
        std::thread::park();
    }
}

fn a_task_may_handle_interrupts_itself() {
    let (pool, directory) = (pool(1), directory());
    let begun = directory.path().join("begun");
    let job = pool.apply_async(exit_when_interrupted::call(&begun));
    crate::support::await_given(&begun);
    signal(pids(&pool)[0], libc::SIGINT);
    assert_eq!(job.get().unwrap_err().exit_code(), Some(31));
}
