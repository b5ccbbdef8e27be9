//! Opens the paths that a confined process may use, if they still lead to the same files.

use crate::os::Allowed;
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, fstatfs, major, minor};
use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

impl Allowed {
    pub(super) fn refused(&self, why: impl Display) -> String {
        format!("cannot give its sandbox `{}`: {why}", self.path.display())
    }

    /// Opens it, if it is still the same, and returns what it is.
    pub(super) fn open(&self) -> Result<(OwnedFd, Stat), String> {
        let refused = |why: String| self.refused(why);
        let (fd, found) = open(&self.path).map_err(refused)?;
        if !self.is(&fd, &found) {
            return Err(refused(
                "another file or directory is there than when the sandbox was made, put there by whoever may write \
                 above it, perhaps a worker"
                    .into(),
            ));
        }
        Ok((fd, found))
    }

    fn is(&self, fd: &OwnedFd, found: &Stat) -> bool {
        // In `/proc`, inodes differ between processes, and nobody can put links there.
        const PROC_MAGIC: u64 = 0x9fa0;
        let is_own_process = || {
            Path::new(&self.path).starts_with("/proc")
                && fstatfs(fd).is_ok_and(|system| system.f_type as u64 == PROC_MAGIC)
        };
        found.st_dev == self.device && (found.st_ino == self.inode || is_own_process())
    }
}

fn open(path: &OsStr) -> Result<(OwnedFd, Stat), String> {
    let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let found = opened.and_then(|fd| fstat(&fd).map(|found| (fd, found)));
    found.map_err(|error| io::Error::from(error).to_string())
}

/// `/dev/null`, if that is what is there.
pub(super) fn null() -> Option<OwnedFd> {
    let (fd, found) = open("/dev/null".as_ref()).ok()?;
    is_null(&found).then_some(fd)
}

pub(super) fn is_null(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && (major(found.st_rdev), minor(found.st_rdev)) == (1, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn now(path: impl Into<std::path::PathBuf>) -> Allowed {
        let path = path.into();
        let id = crate::os::file_id(&path).unwrap();
        Allowed::new(path, id)
    }

    #[test]
    fn what_was_replaced_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (given, other) = (dir.path().join("given"), dir.path().join("other"));
        fs::create_dir(&given).unwrap();
        fs::create_dir(&other).unwrap();
        let allowed = now(given.clone());
        assert_eq!(FileType::from_raw_mode(allowed.open().unwrap().1.st_mode), FileType::Directory);
        fs::rename(&given, dir.path().join("gone")).unwrap();
        let refused = |why: &str| {
            let error = allowed.open().unwrap_err();
            assert!(error.contains("given`") && error.contains(why), "{error}");
        };
        refused("given");
        for target in [other.as_path(), Path::new("/"), Path::new("/proc")] {
            symlink(target, &given).unwrap();
            refused("another file or directory");
            fs::remove_file(&given).unwrap();
        }
        // A link to what it was is as good.
        symlink(dir.path().join("gone"), &given).unwrap();
        allowed.open().unwrap();
    }

    #[test]
    fn a_process_may_be_given_what_is_said_of_itself() {
        let of_another = Allowed { inode: 0, ..now("/proc/self/status") };
        of_another.open().unwrap();
        let elsewhere = Allowed { inode: 0, ..now("/") };
        elsewhere.open().unwrap_err();
        null().unwrap();
    }
}
