//! What a process is denied, as plain data, and what a system lacks for it. Each system carries it out.

use crate::os::file_id;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What a process is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// None: all files are as they would be anyway.
    pub(crate) files: Option<Files>,
    pub(crate) network: bool,
    pub(crate) processes: bool,
    pub(crate) limits: ResourceLimits,
    /// Go on where the kernel cannot do all of it.
    pub(crate) best_effort: bool,
    /// It has the environment of whoever starts it, and not only what is nobody's secret.
    pub(crate) inherits_env: bool,
}

/// The only files that may be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Files {
    pub(crate) reads: Vec<Allowed>,
    pub(crate) writes: Vec<Allowed>,
    pub(crate) executes: Vec<Allowed>,
    /// Modes, owners, times and attributes of whatever is open may be changed.
    pub(crate) attributes: bool,
    /// Whatever is open may be locked.
    pub(crate) locks: bool,
}

/// A path from the root on, and the file or directory to which it led when the sandbox was made.
///
/// Each worker compares what it opens: one that may write above a path could have put a link to anything there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Allowed {
    pub(crate) path: OsString,
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Allowed {
    pub(crate) fn new(path: PathBuf, (device, inode): (u64, u64)) -> Self {
        Self { path: path.into_os_string(), device, inode }
    }
}

impl Files {
    /// What lets a process decide which files are found below this path, if anything does. A path to a directory that is
    /// missing counts as far as it exists.
    pub(crate) fn writable_above(&self, path: &Path) -> Option<&Allowed> {
        let path = std::path::absolute(path).ok()?;
        // What is above a link decides about the link.
        let settled: Vec<_> = path.ancestors().filter_map(|part| part.canonicalize().ok()).collect();
        let mut above = settled.iter().flat_map(|part| part.ancestors()).filter_map(|part| file_id(part).ok());
        above.find_map(|id| self.writes.iter().find(|allowed| (allowed.device, allowed.inode) == id))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResourceLimits {
    pub(crate) memory: Option<u64>,
    /// In seconds.
    pub(crate) cpu_time: Option<u64>,
    pub(crate) file_size: Option<u64>,
    pub(crate) open_files: Option<u64>,
    /// Of all processes of this user, for one of these to start another.
    pub(crate) threads: Option<u64>,
    pub(crate) pending_signals: Option<u64>,
    /// How large the image may get that a crash leaves behind.
    pub(crate) core: Option<u64>,
}

impl ResourceLimits {
    /// Of each, the lower one.
    pub(crate) fn and(self, other: Self) -> Self {
        let lower = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        Self {
            memory: lower(self.memory, other.memory),
            cpu_time: lower(self.cpu_time, other.cpu_time),
            file_size: lower(self.file_size, other.file_size),
            open_files: lower(self.open_files, other.open_files),
            threads: lower(self.threads, other.threads),
            pending_signals: lower(self.pending_signals, other.pending_signals),
            core: lower(self.core, other.core),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// The version of Landlock; 0 if there is none.
    pub(crate) landlock: i32,
    pub(crate) seccomp: bool,
}

/// The versions of Landlock that can deny truncating files (Linux 6.2), and signals (Linux 6.12).
const TRUNCATES: i32 = 3;
pub(super) const SCOPES: i32 = 6;

impl Confinement {
    /// Is anything denied, limits aside?
    pub(crate) fn denies(&self) -> bool {
        self.files.is_some() || !self.network || !self.processes
    }

    /// What such a kernel lacks for it, in words.
    pub(crate) fn missing(&self, Abilities { landlock, seccomp }: Abilities) -> Vec<&'static str> {
        let files = self.files.is_some();
        let lacks = [
            (files && landlock < 1, "to deny files, it has no Landlock, or was started without it"),
            (
                !files && self.denies() && landlock < 1,
                "to keep it from reading and tracing other processes of its user, it has no Landlock, or was started \
                 without it",
            ),
            (
                files && (1..TRUNCATES).contains(&landlock),
                "its Landlock cannot keep who may read a file from cutting it off (Linux 6.2 can)",
            ),
            (
                files && self.processes && landlock < SCOPES,
                "with `.processes(true)`, it cannot deny signals to other processes (Linux 6.12 can)",
            ),
            (
                self.denies() && !seccomp,
                "to deny network, processes and ways out, it has no seccomp filters, or none are known for this \
                 processor",
            ),
        ];
        lacks.into_iter().filter(|(lacking, _)| *lacking).map(|(_, what)| what).collect()
    }

    /// Refuses what such a kernel cannot do, unless less is accepted.
    pub(super) fn check(&self, kernel: Abilities) -> Result<(), String> {
        let missing = self.missing(kernel).join("; ");
        if missing.is_empty() || self.best_effort {
            return Ok(());
        }
        Err(format!(
            "its sandbox asks for more than this kernel has: {missing}; with `Sandbox::best_effort()` it does without"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Abilities = Abilities { landlock: SCOPES, seccomp: true };
    const NOTHING: Abilities = Abilities { landlock: 0, seccomp: false };

    fn strict() -> Confinement {
        Confinement {
            files: Some(Files::default()),
            network: false,
            processes: false,
            limits: ResourceLimits::default(),
            best_effort: false,
            inherits_env: false,
        }
    }

    #[test]
    fn what_a_kernel_lacks_is_said() {
        assert_eq!(strict().missing(ALL), Vec::<&str>::new());
        let one = |confinement: Confinement, kernel, text: &str| {
            let missing = confinement.missing(kernel);
            assert!(missing.len() == 1 && missing[0].contains(text), "{missing:?}");
            let refused = confinement.check(kernel).unwrap_err();
            assert!(refused.contains(missing[0]) && refused.contains("best_effort"), "{refused}");
        };
        one(strict(), Abilities { landlock: 0, ..ALL }, "no Landlock");
        one(strict(), Abilities { landlock: 1, ..ALL }, "cutting it off");
        one(strict(), Abilities { landlock: 2, ..ALL }, "cutting it off");
        assert_eq!(strict().missing(Abilities { landlock: 3, ..ALL }), Vec::<&str>::new());
        one(Confinement { processes: true, ..strict() }, Abilities { landlock: 5, ..ALL }, "signals");
        one(strict(), Abilities { seccomp: false, ..ALL }, "no seccomp");
        assert_eq!(strict().missing(NOTHING).len(), 2);
        assert_eq!(Confinement { processes: true, ..strict() }.missing(NOTHING).len(), 3);
    }

    #[test]
    fn of_two_limits_the_lower_one_counts() {
        let one = ResourceLimits { memory: Some(5), cpu_time: Some(2), ..ResourceLimits::default() };
        let other = ResourceLimits { memory: Some(4), open_files: Some(9), ..ResourceLimits::default() };
        let both = ResourceLimits { cpu_time: Some(2), ..other };
        assert_eq!((one.and(other), other.and(one)), (both, both));
    }

    #[test]
    fn what_is_not_asked_for_is_not_missing() {
        let none = Confinement { files: None, network: true, processes: true, ..strict() };
        assert_eq!(none.missing(NOTHING), Vec::<&str>::new());
        assert_eq!(none.apply(NOTHING, false), Ok(()));
        let offline = Confinement { network: false, ..none };
        assert_eq!(offline.missing(Abilities { landlock: 1, ..ALL }), Vec::<&str>::new());
    }

    #[test]
    fn tracing_others_is_denied_with_anything_else() {
        let offline = Confinement { files: None, processes: true, ..strict() };
        let missing = offline.missing(Abilities { landlock: 0, ..ALL });
        assert!(missing.len() == 1 && missing[0].contains("tracing other processes"), "{missing:?}");
        assert_eq!(offline.missing(NOTHING).len(), 2);
    }
}
