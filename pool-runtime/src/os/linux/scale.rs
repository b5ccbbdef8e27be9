//! How much memory any process uses, and what of it is its own.
//!
//! ```text
//!   /proc/PID/status ──▶ Used: alone, shared ──▶ Telling ──where that has changed, on a thread──▶ smaps ──▶ Told: own
//! ```
//!
//! Nothing here waits for the process that is weighed: the kernel may, when it goes through the mappings.

use super::handle::beyond_standard;
use super::memory::LEAST_SPARSE;
use super::process::number_in_proc;
use super::signal::block_all_signals;
use super::thread::spawn_thread;
use crate::locks::lock;
use crate::os::{Weight, monotonic};
use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Tells how much memory a process uses: the kernel's file about it, which is about no other process, even when its
/// number is used again.
#[derive(Debug)]
pub(super) struct Scale {
    status: Arc<File>,
    number: i32,
    telling: Arc<Mutex<Telling>>,
}

/// What a process has in memory that it shares, or could share, with others is told apart: what this library or a file
/// system has made is not its own, and the rest counts as its own.
#[derive(Debug, Default)]
struct Telling {
    last: Option<Told>,
    /// When it may be told apart again.
    next: Option<Instant>,
    /// Since when a thread is at it.
    asked: Option<Instant>,
}

/// What a process had when its shared memory was told apart last.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// When that began, by the monotonic clock.
    began: u64,
    used: Used,
    /// How much of the shared memory was its own.
    own: u64,
}

/// How much less or more memory may be in use, in bytes, without being told apart again.
const SHARED_LEEWAY: u64 = 4 << 20;

/// The least pause before shared memory is told apart again, and how many times that takes as long as this one; but no more
/// than the longest, as a process can see to it that it takes long.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSES: u32 = 50;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long that may take before all counts that cannot be this library's: a process can keep the kernel from its
/// mappings.
const TOO_LONG: Duration = Duration::from_secs(10);

impl Scale {
    /// Fails if the process is gone, or this process cannot see it in `/proc`.
    pub(super) fn of(pidfd: Option<BorrowedFd<'_>>, pid: Pid) -> io::Result<Self> {
        let number = number_in_proc(pidfd, pid)?;
        let status = beyond_standard(File::open(format!("/proc/{number}/status"))?.into())?.into();
        Ok(Self { status: Arc::new(status), number, telling: Arc::default() })
    }

    /// How many bytes of memory of its own it uses: also what was swapped out, the tables of its pages, and, as of some
    /// time ago, memory that it could share with processes that it starts. If that was before `since`, it is looked at
    /// again soon. None if it has none any more, as it is ending.
    pub(super) fn read(&self, since: u64) -> io::Result<Option<Weight>> {
        // Longer than a hundred lines.
        let mut text = [0; 8192];
        let length = self.status.read_at(&mut text, 0)?;
        let of_process = format!("/proc/{}", self.number);
        let (used, place) = match Used::of(&String::from_utf8_lossy(&text[..length])) {
            Some(used) => (used, of_process),
            // Its first thread has ended. Others may go on, with all of its memory.
            None => match self.of_threads(&of_process)? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        let whole = self.told(used, since, &place);
        Ok(Some(Weight { alone: used.alone, whole: whole.map(|told| (told.began, told.bytes())) }))
    }

    /// The same as the first of its threads tells that can, and where that is.
    fn of_threads(&self, of_process: &str) -> io::Result<Option<(Used, String)>> {
        let threads = fs::read_dir(format!("{of_process}/task"))?.flatten();
        let found = threads.map(|thread| thread.path().to_string_lossy().into_owned()).find_map(|place| {
            let status = fs::read(format!("{place}/status")).ok()?;
            Some((Used::of(&String::from_utf8_lossy(&status))?, place))
        });
        check_number(&self.status)?;
        Ok(found)
    }

    /// What was told apart last. That is done only where something has changed, and not all the time, as the kernel goes
    /// through all of its pages; and on another thread, as the kernel waits for the process while that changes its
    /// mappings.
    fn told(&self, used: Used, since: u64, place: &str) -> Option<Told> {
        let mut telling = lock(&self.telling);
        let now = Instant::now();
        if let Some(asked) = telling.asked {
            return if now - asked > TOO_LONG { Some(Told::unseen(used, used)) } else { telling.last };
        }
        if telling.next.is_none_or(|next| next <= now) && telling.is_out_of_date(used, since, now) {
            let (itself, place, status) = (self.telling.clone(), place.to_owned(), self.status.clone());
            let thread = spawn_thread("pool-weigher", Some(1 << 17), move || {
                block_all_signals();
                let began = Instant::now();
                let told = tell_apart(&place, &status, used);
                let next = Some(Instant::now() + (began.elapsed() * PAUSES).clamp(PAUSE, LONGEST_PAUSE));
                let mut telling = lock(&itself);
                // It fails where the process is gone, or this one is short of something.
                *telling = Telling { last: told.ok().or(telling.last), next, asked: None };
            });
            // Without a thread, the next look tries again.
            telling.asked = thread.is_ok().then_some(now);
        }
        telling.last
    }
}

impl Telling {
    /// May what was told apart last be wrong by now, or by a time that matters?
    fn is_out_of_date(&self, used: Used, since: u64, now: Instant) -> bool {
        const OLD: Duration = Duration::from_secs(1);
        let changed = |before: u64, now: u64| before.abs_diff(now) > SHARED_LEEWAY;
        used.shared > SHARED_LEEWAY
            && self.last.is_none_or(|last| {
                changed(last.used.shared, used.shared)
                    // What it had can have become another's, too.
                    || self.next.is_none_or(|next| next + OLD <= now)
                    || (last.own > 0 && (last.began < since || changed(last.used.alone, used.alone)))
            })
    }
}

impl Told {
    /// The memory of a process which does not let its mappings be seen, or not soon, with the use at two times. No more of
    /// it is shared with this one than this one has.
    fn unseen(before: Used, after: Used) -> Self {
        let library = known_memory().values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
        let used = before.least(after);
        Self { began: monotonic(), used, own: used.shared.saturating_sub(library) }
    }

    fn bytes(&self) -> u64 {
        self.used.alone.saturating_add(self.own)
    }
}

/// What the names of this library's memory begin with.
const NAMED: &str = concat!("/memfd:", "pool-");

/// The inodes of what this process has of this library's memory, mapped or open, with their sizes. Anybody can use the
/// name.
fn known_memory() -> HashMap<u64, u64> {
    let mut known = HashMap::new();
    let mapped = File::open("/proc/self/maps").and_then(|maps| {
        for_each_line(BufReader::new(maps), |line| {
            let line = String::from_utf8_lossy(line);
            let Some((inode, _)) = inode_and_name(&line).filter(|(_, name)| name.starts_with(NAMED)) else { return };
            let sum = known.entry(inode).or_insert(0_u64);
            *sum = sum.saturating_add(length(&line).unwrap_or(0));
        })
    });
    // What was found until then is known all the same.
    drop(mapped);
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().map(|entry| entry.path());
    let named = descriptors
        .filter(|path| fs::read_link(path).is_ok_and(|to| to.as_os_str().as_bytes().starts_with(NAMED.as_bytes())));
    for file in named.filter_map(|path| fs::metadata(path).ok()) {
        let size = known.entry(file.ino()).or_insert(0);
        // Most of what is sparse is not there, and nobody's.
        let here = if file.len() < LEAST_SPARSE { file.len() } else { 512 * file.blocks() };
        *size = here.max(*size);
    }
    known
}

/// The inode and the name in a line `from-to rights offset device inode name`.
fn inode_and_name(line: &str) -> Option<(u64, &str)> {
    let mut rest = line;
    for _ in 0..4 {
        rest = rest.split_once(' ')?.1.trim_start();
    }
    let (inode, name) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((inode.parse().ok()?, name.trim_start()))
}

/// How many bytes are mapped by such a line.
fn length(line: &str) -> Option<u64> {
    let (from, to) = line.split(' ').next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    number(to)?.checked_sub(number(from)?)
}

/// Passes on the lines of one of the kernel's files: only the beginning of one that is longer than any that matters.
fn for_each_line(mut file: impl BufRead, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    const LONGEST: u64 = 1 << 10;
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = file.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(());
        }
        if length as u64 == LONGEST && !line.ends_with(b"\n") {
            file.skip_until(b'\n')?;
        }
        each(line.trim_ascii_end());
    }
}

/// Finds out how much of the shared memory of a process is its own, which used so much just before. Fails if the process is
/// gone, or this one is short of descriptors or memory.
fn tell_apart(place: &str, status: &File, before: Used) -> io::Result<Told> {
    let began = monotonic();
    let mut known = known_memory();
    let mappings = mappings(place);
    let after = fs::read(format!("{place}/status"));
    check_number(status)?;
    let after = after.ok().and_then(|text| Used::of(&String::from_utf8_lossy(&text))).unwrap_or(before);
    match mappings {
        Ok(mappings) => {
            // Some may have come and gone meanwhile.
            known.extend(known_memory());
            let own = mappings.own_beside(&known).min(before.shared.max(after.shared));
            Ok(Told { began, used: before.least(after), own })
        }
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => Err(error),
        // A process can forbid it, and so can its program's file.
        Err(_) => Ok(Told::unseen(before, after)),
    }
}

fn mappings(place: &str) -> io::Result<Mappings> {
    // A process may have a million mappings, at less than a thousand bytes each if their names are short.
    const MOST: u64 = 1 << 30;
    let mut file = BufReader::with_capacity(1 << 16, File::open(format!("{place}/smaps"))?.take(MOST));
    let mappings = Mappings::of(&mut file)?;
    // What was not read may be anything.
    if file.get_ref().limit() == 0 { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(mappings) }
}

/// Fails if the process is gone, and its number may be another's.
fn check_number(status: &File) -> io::Result<()> {
    let mut byte = [0; 1];
    status.read_exact_at(&mut byte, 0)
}

/// How much memory a process uses, as its `status` tells.
#[derive(Clone, Copy, Debug)]
struct Used {
    /// Nobody else can have it.
    alone: u64,
    /// It is, or may be, shared; not what is of files on a disk.
    shared: u64,
}

impl Used {
    fn of(status: &str) -> Option<Self> {
        /// A page of a table leads to so many.
        const OF_TABLE: u64 = 512;
        let (mut alone, mut shared, mut files, mut tables, mut seen) = (0_u64, 0_u64, 0_u64, 0_u64, false);
        for line in status.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let to = match name {
                "RssAnon" => {
                    seen = true;
                    &mut alone
                }
                "VmSwap" | "HugetlbPages" => &mut alone,
                "VmPTE" => &mut tables,
                "RssShmem" => &mut shared,
                "RssFile" => &mut files,
                _ => continue,
            };
            *to = to.saturating_add(kibibytes(value)?);
        }
        // Whoever maps much that is others' has tables for that.
        let tables = tables.saturating_sub(files.saturating_add(shared) / OF_TABLE);
        seen.then_some(Self { alone: alone.saturating_add(tables), shared })
    }

    /// What it used at both of two times.
    fn least(self, other: Self) -> Self {
        Self { alone: self.alone.min(other.alone), shared: self.shared.min(other.shared) }
    }
}

fn kibibytes(value: &str) -> Option<u64> {
    value.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// What a process has in memory of what is anonymous and shared, or of files without a name.
#[derive(Debug, Default, PartialEq)]
struct Mappings {
    own: u64,
    /// By inode, what has a name of this library.
    named: HashMap<u64, u64>,
}

impl Mappings {
    /// As `smaps` tells.
    fn of(smaps: impl BufRead) -> io::Result<Self> {
        enum Whose {
            Others,
            Own,
            Named(u64),
        }
        let (mut mappings, mut whose) = (Self::default(), Whose::Others);
        for_each_line(smaps, |line| {
            // `from-to rights offset device inode name`, and then lines of `Name: value`, with a capital letter.
            if let Some(value) = line.strip_prefix(b"Rss:").or_else(|| line.strip_prefix(b"Swap:")) {
                let sum = match whose {
                    Whose::Others => return,
                    Whose::Own => &mut mappings.own,
                    Whose::Named(inode) => mappings.named.entry(inode).or_default(),
                };
                *sum = sum.saturating_add(str::from_utf8(value).ok().and_then(kibibytes).unwrap_or(0));
            } else if line.first().is_some_and(|first| first.is_ascii_digit() || first.is_ascii_lowercase()) {
                let line = String::from_utf8_lossy(line);
                // A process can name its shared memory.
                let is_own = |name: &str| {
                    ["/dev/zero", "/memfd:", "/SYSV", "[anon_shmem:"].iter().any(|kind| name.starts_with(kind))
                };
                whose = match inode_and_name(&line) {
                    Some((inode, name)) if name.starts_with(NAMED) => Whose::Named(inode),
                    Some((_, name)) if is_own(name) => Whose::Own,
                    _ => Whose::Others,
                };
            }
        })?;
        Ok(mappings)
    }

    /// How much is not of this library: its memory is `known`.
    fn own_beside(&self, known: &HashMap<u64, u64>) -> u64 {
        let strange = self.named.iter().filter(|(inode, _)| !known.contains_key(*inode));
        strange.fold(self.own, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// Fails if the memory of this process and its children cannot be seen, as there is no `/proc`, or one in which they are
/// not.
pub(crate) fn check_memory_is_seen() -> io::Result<()> {
    static IS_SEEN: AtomicBool = AtomicBool::new(false);
    if !IS_SEEN.load(Ordering::Relaxed) {
        let own = pidfd_open(getpid(), PidfdFlags::empty()).ok();
        let used = Scale::of(own.as_ref().map(AsFd::as_fd), getpid())?.read(0)?;
        used.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "`/proc` does not tell how much memory is used"))?;
        IS_SEEN.store(true, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::wait_readable;
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn memory_that_is_used_is_seen() {
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let scale = Scale::of(Some(own.as_fd()), getpid()).unwrap();
        let before = scale.read(0).unwrap().unwrap().alone;
        let used = vec![1u8; 64 << 20];
        let with = scale.read(0).unwrap().unwrap().alone;
        assert!(with > before + (48 << 20), "{before} {with}");
        drop(used);
        check_memory_is_seen().unwrap();
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_has_its_memory_still() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let (mut waits, goes_on) = io::pipe().unwrap();
        // SAFETY: the child uses its own memory, and ends without returning.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let memory = vec![1_u8; 64 << 20];
            drop(goes_on);
            let more = std::thread::Builder::new().stack_size(1 << 16).spawn(move || {
                use std::io::Write as _;
                let _ = writer.write_all(&[memory[0]]);
                let _ = waits.read(&mut [0]);
                // SAFETY: it has no preconditions.
                unsafe { libc::_exit(0) }
            });
            std::mem::forget(more);
            // SAFETY: this thread has nothing that others need.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
            unreachable!("it has ended");
        }
        drop((writer, waits));
        let pid = Pid::from_raw(child).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let scale = Scale::of(Some(pidfd.as_fd()), pid).unwrap();
        reader.read_exact(&mut [0]).unwrap();
        let ended = || fs::read_to_string(format!("/proc/{child}/status")).unwrap().contains("State:\tZ");
        while !ended() {
            std::thread::yield_now();
        }
        assert!(scale.read(0).unwrap().is_some_and(|used| used.alone >= 64 << 20));
        drop(goes_on);
        while !wait_readable([pidfd.as_fd()], None).unwrap()[0] {}
        assert!(!matches!(scale.read(0), Ok(Some(_))));
        // SAFETY: it is a child that nobody else waits for.
        assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
    }

    /// Has the shared memory of a process told apart now.
    fn weighed(scale: &Scale) -> Told {
        lock(&scale.telling).next = None;
        scale.read(monotonic()).unwrap();
        while lock(&scale.telling).asked.is_some() {
            std::thread::yield_now();
        }
        lock(&scale.telling).last.unwrap()
    }

    #[test]
    fn shared_memory_that_is_nobody_elses_counts() {
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let scale = Scale::of(Some(own.as_fd()), getpid()).unwrap();
        let map = |flags, fd: i32| {
            let (length, rights) = (64 << 20, libc::PROT_READ | libc::PROT_WRITE);
            // SAFETY: new memory, which is unmapped by the end of the test's process.
            let at = unsafe { libc::mmap(std::ptr::null_mut(), length, rights, libc::MAP_SHARED | flags, fd, 0) };
            assert_ne!(at, libc::MAP_FAILED);
            // SAFETY: it was just mapped, and nothing else refers to it.
            unsafe { at.write_bytes(1, length) };
        };
        let file = |name: &str| {
            let file = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            rustix::fs::ftruncate(&file, 64 << 20).unwrap();
            map(0, file.as_raw_fd());
        };
        let weigh = || {
            // The rest changes with other tests.
            weighed(&scale).own >> 20
        };
        file("pool-demo");
        assert_eq!(weigh(), 0, "memory of this library is shared with others");
        map(libc::MAP_ANONYMOUS, -1);
        assert_eq!(weigh(), 64);
        file("other");
        assert_eq!(weigh(), 128);
    }

    #[test]
    fn a_file_that_makes_no_sense_says_nothing() {
        let status = "Name:\tdemo\nVmSwap:\t 1 kB\nRssAnon:\t 4 kB\nRssFile:\t 9 kB\nRssShmem:\t 2 kB\nVmPTE:\t 8 kB\n";
        let used = Used::of(status).unwrap();
        assert_eq!((used.alone, used.shared), ((13 << 10) - 22, 2 << 10));
        let maps_much = "RssAnon: 4 kB\nRssFile: 8192 kB\nRssShmem: 4096 kB\nVmPTE: 20 kB\n";
        assert_eq!(Used::of(maps_much).unwrap().alone, 4 << 10);
        for nonsense in ["", "1", "RssAnon 3 kB", "RssAnon: x kB", "RssAnon: 3", "RssFile: 3 kB"] {
            assert!(Used::of(nonsense).is_none(), "{nonsense}");
        }
        let smaps = "7f00-7f10 rw-s 00000000 00:01 17   /dev/zero (deleted)\nSize: 8 kB\nRss:   4 kB\nSwap: 2 kB\n\
                     7f10-7f20 r--s 00000000 00:01 18   /memfd:pool-arena (deleted)\nRss:   64 kB\n\
                     7f20-7f30 rw-s 00000000 00:1c 19   /dev/shm/data\nRss:   64 kB\n\
                     7f30-7f40 rw-s 00000000 00:01 20   /memfd:own (deleted)\nRss:   1 kB\n\
                     7f40-7f50 rw-p 00000000 00:00 0 \nRss:   64 kB\n\
                     7f48-7f50 rw-s 00000000 00:01 22 [anon_shmem:any/memfd:pool-]\nRss:   16 kB\n\
                     7f50-7f60 rw-s 00000000 00:01 21   /memfd:pool-mine (deleted)\nRss:   8 kB\n";
        let mappings = Mappings::of(smaps.as_bytes()).unwrap();
        assert_eq!(mappings.own_beside(&HashMap::from([(18, 64)])), 31 << 10);
        // A line of any length takes little memory, and its end is not taken for another one.
        let long = format!(
            "7f00-7f10 rw-s 00000000 00:01 17 /{}Rss: 9 kB 7f0-7f1 rw-s 0 0 7 /dev/zero\nRss: 4 kB\n",
            "x".repeat(1 << 16)
        );
        assert_eq!(Mappings::of((smaps.to_owned() + &long + smaps).as_bytes()).unwrap().own, mappings.own * 2);
    }

    #[test]
    fn a_number_is_checked_until_its_process_is_reaped() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let status = File::open(format!("/proc/{}/status", child.id())).unwrap();
        check_number(&status).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(check_number(&status).is_err());
    }

    #[test]
    fn what_was_told_apart_earlier_is_told_apart_again_where_that_matters() {
        let used = |alone: u64, shared: u64| Used { alone: alone << 20, shared: shared << 20 };
        let now = Instant::now();
        let telling =
            |own| Telling { last: Some(Told { began: 100, used: used(10, 50), own }), next: Some(now), asked: None };
        assert!(Telling::default().is_out_of_date(used(0, 5), 0, now));
        assert!(!Telling::default().is_out_of_date(used(100, 4), 0, now));
        assert!(!telling(1).is_out_of_date(used(10, 50), 100, now));
        assert!(telling(1).is_out_of_date(used(10, 50), 101, now), "it was another call's");
        assert!(!telling(0).is_out_of_date(used(20, 50), 101, now), "none was its own");
        assert!(telling(1).is_out_of_date(used(15, 50), 100, now));
        assert!(telling(0).is_out_of_date(used(10, 55), 100, now));
        assert!(telling(0).is_out_of_date(used(10, 50), 100, now + Duration::from_secs(1)));
    }

    #[test]
    fn what_a_process_shares_with_this_one_is_not_its_own_where_its_mappings_are_not_seen() {
        const MOST: u64 = 1 << 40;
        let memory = rustix::fs::memfd_create("pool-large", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&memory, MOST).unwrap();
        let used = |shared| Used { alone: 1, shared };
        assert_eq!(Told::unseen(used(MOST), used(2 * MOST)).bytes(), 1);
        // Other tests have some at the same time.
        let own = Told::unseen(used(3 * MOST), used(3 * MOST)).own;
        assert!((MOST..=2 * MOST).contains(&own), "{own}");
    }

    #[test]
    fn memory_of_queues_is_known_by_what_is_there() {
        let sparse = crate::os::Memory::sparse().unwrap();
        sparse.back(1 << 40..(1 << 40) + (1 << 20)).unwrap();
        let inode = rustix::fs::fstat(sparse.handle()).unwrap().st_ino;
        assert_eq!(known_memory().get(&inode), Some(&sparse.resident()));
    }

    #[test]
    fn the_librarys_memory_is_known_by_what_this_process_has() {
        let memory = crate::os::Memory::reusable(1).unwrap();
        let strange = rustix::fs::memfd_create("pool-strange", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let known = known_memory();
        assert!(known.contains_key(&rustix::fs::fstat(&strange).unwrap().st_ino), "it is open");
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let own = maps.lines().find(|line| line.contains("/memfd:pool-arena")).and_then(inode_and_name).unwrap().0;
        assert!(known.get(&own).is_some_and(|bytes| *bytes > 0));
        drop((memory, strange));
    }
}
