//! In the strictest sandbox, a worker cannot take what all processes of its user, or of the machine, share.

use crate::support::{builder, over_every_transport, pool};
use pool_runtime::{Pool, Sandbox, task};
use std::{
    io,
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    ptr,
};

over_every_transport! {
    open_files_signals_and_images_have_limits,
    queues_and_watches_are_refused,
    descriptors_on_their_way_are_limited,
    shared_memory_is_no_way_around_the_limit_of_memory,
}

fn error(done: i64) -> i32 {
    if done >= 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
}

fn inside(sandbox: Sandbox) -> Pool {
    builder().processes(1).sandbox(sandbox).build().expect("a pool")
}

#[task]
fn limit(resource: i64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: there is room for the limit.
    assert_eq!(unsafe { libc::getrlimit(resource as _, &raw mut limit) }, 0);
    limit.rlim_max
}

/// How many timers can be made, each of which keeps a signal; at most so many are tried.
#[task]
fn make_timers(most: usize) -> usize {
    let made = |_: &usize| {
        let mut timer = ptr::null_mut();
        // SAFETY: there is room for the timer, which is never set; without an event, it is the usual one.
        (unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, ptr::null_mut(), &raw mut timer) }) == 0
    };
    (0..most).take_while(made).count()
}

fn open_files_signals_and_images_have_limits() {
    let pool = inside(Sandbox::strict());
    for (resource, most) in [(libc::RLIMIT_NOFILE, 512), (libc::RLIMIT_SIGPENDING, 256)] {
        assert!(pool.apply(limit::call(resource.into())).unwrap() <= most, "limit {resource}");
    }
    // For a core dump that goes to a program, 0 is no limit.
    assert_eq!(pool.apply(limit::call(libc::RLIMIT_CORE.into())).unwrap(), limit(libc::RLIMIT_CORE.into()).min(1));
    assert!(pool.apply(make_timers::call(1_000)).unwrap() <= 256);
    let more = inside(Sandbox::strict().open_files(600).pending_signals(300).core_size(1 << 20));
    assert_eq!(more.apply(limit::call(libc::RLIMIT_NOFILE.into())).unwrap(), 600);
}

#[task]
fn take_queues() -> [i32; 7] {
    let mut context = 0_u64;
    // SAFETY: there is room for the context; a descriptor that is made is closed with the process; nobody uses what is
    // mapped; there is no filter at that address, and what the one of a socket is made of outlives the call.
    unsafe {
        let queue = error(libc::syscall(libc::SYS_io_setup, 1, &raw mut context));
        let watch = error(libc::syscall(libc::SYS_inotify_init1, 0));
        // This would write out all of a file system, if that descriptor were open.
        let all = error(libc::syscall(libc::SYS_syncfs, -1));
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
        let huge = libc::mmap(ptr::null_mut(), 1 << 21, libc::PROT_READ, kind, -1, 0);
        let huge = error(if huge == libc::MAP_FAILED { -1 } else { 0 });
        let filter = error(libc::syscall(libc::SYS_seccomp, 1, 0, 0));
        let other = error(i64::from(libc::prctl(libc::PR_SET_SECCOMP, 2, 0, 0, 0)));
        let (pair, _other) = UnixStream::pair().expect("a pair");
        let mut all_of_it = libc::sock_filter { code: 6, jt: 0, jf: 0, k: u32::MAX };
        let program = libc::sock_fprog { len: 1, filter: &raw mut all_of_it };
        let (level, option, size) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, size_of_val(&program) as _);
        let of_socket = libc::setsockopt(pair.as_raw_fd(), level, option, (&raw const program).cast(), size);
        [queue, watch, all, huge, filter, other, error(of_socket.into())]
    }
}

/// musl says of mappings that may not be made that there is no memory.
const NO_MAPPING: i32 = if cfg!(target_env = "musl") { libc::ENOMEM } else { libc::EPERM };
const REFUSED: [i32; 7] = [libc::EPERM, libc::EPERM, libc::EPERM, NO_MAPPING, libc::EPERM, libc::EPERM, libc::EPERM];

fn queues_and_watches_are_refused() {
    assert_eq!(inside(Sandbox::strict().read("/")).apply(take_queues::call()).unwrap(), REFUSED);
    let outside = pool(1).apply(take_queues::call()).unwrap();
    assert!(!outside.contains(&libc::EPERM), "{outside:?}");
}

/// Sends a descriptor through pairs of sockets until that is refused. Returns how many are on their way, and why the
/// next one is not.
#[task]
fn send_many() -> (usize, i32) {
    let (mut sent, mut pairs) = (0, Vec::new());
    while pairs.len() < 200 {
        let (here, there) = UnixStream::pair().expect("a pair");
        here.set_nonblocking(true).expect("a socket");
        loop {
            match send(&here, there.as_raw_fd()) {
                0 => sent += 1,
                libc::EAGAIN => break,
                error => return (sent, error),
            }
        }
        pairs.push((here, there));
    }
    (sent, 0)
}

fn send(socket: &UnixStream, fd: i32) -> i32 {
    let mut byte = 0_u8;
    let mut space = [0_u64; 4];
    // SAFETY: the message leads to one byte, and to space for one descriptor, aligned as its header has to be.
    unsafe {
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut message = std::mem::zeroed::<libc::msghdr>();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        (message.msg_control, message.msg_controllen) = (space.as_mut_ptr().cast(), libc::CMSG_SPACE(4) as _);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        ((*header).cmsg_level, (*header).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        error(libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) as i64)
    }
}

fn descriptors_on_their_way_are_limited() {
    let (sent, error) = inside(Sandbox::strict()).apply(send_many::call()).unwrap();
    assert_eq!(error, libc::ETOOMANYREFS);
    // The kernel looks before each message; this one has one descriptor.
    assert!(sent <= 513, "{sent}");
}

/// In each way to make memory that a limit of private memory does not count; and private memory.
#[task]
fn make_shared_memory() -> [i32; 4] {
    let map = |flags: i32| {
        // SAFETY: a new mapping, which nobody uses.
        let place =
            unsafe { libc::mmap(ptr::null_mut(), 1 << 12, libc::PROT_READ, flags | libc::MAP_ANONYMOUS, -1, 0) };
        error(if place == libc::MAP_FAILED { -1 } else { 0 })
    };
    // SAFETY: the name is a C string.
    let file = error(i64::from(unsafe { libc::memfd_create(c"test".as_ptr(), 0) }));
    [file, map(libc::MAP_SHARED), map(libc::MAP_SHARED | libc::MAP_NORESERVE), map(libc::MAP_PRIVATE)]
}

/// A shared mapping of it is shared memory.
#[task]
fn open_zero() -> bool {
    std::fs::File::open("/dev/zero").is_ok()
}

fn shared_memory_is_no_way_around_the_limit_of_memory() {
    let all = || Sandbox::strict().write("/");
    assert!(inside(all()).apply(open_zero::call()).unwrap());
    assert!(!inside(all().memory(128 << 20)).apply(open_zero::call()).unwrap());
    let limited = inside(Sandbox::strict().memory(128 << 20)).apply(make_shared_memory::call()).unwrap();
    assert_eq!(limited, [libc::EPERM, libc::EPERM, libc::EPERM, 0]);
    assert_eq!(inside(Sandbox::strict()).apply(make_shared_memory::call()).unwrap(), [0; 4]);
}
