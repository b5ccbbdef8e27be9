//! Names what the system refused, what it is needed for, and what to change.
//!
//! An error number alone says neither: `EPERM` may come from any of a dozen calls, and most often from a filter that the
//! program knows nothing of.

use rustix::io::Errno;
use rustix::process::Resource;
use std::{error, fmt, io};

/// Something that the library asks of the system, and what for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    what: &'static str,
    purpose: &'static str,
    /// A file has to exist; calls have to be allowed.
    is_file: bool,
}

const fn call(what: &'static str, purpose: &'static str) -> Step {
    Step { what, purpose, is_file: false }
}

pub(super) const PIDFD_OPEN: Step =
    call("`pidfd_open`", "makes the handle through which a process is watched and ended");
pub(super) const PIDFD_SEND_SIGNAL: Step = call("`pidfd_send_signal`", "ends a process, and no other of its number");
pub(super) const WAITID: Step = call("`waitid`", "tells how a process ended");
pub(super) const MEMFD_CREATE: Step = call("`memfd_create`", "makes memory that processes share");
pub(super) const FTRUNCATE: Step = call("`ftruncate`", "gives shared memory its size");
pub(super) const FALLOCATE: Step = call("`fallocate`", "gives shared memory its size");
pub(super) const WRITE: Step = call("`write`", "copies into shared memory");
pub(super) const REOPEN: Step = Step {
    what: "`/proc/self/fd`",
    purpose: "opens shared memory again, so that others see when this process has ended",
    is_file: true,
};
pub(super) const OFD_SETLK: Step =
    call("`fcntl` (`F_OFD_SETLK`)", "lets others see when a process has ended that has a lock");
pub(super) const SEAL: Step = call("`fcntl` (`F_ADD_SEALS`)", "fixes the size of shared memory");
pub(super) const MMAP: Step = call("`mmap`", "maps shared memory");
pub(super) const DONTFORK: Step = call("`madvise` (`MADV_DONTFORK`)", "keeps shared memory out of forks");
pub(super) const SOCKETPAIR: Step = call("`socketpair`", "connects a process with its parent");
pub(super) const SOCKET: Step = call("`socket`", "makes one end of a connection");
pub(super) const ACCEPT: Step = call("`accept4`", "takes a connection that a client has made");
pub(super) const PIPE: Step = call("`pipe2`", "connects a process's standard streams");
pub(super) const DUPLICATE: Step = call("`fcntl` (`F_DUPFD_CLOEXEC`)", "moves a descriptor to another number");
pub(super) const EVENTFD: Step = call("`eventfd2`", "wakes a thread that waits for several processes");
pub(super) const SPAWN: Step =
    call("`posix_spawn`", "starts a process (with `clone` or `vfork`, `execve`, and `prlimit64`)");
pub(super) const THREAD: Step = call("`clone`", "starts a thread");
pub(super) const PRLIMIT: Step = call("`prlimit64`", "limits what a process may use");
pub(super) const SETSID: Step = call("`setsid`", "leaves the program's terminal, which has no other way here");
pub(super) const PRCTL: Step = call("`prctl`", "keeps a confined process from new rights");
pub(super) const RESTRICT_SELF: Step = call("`landlock_restrict_self`", "confines a thread to its files");
pub(super) const CAPABILITIES: Step = call("`capset` or `capget`", "takes root's rights from a confined process");
pub(super) const NULL: Step =
    Step { what: "`/dev/null`", purpose: "is opened as a standard stream of a process", is_file: true };

/// An error of the system, with its step.
#[derive(Debug)]
struct StepFailed {
    text: String,
    source: io::Error,
}

impl fmt::Display for StepFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl error::Error for StepFailed {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Step {
    /// The error of this step. Its kind stays.
    pub(super) fn failed(self, source: impl Into<io::Error>) -> io::Error {
        self.failed_on("", source)
    }

    /// As [`failed`](Self::failed); `object` is a text that follows the step's name.
    pub(super) fn failed_on(self, object: &str, source: impl Into<io::Error>) -> io::Error {
        let Self { what, purpose, is_file } = self;
        let source = source.into();
        let advice = match source.raw_os_error().map(Errno::from_raw_os_error) {
            _ if is_file => Some("; a container has to have this file".to_owned()),
            Some(Errno::PERM | Errno::NOSYS) => {
                Some("; a container or service that filters system calls has to allow it".to_owned())
            }
            Some(error) => limit_behind(error).map(|limit| format!("; {limit}")),
            None => None,
        };
        let text = format!("{what}{object}, which {purpose}, failed: {source}{}", advice.unwrap_or_default());
        io::Error::new(source.kind(), StepFailed { text, source })
    }
}

/// A limit of this process: the one in force, and the highest to which it may be raised. None is no limit.
pub(super) fn limits_of(resource: Resource) -> io::Result<(Option<u64>, Option<u64>)> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // rustix would panic where a filter denies this.
    // SAFETY: the pointer is that of a pair of limits.
    if unsafe { libc::getrlimit(resource as _, &raw mut limits) } != 0 {
        return Err(PRLIMIT.failed(io::Error::last_os_error()));
    }
    let limit = |limit: libc::rlim_t| (limit != libc::RLIM_INFINITY).then_some(limit);
    Ok((limit(limits.rlim_cur), limit(limits.rlim_max)))
}

/// The limit in force; None if there is none, or if nobody tells.
pub(super) fn limit_of(resource: Resource) -> Option<u64> {
    limits_of(resource).ok()?.0
}

/// Which limit of this process may be behind such an error.
fn limit_behind(error: Errno) -> Option<String> {
    let (resource, what, option) = match error {
        Errno::MFILE => (Resource::Nofile, "open files", "-n"),
        Errno::FBIG => (Resource::Fsize, "bytes in a file, which shared memory is too", "-f"),
        Errno::AGAIN => (Resource::Nproc, "processes and threads of its user", "-u"),
        Errno::NOMEM => (Resource::As, "bytes of addresses", "-v"),
        _ => return None,
    };
    let limit = limit_of(resource)?;
    let more = if error == Errno::AGAIN { ", and a container may allow fewer (`pids.max`)" } else { "" };
    Some(format!("this process may have at most {limit} {what} (`ulimit {option}`){more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_step_and_keeps_its_kind() {
        let denied = PIDFD_OPEN.failed(Errno::PERM);
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
        let text = denied.to_string();
        assert!(text.starts_with("`pidfd_open`, which makes "), "{text}");
        assert!(text.contains("Operation not permitted") && text.contains("has to allow it"), "{text}");
        let inner = error::Error::source(denied.get_ref().unwrap()).and_then(|inner| inner.downcast_ref::<io::Error>());
        assert_eq!(inner.and_then(io::Error::raw_os_error), Some(libc::EPERM));
        let full = MEMFD_CREATE.failed(Errno::MFILE).to_string();
        // The words are those of the C library.
        assert!(full.contains("os error 24") && full.contains("`ulimit -n`"), "{full}");
        let named = SPAWN.failed_on(" of \"/x\"", Errno::NOENT).to_string();
        assert!(named.starts_with("`posix_spawn` of \"/x\", which starts "), "{named}");
        assert!(!named.contains("container"), "{named}");
    }
}
