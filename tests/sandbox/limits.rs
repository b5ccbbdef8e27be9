//! A worker that takes more than its sandbox allows is lost, with what it took, and the next call works. Limits work
//! alone, and inside of a sandbox, from which nobody lifts them.

use crate::support::{builder, directory, over_every_transport};
use pool_runtime::{Pool, Ran, Sandbox, Shared, task};
use std::{fs::File, io::Write as _, path::Path, time::Duration};

over_every_transport! {
    memory_has_an_end,
    stacks_do_not_go_around_it,
    the_kernels_memory_is_no_way_around_it,
    memory_that_is_not_written_is_no_way_around_it,
    what_is_shared_is_not_the_workers_memory,
    processor_time_has_an_end,
    files_have_an_end,
    open_files_have_an_end,
    no_thread_has_files_of_its_own,
    nobody_lifts_a_limit_inside,
}

const MIB: usize = 1 << 20;

fn inside(sandbox: Sandbox) -> Pool {
    builder().processes(1).sandbox(sandbox).build().expect("a pool")
}

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

#[task]
fn fill(bytes: usize) -> usize {
    let mut kept = Vec::new();
    while kept.len() * MIB < bytes {
        kept.push(vec![1_u8; MIB]);
    }
    kept.iter().map(Vec::len).sum()
}

#[task]
fn aborts() {
    eprintln!("memory allocation of some bytes failed");
    std::process::abort();
}

/// Has caught a panic before, and stops in the middle of a line.
#[task]
fn fills_later(bytes: usize) -> usize {
    let caught = std::panic::catch_unwind(|| panic!("caught"));
    eprint!("loading… ");
    caught.is_err() as usize + vec![1_u8; bytes].len()
}

fn memory_has_an_end() {
    for sandbox in [Sandbox::none(), Sandbox::strict()] {
        let pool = inside(sandbox.clone().memory(128 << 20));
        assert_eq!(pool.apply(fill::call(32 * MIB)).unwrap(), 32 * MIB);
        let error = pool.apply(fill::call(512 * MIB)).unwrap_err();
        assert_eq!((error.signal(), error.ran()), (Some(libc::SIGABRT), Ran::Yes), "{error}");
        assert!(error.is_out_of_memory() && error.to_string().contains("could not allocate 1048576 bytes"), "{error}");
        // A whole backtrace behind the line would be all that is kept of standard error.
        let pool =
            builder().processes(1).sandbox(sandbox.memory(128 << 20)).env("RUST_BACKTRACE", "0").build().unwrap();
        let error = pool.apply(fills_later::call(512 * MIB)).unwrap_err();
        assert!(error.is_out_of_memory() && !error.is_panic() && !error.to_string().contains("caught"), "{error}");
        // An abort for another reason is none.
        assert!(!pool.apply(aborts::call()).unwrap_err().is_out_of_memory());
        assert_eq!(pool.apply(add::call(1, 2)).unwrap(), 3);
    }
}

/// What comes of memory that grows downwards, as a stack does: an error number, or 0; and the limits for stacks.
#[task]
fn stacks() -> (i32, [u64; 2]) {
    let (kind, mut stack) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN, [0; 2]);
    // SAFETY: new memory, which nobody uses; and there is room for the limits.
    let found = unsafe {
        let made = libc::mmap(std::ptr::null_mut(), 512 * MIB, libc::PROT_READ | libc::PROT_WRITE, kind, -1, 0);
        let error = if made == libc::MAP_FAILED { std::io::Error::last_os_error().raw_os_error() } else { None };
        libc::getrlimit(libc::RLIMIT_STACK, stack.as_mut_ptr().cast());
        error.unwrap_or(0)
    };
    (found, stack)
}

fn stacks_do_not_go_around_it() {
    for sandbox in [Sandbox::strict(), Sandbox::strict().processes(true), Sandbox::none()] {
        let denies = format!("{sandbox:?}") != format!("{:?}", Sandbox::none());
        let (grows, [current, most]) = inside(sandbox.memory(64 << 20)).apply(stacks::call()).unwrap();
        // Limits alone are no filter.
        assert_eq!(grows, if denies { libc::EPERM } else { 0 });
        assert!(current == most && most <= 64 << 20, "{current} {most}");
    }
    // Where memory has no limit, both are as they were.
    let (grows, [_, most]) = inside(Sandbox::strict()).apply(stacks::call()).unwrap();
    let (_, [_, outside]) = stacks();
    assert_eq!((grows, most), (0, outside));
}

/// What the system says to larger buffers of sockets, memory in pipes, and rules of sandboxes.
#[task]
fn hoard() -> [i32; 3] {
    let said = |failed: bool| if failed { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
    let (mut sockets, mut pipe, size) = ([0; 2], [0; 2], 1 << 20);
    // SAFETY: all pointers lead to memory of the size that the calls read or write.
    unsafe {
        assert_eq!(libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, sockets.as_mut_ptr()), 0);
        assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
        let size: *const i32 = &raw const size;
        let buffer = libc::setsockopt(sockets[0], libc::SOL_SOCKET, libc::SO_SNDBUF, size.cast(), 4);
        let buffer = said(buffer != 0);
        let piece = libc::iovec { iov_base: size.cast_mut().cast(), iov_len: 4 };
        let pages = said(libc::vmsplice(pipe[1], &raw const piece, 1, 0) < 0);
        const VERSION: u32 = 1;
        let rules = libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION);
        [buffer, pages, said(rules < 0)]
    }
}

fn the_kernels_memory_is_no_way_around_it() {
    let denied = [libc::EPERM; 3];
    assert_eq!(inside(Sandbox::strict().memory(64 << 20)).apply(hoard::call()).unwrap(), denied);
    // Those that have a network have buffers for it, and those that start processes may confine them.
    let with = Sandbox::strict().network(true).processes(true).memory(64 << 20);
    assert_eq!(inside(with).apply(hoard::call()).unwrap(), [0, libc::EPERM, 0]);
    assert_eq!(inside(Sandbox::strict()).apply(hoard::call()).unwrap(), [0; 3]);
}

const MANY: usize = 256 * MIB;

/// Uses much memory that the limit of what may be written does not count, and waits.
#[task]
fn evade(how: &str) -> usize {
    let map = |length: usize, rights: i32| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: new memory, to which nothing else refers.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), length, rights, flags, -1, 0) };
        assert_ne!(at, libc::MAP_FAILED);
        at.cast::<u8>()
    };
    match how {
        "read only" => (0..MANY / MIB).for_each(|_| {
            let at = map(MIB, libc::PROT_READ | libc::PROT_WRITE);
            // SAFETY: it was just mapped.
            unsafe {
                at.write_bytes(1, MIB);
                assert_eq!(libc::mprotect(at.cast(), MIB, libc::PROT_READ), 0);
            }
        }),
        _ => {
            // Each has a table of pages.
            const EACH: usize = 2 * MIB;
            let length = MANY / 4096 * EACH;
            let at = map(length, libc::PROT_READ);
            // SAFETY: it was just mapped.
            unsafe { libc::madvise(at.cast(), length, libc::MADV_NOHUGEPAGE) };
            // SAFETY: as above.
            (0..length).step_by(EACH).for_each(|n| unsafe { _ = at.add(n).read_volatile() });
        }
    }
    // It is to be killed.
    loop {
        std::thread::park();
    }
}

fn memory_that_is_not_written_is_no_way_around_it() {
    for how in ["read only", "tables"] {
        let pool = inside(Sandbox::strict().memory(32 << 20));
        let error = pool.apply(evade::call(how)).unwrap_err();
        assert!(error.is_out_of_memory() && error.to_string().contains("its limit is 32.0 MiB"), "{how}: {error}");
        assert_eq!(pool.apply(add::call(1, 2)).unwrap(), 3);
    }
}

#[task]
fn sum(numbers: &[u8], shared: &Shared<[u8]>) -> u64 {
    numbers.iter().chain(shared.iter()).map(|byte| u64::from(*byte)).sum()
}

fn what_is_shared_is_not_the_workers_memory() {
    // As addresses, this would be far more than is allowed.
    let pool = inside(Sandbox::strict().memory(64 << 20));
    let shared = Shared::new(&vec![1_u8; 128 * MIB]).unwrap();
    assert_eq!(pool.apply(sum::call(&vec![1; 4 * MIB], &shared)).unwrap(), 132 * MIB as u64);
}

#[task]
fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

fn processor_time_has_an_end() {
    let pool = inside(Sandbox::none().cpu_time(Duration::from_millis(300)));
    let error = pool.apply(spin::call()).unwrap_err();
    assert_eq!((error.signal(), error.ran()), (Some(libc::SIGXCPU), Ran::Yes), "{error}");
    assert_eq!(pool.apply(add::call(1, 2)).unwrap(), 3);
}

#[task]
fn write(file: &Path, bytes: usize) -> bool {
    File::create(file).and_then(|mut file| file.write_all(&vec![1; bytes])).is_ok()
}

fn files_have_an_end() {
    let dir = directory();
    let file = dir.path().join("file");
    let pool = inside(Sandbox::strict().write(dir.path()).file_size(1 << 16));
    assert!(pool.apply(write::call(&file, 1 << 16)).unwrap());
    let error = pool.apply(write::call(&file, 1 << 17)).unwrap_err();
    assert_eq!(error.signal(), Some(libc::SIGXFSZ), "{error}");
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 1 << 16);
    assert_eq!(pool.apply(add::call(1, 2)).unwrap(), 3);
    // Not even one byte; what calls bring along is in no file of the worker's.
    let pool = inside(Sandbox::strict().file_size(0));
    let shared = Shared::new(&[2; 10]).unwrap();
    assert_eq!(pool.apply(sum::call(&vec![1; 4 * MIB], &shared)).unwrap(), 4 * MIB as u64 + 20);
}

#[task]
fn open(count: usize) -> Result<usize, Option<i32>> {
    let files: Result<Vec<_>, _> = (0..count).map(|_| File::open("/dev/null")).collect();
    files.map(|files| files.len()).map_err(|error| error.raw_os_error())
}

fn open_files_have_an_end() {
    let pool = inside(Sandbox::strict().open_files(64));
    assert_eq!(pool.apply(open::call(32)).unwrap(), Ok(32));
    assert_eq!(pool.apply(open::call(64)).unwrap(), Err(Some(libc::EMFILE)));
    assert_eq!(pool.apply(add::call(1, 2)).unwrap(), 3);
    // As few as may be.
    assert_eq!(inside(Sandbox::none().open_files(16)).apply(add::call(1, 2)).unwrap(), 3);
}

/// Error numbers of a thread with its own table of descriptors, and of one that gets one later; 0 if they come to be.
#[task]
fn own_table() -> [i32; 2] {
    let thread = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_SYSVSEM;
    // SAFETY: a thread on the same stack would run here too: with a stack at an address that is none, it could only end
    // the process, which fails the test. The other call closes what is not open.
    unsafe {
        [
            libc::syscall(libc::SYS_clone, thread, 8, 0, 0, 0, 0),
            libc::syscall(libc::SYS_close_range, 1 << 20, u32::MAX, libc::CLOSE_RANGE_UNSHARE, 0, 0, 0),
        ]
        .map(|done| if done >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) })
    }
}

fn no_thread_has_files_of_its_own() {
    assert_eq!(inside(Sandbox::strict()).apply(own_table::call()).unwrap(), [libc::EPERM; 2]);
}

#[task]
fn lift() -> Vec<(i64, bool)> {
    let limits = [libc::RLIMIT_DATA, libc::RLIMIT_NOFILE, libc::RLIMIT_CPU, libc::RLIMIT_FSIZE];
    let lifts = |resource| {
        let most = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the limits are read, and live for the call.
        unsafe { libc::setrlimit(resource, &raw const most) == 0 }
    };
    limits.map(|resource| (resource.into(), lifts(resource))).into()
}

fn nobody_lifts_a_limit_inside() {
    let sandbox = Sandbox::strict().memory(64 << 20).open_files(64).cpu_time(Duration::from_secs(60)).file_size(9);
    let pool = inside(sandbox);
    for (resource, lifted) in pool.apply(lift::call()).unwrap() {
        assert!(!lifted, "limit {resource}");
    }
    // Also where there are limits and nothing else, by whoever has all rights.
    let limited = Sandbox::none().memory(64 << 20).open_files(64).cpu_time(Duration::from_secs(60)).file_size(9);
    for (resource, lifted) in inside(limited).apply(lift::call()).unwrap() {
        assert!(!lifted, "limit {resource}, alone");
    }
    assert!(pool.apply(fill::call(512 * MIB)).unwrap_err().is_worker_lost());
}
