//! The identity of files, and files for their owner alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The device and the inode of a path. Links are followed.
pub(crate) fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::stat(path)?;
    Ok((found.st_dev, found.st_ino))
}

/// A number that no other open socket has.
pub(super) fn identity(socket: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(socket)?.st_ino)
}

/// Makes a directory, and those above it, which only this user can enter. An existing one stays as it is.
pub(crate) fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A new file to write, which only this user can read.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
