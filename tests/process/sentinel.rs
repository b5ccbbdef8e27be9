//! The sentinel of a process is not ready while it runs, is ready when it ends, and stays so.

use crate::support::PATIENCE;
use pool_runtime::{Process, Stdio, task};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;

#[task]
fn read_to_the_end() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("a pipe");
}

#[task]
fn crash() {
    std::process::abort();
}

fn is_ready(sentinel: BorrowedFd<'_>, patience: std::time::Duration) -> bool {
    let patience = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: patience.subsec_nanos().into() };
    let mut polled = [PollFd::from_borrowed_fd(sentinel, PollFlags::IN)];
    let count = poll(&mut polled, Some(&patience)).expect("a descriptor that can be polled");
    assert_eq!(count == 1, polled[0].revents().contains(PollFlags::IN));
    count == 1
}

#[test]
fn it_is_ready_when_the_process_ends() {
    let mut process = Process::new(read_to_the_end::call()).stdin(Stdio::piped()).start().expect("it starts");
    let now = std::time::Duration::ZERO;
    assert!(!is_ready(process.sentinel(), now));
    drop(process.take_stdin());
    assert!(is_ready(process.sentinel(), PATIENCE));
    // Before it is joined, after that, and with another descriptor.
    assert!(is_ready(process.sentinel(), now) && !process.is_alive());
    process.join().expect("it returns");
    let another = process.sentinel().try_clone_to_owned().expect("a descriptor");
    for _ in 0..2 {
        assert!(is_ready(process.sentinel(), now));
    }
    drop(process);
    assert!(is_ready(std::os::fd::AsFd::as_fd(&another), now));
}

#[test]
fn it_is_ready_however_the_process_ends() {
    let crashed = Process::new(crash::call()).start().expect("it starts");
    let killed = Process::new(read_to_the_end::call()).stdin(Stdio::piped()).start().expect("it starts");
    assert!(!is_ready(killed.sentinel(), std::time::Duration::ZERO));
    killed.kill().expect("a child");
    for process in [crashed, killed] {
        assert!(is_ready(process.sentinel(), PATIENCE));
        assert!(!process.is_alive() && process.exit_code().is_some_and(|code| code < 0));
    }
}

#[test]
fn several_can_be_waited_for_at_once() {
    let start = || Process::new(read_to_the_end::call()).stdin(Stdio::piped()).start().expect("it starts");
    let mut processes = [start(), start(), start()];
    for ended in [1, 0, 2] {
        drop(processes[ended].take_stdin());
        let mut waiting: Vec<usize> = vec![ended];
        waiting.extend((0..3).filter(|other| processes[*other].is_alive() && *other != ended));
        let fds = waiting.iter().map(|index| PollFd::from_borrowed_fd(processes[*index].sentinel(), PollFlags::IN));
        let mut polled: Vec<_> = fds.collect();
        poll(&mut polled, None).expect("descriptors that can be polled");
        let ready: Vec<bool> = polled.iter().map(|fd| fd.revents().contains(PollFlags::IN)).collect();
        assert!(ready[0] && !ready[1..].contains(&true), "{ready:?}");
    }
}
