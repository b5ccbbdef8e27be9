//! Writes each call that was lost with its worker to a [file](LostCall), before its job fails.
//!
//! A file that cannot be written is a warning, never another failure.

use crate::dossier::{Dossier, file::LostCall};
use crate::locks::lock;
use crate::logging::LogSubscriber;
use crate::os::{self, NotPrivate, PrivateDir};
use crate::targets::DOSSIER;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tracing::Level;

/// A program whose every call crashes must not fill the disk. Files beyond the second limit have the report alone,
/// without arguments.
const MOST: KeptAmount = KeptAmount { files: 1000, bytes: 1 << 30 };
const MOST_OF_A_NAME: u32 = 100;

pub(crate) struct DossierKeeper {
    dir: PathBuf,
    /// The command that runs the call in a file again.
    replay: fn(&Path) -> String,
    budget: Mutex<Budget>,
    /// The directory, once it was opened. One at a time writes: looking up names in debug information takes much memory.
    writing: Mutex<Option<PrivateDir>>,
}

impl DossierKeeper {
    /// So many bytes of arguments are kept for a pool, and none of a call that has more.
    pub(crate) const MOST_BYTES: u64 = MOST.bytes;

    /// Keeps files in `dir`, which is made with the first, for a pool of so many workers.
    ///
    /// # Errors
    ///
    /// The path cannot be made absolute, or others may write into the directory.
    pub(crate) fn new(dir: &Path, replay: fn(&Path) -> String, seats: usize) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        let opened = match PrivateDir::open(&dir) {
            Err(error) if NotPrivate::is_why(&error) => return Err(error),
            // It may be there, or be another, when the first file is written.
            opened => opened.unwrap_or_default(),
        };
        Ok(Self { dir, replay, budget: Budget::new(MOST, seats).into(), writing: Mutex::new(opened) })
    }

    /// Whether nothing more is kept of the worker at this seat, and a warning has said so.
    pub(crate) fn is_full(&self, seat: usize) -> bool {
        lock(&self.budget).seats[seat].is_full
    }

    /// Writes a call of this pool to a file, which its dossier then names.
    pub(crate) fn keep(
        &self,
        (pool, subscriber): (&str, &LogSubscriber),
        mut call: LostCall<'_>,
        dossier: &mut Dossier,
    ) {
        let seat = dossier.loss.seat;
        let room = lock(&self.budget).take(seat, call.size());
        match room {
            Room::Whole => {}
            Room::WithoutArguments => call.leave_out(),
            Room::None { kept } => {
                return subscriber.log(Level::WARN, || {
                    let (pool, worker, most) = (pool.to_owned(), seat + 1, MOST.files);
                    move || {
                        tracing::warn!(
                            target: DOSSIER,
                            pool,
                            worker,
                            kept,
                            "pool `{pool}` keeps no more dossiers of its worker {worker}, after {kept}: it keeps no more \
                             than {most} in all, and no worker may use what is meant for the others"
                        );
                    }
                });
            }
        }
        let mut writing = lock(&self.writing);
        let dir = &mut *writing;
        // An attendant's stack is too small for reading debug information.
        let write = || {
            os::block_all_signals();
            self.write(dir, call, dossier)
        };
        let written = std::thread::scope(|scope| {
            let writer = os::thread_builder("pool-records", None);
            writer.spawn_scoped(scope, write)?.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")))
        });
        if let Err(why) = written {
            subscriber.log(Level::WARN, || {
                let (pool, dir) = (pool.to_owned(), self.dir.clone());
                move || {
                    let reason = why.to_string();
                    tracing::warn!(target: DOSSIER, pool, ?dir, %reason, "cannot keep a dossier in {dir:?}");
                }
            });
        }
    }

    fn write(&self, dir: &mut Option<PrivateDir>, call: LostCall<'_>, dossier: &mut Dossier) -> io::Result<()> {
        let (dir, name, file) = self.create(dir, call.call.task, call.pid, call.job)?;
        let path = self.dir.join(&name);
        let replay = (self.replay)(&path);
        let text = Dossier { saved: Some((path, replay)), ..dossier.clone() };
        let note = match call.left_out {
            true => "\n  left out   the arguments: this pool has kept too many bytes of them",
            false => "",
        };
        let mut file = BufWriter::new(file);
        let written = call.write(&format!("{text}{note}\n"), &mut file).and_then(|()| file.flush());
        written.inspect_err(|_| drop(dir.remove(&name)))?;
        *dossier = text;
        Ok(())
    }

    /// A new file that only its owner can read, as the arguments may be secret.
    fn create<'d>(
        &self,
        dir: &'d mut Option<PrivateDir>,
        task: &str,
        pid: u32,
        job: u64,
    ) -> io::Result<(&'d PrivateDir, String, File)> {
        let stem = format!("{}-{pid}-{job}", file_name(task));
        let mut name = format!("{stem}.dossier");
        let mut number = 1;
        let mut opened = match dir.take() {
            Some(opened) => opened,
            None => PrivateDir::make(&self.dir)?,
        };
        let mut made_again = false;
        loop {
            match opened.create(&name) {
                Ok(file) => return Ok((dir.insert(opened), name, file)),
                // Written by a process that had the same pid.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < MOST_OF_A_NAME => {
                    number += 1;
                    name = format!("{stem}-{number}.dossier");
                }
                // Somebody has removed the directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !made_again => {
                    made_again = true;
                    opened = PrivateDir::make(&self.dir)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Files, and bytes of arguments in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct KeptAmount {
    files: u32,
    bytes: u64,
}

/// What one worker has used, or rather those at one seat.
#[derive(Clone, Copy, Debug, Default)]
struct SeatShare {
    kept: KeptAmount,
    /// A warning has said so.
    is_full: bool,
}

/// What may be kept. Each seat may use no more than what is left for the others then: the first one that asks for all it
/// can gets half, the next a quarter, and something is left for each.
struct Budget {
    most: KeptAmount,
    all: KeptAmount,
    seats: Vec<SeatShare>,
}

#[derive(Debug, PartialEq, Eq)]
enum Room {
    Whole,
    WithoutArguments,
    /// For the first time at this seat, which has this many files.
    None {
        kept: u32,
    },
}

impl Budget {
    fn new(most: KeptAmount, seats: usize) -> Self {
        Self { most, all: KeptAmount::default(), seats: vec![SeatShare::default(); seats.max(1)] }
    }

    /// Room for a file with so many bytes of arguments, which is counted.
    fn take(&mut self, seat: usize, bytes: u64) -> Room {
        let alone = self.seats.len() == 1;
        let fits = |most: u64, all: u64, mine: u64, more: u64| {
            let left = most.checked_sub(all).and_then(|left| left.checked_sub(more));
            left.is_some_and(|left| alone || mine + more <= left)
        };
        let SeatShare { kept: mine, is_full } = &mut self.seats[seat];
        if !fits(self.most.files.into(), self.all.files.into(), mine.files.into(), 1) {
            *is_full = true;
            return Room::None { kept: mine.files };
        }
        let whole = fits(self.most.bytes, self.all.bytes, mine.bytes, bytes);
        let bytes = if whole { bytes } else { 0 };
        for kept in [mine, &mut self.all] {
            *kept = KeptAmount { files: kept.files + 1, bytes: kept.bytes + bytes };
        }
        if whole { Room::Whole } else { Room::WithoutArguments }
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
        let mut budget = Budget::new(KeptAmount { files: 5, bytes: 100 }, 1);
        assert_eq!(budget.take(0, 60), Room::Whole);
        assert_eq!(budget.take(0, 41), Room::WithoutArguments);
        assert_eq!(budget.take(0, u64::MAX), Room::WithoutArguments);
        assert_eq!(budget.take(0, 40), Room::Whole);
        assert_eq!(budget.take(0, 0), Room::Whole);
        assert_eq!(budget.take(0, 0), Room::None { kept: 5 });
        assert_eq!((budget.all, budget.seats[0].is_full), (KeptAmount { files: 5, bytes: 100 }, true));
    }

    #[test]
    fn one_worker_does_not_use_up_what_is_there_for_all() {
        let mut budget = Budget::new(MOST, 3);
        for (seat, files) in [(0, 500), (1, 250), (2, 125)] {
            let taken = (0..).take_while(|_| !matches!(budget.take(seat, 0), Room::None { .. })).count();
            assert_eq!(taken, files);
            assert!(budget.seats[seat].is_full);
        }
        let mut budget = Budget::new(MOST, 2);
        assert_eq!(budget.take(0, MOST.bytes / 2 + 1), Room::WithoutArguments);
        assert_eq!(budget.take(0, MOST.bytes / 2), Room::Whole);
        assert_eq!(budget.take(0, 1), Room::WithoutArguments);
        assert_eq!(budget.take(1, MOST.bytes / 4), Room::Whole);
    }

    #[test]
    fn a_task_has_a_name_for_files() {
        assert_eq!(file_name("errors::segfaults"), "errors.segfaults");
        assert_eq!(file_name("../../etc/passwd"), "etc.passwd");
        assert_eq!(file_name("grüße"), "gr..e");
        assert_eq!(file_name(&"x".repeat(1000)).len(), 100);
    }
}
