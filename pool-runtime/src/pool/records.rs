//! Keeps calls that were lost with their workers, each in a [file](record) of its own, before their jobs are told.
//!
//! It never makes another failure of one: what cannot be written is a warning.

use super::{
    backend::Staff,
    shared::{Shared, Submission},
};
use crate::{
    dossier::Dossier,
    error::{Error, Result},
    job::lock,
    os,
    packed::Slices,
    program,
    record::{Record, Recorded},
    registry,
    shared::Handle,
    task::TaskInfo,
};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

/// A program whose every call crashes is not to fill the disk.
const MOST: u32 = 1000;
/// Nor are its arguments: from there on, the files say how it died, and no more.
const MOST_BYTES: u64 = 1 << 30;
/// More of one name there are not.
const MOST_OF_A_NAME: u32 = 100;

pub(super) struct Records {
    dir: PathBuf,
    kept: AtomicU32,
    /// How many bytes of arguments are in files, and how many may be.
    bytes: AtomicU64,
    most_bytes: u64,
    /// One at a time: names are looked up in the program's debug information, which takes memory.
    writing: Mutex<()>,
}

impl Records {
    pub(super) fn new(dir: PathBuf) -> Result<Self> {
        let whole = std::path::absolute(&dir);
        let dir = whole.map_err(|error| Error::os(format!("cannot keep dossiers in {:?}", dir.display()), error))?;
        Ok(Self { dir, kept: 0.into(), bytes: 0.into(), most_bytes: MOST_BYTES, writing: Mutex::new(()) })
    }

    /// Keeps the call, if it was lost with its worker, and notes the file in the error.
    pub(super) fn keep(&self, shared: &Shared, work: &dyn Submission, index: u32, error: &mut Error) {
        // One that never began to run is not to blame, and there is nothing to look for in it.
        let began = |dossier: &&Dossier| dossier.call.is_some() && dossier.time.is_some();
        let Some(dossier) = error.dossier().filter(began) else { return };
        let kept = self.kept.fetch_add(1, Ordering::Relaxed);
        if kept >= MOST {
            if kept == MOST {
                tracing::warn!("pool `{}` keeps no more than {MOST} dossiers", shared.name);
            }
            // It is not to begin anew one day.
            self.kept.store(MOST + 1, Ordering::Relaxed);
            return;
        }
        let _turn = lock(&self.writing);
        // With a thread's usual stack, unlike an attendant: debug information is read for the names in a backtrace.
        let write = || {
            os::block_all_signals();
            self.write(shared, work, index, dossier)
        };
        let written = std::thread::scope(|scope| {
            let writer = std::thread::Builder::new().name("pool-records".into());
            writer.spawn_scoped(scope, write)?.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")))
        });
        match written {
            Ok(file) => error.set_saved(file),
            Err(why) => tracing::warn!("cannot keep a dossier in {:?}: {why}", self.dir.display()),
        }
    }

    fn write(&self, shared: &Shared, work: &dyn Submission, index: u32, dossier: &Dossier) -> io::Result<PathBuf> {
        let info = registry::find(work.task()).ok_or(io::ErrorKind::NotFound)?;
        let mut arguments = Vec::new();
        work.with_arguments(index..index + 1, &mut |part| {
            let ends = bytemuck::cast_slice(part.ends);
            let only = Slices::new(1, part.every, ends, part.base, part.bytes).and_then(|mut slices| slices.next());
            arguments.extend_from_slice(only.unwrap_or_default());
        });
        let mut regions: Vec<Handle> = Vec::new();
        // Those of all calls that were submitted together: what this one speaks of is in its bytes.
        work.with_regions(&mut |all| regions.extend(all.iter().filter(|region| speaks(&arguments, region)).cloned()));
        let initializer = shared.initializer.as_ref();
        let initializer = initializer.and_then(|(call, its, _)| {
            regions.extend(its.iter().cloned());
            Some(recorded(registry::find(&call.task)?, &call.arguments))
        });
        regions.sort_by_key(|region| region.id());
        regions.dedup_by_key(|region| region.id());
        let initializer_length = initializer.as_ref().map_or(0, |call| call.arguments.len());
        let of_regions: usize = regions.iter().map(|region| region.memory().as_bytes().len()).sum();
        let left_out = !self.has_room((arguments.len() + initializer_length + of_regions) as u64);
        let (initializer, regions) = if left_out { (None, Vec::new()) } else { (initializer, regions) };
        if left_out {
            arguments = Vec::new();
        }
        let (job, attempt) = dossier.call.unwrap_or_default();
        let record = Record {
            build: program::build(),
            pid: dossier.pid(),
            job,
            attempt,
            call: recorded(info, &arguments),
            initializer,
            regions: regions.iter().map(|region| (region.id(), region.memory().as_bytes())).collect(),
            confinement: match &shared.staff {
                Staff::Processes(launch) => launch.confinement.clone(),
                _ => None,
            },
            left_out,
        };
        let (path, file) = self.create(info, dossier.pid(), job)?;
        let mut dossier = dossier.clone();
        dossier.saved = Some(path.clone());
        let mut file = BufWriter::new(file);
        let note =
            if left_out { "\n  left out   the arguments: this pool has kept too many bytes of them" } else { "" };
        let written = record.write(&format!("{dossier}{note}\n"), &mut file).and_then(|()| file.flush());
        // Half a file is of no use to anybody.
        written.inspect_err(|_| drop(std::fs::remove_file(&path)))?;
        Ok(path)
    }

    /// Whether so many bytes more may be kept. If so, they are counted.
    fn has_room(&self, more: u64) -> bool {
        let room = |kept: u64| kept.checked_add(more).filter(|kept| *kept <= self.most_bytes);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    /// A new file, which nobody but its owner can read: the arguments may be anything.
    fn create(&self, info: &TaskInfo, pid: u32, job: u64) -> io::Result<(PathBuf, File)> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let stem = format!("{}-{pid}-{job}", file_name(info.name()));
        for number in 1..=MOST_OF_A_NAME {
            let name = if number == 1 { format!("{stem}.dossier") } else { format!("{stem}-{number}.dossier") };
            let path = self.dir.join(Path::new(&name));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok((path, file)),
                // Another program's, whose process had the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// Do these bytes speak of the region? If so, its number is somewhere in them.
fn speaks(arguments: &[u8], region: &Handle) -> bool {
    let id = region.id().to_le_bytes();
    arguments.windows(id.len()).any(|bytes| bytes == id)
}

fn recorded<'r>(info: &'static TaskInfo, arguments: &'r [u8]) -> Recorded<'r> {
    Recorded { task: info.name(), signature: info.signature_hash(), arguments }
}

/// A task's name as a part of a file's.
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
        let records = Records { most_bytes: 100, ..Records::new("dossiers".into()).unwrap() };
        assert!(records.has_room(60));
        assert!(!records.has_room(41) && !records.has_room(u64::MAX));
        assert!(records.has_room(40) && records.has_room(0) && !records.has_room(1));
    }

    #[test]
    fn a_task_has_a_name_for_files() {
        assert_eq!(file_name("errors::segfaults"), "errors.segfaults");
        assert_eq!(file_name("../../etc/passwd"), "etc.passwd");
        assert_eq!(file_name("grüße"), "gr..e");
        assert_eq!(file_name(&"x".repeat(1000)).len(), 100);
    }
}
