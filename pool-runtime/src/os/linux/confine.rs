//! Denies this process files (Landlock), system calls (seccomp), capabilities, and resources (limits).
//!
//! ```text
//!   Confinement ─▶ missing? ─▶ terminal ─▶ each thread: Landlock (paths), capabilities ─▶ seccomp: calls ─▶ limits
//! ```
//!
//! Each of the last four closes what the others leave open. Landlock decides by path what may be opened, and who may be
//! traced, and little else; the filter sees the numbers of calls and no path; capabilities would lift limits; limits
//! bound what both allow.

mod allowed;
mod directories;
mod everywhere;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod filter;
mod terminal;

use super::step;
use crate::os::confinement::SCOPES;
use crate::os::{Abilities, Confinement, Files, ResourceLimits};
use directories::{Exempt, Gift, below, is_device};
use everywhere::{OfThread, check_alone, waiting_threads};
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, Scope, make_bitflags,
};
use rustix::fs::FileType;
use rustix::process::{Resource, Rlimit, getuid, setrlimit};
use rustix::thread::CapabilitySet;

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
    /// There must be no threads but the calling one and those that wait for it: that of
    /// [`with_room`](super::thread::with_room), and the first one of a test harness, if it does.
    pub(crate) fn apply(&self, kernel: Abilities, harness_waits: bool) -> Result<(), String> {
        self.check(kernel)?;
        let others = waiting_threads(harness_waits);
        if self.denies() && !self.best_effort {
            check_alone(&others)?;
        }
        self.limits.check(self.best_effort)?;
        if self.denies()
            && let Some(error) = terminal::leave().err().filter(|_| !self.best_effort)
        {
            return Err(format!("cannot keep it from the terminal of its program: {error}"));
        }
        let mut of_thread = OfThread { kept: self.kept(), given_up: self.limits.given_up(), rules: None };
        let mut devices = Devices::NotNamed;
        if self.denies() && kernel.landlock >= 1 {
            let rules = match &self.files {
                Some(files) => files.rules(kernel, Exempt::here(self.limits.memory.is_some()), &mut devices)?,
                None => keep_to_itself(kernel)?,
            };
            of_thread.rules = Some(Option::from(rules).ok_or("cannot confine it: Landlock has made no rules")?);
        }
        // Others first: who is confined already may not send them signals.
        let confined = of_thread.confine_others(&others);
        confined.or_else(|why| if self.best_effort { Ok(()) } else { Err(why) })?;
        of_thread.confine_this().map_err(|error| format!("cannot confine its thread: {error}"))?;
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        if self.denies() && kernel.seccomp {
            filter::apply(self, devices).map_err(|error| format!("cannot filter its system calls: {error}"))?;
        }
        if self.denies()
            && let Some(error) = keep_priority().err().filter(|_| !self.best_effort)
        {
            return Err(format!("cannot give up the right to a higher priority: {error}"));
        }
        self.limits.apply()
    }

    /// What is left of root's rights beyond its files: the others would lead out, or lift the limits. No program that is
    /// started gets them back, as the filter and Landlock require a process that gains no privileges by executing.
    fn kept(&self) -> CapabilitySet {
        // Landlock decides about files, whatever their owner. Without `FSETID`, no file is made that runs with others'
        // rights, and one that is written to loses them, but not by a mapping.
        const KEPT: CapabilitySet = CapabilitySet::DAC_OVERRIDE
            .union(CapabilitySet::DAC_READ_SEARCH)
            .union(CapabilitySet::CHOWN)
            .union(CapabilitySet::FOWNER);
        // Programs become users with fewer rights. The kernel does not end with its parent who has become another user,
        // so that is for those alone who could leave something behind in any case.
        const PROCESSES: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);
        const NETWORK: CapabilitySet =
            CapabilitySet::NET_BIND_SERVICE.union(CapabilitySet::NET_RAW).union(CapabilitySet::NET_BROADCAST);
        let denied = if self.processes { KEPT | PROCESSES } else { KEPT };
        let all = if self.denies() { denied } else { CapabilitySet::all() };
        (if self.network { all | NETWORK } else { all }) & !self.limits.given_up()
    }
}

/// Some users may do without capabilities what those are for: take a processor from everybody else.
fn keep_priority() -> std::io::Result<()> {
    for resource in [Resource::Rtprio, Resource::Nice] {
        if step::limits_of(resource)?.1 != Some(0) {
            let none = Rlimit { current: Some(0), maximum: Some(0) };
            setrlimit(resource, none).map_err(|error| step::PRLIMIT.failed(error))?;
        }
    }
    Ok(())
}

/// Whether devices were named: those are of use with requests of their own alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Devices {
    NotNamed,
    Named,
    /// Terminals among them, whose requests nothing tells from those to a terminal that the process has inherited.
    Terminals,
}

/// Rules by which this process neither traces, reads nor signals processes outside, and all else is as it was: Landlock
/// keeps each process in a domain from that, whatever else the domain denies.
fn keep_to_itself(kernel: Abilities) -> Result<RulesetCreated, String> {
    let refused = |error: landlock::RulesetError| format!("cannot keep it from other processes: {error}");
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if kernel.landlock >= SCOPES {
        rules.scope(Scope::Signal).and_then(Ruleset::create).map_err(refused)
    } else {
        // A right has to be denied, and is then allowed everywhere. Moving files between directories is denied unless it
        // is allowed; the first version of Landlock cannot allow it.
        let right = if kernel.landlock > 1 { AccessFs::Refer } else { AccessFs::MakeFifo };
        let root = PathFd::new("/").map_err(|error| format!("cannot keep it from other processes: {error}"))?;
        let rules = rules.handle_access(right).and_then(Ruleset::create).map_err(refused)?;
        rules.add_rule(PathBeneath::new(root, right)).map_err(refused)
    }
}

impl Files {
    fn rules(&self, kernel: Abilities, exempt: Exempt, devices: &mut Devices) -> Result<RulesetCreated, String> {
        // The rights of later versions are not handled, so that a sandbox means the same on every kernel.
        let abi = ABI::from(kernel.landlock.min(SCOPES));
        let refused = |error: landlock::RulesetError| format!("cannot restrict its files: {error}");
        let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
        let execute = read | AccessFs::Execute;
        // No devices are made: they reach what has no path.
        let of_devices = make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev});
        let write = (AccessFs::from_all(abi) & !AccessFs::Execute) & !of_devices;
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
                let (fd, found) = path.open()?;
                let kind = FileType::from_raw_mode(found.st_mode);
                if is_device(kind) && access.contains(AccessFs::WriteFile) && !allowed::is_null(&found) {
                    let is_terminal = kind == FileType::CharacterDevice && terminal::is_terminal(found.st_rdev);
                    *devices = (*devices).max(if is_terminal { Devices::Terminals } else { Devices::Named });
                }
                let mut gift = Gift { access, abi, rules: &mut rules };
                exempt.give(fd, &found, &mut gift).map_err(|error| path.refused(error))?;
            }
        }
        // Programs and libraries rely on it, and it holds no data.
        if let Some(null) = allowed::null() {
            rules = rules.add_rule(below(null, FileType::CharacterDevice, write, abi)).map_err(refused)?;
        }
        Ok(rules)
    }
}

/// How large the stack of the main thread may become beside the memory that is limited, in bytes.
const MOST_STACK: u64 = 64 << 20;

impl ResourceLimits {
    fn check(&self, best_effort: bool) -> Result<(), String> {
        if self.threads.is_some() && !best_effort && is_root_of_the_machine() {
            return Err(
                "its sandbox limits threads, which the kernel does not do for root: run this program as another \
                        user; with `Sandbox::best_effort()`, there is no such limit"
                    .into(),
            );
        }
        Ok(())
    }

    fn apply(&self) -> Result<(), String> {
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
            // Where images go to a program, the kernel takes 0 for no limit, and 1 for none.
            (Resource::Core, self.core.map(|bytes| bytes.max(1)), 0),
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

    /// The right to lift limits, which no program gets that is started; and what exempts from that of threads.
    fn given_up(&self) -> CapabilitySet {
        if *self == Self::default() {
            return CapabilitySet::empty();
        }
        let (resources, any) = (CapabilitySet::SYS_RESOURCE, CapabilitySet::SYS_ADMIN);
        if self.threads.is_some() { resources | any } else { resources }
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
                let rules = keep_to_itself(Abilities { landlock, seccomp: false }).unwrap().into();
                let (kept, given_up) = (CapabilitySet::all(), CapabilitySet::empty());
                OfThread { rules, kept, given_up }.confine_this().unwrap();
                let read = std::fs::File::open(&memory).map(drop).map_err(|error| error.kind());
                assert_eq!(read, Err(std::io::ErrorKind::PermissionDenied), "version {landlock}");
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
            inherits_env: true,
        };
        std::thread::spawn(move || {
            assert_eq!(confinement.apply(NOTHING, false), Ok(()));
            std::fs::File::open("/proc/self/stat").unwrap();
            assert!(!rustix::thread::capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_ADMIN));
        })
        .join()
        .unwrap();
    }
}
