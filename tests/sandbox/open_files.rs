//! In a sandbox, what may only be read cannot be held either, and takes no requests but those that change nothing.

use crate::support::{builder, directory, over_every_transport, pool};
use pool_runtime::{Pool, Sandbox, task};
use std::{
    fs::File,
    io::{self, PipeReader},
    os::fd::AsRawFd as _,
    path::Path,
};

over_every_transport! {
    what_may_be_read_cannot_be_held,
    nothing_is_opened_for_neither_reading_nor_writing,
    locks_are_for_who_may_write_or_was_allowed,
    requests_that_are_not_on_the_list_are_refused,
    requests_that_change_nothing_work,
    a_device_that_was_named_takes_its_own_requests,
}

/// An error number, or 0.
fn error(done: i32) -> i32 {
    if done >= 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
}

fn inside(sandbox: Sandbox) -> Pool {
    builder().processes(1).sandbox(sandbox).build().expect("a pool")
}

const F_SETLEASE: i32 = 1024;
const F_NOTIFY: i32 = 1026;
const DN_MULTISHOT: i32 = 0x8000_0000_u32.cast_signed();
const F_SETPIPE_SZ: i32 = 1031;

/// A lease on a file, a notification of its directory, and a larger pipe.
#[task]
fn hold(file: &Path) -> [i32; 3] {
    let open = File::open(file).expect("it may be read");
    let dir = File::open(file.parent().expect("a directory")).expect("it may be read");
    let (reader, _writer) = io::pipe().expect("a pipe");
    // SAFETY: the descriptors are open; the arguments are numbers.
    unsafe {
        [
            error(libc::fcntl(open.as_raw_fd(), F_SETLEASE, libc::F_RDLCK)),
            error(libc::fcntl(dir.as_raw_fd(), F_NOTIFY, DN_MULTISHOT | 2)),
            error(libc::fcntl(reader.as_raw_fd(), F_SETPIPE_SZ, 1 << 18)),
        ]
    }
}

fn what_may_be_read_cannot_be_held() {
    let dir = directory();
    let file = dir.path().join("file");
    std::fs::write(&file, "text").unwrap();
    assert_eq!(pool(1).apply(hold::call(&file)).unwrap(), [0; 3], "outside, it works");
    for sandbox in [Sandbox::strict().read(dir.path()), Sandbox::strict().write(dir.path()).attributes(true)] {
        let pool = inside(sandbox);
        assert_eq!(pool.apply(hold::call(&file)).unwrap(), [libc::EPERM; 3]);
    }
}

/// In the two ways there are; an access mode of three is none.
#[task]
fn open_for_nothing(file: &Path) -> [i32; 2] {
    let path = std::ffi::CString::new(file.as_os_str().as_encoded_bytes()).expect("a path");
    let how = [3_u64, 0, 0];
    // SAFETY: the path and the way to open it live for the calls; what is opened is closed with the process.
    unsafe {
        let newer = libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, path.as_ptr(), &raw const how, size_of_val(&how));
        // Before the next call has an error of its own.
        let newer = error(newer as i32);
        [error(libc::open(path.as_ptr(), 3)), newer]
    }
}

fn nothing_is_opened_for_neither_reading_nor_writing() {
    let dir = directory();
    let file = dir.path().join("file");
    std::fs::write(&file, "text").unwrap();
    assert_eq!(pool(1).apply(open_for_nothing::call(&file)).unwrap(), [0; 2], "outside, it works");
    let given = directory();
    for sandbox in [Sandbox::strict(), Sandbox::strict().write(given.path()).attributes(true)] {
        let opened = inside(sandbox).apply(open_for_nothing::call(&file)).unwrap();
        assert_eq!(opened, [libc::EPERM, libc::ENOSYS]);
    }
}

/// By both kinds of locks, the second of the process and of the open file.
#[task]
fn lock(file: &Path) -> [i32; 3] {
    let file = File::open(file).expect("it may be read");
    // SAFETY: all zeros is a lock of the whole file; the type is set.
    let mut whole = unsafe { std::mem::zeroed::<libc::flock>() };
    whole.l_type = libc::F_RDLCK as _;
    // SAFETY: the descriptor is open, and the lock lives for the calls.
    unsafe {
        [
            error(libc::flock(file.as_raw_fd(), libc::LOCK_SH)),
            error(libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const whole)),
            error(libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole)),
        ]
    }
}

fn locks_are_for_who_may_write_or_was_allowed() {
    let dir = directory();
    let file = dir.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let reads = || Sandbox::strict().read(dir.path());
    assert_eq!(inside(reads()).apply(lock::call(&file)).unwrap(), [libc::EPERM; 3]);
    assert_eq!(inside(reads().locks(true)).apply(lock::call(&file)).unwrap(), [0; 3]);
    assert_eq!(inside(Sandbox::strict().write(dir.path())).apply(lock::call(&file)).unwrap(), [0; 3]);
}

#[task]
fn request(file: &Path, requests: &[u64]) -> Vec<i32> {
    let file = File::options().read(true).open(file).expect("it may be read");
    let mut place = [0_u64; 1 << 10];
    // SAFETY: what is refused or unknown reads and writes nothing; nothing that is tried reads or writes more.
    requests.iter().map(|one| error(unsafe { libc::ioctl(file.as_raw_fd(), *one as _, place.as_mut_ptr()) })).collect()
}

/// `EXT4_IOC_SETVERSION`, `BTRFS_IOC_SUBVOL_CREATE`, `FIFREEZE`, `FS_IOC_FSSETXATTR`, one that nobody has, and the
/// first one in disguise: the kernel looks at 32 bits.
const CHANGING: [u64; 6] = [0x4008_6604, 0x5000_940e, 0xc004_5877, 0x401c_5820, 0x1234, 0x1_4008_6604];

fn requests_that_are_not_on_the_list_are_refused() {
    let dir = directory();
    let file = dir.path().join("file");
    std::fs::write(&file, "text").unwrap();
    for sandbox in [Sandbox::strict().read(dir.path()), Sandbox::strict().write(dir.path()).processes(true)] {
        assert_eq!(inside(sandbox).apply(request::call(&file, &CHANGING)).unwrap(), [libc::EPERM; 6]);
    }
}

/// Returns what could be read from a pipe, and what came of a pair of sockets, of this program's streams, and of the
/// flags of a file.
#[task]
fn harmless(file: &Path) -> (i32, [i32; 5]) {
    let (reader, mut writer): (PipeReader, _) = io::pipe().expect("a pipe");
    io::Write::write_all(&mut writer, b"seven b").expect("a pipe");
    let (socket, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let file = File::open(file).expect("it may be read");
    let (mut unread, mut flags, yes) = (0_i32, 0_u64, 1_i32);
    // SAFETY: the descriptors are open; the pointers lead to what the requests ask for.
    let done = unsafe {
        let mut size = std::mem::zeroed::<libc::winsize>();
        [
            error(libc::ioctl(reader.as_raw_fd(), libc::FIONREAD, &raw mut unread)),
            error(libc::ioctl(socket.as_raw_fd(), libc::FIONBIO, &raw const yes)),
            error(libc::ioctl(socket.as_raw_fd(), libc::FIOCLEX)),
            error(libc::ioctl(1, libc::TIOCGWINSZ, &raw mut size)),
            error(libc::ioctl(file.as_raw_fd(), 0x8008_6601_u32 as _, &raw mut flags)),
        ]
    };
    (unread, done)
}

fn requests_that_change_nothing_work() {
    let dir = directory();
    let file = dir.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let (unread, [readable, non_blocking, close, size, flags]) =
        inside(Sandbox::strict().read(dir.path())).apply(harmless::call(&file)).unwrap();
    assert_eq!((unread, readable, non_blocking, close), (7, 0, 0, 0));
    // A pipe has no size, and not every file system has flags: that is the answer then, not a refusal.
    assert_eq!(size, libc::ENOTTY);
    assert!([0, libc::ENOTTY, libc::EOPNOTSUPP].contains(&flags), "{flags}");
}

#[task]
fn opens(file: &Path) -> bool {
    File::open(file).is_ok()
}

fn a_device_that_was_named_takes_its_own_requests() {
    const TIOCGPTN: u64 = 0x8004_5430;
    let device = Path::new("/dev/ptmx");
    if File::open(device).is_err() {
        return eprintln!("skipped: there are no pseudoterminals");
    }
    // By its directory, it cannot even be opened.
    let below = inside(Sandbox::strict().write("/dev"));
    assert!(!below.apply(opens::call(device)).unwrap());
    let named = inside(Sandbox::strict().write(device));
    let [number, version, ..] = named.apply(request::call(device, &[TIOCGPTN, 0x4008_6604])).unwrap()[..] else {
        panic!("two answers")
    };
    assert_eq!((number, version), (0, libc::EPERM));
    // `TIOCSTI`.
    assert_eq!(named.apply(request::call(device, &[0x5412])).unwrap(), [libc::EPERM]);
}
