//! Parts of the scenarios: a program that a filter of system calls denies one that the library uses, as in a container.

use super::{double, pool, say, twice};
use pool_runtime::{Process, Result, task};
use seccompiler::{SeccompAction, SeccompFilter, apply_filter_all_threads};

fn number(call: &str) -> libc::c_long {
    match call {
        "pidfd_open" => libc::SYS_pidfd_open,
        "pidfd_send_signal" => libc::SYS_pidfd_send_signal,
        "memfd_create" => libc::SYS_memfd_create,
        "socketpair" => libc::SYS_socketpair,
        "membarrier" => libc::SYS_membarrier,
        "waitid" => libc::SYS_waitid,
        "wait4" => libc::SYS_wait4,
        "prlimit64" => libc::SYS_prlimit64,
        "eventfd2" => libc::SYS_eventfd2,
        "ftruncate" => libc::SYS_ftruncate,
        "madvise" => libc::SYS_madvise,
        unknown => panic!("no system call {unknown:?} here"),
    }
}

/// Denies this process, and those that it starts, system calls: each then returns this error.
fn deny(calls: &str, error: &str) {
    let error = match error {
        "EPERM" => libc::EPERM,
        "ENOSYS" => libc::ENOSYS,
        unknown => panic!("no error {unknown:?} here"),
    };
    let denied = SeccompAction::Errno(error.cast_unsigned());
    let calls = calls.split(',').map(|call| (number(call), vec![])).collect();
    let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, denied, architecture);
    apply_filter_all_threads(&filter.and_then(TryInto::<Vec<_>>::try_into).expect("a filter")).expect("a filter");
}

/// What becomes of a pool, and of a process, that are made in such a program.
pub(super) fn all_ways(calls: &str, error: &str) -> Result<()> {
    deny(calls, error);
    say(double("21"));
    let process = Process::new(twice::call(21)).start().and_then(|process| process.join());
    say(process.map_or_else(|error| format!("error: {error}"), |doubled| doubled.to_string()));
    Ok(())
}

#[task]
fn abort() {
    std::process::abort();
}

/// What the loss of a worker is called in such a program.
pub(super) fn loss(calls: &str, error: &str) -> Result<()> {
    deny(calls, error);
    let error = pool(1)?.apply(abort::call()).unwrap_err();
    say(format!("{:?} {error}", error.signal()));
    Ok(())
}
