//! Takes away from this process what it may not do: its files (Landlock), system calls (seccomp), capabilities, and
//! resources (limits).
//!
//! ```text
//!   Confinement ─▶ missing? ─▶ Landlock: paths ─▶ seccomp: calls ─▶ capabilities ─▶ limits     for good
//! ```
//!
//! Each of the four closes what the others leave open. Landlock decides by path what may be opened, and knows little
//! else; the filter sees the numbers of calls and no path; capabilities would lift limits; and limits count what both
//! allow.

mod allowed;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod filter;

use crate::os::confinement::SCOPES;
use crate::os::{Abilities, Confinement, Files, ResourceLimits};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope, make_bitflags,
};
use rustix::fs::FileType;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities,
};
use std::io;

impl Abilities {
    /// Those of the kernel that this process runs on.
    pub(crate) fn here() -> Self {
        const VERSION: u32 = 1;
        // SAFETY: without attributes, of length 0, the call only says the version.
        let landlock =
            unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
        let action = libc::SECCOMP_RET_ERRNO;
        // SAFETY: the call reads the action, and says whether there is such a one.
        let seccomp = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
        Self {
            landlock: landlock.clamp(0, i32::MAX.into()) as i32,
            seccomp: seccomp == 0 && cfg!(any(target_arch = "x86_64", target_arch = "aarch64")),
        }
    }
}

impl Confinement {
    /// Confines this process, as far as such a kernel can.
    ///
    /// Landlock holds for the calling thread and for those that it will have started: there must be no others, but so
    /// many that only `wait` and run nothing of the user's.
    ///
    /// # Errors
    ///
    /// Something was refused, or is missing; what it is. The process is to end then: it may be half confined.
    pub(crate) fn apply(&self, kernel: Abilities, wait: usize) -> Result<(), String> {
        self.check(kernel)?;
        if self.denies() && !self.best_effort {
            self.is_alone(wait)?;
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

    /// Landlock and capabilities are of a thread, not of a process.
    fn is_alone(&self, wait: usize) -> Result<(), String> {
        let threads = match threads() {
            // Nobody is kept from a look at oneself but by another sandbox around this one, where the threads that are
            // there are confined by that.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            threads => threads.map_err(|error| format!("cannot count its threads: {error}"))?,
        };
        match threads.saturating_sub(1 + wait) {
            0 => Ok(()),
            others => Err(format!(
                "its sandbox would not reach {others} other threads that run already: start threads after \
                 `pool_main!` or `enter()`, or accept less with `Sandbox::best_effort()`"
            )),
        }
    }

    /// What root could do beyond its files would lead out, or lift the limits. Nothing started from here gets it back:
    /// the filter and Landlock need a process that gains no privileges by executing.
    fn drop_capabilities(&self) -> rustix::io::Result<()> {
        // Landlock says which files; whose they are is none of its concern. But no file that runs with others' rights
        // is to be made or changed, so not `FSETID`.
        const FILES: CapabilitySet = CapabilitySet::DAC_OVERRIDE
            .union(CapabilitySet::DAC_READ_SEARCH)
            .union(CapabilitySet::CHOWN)
            .union(CapabilitySet::FOWNER);
        // To become somebody with fewer rights.
        const LESS: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);
        const NETWORK: CapabilitySet =
            CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_RAW).union(CapabilitySet::NET_BROADCAST);
        let kept = if self.network { FILES | LESS | NETWORK } else { FILES | LESS };
        let now = capabilities(None)?;
        let next = CapabilitySets {
            effective: now.effective & kept,
            permitted: now.permitted & kept,
            inheritable: now.inheritable & kept,
        };
        if next == now { Ok(()) } else { set_capabilities(None, next) }
    }
}

/// How many threads this process has.
fn threads() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

impl Files {
    fn apply(&self, kernel: Abilities) -> Result<(), String> {
        // Rights of later versions are not asked for: what a sandbox is would depend on the kernel.
        let abi = ABI::from(kernel.landlock.min(SCOPES));
        let refused = |error: landlock::RulesetError| format!("cannot restrict its files: {error}");
        let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        let execute = read | AccessFs::Execute;
        // No devices are made: they are ways to what no path says.
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
        // Programs and libraries take it for granted, and there is nothing in it.
        if let Some(null) = allowed::null() {
            rules = rules.add_rule(below(null, FileType::CharacterDevice, write, abi)).map_err(refused)?;
        }
        rules.restrict_self().map(drop).map_err(refused)
    }
}

/// Allows this of a file, or of all below a directory.
fn below(fd: PathFd, kind: FileType, access: BitFlags<AccessFs>, abi: ABI) -> PathBeneath<PathFd> {
    let access = match kind {
        FileType::Directory => access,
        // Who names a device wants to use it.
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
        // Of memory, what the process alone can write (`RLIMIT_DATA`), and not its addresses (`RLIMIT_AS`): among those
        // are rings, shared slices and large arguments, which are the parent's memory and come and go with its calls,
        // stacks that are reserved and never used, and the program's own file.
        for (resource, limit, spare) in [
            (Resource::Data, self.memory, 0),
            // After the signal, a second for those who handle it; then the kernel kills.
            (Resource::Cpu, self.cpu_time, 1),
            (Resource::Fsize, self.file_size, 0),
            (Resource::Nofile, self.open_files, 0),
        ] {
            let Some(limit) = limit else { continue };
            // Where less is allowed already, that stays.
            let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let rlimit =
                Rlimit { current: Some(limit.min(most)), maximum: Some(limit.saturating_add(spare).min(most)) };
            setrlimit(resource, rlimit)
                .map_err(|error| format!("cannot limit its resources ({resource:?}): {error}"))?;
        }
        Ok(())
    }
}

/// Gives up the right to lift limits, also for what is started from here.
fn keep_limits() -> rustix::io::Result<()> {
    const LIFTS: CapabilitySet = CapabilitySet::SYS_RESOURCE;
    let now = capabilities(None)?;
    if now.effective.contains(CapabilitySet::SETPCAP) {
        remove_capability_from_bounding_set(LIFTS)?;
    }
    let next = CapabilitySets {
        effective: now.effective - LIFTS,
        permitted: now.permitted - LIFTS,
        inheritable: now.inheritable - LIFTS,
    };
    if next == now { Ok(()) } else { set_capabilities(None, next) }
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
