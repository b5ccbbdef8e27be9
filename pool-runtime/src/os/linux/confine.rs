//! Denies this process files (Landlock), system calls (seccomp), capabilities, and resources (limits).
//!
//! ```text
//!   Confinement ─▶ missing? ─▶ Landlock: paths ─▶ seccomp: calls ─▶ capabilities ─▶ limits     for good
//! ```
//!
//! Each of the four closes what the others leave open. Landlock decides by path what may be opened, and little else;
//! the filter sees the numbers of calls and no path; capabilities would lift limits; limits bound what both allow.

mod allowed;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod filter;

use super::step;
use crate::os::confinement::SCOPES;
use crate::os::{Abilities, Confinement, Files, ResourceLimits};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope, make_bitflags,
};
use rustix::fs::FileType;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
};
use std::io;

impl Abilities {
    pub(crate) fn here() -> Self {
        const VERSION: u32 = 1;
        // SAFETY: without attributes, of length 0, the call only returns the version.
        let landlock =
            unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
        let action = libc::SECCOMP_RET_ERRNO;
        // SAFETY: the call reads the action, and returns whether it is available.
        let seccomp = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
        Self {
            landlock: landlock.clamp(0, i32::MAX.into()) as i32,
            seccomp: seccomp == 0 && cfg!(any(target_arch = "x86_64", target_arch = "aarch64")),
        }
    }
}

impl Confinement {
    /// Confines this process, as far as such a kernel can. An error says what was refused or is missing; the process
    /// has to end then, as it may be half confined.
    ///
    /// Landlock and capabilities belong to a thread, not to a process. So there must be no threads but the calling one
    /// and as many as `wait` and run nothing of the user's.
    pub(crate) fn apply(&self, kernel: Abilities, wait: usize) -> Result<(), String> {
        self.check(kernel)?;
        if self.denies() && !self.best_effort {
            check_alone(wait + super::thread::waiting())?;
        }
        if let Some(files) = &self.files
            && kernel.landlock > 0
        {
            files.apply(kernel)?;
        }
        if self.denies() {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            if kernel.seccomp {
                filter::apply(self).map_err(|error| format!("cannot filter its system calls: {error}"))?;
            }
            self.drop_capabilities().map_err(|error| format!("cannot give up its capabilities: {error}"))?;
        }
        self.limits.apply()
    }

    /// Drops what root could do beyond its files: it would lead out, or lift the limits. No program that is started
    /// gets it back, as the filter and Landlock require a process that gains no privileges by executing.
    fn drop_capabilities(&self) -> rustix::io::Result<()> {
        // Landlock decides about files, whatever their owner. Without `FSETID`, no file is made or changed that runs with
        // others' rights. User ids are for becoming a user with fewer rights.
        const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE
            .union(CapabilitySet::DAC_READ_SEARCH)
            .union(CapabilitySet::CHOWN)
            .union(CapabilitySet::FOWNER)
            .union(CapabilitySet::SETUID)
            .union(CapabilitySet::SETGID);
        const NETWORK: CapabilitySet =
            CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_RAW).union(CapabilitySet::NET_BROADCAST);
        keep_capabilities(if self.network { KEPT | NETWORK } else { KEPT })
    }
}

fn keep_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    let now = capabilities(None)?;
    let next = CapabilitySets {
        effective: now.effective & kept,
        permitted: now.permitted & kept,
        inheritable: now.inheritable & kept,
    };
    if next == now { Ok(()) } else { set_capabilities(None, next) }
}

fn check_alone(wait: usize) -> Result<(), String> {
    let threads = match std::fs::read_dir("/proc/self/task") {
        Ok(threads) => threads.count(),
        // Only a sandbox around this one denies that, and it confines the threads.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(format!("cannot count its threads: {error}")),
    };
    match threads.saturating_sub(1 + wait) {
        0 => Ok(()),
        others => Err(format!(
            "its sandbox would not reach {others} other threads that run already: start threads after `pool_main!` or \
             `enter()`, or accept less with `Sandbox::best_effort()`"
        )),
    }
}

impl Files {
    fn apply(&self, kernel: Abilities) -> Result<(), String> {
        // The rights of later versions are not handled, so that a sandbox means the same on every kernel.
        let abi = ABI::from(kernel.landlock.min(SCOPES));
        let refused = |error: landlock::RulesetError| format!("cannot restrict its files: {error}");
        let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        let execute = read | AccessFs::Execute;
        // No devices are made: they reach what has no path.
        let devices = make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev});
        let write = (AccessFs::from_all(abi) & !AccessFs::Execute) & !devices;
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(abi))
            .map_err(refused)?;
        if kernel.landlock >= SCOPES {
            rules = rules.scope(Scope::Signal).map_err(refused)?;
        }
        let mut rules = rules.create().map_err(refused)?;
        for (paths, access) in [(&self.reads, read), (&self.writes, write), (&self.executes, execute)] {
            for path in paths {
                let (fd, kind) = path.open()?;
                rules = rules.add_rule(below(fd, kind, access, abi)).map_err(refused)?;
            }
        }
        // Programs and libraries rely on it, and it holds no data.
        if let Some(null) = allowed::null() {
            rules = rules.add_rule(below(null, FileType::CharacterDevice, write, abi)).map_err(refused)?;
        }
        rules.restrict_self().map(drop).map_err(refused)
    }
}

fn below(fd: PathFd, kind: FileType, access: BitFlags<AccessFs>, abi: ABI) -> PathBeneath<PathFd> {
    let access = match kind {
        FileType::Directory => access,
        // A device that is named is meant to be used.
        FileType::CharacterDevice | FileType::BlockDevice if access.contains(AccessFs::WriteFile) => {
            (access | AccessFs::IoctlDev) & AccessFs::from_file(abi)
        }
        _ => access & AccessFs::from_file(abi),
    };
    PathBeneath::new(fd, access)
}

impl ResourceLimits {
    fn apply(&self) -> Result<(), String> {
        if *self != Self::default() {
            keep_limits().map_err(|error| format!("cannot give up the right to lift its limits: {error}"))?;
        }
        // `RLIMIT_DATA` counts what only this process can write. `RLIMIT_AS` would also count rings, shared slices and
        // large arguments, which are the parent's memory, unused stacks, and the program's own file.
        for (resource, limit, grace) in [
            (Resource::Data, self.memory, 0),
            // A second for a handler of the signal; then the kernel kills.
            (Resource::Cpu, self.cpu_time, 1),
            (Resource::Fsize, self.file_size, 0),
            (Resource::Nofile, self.open_files, 0),
        ] {
            let Some(limit) = limit else { continue };
            // A lower limit that is in force stays.
            let failed = |error| format!("cannot limit its resources ({resource:?}): {error}");
            let most = step::limits_of(resource).map_err(failed)?.1.unwrap_or(u64::MAX);
            let (current, maximum) = (Some(limit.min(most)), Some(limit.saturating_add(grace).min(most)));
            setrlimit(resource, Rlimit { current, maximum }).map_err(|error| failed(step::PRLIMIT.failed(error)))?;
        }
        Ok(())
    }
}

/// Gives up the right to lift limits, also for programs that are started.
fn keep_limits() -> rustix::io::Result<()> {
    if capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        remove_capability_from_bounding_set(CapabilitySet::SYS_RESOURCE)?;
    }
    keep_capabilities(!CapabilitySet::SYS_RESOURCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Abilities = Abilities { landlock: 0, seccomp: false };

    #[test]
    fn best_effort_goes_on_with_what_there_is() {
        // Of a kernel that can do nothing, nothing is asked; a thread of its own gives up its capabilities.
        let confinement = Confinement {
            files: Some(Files::default()),
            network: false,
            processes: false,
            limits: ResourceLimits::default(),
            best_effort: true,
        };
        std::thread::spawn(move || {
            assert_eq!(confinement.apply(NOTHING, 0), Ok(()));
            std::fs::File::open("/proc/self/stat").unwrap();
            assert!(!capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_ADMIN));
        })
        .join()
        .unwrap();
    }
}
