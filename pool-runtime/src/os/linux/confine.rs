//! Denies this process files (Landlock), system calls (seccomp), capabilities, and resources (limits).
//!
//! ```text
//!   Confinement ─▶ missing? ─▶ Landlock: paths ─▶ seccomp: calls ─▶ capabilities ─▶ limits     for good
//! ```
//!
//! Each of the four closes what the others leave open. Landlock decides by path what may be opened, and who may be
//! traced, and little else; the filter sees the numbers of calls and no path; capabilities would lift limits; limits
//! bound what both allow.

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
use rustix::process::{Resource, Rlimit, getuid, setrlimit};
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
        if self.denies() {
            let devices = match &self.files {
                _ if kernel.landlock < 1 => Devices::NotNamed,
                Some(files) => files.apply(kernel)?,
                None => keep_to_itself(kernel).map(|()| Devices::NotNamed)?,
            };
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            if kernel.seccomp {
                filter::apply(self, devices).map_err(|error| format!("cannot filter its system calls: {error}"))?;
            }
            self.drop_capabilities().map_err(|error| format!("cannot give up its capabilities: {error}"))?;
        }
        self.limits.apply(self.best_effort)
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

/// Whether the only files that may be opened are devices too: those are of use with requests of their own alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Devices {
    Named,
    NotNamed,
}

/// Lets this process neither trace, read nor signal processes outside, and all else be as it is: Landlock keeps each
/// process in a domain from that, whatever else the domain denies.
fn keep_to_itself(kernel: Abilities) -> Result<(), String> {
    let refused = |error: landlock::RulesetError| format!("cannot keep it from other processes: {error}");
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let rules = if kernel.landlock >= SCOPES {
        rules.scope(Scope::Signal).and_then(Ruleset::create).map_err(refused)?
    } else {
        // A right has to be denied, and is then allowed everywhere. Moving files between directories is denied unless it
        // is allowed; the first version of Landlock cannot allow it.
        let right = if kernel.landlock > 1 { AccessFs::Refer } else { AccessFs::MakeFifo };
        let root = PathFd::new("/").map_err(|error| format!("cannot keep it from other processes: {error}"))?;
        let rules = rules.handle_access(right).and_then(Ruleset::create).map_err(refused)?;
        rules.add_rule(PathBeneath::new(root, right)).map_err(refused)?
    };
    rules.restrict_self().map(drop).map_err(refused)
}

impl Files {
    fn apply(&self, kernel: Abilities) -> Result<Devices, String> {
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
        let mut devices = Devices::NotNamed;
        for (paths, access) in [(&self.reads, read), (&self.writes, write), (&self.executes, execute)] {
            for path in paths {
                let (fd, kind) = path.open()?;
                if is_device(kind) && access.contains(AccessFs::WriteFile) && !allowed::is_null(&fd) {
                    devices = Devices::Named;
                }
                rules = rules.add_rule(below(fd, kind, access, abi)).map_err(refused)?;
            }
        }
        // Programs and libraries rely on it, and it holds no data.
        if let Some(null) = allowed::null() {
            rules = rules.add_rule(below(null, FileType::CharacterDevice, write, abi)).map_err(refused)?;
        }
        rules.restrict_self().map(|_| devices).map_err(refused)
    }
}

fn is_device(kind: FileType) -> bool {
    matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
}

fn below(fd: PathFd, kind: FileType, access: BitFlags<AccessFs>, abi: ABI) -> PathBeneath<PathFd> {
    let access = match kind {
        FileType::Directory => access,
        // A device that is named is meant to be used.
        _ if is_device(kind) && access.contains(AccessFs::WriteFile) => {
            (access | AccessFs::IoctlDev) & AccessFs::from_file(abi)
        }
        _ => access & AccessFs::from_file(abi),
    };
    PathBeneath::new(fd, access)
}

/// How large the stack of the main thread may become beside the memory that is limited, in bytes.
const MOST_STACK: u64 = 64 << 20;

impl ResourceLimits {
    fn apply(&self, best_effort: bool) -> Result<(), String> {
        if self.threads.is_some() && !best_effort && is_root_of_the_machine() {
            return Err(
                "its sandbox limits threads, which the kernel does not do for root: run this program as another \
                        user; with `Sandbox::best_effort()`, there is no such limit"
                    .into(),
            );
        }
        if *self != Self::default() {
            self.keep().map_err(|error| format!("cannot give up the right to lift its limits: {error}"))?;
        }
        // `RLIMIT_DATA` counts what only this process can write. `RLIMIT_AS` would also count rings, shared slices and
        // large arguments, which are the parent's memory, unused stacks, and the program's own file.
        for (resource, limit, grace) in [
            (Resource::Data, self.memory, 0),
            // A second for a handler of the signal; then the kernel kills.
            (Resource::Cpu, self.cpu_time, 1),
            (Resource::Fsize, self.file_size, 0),
            (Resource::Nofile, self.open_files, 0),
            (Resource::Nproc, self.threads, 0),
            (Resource::Sigpending, self.pending_signals, 0),
            (Resource::Core, self.core, 0),
        ] {
            let Some(limit) = limit else { continue };
            // A lower limit that is in force stays.
            let failed = |error| format!("cannot limit its resources ({resource:?}): {error}");
            let most = step::limits_of(resource).map_err(failed)?.1.unwrap_or(u64::MAX);
            let (current, maximum) = (Some(limit.min(most)), Some(limit.saturating_add(grace).min(most)));
            setrlimit(resource, Rlimit { current, maximum }).map_err(|error| failed(step::PRLIMIT.failed(error)))?;
        }
        if self.memory.is_some() {
            // `RLIMIT_DATA` does not count the stack of the main thread.
            let failed = |error| format!("cannot limit its stack: {error}");
            let limit = step::limits_of(Resource::Stack).map_err(failed)?.0;
            let limit = Some(limit.map_or(MOST_STACK, |limit| limit.min(MOST_STACK)));
            let stack = Rlimit { current: limit, maximum: limit };
            setrlimit(Resource::Stack, stack).map_err(|error| failed(step::PRLIMIT.failed(error)))?;
            super::forget_stack();
        }
        Ok(())
    }

    /// Gives up the right to lift limits, also for programs that are started; and what exempts from that of threads.
    fn keep(&self) -> rustix::io::Result<()> {
        let (resources, any) = (CapabilitySet::SYS_RESOURCE, CapabilitySet::SYS_ADMIN);
        let given_up = if self.threads.is_some() { resources | any } else { resources };
        if capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
            given_up.iter().try_for_each(remove_capability_from_bounding_set)?;
        }
        keep_capabilities(!given_up)
    }
}

/// Root, not as seen from a user namespace: there, root is another user of the machine.
fn is_root_of_the_machine() -> bool {
    // Where that cannot be read, a sandbox around this one denies it.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    getuid().is_root() && map.split_whitespace().take(2).all(|id| id == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Abilities = Abilities { landlock: 0, seccomp: false };

    #[test]
    fn who_is_kept_to_itself_uses_files_as_before() {
        use std::os::unix::process::CommandExt as _;
        let latest = Abilities::here().landlock;
        if latest < SCOPES {
            return eprintln!("skipped: the kernel's Landlock has version {latest}");
        }
        let mut sleeper = std::process::Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let memory = format!("/proc/{}/mem", sleeper.id());
        for landlock in [1, 2, 5, latest] {
            let memory = memory.clone();
            // Landlock confines a thread.
            let confined = move || {
                let dir = tempfile::tempdir().unwrap();
                let (old, new) = (dir.path().join("old"), dir.path().join("new"));
                [&old, &new].into_iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
                std::fs::write(old.join("file"), "text").unwrap();
                std::fs::File::open(&memory).unwrap();
                keep_to_itself(Abilities { landlock, seccomp: false }).unwrap();
                let read = std::fs::File::open(&memory).map(drop).map_err(|error| error.kind());
                assert_eq!(read, Err(io::ErrorKind::PermissionDenied), "version {landlock}");
                let moved = std::fs::rename(old.join("file"), new.join("file"));
                assert_eq!(moved.is_ok(), landlock > 1, "version {landlock}");
                std::fs::write(new.join("other"), "text").unwrap();
            };
            std::thread::spawn(confined).join().unwrap();
        }
        sleeper.kill().and_then(|()| sleeper.wait()).unwrap();
    }

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
