//! Writes each call that was lost with its worker to a [file](LostCall), before its job fails.
//!
//! A file that cannot be written is a warning, never another failure.

use crate::dossier::{Dossier, file::LostCall};
use crate::os;
use crate::sync::lock;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A program whose every call crashes must not fill the disk.
const MOST: u32 = 1000;
/// Files beyond this limit have the report alone, without arguments.
const MOST_BYTES: u64 = 1 << 30;
const MOST_OF_A_NAME: u32 = 100;

pub(crate) struct DossierKeeper {
    dir: PathBuf,
    /// The command that runs the call in a file again.
    replay: fn(&Path) -> String,
    kept: AtomicU32,
    /// Bytes of arguments in files, and their limit.
    bytes: AtomicU64,
    most_bytes: u64,
    /// One at a time: looking up names in debug information takes much memory.
    writing: Mutex<()>,
}

impl DossierKeeper {
    /// Keeps files in `dir`, which is created with the first.
    ///
    /// # Errors
    ///
    /// The path cannot be made absolute.
    pub(crate) fn new(dir: &Path, replay: fn(&Path) -> String) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        Ok(Self { dir, replay, kept: 0.into(), bytes: 0.into(), most_bytes: MOST_BYTES, writing: Mutex::new(()) })
    }

    /// Whether nothing more is kept, and a warning has said so.
    pub(crate) fn is_full(&self) -> bool {
        self.kept.load(Ordering::Relaxed) > MOST
    }

    /// Writes a call of this pool to a file, which its dossier then names.
    pub(crate) fn keep(&self, pool: &str, call: LostCall<'_>, dossier: &mut Dossier) {
        let kept = self.kept.fetch_add(1, Ordering::Relaxed);
        if kept >= MOST {
            if kept == MOST {
                tracing::warn!("pool `{pool}` keeps no more than {MOST} dossiers");
            }
            // The count must not wrap around.
            self.kept.store(MOST + 1, Ordering::Relaxed);
            return;
        }
        let _turn = lock(&self.writing);
        // An attendant's stack is too small for reading debug information.
        let write = || {
            os::block_all_signals();
            self.write(call, dossier)
        };
        let written = std::thread::scope(|scope| {
            let writer = os::thread_builder("pool-records", None);
            writer.spawn_scoped(scope, write)?.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")))
        });
        if let Err(why) = written {
            tracing::warn!("cannot keep a dossier in {:?}: {why}", self.dir.display());
        }
    }

    fn write(&self, mut call: LostCall<'_>, dossier: &mut Dossier) -> io::Result<()> {
        let initializer = call.initializer.map_or(0, |call| call.arguments.len());
        let regions: usize = call.regions.iter().map(|(_, bytes)| bytes.len()).sum();
        if !self.has_room((call.call.arguments.len() + initializer + regions) as u64) {
            call.leave_out();
        }
        let (path, file) = self.create(call.call.task, call.pid, call.job)?;
        let replay = (self.replay)(&path);
        let text = Dossier { saved: Some((path.clone(), replay)), ..dossier.clone() };
        let note = match call.left_out {
            true => "\n  left out   the arguments: this pool has kept too many bytes of them",
            false => "",
        };
        let mut file = BufWriter::new(file);
        let written = call.write(&format!("{text}{note}\n"), &mut file).and_then(|()| file.flush());
        written.inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        *dossier = text;
        Ok(())
    }

    /// Whether so many more bytes may be kept. If so, they are counted.
    fn has_room(&self, more: u64) -> bool {
        let room = |kept: u64| kept.checked_add(more).filter(|kept| *kept <= self.most_bytes);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    /// A new file that only its owner can read, as the arguments may be secret.
    fn create(&self, task: &str, pid: u32, job: u64) -> io::Result<(PathBuf, File)> {
        os::private_dir(&self.dir)?;
        let stem = format!("{}-{pid}-{job}", file_name(task));
        for number in 1..=MOST_OF_A_NAME {
            let name = if number == 1 { format!("{stem}.dossier") } else { format!("{stem}-{number}.dossier") };
            let path = self.dir.join(Path::new(&name));
            match os::private_file(&path) {
                Ok(file) => return Ok((path, file)),
                // Written by a process that had the same pid.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

fn file_name(task: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '.' };
    let name: String = task.replace("::", ".").chars().map(plain).collect();
    name.trim_matches('.').chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_not_filled() {
        let keeper =
            DossierKeeper { most_bytes: 100, ..DossierKeeper::new(Path::new("dossiers"), |_| String::new()).unwrap() };
        assert!(keeper.has_room(60));
        assert!(!keeper.has_room(41) && !keeper.has_room(u64::MAX));
        assert!(keeper.has_room(40) && keeper.has_room(0) && !keeper.has_room(1));
    }

    #[test]
    fn a_task_has_a_name_for_files() {
        assert_eq!(file_name("errors::segfaults"), "errors.segfaults");
        assert_eq!(file_name("../../etc/passwd"), "etc.passwd");
        assert_eq!(file_name("grüße"), "gr..e");
        assert_eq!(file_name(&"x".repeat(1000)).len(), 100);
    }
}
