//! What a directory includes when it is given to a confined process, and what has to be named itself.
//!
//! Rules of Landlock hold for all that is below a directory, whatever is mounted there, and none takes anything back. So a
//! directory above one of these is not given as a whole, but each of its entries is:
//!
//! | below | what is given |
//! |---|---|
//! | file systems that are the kernel's own interfaces (`/proc`, `/sys`, control groups) | to read: who writes there decides about other processes |
//! | `/dev` | all but devices, and the devices that hold nothing |
//! | pseudoterminals | nothing |
//! | a directory above those | to be listed; its other entries as a whole |
//!
//! They are known by their identity, as links and mounts lead to them under other names.

use landlock::{
    ABI, AccessFs, AddRuleError, AddRulesError, BitFlags, PathBeneath, RulesetCreated, RulesetCreatedAttr as _,
    RulesetError, make_bitflags,
};
use rustix::fs::{Access, AtFlags, Dir, FileType, Mode, OFlags, Stat, accessat, fstat, major, minor, openat, stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The types of file systems whose files are the kernel's.
const INTERFACES: &[&str] = &[
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "cpuset",
    "debugfs",
    "tracefs",
    "configfs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "efivarfs",
    "pstore",
    "bpf",
    "fusectl",
    "binfmt_misc",
    "resctrl",
    "functionfs",
    "binder",
    "mqueue",
];

/// Where these are, if nobody tells what is mounted.
const USUALLY: [(&str, Exemption); 4] = [
    ("/dev", Exemption::Devices),
    ("/dev/pts", Exemption::Terminals),
    ("/proc", Exemption::Processes),
    ("/sys", Exemption::Interface),
];

/// How deep directories of devices are looked through.
const DEPTH: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exemption {
    Interface,
    /// All processes: nobody who is given them is meant to have those of others.
    Processes,
    Devices,
    Terminals,
}

/// The device and the inode of a directory.
type Id = (u64, u64);

fn id(found: &Stat) -> Id {
    (found.st_dev, found.st_ino)
}

fn kind_of(found: &Stat) -> FileType {
    FileType::from_raw_mode(found.st_mode)
}

/// The directories that are not given with what is above them.
#[derive(Debug, Default)]
pub(super) struct Exempt {
    /// Shared mappings of `/dev/zero` are memory that no limit counts: with a limit, it has to be named as others.
    zero: bool,
    kinds: BTreeMap<Id, Exemption>,
    /// The directories above those.
    above: BTreeSet<Id>,
}

/// What is given, and to whom.
pub(super) struct Gift<'a> {
    pub(super) access: BitFlags<AccessFs>,
    pub(super) abi: ABI,
    pub(super) rules: &'a mut RulesetCreated,
}

impl Gift<'_> {
    fn as_it_is(&mut self, fd: OwnedFd, kind: FileType) -> io::Result<()> {
        self.add(below(fd, kind, self.access, self.abi))
    }

    /// The same, with these rights alone.
    fn at_most(&mut self, fd: OwnedFd, most: BitFlags<AccessFs>) -> io::Result<()> {
        let access = self.access & most;
        if access.is_empty() { Ok(()) } else { self.add(PathBeneath::new(fd, access)) }
    }

    fn add(&mut self, rule: PathBeneath<OwnedFd>) -> io::Result<()> {
        let refused = |error| match error {
            RulesetError::AddRules(AddRulesError::Fs(AddRuleError::AddRuleCall { source, .. })) => source,
            error => io::Error::other(error.to_string()),
        };
        self.rules.add_rule(rule).map(drop).map_err(refused)
    }
}

const READING: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | Execute});

impl Exempt {
    pub(super) fn here(memory_is_limited: bool) -> Self {
        let mut exempt = Self { zero: memory_is_limited, ..Self::default() };
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mounted = mounts.split(|byte| *byte == b'\n').filter_map(mount);
        let usually = USUALLY.map(|(path, kind)| (PathBuf::from(path), kind));
        // Those that are mounted come last: the file system tells more than the name.
        for (path, kind) in usually.into_iter().chain(mounted) {
            exempt.add(&path, kind);
        }
        exempt
    }

    /// What cannot be reached from here, by its name, cannot be given either.
    fn add(&mut self, path: &Path, kind: Exemption) {
        let Ok(found) = stat(path) else { return };
        if kind_of(&found) != FileType::Directory {
            return;
        }
        self.kinds.insert(id(&found), kind);
        let above = path.ancestors().skip(1).filter_map(|above| stat(above).ok());
        self.above.extend(above.map(|found| id(&found)));
    }

    /// Gives what was named.
    pub(super) fn give(&self, fd: OwnedFd, found: &Stat, gift: &mut Gift<'_>) -> io::Result<()> {
        match self.kinds.get(&id(found)) {
            Some(Exemption::Processes) => gift.at_most(fd, READING),
            Some(Exemption::Devices) => self.devices(fd, found.st_dev, gift, DEPTH),
            _ => self.directory(fd, found, gift),
        }
    }

    fn directory(&self, fd: OwnedFd, found: &Stat, gift: &mut Gift<'_>) -> io::Result<()> {
        if !self.above.contains(&id(found)) {
            return gift.as_it_is(fd, kind_of(found));
        }
        self.each(fd, gift, |fd, found, gift| self.part(fd, &found, gift))
    }

    /// Gives an entry of a directory that is given.
    fn part(&self, fd: OwnedFd, found: &Stat, gift: &mut Gift<'_>) -> io::Result<()> {
        match self.kinds.get(&id(found)) {
            _ if self.is_harmless(found) => {
                gift.at_most(fd, make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate}))
            }
            _ if is_device(kind_of(found)) => Ok(()),
            Some(Exemption::Interface | Exemption::Processes) => gift.at_most(fd, READING),
            Some(Exemption::Devices) => self.devices(fd, found.st_dev, gift, DEPTH),
            Some(Exemption::Terminals) => Ok(()),
            None => self.directory(fd, found, gift),
        }
    }

    /// A device that holds nothing: null, zero, full, random, urandom.
    fn is_harmless(&self, found: &Stat) -> bool {
        kind_of(found) == FileType::CharacterDevice
            && major(found.st_rdev) == 1
            && match minor(found.st_rdev) {
                5 => !self.zero,
                minor => matches!(minor, 3 | 7 | 8 | 9),
            }
    }

    /// Gives a directory of devices, and those below.
    fn devices(&self, fd: OwnedFd, device: u64, gift: &mut Gift<'_>, depth: u32) -> io::Result<()> {
        self.each(fd, gift, |fd, found, gift| match kind_of(&found) {
            // Where everybody may make files, as in `/dev/shm`, there are no devices. Another file system has none.
            FileType::Directory if found.st_dev == device && found.st_mode & 0o002 == 0 => match depth.checked_sub(1) {
                Some(depth) => self.devices(fd, device, gift, depth),
                None => Ok(()),
            },
            _ => self.part(fd, &found, gift),
        })
    }

    /// Lets a directory be listed, and does something with each of its entries. Links are none: what they lead to is an
    /// entry elsewhere.
    fn each(
        &self,
        fd: OwnedFd,
        gift: &mut Gift<'_>,
        mut entry: impl FnMut(OwnedFd, Stat, &mut Gift<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let list = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let listed = match openat(fd.as_fd(), ".", list, Mode::empty()) {
            Ok(listed) => listed,
            // Anybody may, by its mode: a sandbox around this one denies it, and decides about what is below.
            Err(Errno::ACCESS) if accessat(fd.as_fd(), ".", Access::READ_OK, AtFlags::EACCESS).is_ok() => {
                return gift.as_it_is(fd, FileType::Directory);
            }
            Err(Errno::ACCESS) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for listed in Dir::read_from(&listed)? {
            let name = listed?.file_name().to_owned();
            if [c".", c".."].contains(&name.as_c_str()) {
                continue;
            }
            // It may be gone by now.
            let Ok(child) = openat(fd.as_fd(), &name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            else {
                continue;
            };
            // What another user has mounted may tell nothing.
            if let Ok(found) = fstat(&child)
                && kind_of(&found) != FileType::Symlink
            {
                match entry(child, found, gift) {
                    // Landlock has no rules for what the kernel keeps to itself in a file system.
                    Err(error) if Errno::from_io_error(&error) == Some(Errno::BADFD) => {}
                    given => given?,
                }
            }
        }
        gift.at_most(fd, AccessFs::ReadDir.into())
    }
}

pub(super) fn is_device(kind: FileType) -> bool {
    matches!(kind, FileType::CharacterDevice | FileType::BlockDevice)
}

pub(super) fn below(fd: OwnedFd, kind: FileType, access: BitFlags<AccessFs>, abi: ABI) -> PathBeneath<OwnedFd> {
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

/// The place of a mount and its kind, from a line of `/proc/self/mountinfo`, if it is one of these.
fn mount(line: &[u8]) -> Option<(PathBuf, Exemption)> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let end = fields.iter().position(|field| *field == b"-")?;
    let kind = match std::str::from_utf8(fields.get(end + 1)?).ok()? {
        "devpts" => Exemption::Terminals,
        "devtmpfs" => Exemption::Devices,
        // What a container mounts there may be a part.
        "proc" if fields.get(3) == Some(&&b"/"[..]) => Exemption::Processes,
        other if INTERFACES.contains(&other) => Exemption::Interface,
        _ => return None,
    };
    Some((unescaped(fields.get(4)?), kind))
}

/// Blanks, tabs, line ends and backslashes are written as `\` and three octal digits.
fn unescaped(mut field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    while let Some((first, rest)) = field.split_first() {
        let octal = (*first == b'\\').then(|| rest.get(..3)).flatten();
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        field = if code.is_some() { &rest[3..] } else { rest };
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use landlock::{Ruleset, RulesetAttr as _};

    #[test]
    fn mounts_are_known_by_their_type() {
        let line = |place: &str, kind: &str| format!("24 27 0:6 / {place} rw,relatime shared:2 master:1 - {kind} x rw");
        let of = |place: &str, kind: &str| mount(line(place, kind).as_bytes());
        assert_eq!(of("/dev/pts", "devpts"), Some(("/dev/pts".into(), Exemption::Terminals)));
        assert_eq!(of("/a\\040b\\134c", "cgroup2"), Some(("/a b\\c".into(), Exemption::Interface)));
        assert_eq!(of("/srv/proc", "proc"), Some(("/srv/proc".into(), Exemption::Processes)));
        let part = line("/proc/sys", "proc").replace("0:6 / ", "0:6 /sys ");
        assert_eq!(mount(part.as_bytes()), Some(("/proc/sys".into(), Exemption::Interface)));
        assert_eq!(of("/", "ext4"), None);
        for odd in ["", " ", "-", "1 2 3 4 5 -", "1 - proc"] {
            assert_eq!(mount(odd.as_bytes()), None, "{odd:?}");
        }
    }

    #[test]
    fn what_landlock_does_not_take_is_left_out() {
        let Ok(mut rules) = Ruleset::default().handle_access(READING).and_then(Ruleset::create) else {
            return eprintln!("not tested: there is no Landlock");
        };
        if Option::<OwnedFd>::from(rules.try_clone().unwrap()).is_none() {
            return eprintln!("not tested: there is no Landlock");
        }
        let mut gift = Gift { access: READING, abi: ABI::V1, rules: &mut rules };
        let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        // A namespace that is nowhere mounted: whoever names it is told.
        let namespace = Path::new("/proc/self/ns/net");
        let given = Exempt::default().give(open(namespace), &stat(namespace).unwrap(), &mut gift);
        let refused = given.unwrap_err();
        assert_eq!(Errno::from_io_error(&refused), Some(Errno::BADFD), "{refused}");
        // In a directory, all else is given; but no other error is passed over.
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "other"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let mut seen = 0;
        let mut each = |error: Errno| {
            Exempt::default().each(open(dir.path()), &mut gift, |_, _, _| {
                seen += 1;
                Err(error.into())
            })
        };
        each(Errno::BADFD).unwrap();
        each(Errno::NOMEM).unwrap_err();
        assert_eq!(seen, 3);
    }

    #[test]
    fn what_is_exempt_is_known_by_its_identity() {
        let exempt = Exempt::here(false);
        let of = |path: &str| id(&stat(path).unwrap());
        assert_eq!(exempt.kinds.get(&of("/proc")), Some(&Exemption::Processes));
        assert_eq!(exempt.kinds.get(&of("/dev")), Some(&Exemption::Devices));
        assert!(exempt.above.contains(&of("/")) && !exempt.above.contains(&of("/usr")));
    }
}
