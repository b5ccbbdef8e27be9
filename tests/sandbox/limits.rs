//! A worker that takes more than its sandbox allows is lost, with what it took, and the next call works. Limits work
//! alone, and inside of a sandbox, from which nobody lifts them.

use crate::support::{builder, directory, over_every_transport};
use pool_runtime::{Pool, Ran, Sandbox, Shared, task};
use std::{fs::File, io::Write as _, path::Path, time::Duration};

over_every_transport! {
    memory_has_an_end,
    what_is_shared_is_not_the_workers_memory,
    processor_time_has_an_end,
    files_have_an_end,
    open_files_have_an_end,
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

fn memory_has_an_end() {
    for sandbox in [Sandbox::none(), Sandbox::strict()] {
        let pool = inside(sandbox.memory(128 << 20));
        assert_eq!(pool.apply(fill::call(32 * MIB)).unwrap(), 32 * MIB);
        let error = pool.apply(fill::call(512 * MIB)).unwrap_err();
        assert_eq!((error.signal(), error.ran()), (Some(libc::SIGABRT), Ran::Yes), "{error}");
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

#[task]
fn lift() -> Vec<(u32, bool)> {
    let limits = [libc::RLIMIT_DATA, libc::RLIMIT_NOFILE, libc::RLIMIT_CPU, libc::RLIMIT_FSIZE];
    let lifts = |resource| {
        let most = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the limits are read, and live for the call.
        unsafe { libc::setrlimit(resource, &raw const most) == 0 }
    };
    limits.map(|resource| (resource, lifts(resource))).into()
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
