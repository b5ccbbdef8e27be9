//! The identity of files, and files for their owner alone.

use super::handle::beyond_standard;
use super::path::check_way;
use super::process::ambient;
use crate::os::NotPrivate;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fchown, fstat, fstatfs, lstat, open, openat, stat, statfs, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// The device and the inode of a path. Links are followed.
pub(crate) fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    let found = stat(path)?;
    Ok((found.st_dev, found.st_ino))
}

/// Types of file systems, as in `linux/magic.h`.
const PROC: u32 = 0x9fa0;

/// File systems whose files say what others wrote, whoever owns them: `/proc/PID/environ` and `cmdline` of a program with
/// more rights have its starter's words. They are those of the kernel itself (processes, devices, control groups, debugging,
/// tracing, configuration, security, programs, crashes, firmware, program formats), and those that a user's process serves.
const OF_OTHERS: [u32; 15] = [
    PROC,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x6265_6570,
    0x7363_6673,
    0xf97c_ff8c,
    0x4341_5d53,
    0xcafe_4a11,
    0x6165_676c,
    0xde5e_81e4,
    0x4249_4e4d,
    0x6573_5546,
];

/// Whether it is `/proc`, whatever its name here: all processes are below it.
pub(crate) fn lists_processes(path: &Path) -> bool {
    /// In `linux/proc_fs.h`.
    const ROOT: u64 = 1;
    let is_proc = statfs(path).is_ok_and(|system| system.f_type as u32 == PROC);
    is_proc && stat(path).is_ok_and(|found| found.st_ino == ROOT)
}

/// A number that no other open socket has.
pub(super) fn identity(socket: impl AsFd) -> io::Result<u64> {
    Ok(fstat(socket)?.st_ino)
}

/// A directory that is this user's alone to write, and held open: whoever replaces it by another one gets no file.
#[derive(Debug)]
pub(crate) struct PrivateDir(OwnedFd);

impl PrivateDir {
    /// Opens a directory. None if it is not there. What is above it is checked in any case.
    ///
    /// # Errors
    ///
    /// A [`NotPrivate`] if others decide what is in it; or as the system says.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        check_way(path)?;
        // It need not be readable.
        let opened = match open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened,
        };
        let dir = Self(beyond_standard(opened?)?);
        dir.check()?;
        Ok(Some(dir))
    }

    /// Makes the directory, and those above it, which only this user can enter; one that is there is only opened.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        let missing: Vec<_> = path.ancestors().take_while(|dir| is_missing(dir)).collect();
        // One by one: what somebody else has made meanwhile may be a link.
        for dir in missing.into_iter().rev() {
            check_way(dir)?;
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        Self::open(path)?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn check(&self) -> io::Result<()> {
        let found = fstat(&self.0)?;
        let (owner, us) = (found.st_uid, geteuid().as_raw());
        if owner != us {
            return Err(NotPrivate(format!(
                "it belongs to user {owner}, and this process runs as user {us}: use a directory of its own"
            ))
            .into());
        }
        if others_write(&found) {
            return Err(NotPrivate(format!(
                "others may write there (its mode is {:o}): use a directory of your own, or take that right away with \
                 `chmod go-w`",
                found.st_mode & 0o7777
            ))
            .into());
        }
        Ok(())
    }

    /// A new file to write, which only this user can read. Its group is that of this process, also where the directory says
    /// otherwise (`setgid`), or [`open_judged`] would take it for somebody else's.
    pub(crate) fn create(&self, name: &str) -> io::Result<File> {
        // Its rights may have been changed since.
        self.check()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = beyond_standard(openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?)?;
        // A sandbox may deny it. Then the file is there all the same, and its group has no rights.
        let _ = fchown(&file, None, Some(getegid()));
        Ok(file.into())
    }

    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, AtFlags::empty())?)
    }
}

fn is_missing(path: &Path) -> bool {
    matches!(lstat(path), Err(Errno::NOENT))
}

/// The mode's bits of the group also show what access control lists allow.
fn others_write(found: &Stat) -> bool {
    Mode::from_raw_mode(found.st_mode).intersects(Mode::WGRP | Mode::WOTH)
}

/// Opens a file to read, and says why others may have decided what is in it, or which file it is, if they may.
///
/// # Errors
///
/// It is no regular file, or as the system says.
pub(crate) fn open_judged(path: &Path) -> io::Result<(File, Option<String>)> {
    // Opening a pipe would wait for a writer.
    let opened = open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    let found = fstat(&opened)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
        _ => return Err(io::Error::other("it is no regular file")),
    }
    if OF_OTHERS.contains(&(fstatfs(&opened)?.f_type as u32)) {
        let why = "it is in a file system whose files have what other processes wrote, such as /proc";
        return Ok((opened.into(), Some(why.into())));
    }
    let (owner, us) = (found.st_uid, geteuid().as_raw());
    if owner != 0 && owner != us {
        return Ok((opened.into(), Some(format!("it belongs to user {owner}, and this process runs as user {us}"))));
    }
    // Whoever belongs to more groups is another party: a program may run with a group that its user has not. Whatever its
    // mode lets the group do, as its owner chooses that.
    if owner != 0 && found.st_gid != getegid().as_raw() {
        let (group, ours) = (found.st_gid, getegid());
        let why = format!("it belongs to group {group}, and this process runs as group {ours} (`chgrp` changes that)");
        return Ok((opened.into(), Some(why)));
    }
    if owner != 0 && !ambient().is_empty() {
        let why = "this process has capabilities that the user to whom it belongs need not have";
        return Ok((opened.into(), Some(why.into())));
    }
    if others_write(&found) {
        let mode = found.st_mode & 0o7777;
        let why = format!("others may write to it (its mode is {mode:o}; `chmod go-w` takes that right away)");
        return Ok((opened.into(), Some(why)));
    }
    match check_way(path) {
        Err(error) if NotPrivate::is_why(&error) => Ok((opened.into(), Some(error.to_string()))),
        checked => checked.map(|()| (opened.into(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Gid, chown};
    use std::fs::{Permissions, create_dir, read_dir, set_permissions};
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

    /// Whose starter chose what is in them.
    #[test]
    fn files_of_the_kernel_are_not_their_owners_own() {
        for name in ["environ", "cmdline"] {
            let (_, why) = open_judged(&Path::new("/proc/self").join(name)).unwrap();
            assert!(why.is_some_and(|why| why.contains("/proc")), "{name}");
        }
        let own = tempfile::NamedTempFile::new().unwrap();
        let linked = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&own));
        assert_eq!(open_judged(own.path()).unwrap().1, open_judged(Path::new(&linked)).unwrap().1);
    }

    /// Where the directory gives its group to what is made there, too.
    #[test]
    fn a_new_file_has_the_group_of_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let ours = getegid();
        let other = Gid::from_raw(65534);
        let others = rustix::process::getgroups().unwrap_or_default().into_iter().chain([other]);
        let given = others.filter(|group| *group != ours).find(|group| chown(dir.path(), None, Some(*group)).is_ok());
        set_permissions(dir.path(), Permissions::from_mode(0o2755)).unwrap();
        if given.is_none() {
            eprintln!("not tested in full: this user has no other group to give the directory to");
        }
        let own = PrivateDir::open(dir.path()).unwrap().unwrap();
        let made = own.create("file").unwrap();
        let found = fstat(&made).unwrap();
        assert_eq!((found.st_gid, found.st_mode & 0o7777), (ours.as_raw(), 0o600));
        assert_eq!(open_judged(&dir.path().join("file")).unwrap().1, None);
        // As what nobody has given another group.
        let plain = File::create(dir.path().join("plain")).unwrap();
        assert_eq!(fstat(&plain).unwrap().st_gid, given.unwrap_or(ours).as_raw());
    }

    #[test]
    fn nothing_is_made_where_others_decide_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        let [open, sticky, own] = ["open", "sticky", "own"].map(|name| root.path().join(name));
        for (dir, mode) in [(&open, 0o777), (&sticky, 0o1777), (&own, 0o755)] {
            create_dir(dir).unwrap();
            set_permissions(dir, Permissions::from_mode(mode)).unwrap();
        }
        let makes = |path: &Path| PrivateDir::make(path).map(drop);
        assert!(makes(&open.join("a/b")).is_err_and(|error| NotPrivate::is_why(&error)));
        assert_eq!(read_dir(&open).unwrap().count(), 0);
        makes(&sticky.join("a/b")).unwrap();
        makes(&own.join("a/b")).unwrap();
        makes(&own.join("a/b")).unwrap();
        let link = sticky.join("link");
        symlink(&own, &link).unwrap();
        makes(&link.join("ours/b")).unwrap();
        if lchown(&link, Some(65534), None).is_err() {
            return eprintln!("not tested: only root can give links to another user");
        }
        assert!(makes(&link.join("theirs/b")).is_err_and(|error| NotPrivate::is_why(&error)));
        assert!(own.join("ours/b").exists() && !own.join("theirs").exists());
    }
}
