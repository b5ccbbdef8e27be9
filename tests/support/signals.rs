//! How tasks and tests wait for each other.

use super::until;
use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

/// Signals between tasks and tests: files that appear, and files that grow by a line.
pub struct Signals(tempfile::TempDir);

impl Signals {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// The file of a signal, to be given to a task.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn give(&self, name: &str) {
        give(&self.path(name));
    }

    pub fn await_given(&self, name: &str) {
        await_given(&self.path(name));
    }

    /// How often a signal was [counted](count).
    pub fn counted(&self, name: &str) -> usize {
        std::fs::read(self.path(name)).map_or(0, |lines| lines.len())
    }
}

/// Gives a signal.
pub fn give(signal: &Path) {
    std::fs::write(signal, ".").expect("a signal");
}

/// Waits until a signal was given or counted.
#[track_caller]
pub fn await_given(signal: &Path) {
    // A file that is still empty belongs to somebody who may yet be killed before it counts.
    let given = || std::fs::metadata(signal).is_ok_and(|file| file.len() > 0);
    until(&format!("{} given", signal.display()), given);
}

/// Adds one to a signal's count, whatever process or thread others count in.
pub fn count(signal: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(signal).expect("a count");
    file.write_all(b".").expect("a count");
}
