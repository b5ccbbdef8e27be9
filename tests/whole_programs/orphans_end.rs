//! Processes and workers whose parent was killed end by themselves, idle or busy, with all that they have started.

use crate::support::{
    Running, VARIABLE, directory, is_alive, line_in, over_every_transport, signal, transport_name, until,
};
use std::os::unix::{fs::PermissionsExt, process::CommandExt};
use std::process::Command;

over_every_transport! {
    idle_and_busy_ones_started_from_a_thread_that_has_ended,
    those_in_a_sandbox,
    those_that_are_stopped,
    those_that_are_stopped_in_a_sandbox,
    those_whose_sockets_a_forked_child_holds,
    those_that_have_replaced_their_descriptors,
    those_that_have_become_another_user,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

fn idle_and_busy_ones_started_from_a_thread_that_has_ended() {
    orphans_end("orphans");
}

fn those_in_a_sandbox() {
    orphans_end("orphans-in-a-sandbox");
}

fn those_that_are_stopped() {
    stopped_orphans_end("orphans");
}

fn those_that_are_stopped_in_a_sandbox() {
    stopped_orphans_end("orphans-in-a-sandbox");
}

fn those_whose_sockets_a_forked_child_holds() {
    orphans_that_hold_on_end("");
}

fn those_that_have_replaced_their_descriptors() {
    orphans_that_hold_on_end("with-other-descriptors");
}

fn those_that_have_become_another_user() {
    // SAFETY: a system call without arguments.
    if unsafe { libc::geteuid() } == 0 {
        orphans_that_hold_on_end("as-another-user");
    } else {
        eprintln!("skipped: only root becomes another user");
    }
}

/// They cannot do anything any more: the kernel has to.
fn stopped_orphans_end(scenario: &str) {
    let directory = directory();
    let mut command = Command::new(SCENARIO);
    command.arg(scenario).arg(directory.path()).env(VARIABLE, transport_name());
    let mut program = Running::start(&mut command);
    let orphans: Vec<u32> = program.lines(1)[0].split(' ').map(|pid| pid.parse().expect("a pid")).collect();
    // While somebody of their group has a parent outside, the kernel does not wake them as it does with a group that
    // nobody is left to care for.
    let mut friend = Command::new("sleep").arg("1000").process_group(program.pid() as i32).spawn().expect("it starts");
    orphans.iter().for_each(|pid| signal(*pid, libc::SIGSTOP));
    program.kill();
    until("they have ended", || !orphans.iter().any(|pid| is_alive(*pid)));
    friend.kill().and_then(|()| friend.wait()).expect("a child");
    program.finish();
}

fn orphans_that_hold_on_end(how: &str) {
    let directory = directory();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("a directory");
    let mut command = Command::new(SCENARIO);
    command.arg("orphans-that-hold-on").arg(directory.path()).arg(how).env(VARIABLE, transport_name());
    let mut program = Running::start(&mut command);
    let pids: Vec<u32> = program.lines(1)[0].split(' ').map(|pid| pid.parse().expect("a pid")).collect();
    let [process, worker, child] = pids[..] else { panic!("{pids:?}") };
    // A system call that waits looks at its descriptors anew after this.
    for orphan in [process, worker] {
        signal(orphan, libc::SIGSTOP);
        signal(orphan, libc::SIGCONT);
    }
    program.kill();
    until("they have ended", || ![process, worker].into_iter().any(is_alive));
    assert!(is_alive(child), "it holds all sockets");
    signal(child, libc::SIGKILL);
    program.finish();
}

fn orphans_end(scenario: &str) {
    let directory = directory();
    let mut command = Command::new(SCENARIO);
    command.arg(scenario).arg(directory.path()).env(VARIABLE, transport_name());
    let mut program = Running::start(&mut command);
    let lines = program.lines(1);
    let orphans: Vec<u32> = lines[0].split(' ').map(|pid| pid.parse().expect("a pid")).collect();
    assert_eq!(orphans.len(), 3);
    // The thread that started them has ended, and they live.
    assert!(orphans.iter().all(|pid| is_alive(*pid)));
    program.kill();
    until("they have ended", || !orphans.iter().any(|pid| is_alive(*pid)));
    program.finish();
}

#[test]
fn a_whole_tree() {
    let directory = directory();
    let mut program = Running::start(Command::new(SCENARIO).arg("orphans-of-a-tree").arg(directory.path()));
    let levels = ["2", "1", "0"].map(|level| line_in(&directory.path().join(level)).parse().expect("a pid"));
    assert!(levels.into_iter().all(is_alive));
    program.kill();
    until("they have ended", || !levels.into_iter().any(is_alive));
    program.finish();
}

#[test]
fn the_lower_part_of_a_tree() {
    let directory = directory();
    let program = Running::start(Command::new(SCENARIO).arg("orphans-of-a-tree").arg(directory.path()));
    let levels = ["2", "1", "0"].map(|level| line_in(&directory.path().join(level)).parse().expect("a pid"));
    // SAFETY: a system call on plain numbers; the process is one of this test's, and its parent has not reaped it.
    unsafe { libc::kill(levels[1] as i32, libc::SIGKILL) };
    until("what it had started has ended", || !is_alive(levels[2]) && !is_alive(levels[1]));
    assert!(is_alive(program.pid()) && is_alive(levels[0]));
}
