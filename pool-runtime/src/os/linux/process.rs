//! This process: its end, rights, name and parent; the memory of any process, and the clock that all of them share.

use super::handle::beyond_standard;
use super::signal::block_all_signals;
use super::thread::spawn_thread;
use super::wait_readable;
use crate::os::Handle;
use crate::sync::lock;
use rustix::process::{
    Pid, PidfdFlags, Signal, getegid, geteuid, getgid, getpid, getuid, pidfd_open, set_parent_process_death_signal,
};
use rustix::thread::{CapabilitySet, capability_is_in_ambient_set};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The process that has started this one, or inherited it.
pub(crate) use std::os::unix::process::parent_id as parent_pid;

/// Waits until the process that has started this one has ended, at most so long. Returns whether it has.
///
/// `parent` is its number when this process was started; it is never taken for a later process of the same number.
pub(crate) fn await_parent(parent: u32, timeout: Option<Duration>) -> bool {
    /// Where it cannot be waited for, as in a sandbox, it is looked for so often.
    const LOOK: Duration = Duration::from_millis(10);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let number = i32::try_from(parent).ok().and_then(Pid::from_raw);
    let handle = number.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()).map(beyond_standard);
    let handle = handle.and_then(io::Result::ok);
    // Children of a process that has ended get another parent: if it is this one still, so was what was opened.
    while parent_pid() == parent {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        let ended = handle.as_ref().map(|handle| wait_readable([handle.as_fd()], left));
        if let Some(Ok([true])) = ended {
            return true;
        }
        // Also where a wait fails at once, for a lack of memory.
        if !matches!(ended, Some(Ok(_))) {
            std::thread::sleep(left.map_or(LOOK, |left| left.min(LOOK)));
        }
    }
    true
}

/// Has the kernel kill this process when the thread that has started it ends, and so when its parent does: also while
/// it is stopped, and whatever it does with its descriptors. It has to be asked by each thread of this process for which
/// it is to hold. A thread that changes its user loses it.
pub(crate) fn die_with_parent() {
    // Where it is refused, the descriptors that are watched have to do.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
}

/// A handle of the parent: readable once that has ended, whoever has copies of its sockets. It is another process's if
/// the parent has ended meanwhile: see [`parent_pid`] after this. None if the system gives none.
pub(crate) fn parent_handle() -> Option<Handle> {
    let parent = Pid::from_raw(parent_pid().cast_signed())?;
    pidfd_open(parent, PidfdFlags::empty()).ok().and_then(|pidfd| beyond_standard(pidfd).ok())
}

/// Ends this process at once: nothing is flushed, no destructor and no `atexit` handler runs.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Does this process have more rights than its parent, by its file's owner, group or capabilities?
pub(crate) fn has_more_rights() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Has this process the rights of root, at least those inside of its user namespace?
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// The capabilities that this thread keeps in each program that it becomes, and which its user need not have. Where a
/// program has its rights from these, the kernel does not say that it has more than whoever started it.
pub(super) fn ambient() -> CapabilitySet {
    let is_in = |capability: &CapabilitySet| capability_is_in_ambient_set(*capability).unwrap_or(false);
    // One by one: valgrind does not see that `capget` writes all of its answer.
    CapabilitySet::all().iter().filter(is_in).collect()
}

/// Checks that the parent has what this process has of capabilities that programs keep.
pub(crate) fn check_parents_capabilities(parent: Option<&Handle>) -> Result<(), String> {
    let ours = ambient();
    if ours.is_empty() {
        return Ok(());
    }
    let status = Pid::from_raw(parent_pid().cast_signed()).ok_or(io::ErrorKind::NotFound.into()).and_then(|pid| {
        let number = number_in_proc(parent.map(|handle| handle.as_fd()), pid)?;
        fs::read_to_string(format!("/proc/{number}/status"))
    });
    let status = status.map_err(|error| {
        format!("it has capabilities ({ours:?}), and whether its parent has them cannot be seen: {error}")
    })?;
    let permitted = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapPrm:")?.trim(), 16).ok());
    match ours - CapabilitySet::from_bits_retain(permitted.unwrap_or(0)) {
        more if more.is_empty() => Ok(()),
        more => Err(format!(
            "it has capabilities that its parent has not ({more:?}): it works only for a process with exactly its own \
             rights"
        )),
    }
}

/// Has it more rights than its parent, or would the processes that it starts? The kernel compares the effective ids with
/// the real ones. Returns what it has more of.
pub(crate) fn excess_of_rights() -> Option<&'static str> {
    match (has_more_rights(), getuid() == geteuid() && getgid() == getegid()) {
        (true, _) => Some("more rights than whoever started it, by its file's owner, group or capabilities"),
        (false, false) => Some("the effective user or group of somebody other than its real one"),
        (false, true) => None,
    }
}

/// Names the calling thread, and so the process when it is the main thread, for `ps` and `top`.
pub(crate) fn name_thread(name: &str) {
    let short: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(15).collect();
    if let Ok(name) = std::ffi::CString::new(short) {
        // An unnamed thread does no harm.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Nanoseconds of the system's monotonic clock, which is the same in all processes.
pub(crate) fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The C library's, which finds the clock under valgrind too. It makes no system call either.
    // SAFETY: the pointer is that of a time. This clock exists everywhere, so nothing can fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    // They have 32 bits on some machines.
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// The number of a process in `/proc`. Fails if the process is gone, or not to be seen there.
fn number_in_proc(pidfd: Option<BorrowedFd<'_>>, pid: Pid) -> io::Result<i32> {
    let invisible = || {
        let why = "`/proc` belongs to another name space of processes";
        io::Error::new(io::ErrorKind::NotFound, why)
    };
    let Some(pidfd) = pidfd else {
        // One number for this process says that `/proc` numbers processes as it does.
        let status = fs::read_to_string("/proc/thread-self/status")?;
        let numbers = status.lines().find_map(|line| Some(line.strip_prefix("NSpid:")?.split_whitespace().count()));
        return if numbers == Some(1) { Ok(pid.as_raw_pid()) } else { Err(invisible()) };
    };
    // The number that it has where `/proc` was mounted: that may be outside of the name space of this process, in
    // which it has another number. Of this thread, as the first one may have ended.
    let known = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let number = known.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i32>().ok());
    number.filter(|number| *number > 0).ok_or_else(invisible)
}

/// Tells how much memory a process uses: the kernel's file about it, which is about no other process, even when its
/// number is used again.
#[derive(Debug)]
pub(super) struct Scale {
    status: Arc<File>,
    number: i32,
    shared: Arc<Mutex<SharedUse>>,
}

/// What a process has in memory that it shares, or could share, with others: what this library or a file system has
/// made is not its own, and the rest counts as its own.
#[derive(Debug, Default)]
struct SharedUse {
    /// When it was last told apart, and how much there was, and was its own.
    resident: u64,
    own: u64,
    /// When it may be told apart again.
    next: Option<Instant>,
    /// Since when a thread is at it.
    asked: Option<Instant>,
}

/// How much less or more shared memory may be in use, in bytes, without being told apart again.
const SHARED_LEEWAY: u64 = 4 << 20;

/// The least pause before shared memory is told apart again, and how many times that takes as long as this one; but no more
/// than the longest, as a process can see to it that it takes long.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSES: u32 = 50;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long that may take before all counts: a process can keep the kernel from its mappings.
const TOO_LONG: Duration = Duration::from_secs(10);

impl Scale {
    /// Fails if the process is gone, or this process cannot see it in `/proc`.
    pub(super) fn of(pidfd: Option<BorrowedFd<'_>>, pid: Pid) -> io::Result<Self> {
        let number = number_in_proc(pidfd, pid)?;
        let status = beyond_standard(File::open(format!("/proc/{number}/status"))?.into())?.into();
        Ok(Self { status: Arc::new(status), number, shared: Arc::default() })
    }

    /// How many bytes of memory of its own it uses: also what was swapped out, the tables of its pages, and memory that it
    /// could share with processes that it starts. None if it has none any more, as it is ending.
    pub(super) fn read(&self) -> io::Result<Option<u64>> {
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
        Ok(Some(used.alone.saturating_add(self.own_of(used.shared, &place))))
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

    /// How much of so much shared memory is its own. That is looked for only where it has changed, and not all the time,
    /// as the kernel goes through all of its pages; and on another thread, as the kernel waits for the process while that
    /// changes its mappings.
    fn own_of(&self, resident: u64, place: &str) -> u64 {
        let mut shared = lock(&self.shared);
        let now = Instant::now();
        if let Some(asked) = shared.asked {
            return if now - asked > TOO_LONG { resident } else { shared.own.min(resident) };
        }
        let due = shared.next.is_none_or(|next| next <= now);
        // What it had can have become another's, too.
        if resident > SHARED_LEEWAY && due && (shared.resident.abs_diff(resident) > SHARED_LEEWAY || shared.is_old(now))
        {
            let (itself, place, status) = (self.shared.clone(), place.to_owned(), self.status.clone());
            let thread = spawn_thread("pool-weigher", Some(1 << 17), move || {
                block_all_signals();
                let began = Instant::now();
                // A process can forbid it. Then this library's memory counts as well.
                let own = mappings(&place, &status).map_or(resident, |mappings| own_memory(&mappings, &known_memory()));
                let next = Some(Instant::now() + (began.elapsed() * PAUSES).clamp(PAUSE, LONGEST_PAUSE));
                *lock(&itself) = SharedUse { resident, own, next, asked: None };
            });
            // Without a thread, the next look tries again.
            shared.asked = thread.is_ok().then_some(now);
        }
        shared.own.min(resident)
    }
}

/// What the names of this library's memory begin with.
const NAMED: &str = concat!("/memfd:", "pool-");

/// The inodes of what this process has of this library's memory, mapped or open. Anybody can use the name.
fn known_memory() -> HashSet<u64> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mapped = maps.lines().filter(|line| line.contains(NAMED)).filter_map(inode);
    let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().map(|entry| entry.path());
    let named = descriptors
        .filter(|path| fs::read_link(path).is_ok_and(|to| to.as_os_str().as_bytes().starts_with(NAMED.as_bytes())));
    let open = named.filter_map(|path| Some(fs::metadata(path).ok()?.ino()));
    mapped.chain(open).collect()
}

/// The inode in a line `from-to rights offset device inode name`.
fn inode(line: &str) -> Option<u64> {
    line.split_ascii_whitespace().nth(4)?.parse().ok()
}

fn mappings(place: &str, status: &File) -> io::Result<String> {
    let file = File::open(format!("{place}/smaps"))?;
    let mut text = String::new();
    // A process may have tens of thousands of mappings, at less than a thousand bytes each.
    file.take(1 << 27).read_to_string(&mut text)?;
    check_number(status)?;
    Ok(text)
}

/// Fails if the process is gone, and its number may be another's.
fn check_number(status: &File) -> io::Result<()> {
    status.read_at(&mut [0], 0).map(drop)
}

impl SharedUse {
    fn is_old(&self, now: Instant) -> bool {
        const OLD: Duration = Duration::from_secs(1);
        self.next.is_none_or(|next| next + OLD <= now)
    }
}

/// How much memory a process uses, as its `status` tells.
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
}

fn kibibytes(value: &str) -> Option<u64> {
    value.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// How much of what a process has mapped is anonymous and shared, or a file without a name, and not of this library: its
/// memory is `known`.
fn own_memory(smaps: &str, known: &HashSet<u64>) -> u64 {
    let (mut own, mut counts) = (0_u64, false);
    for line in smaps.lines() {
        // `from-to rights offset device inode name`, and then lines of `Name: value`.
        if let Some(value) = line.strip_prefix("Rss:").or_else(|| line.strip_prefix("Swap:")).filter(|_| counts) {
            own = own.saturating_add(kibibytes(value).unwrap_or(0));
        } else if line.split(' ').next().is_some_and(|first| first.contains('-')) {
            let name = line.find('/').map_or("", |at| &line[at..]);
            let library = name.starts_with(NAMED) && inode(line).is_some_and(|inode| known.contains(&inode));
            counts = !library && ["/dev/zero", "/memfd:", "/SYSV"].iter().any(|kind| name.starts_with(kind));
        }
    }
    own
}

/// Fails if the memory of this process and its children cannot be seen, as there is no `/proc`, or one in which they are
/// not.
pub(crate) fn check_memory_is_seen() -> io::Result<()> {
    static IS_SEEN: AtomicBool = AtomicBool::new(false);
    if !IS_SEEN.load(Ordering::Relaxed) {
        let own = pidfd_open(getpid(), PidfdFlags::empty()).ok();
        let used = Scale::of(own.as_ref().map(AsFd::as_fd), getpid())?.read()?;
        used.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "`/proc` does not tell how much memory is used"))?;
        IS_SEEN.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Does a process have children, dead ones among them that it has not reaped? None if the system does not tell.
pub(super) fn has_children(pidfd: Option<BorrowedFd<'_>>, pid: Pid) -> Option<bool> {
    let pid = number_in_proc(pidfd, pid).ok()?;
    let of = |thread: &str| fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"));
    let any = |children: String| !children.trim().is_empty();
    if any(of(&pid.to_string()).ok()?) {
        return Some(true);
    }
    // A child belongs to the thread that has started it. Threads come and go meanwhile.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    Some(threads.filter_map(|thread| of(thread.file_name().to_str()?).ok()).any(any))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_parent_is_seen() {
        use std::io::{Read, Write};
        assert!(!await_parent(parent_pid(), Some(Duration::ZERO)), "that of the tests lives");
        assert!(await_parent(parent_pid().wrapping_add(1), None), "one that was the parent once has ended");
        let (mut reader, mut writer) = io::pipe().unwrap();
        // SAFETY: the children make system calls only, and end without returning.
        unsafe {
            let parent = libc::fork();
            if parent == 0 {
                let pid = libc::getpid();
                if libc::fork() == 0 {
                    let ended = await_parent(pid.unsigned_abs(), Some(Duration::from_secs(60)));
                    let _ = writer.write_all(&[u8::from(ended)]);
                    libc::_exit(0);
                }
                libc::usleep(20_000);
                libc::_exit(0);
            }
            assert!(parent > 0);
            assert_eq!(libc::waitpid(parent, std::ptr::null_mut(), 0), parent);
        }
        drop(writer);
        let mut said = Vec::new();
        reader.read_to_end(&mut said).unwrap();
        assert_eq!(said, [1]);
    }

    #[test]
    fn a_child_is_seen_until_it_is_reaped() {
        let shell = || {
            std::process::Command::new("sh")
                .arg("-c")
                .arg("cat & read line; wait")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut child = shell();
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        while has_children(Some(pidfd.as_fd()), pid) == Some(false) {
            std::thread::yield_now();
        }
        assert_eq!(has_children(None, pid), Some(true));
        drop(child.stdin.take());
        child.wait().unwrap();
        // The number may be another process's by now.
        assert_eq!(has_children(Some(pidfd.as_fd()), pid), None);
    }

    #[test]
    fn memory_that_is_used_is_seen() {
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let scale = Scale::of(Some(own.as_fd()), getpid()).unwrap();
        let before = scale.read().unwrap().unwrap();
        let used = vec![1u8; 64 << 20];
        let with = scale.read().unwrap().unwrap();
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
        assert!(scale.read().unwrap().is_some_and(|used| used >= 64 << 20));
        drop(goes_on);
        while !wait_readable([pidfd.as_fd()], None).unwrap()[0] {}
        assert!(!matches!(scale.read(), Ok(Some(_))));
        // SAFETY: it is a child that nobody else waits for.
        assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child);
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
            lock(&scale.shared).next = None;
            scale.read().unwrap();
            while lock(&scale.shared).asked.is_some() {
                std::thread::yield_now();
            }
            // The rest changes with other tests.
            lock(&scale.shared).own >> 20
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
                     7f50-7f60 rw-s 00000000 00:01 21   /memfd:pool-mine (deleted)\nRss:   8 kB\n";
        assert_eq!(own_memory(smaps, &HashSet::from([18])), 15 << 10);
    }

    #[test]
    fn the_librarys_memory_is_known_by_what_this_process_has() {
        let memory = crate::os::Memory::reusable(1).unwrap();
        let strange = rustix::fs::memfd_create("pool-strange", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let known = known_memory();
        assert!(known.contains(&rustix::fs::fstat(&strange).unwrap().st_ino), "it is open");
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let own = maps.lines().find(|line| line.contains("/memfd:pool-arena")).and_then(inode).unwrap();
        assert!(known.contains(&own));
        drop((memory, strange));
    }
}
