//! Who decides what is found at a path: whoever may replace a directory on the way there, or has made a link on it.
//!
//! A path is followed from the root on, one name after the other, as the kernel does it. Each directory must belong to
//! this user or to root, and nobody else may make, rename or remove anything in it, unless it is sticky, as `/tmp` is.
//! Each link must be this user's or root's. What was checked stays as it is then, as far as others are concerned, so
//! that the path can be used afterwards.

use crate::os::NotPrivate;
use rustix::fs::{FileType, Mode, Stat, getxattr, lstat, readlink};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// Checks all that is above this path, and the links on the way there; not what is there itself. The path may be missing,
/// from anywhere on.
///
/// # Errors
///
/// A [`NotPrivate`] if others decide what is there; or as the system says.
pub(super) fn check_way(path: &Path) -> io::Result<()> {
    let mut rest = Vec::new();
    push_names(&std::path::absolute(path)?, &mut rest);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    let users = Users::here();
    let mut anyone_makes = users.check(&at, &lstat(&at)?, false)?;
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            anyone_makes = users.check(&at, &lstat(&at)?, false)?;
            continue;
        }
        let place = at.join(&name);
        let found = match lstat(&place) {
            Err(Errno::NOENT) => return Ok(()),
            found => found?,
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP.into());
            }
            if !users.are_trusted(found.st_uid, anyone_makes) {
                let (place, user) = (place.display(), found.st_uid);
                return Err(NotPrivate(format!("{place} is a link that user {user} has made")).into());
            }
            let to = PathBuf::from(OsString::from_vec(readlink(&place, Vec::new())?.into_bytes()));
            if to.is_absolute() {
                at = PathBuf::from("/");
                anyone_makes = users.check(&at, &lstat(&at)?, false)?;
            }
            push_names(&to, &mut rest);
        } else if !rest.is_empty() {
            anyone_makes = users.check(&place, &found, anyone_makes)?;
            at = place;
        }
    }
    Ok(())
}

/// Puts the names of a path where the first one is taken next.
fn push_names(path: &Path, rest: &mut Vec<OsString>) {
    let is_name = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    rest.extend(path.components().filter(is_name).map(|part| part.as_os_str().to_owned()).rev());
}

/// Who is trusted with what is on the way.
struct Users {
    us: u32,
    /// Whose files seem to be all those whose owners have no number in this user namespace. Root's of the machine are
    /// among them.
    unmapped: Option<u32>,
}

impl Users {
    fn here() -> Self {
        Self { us: geteuid().as_raw(), unmapped: unmapped() }
    }

    /// Whether the owner of a directory or a link is trusted. Where anyone can make one, one of root's cannot be told from
    /// another's if neither has a number.
    fn are_trusted(&self, owner: u32, anyone_makes: bool) -> bool {
        owner == 0 || owner == self.us || (self.unmapped == Some(owner) && !anyone_makes)
    }

    /// Checks a directory above. Returns whether anyone can make something in it.
    fn check(&self, dir: &Path, found: &Stat, anyone_makes: bool) -> io::Result<bool> {
        let refused = |why: String| Err(NotPrivate(format!("{}, above it, {why}", dir.display())).into());
        let owner = found.st_uid;
        if !self.are_trusted(owner, anyone_makes) {
            let us = self.us;
            return refused(format!(
                "belongs to user {owner}, who can replace what is there, and this process runs as user {us}"
            ));
        }
        let mode = Mode::from_raw_mode(found.st_mode);
        if mode.contains(Mode::SVTX) {
            return Ok(mode.intersects(Mode::WGRP | Mode::WOTH));
        }
        let shown = found.st_mode & 0o7777;
        if mode.contains(Mode::WOTH) {
            return refused(format!(
                "is one where others may replace what is there (its mode is {shown:o}; `chmod o-w` or `chmod +t` takes \
                 that right away)"
            ));
        }
        // With an access control list, these bits are its mask.
        if mode.contains(Mode::WGRP) {
            let group = found.st_gid;
            match writers(dir)? {
                Writers { named: true, .. } => {
                    return refused(
                        "is one where others may replace what is there, by an access control list (`setfacl -b` takes \
                         that right away)"
                            .into(),
                    );
                }
                Writers { group: true, .. } if !is_private(group, owner) => {
                    return refused(format!(
                        "is one where group {group} may replace what is there (its mode is {shown:o}; `chmod g-w` \
                         takes that right away)"
                    ));
                }
                Writers { .. } => {}
            }
        }
        Ok(false)
    }
}

/// The number that stands for all users without one. None if each has one here.
fn unmapped() -> Option<u32> {
    // Where that cannot be read, nobody but root and this user is trusted.
    let map = fs::read_to_string("/proc/self/uid_map").ok()?;
    if map.split_whitespace().eq(["0", "0", "4294967295"]) {
        return None;
    }
    let number = fs::read_to_string("/proc/sys/kernel/overflowuid").ok();
    Some(number.and_then(|number| number.trim().parse().ok()).unwrap_or(65534))
}

/// Who may write to a directory besides its owner, where its mode says that its group may.
struct Writers {
    /// Users or groups that an access control list names.
    named: bool,
    /// Its group.
    group: bool,
}

fn writers(dir: &Path) -> io::Result<Writers> {
    // A file system's block is the most that it keeps.
    let mut list = vec![0; 1 << 16];
    match getxattr(dir, c"system.posix_acl_access", &mut list[..]) {
        Ok(length) => {
            list.truncate(length);
            Ok(writers_of(&list))
        }
        Err(Errno::NODATA | Errno::NOTSUP | Errno::NOSYS) => Ok(Writers { named: false, group: true }),
        Err(error) => Err(error.into()),
    }
}

/// Reads a list as the kernel gives it: a version, then tag, rights and user or group of each entry.
fn writers_of(list: &[u8]) -> Writers {
    const WRITE: u16 = 2;
    const USER: u16 = 0x02;
    const GROUP_ITSELF: u16 = 0x04;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;
    let entries = list.get(4..).unwrap_or_default().chunks_exact(8);
    let entries = entries.map(|entry| [0, 2].map(|at| u16::from_le_bytes([entry[at], entry[at + 1]])));
    let has = |wanted: &[u16]| entries.clone().any(|[tag, may]| wanted.contains(&tag) && may & WRITE != 0);
    let is_masked = entries.clone().any(|[tag, may]| tag == MASK && may & WRITE == 0);
    Writers { named: !is_masked && has(&[USER, GROUP]), group: !is_masked && has(&[GROUP_ITSELF]) }
}

/// Whether a group is root's, or has this user as its only member, with the same number: many systems give each user
/// such a group, and let it write what the user makes. Members of whom `/etc` does not know are not seen.
fn is_private(group: u32, owner: u32) -> bool {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    group == 0 || (group == owner && has_no_others(group, &read("/etc/passwd"), &read("/etc/group")))
}

fn has_no_others(user: u32, users: &str, groups: &str) -> bool {
    let fields = |line: &'_ str| -> Vec<String> { line.split(':').map(str::to_owned).collect() };
    let number = user.to_string();
    let is = |fields: &[String], at: usize| fields.get(at).is_some_and(|field| *field == number);
    let users: Vec<_> = users.lines().map(fields).collect();
    let is_own_name = |name: &str| users.iter().any(|user| is(user, 2) && user[0] == name);
    let mut listed = groups.lines().map(fields).filter(|group| is(group, 2));
    let no_member = |group: Vec<String>| {
        group.get(3).is_none_or(|names| names.split(',').all(|name| name.is_empty() || is_own_name(name.trim())))
    };
    users.iter().all(|user| !is(user, 3) || is(user, 2)) && listed.all(no_member)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir, set_permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    fn is_refused(path: &Path) -> bool {
        match check_way(path) {
            Err(error) if NotPrivate::is_why(&error) => true,
            checked => checked.map(|()| false).unwrap(),
        }
    }

    #[test]
    fn all_that_is_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str, mode| {
            let dir = root.path().join(name);
            create_dir(&dir).unwrap();
            create_dir(dir.join("below")).unwrap();
            set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
            dir
        };
        let (open, sticky, own) = (dir("open", 0o757), dir("sticky", 0o1777), dir("own", 0o755));
        for below in ["x", "below", "below/x", "below/missing/x", "below/../x", "below/./x"] {
            assert!(is_refused(&open.join(below)), "{below}");
            assert!(!is_refused(&sticky.join(below)), "{below}");
            assert!(!is_refused(&own.join(below)), "{below}");
        }
        // What is there itself is another question.
        assert!(!is_refused(&open));
        assert!(is_refused(&own.join("../open/x")) && is_refused(&open.join("../own/x")));
        for (name, to) in [("link", open.join("below")), ("relative", "../open/below".into()), ("twice", "link".into())]
        {
            symlink(to, own.join(name)).unwrap();
            assert!(is_refused(&own.join(name)) && is_refused(&own.join(name).join("x")), "{name}");
        }
        symlink("circle", own.join("circle")).unwrap();
        assert_eq!(check_way(&own.join("circle/x")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        symlink(own.join("below"), sticky.join("link")).unwrap();
        assert!(!is_refused(&sticky.join("link/x")));
        if lchown(sticky.join("link"), Some(65534), None).is_err() {
            return eprintln!("not tested: only root can give links to another user");
        }
        assert!(is_refused(&sticky.join("link/x")) && is_refused(&sticky.join("link")));
        chown(&own, Some(65534), None).unwrap();
        assert!(is_refused(&own.join("below/x")) && is_refused(&own.join("x")));
    }

    #[test]
    fn groups_may_write_if_they_are_the_users_own() {
        let users = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n";
        let groups = "root:x:0:\nann:x:1000:ann\nbob:x:1001:\nstaff:x:50:ann,bob\n";
        assert!(has_no_others(1000, users, groups) && has_no_others(1001, users, groups));
        assert!(has_no_others(1234, users, groups) && has_no_others(1000, "", ""));
        assert!(!has_no_others(1000, users, "ann:x:1000:ann,bob"));
        assert!(!has_no_others(1000, &format!("{users}eve:x:1002:1000::/:/bin/sh"), groups));
        assert!(is_private(0, 0) && is_private(0, 1000) && !is_private(50, 1000));
    }

    #[test]
    fn lists_that_let_others_write_are_seen() {
        let list = |entries: &[[u16; 2]]| {
            let entries = entries.iter().flat_map(|[tag, may]| [tag.to_le_bytes(), may.to_le_bytes(), [9, 0], [0, 0]]);
            let bytes: Vec<u8> = [2, 0, 0, 0].into_iter().chain(entries.flatten()).collect();
            let Writers { named, group } = writers_of(&bytes);
            (named, group)
        };
        assert_eq!(list(&[[1, 7], [2, 6], [4, 5], [0x10, 7], [0x20, 5]]), (true, false));
        assert_eq!(list(&[[1, 7], [4, 5], [8, 2], [0x10, 2], [0x20, 5]]), (true, false));
        assert_eq!(list(&[[1, 7], [2, 6], [4, 7], [0x10, 5], [0x20, 5]]), (false, false));
        assert_eq!(list(&[[1, 7], [2, 4], [4, 7], [0x10, 7], [0x20, 5]]), (false, true));
        assert_eq!(list(&[]), (false, false));
    }

    #[test]
    fn who_has_no_number_is_trusted_where_not_anyone_can_make_things() {
        let users = Users { us: 5, unmapped: Some(65534) };
        assert!(users.are_trusted(65534, false) && !users.are_trusted(65534, true));
        assert!(users.are_trusted(0, true) && users.are_trusted(5, true) && !users.are_trusted(6, false));
        assert!(!Users { us: 5, unmapped: None }.are_trusted(65534, false));
    }
}
