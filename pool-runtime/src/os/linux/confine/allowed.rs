//! Opens the paths that a confined process may use, if there still is what was there when that was decided.

use crate::os::Allowed;
use rustix::fs::{FileType, Stat, fstat, fstatfs, major, minor};
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use landlock::PathFd;

/// The inodes of processes differ from one to the next, and nobody can put links there.
const PROC: &str = "/proc";
const PROC_MAGIC: u64 = 0x9fa0;

impl Allowed {
    /// Opens it, if it is still what it was, and says of which kind it is.
    pub(super) fn open(&self) -> Result<(PathFd, FileType), String> {
        let (fd, found) = open(&self.path).map_err(|why| self.refused(&why))?;
        if !self.is(&fd, &found) {
            return Err(self.refused(
                &"another file or directory is there than when the sandbox was made, put there by whoever may write \
                  above it, perhaps a worker",
            ));
        }
        Ok((fd, FileType::from_raw_mode(found.st_mode)))
    }

    fn refused(&self, why: &dyn std::fmt::Display) -> String {
        format!("cannot give its sandbox `{}`: {why}", self.path.display())
    }

    fn is(&self, fd: &PathFd, found: &Stat) -> bool {
        let is_own_process = || {
            Path::new(&self.path).starts_with(PROC)
                && fstatfs(fd.as_fd()).is_ok_and(|system| system.f_type as u64 == PROC_MAGIC)
        };
        found.st_dev == self.device && (found.st_ino == self.inode || is_own_process())
    }
}

fn open(path: &OsString) -> Result<(PathFd, Stat), String> {
    let fd = PathFd::new(path).map_err(|error| error.to_string())?;
    let found = fstat(fd.as_fd()).map_err(|error| io::Error::from(error).to_string())?;
    Ok((fd, found))
}

/// `/dev/null`, if that is what is there.
pub(super) fn null() -> Option<PathFd> {
    let (fd, found) = open(&"/dev/null".into()).ok()?;
    let is_null = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && (major(found.st_rdev), minor(found.st_rdev)) == (1, 3);
    is_null.then_some(fd)
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
        assert_eq!(allowed.open().unwrap().1, FileType::Directory);
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
