//! Each thread of a confined worker is confined, also those of a test harness, which were there before: code in the worker
//! can have them run what it likes, by a signal.

use crate::support::{builder, directory, over_every_transport};
use pool_runtime::{Process, Sandbox, task};
use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::time::{Duration, Instant};

over_every_transport! { none_does_what_the_task_may_not }

/// What a thread has, and may do.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Thread {
    name: String,
    /// Of its own, as the kernel tells them.
    rights: Vec<String>,
    /// What comes of opening each file there: an error number, or 0.
    opened: Vec<i32>,
}

static FILE: AtomicPtr<libc::c_char> = AtomicPtr::new(std::ptr::null_mut());
static OPENED: AtomicI32 = AtomicI32::new(-1);

extern "C" fn open_file(_: i32) {
    // SAFETY: the pointer is that of a string of C, which stays. The location belongs to this thread.
    let opened = unsafe {
        let before = *libc::__errno_location();
        let file = libc::open(FILE.load(Ordering::Acquire), libc::O_RDONLY | libc::O_CLOEXEC);
        let error = if file < 0 { *libc::__errno_location() } else { 0 };
        libc::close(file);
        *libc::__errno_location() = before;
        error
    };
    OPENED.store(opened, Ordering::Release);
}

fn open_there(thread: i32, file: &Path) -> i32 {
    let file = CString::new(file.as_os_str().as_encoded_bytes()).expect("a path");
    FILE.store(file.into_raw(), Ordering::Release);
    OPENED.store(-1, Ordering::Release);
    // SAFETY: numbers alone.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1) };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        match OPENED.load(Ordering::Acquire) {
            -1 => assert!(Instant::now() < give_up, "thread {thread} does not answer"),
            opened => return opened,
        }
        std::thread::yield_now();
    }
}

/// Of all threads that handle signals.
#[task]
fn look_at_each(outside: &Path) -> Vec<Thread> {
    // SAFETY: the function makes system calls alone.
    unsafe { libc::signal(libc::SIGUSR1, open_file as *const () as usize) };
    let parents_memory = format!("/proc/{}/mem", std::os::unix::process::parent_id());
    let mut threads = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task").expect("/proc") {
        let path = entry.expect("an entry").path();
        let status = std::fs::read_to_string(path.join("status")).expect("/proc");
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect("a line").trim();
        let blocked = u64::from_str_radix(value("SigBlk:"), 16).expect("a number");
        if blocked & (1 << (libc::SIGUSR1 - 1)) != 0 {
            continue;
        }
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number");
        let opened = [outside, parents_memory.as_ref()].map(|file| open_there(number, file)).to_vec();
        let rights = ["NoNewPrivs:", "Seccomp:", "Seccomp_filters:", "CapEff:", "CapPrm:", "CapInh:", "CapBnd:"];
        let rights = rights.map(|name| value(name).to_owned()).to_vec();
        threads.push(Thread { name: value("Name:").to_owned(), rights, opened });
    }
    threads
}

fn none_does_what_the_task_may_not() {
    let dir = directory();
    let outside = dir.path().join("outside");
    std::fs::write(&outside, "").unwrap();
    let denied = libc::EACCES;
    for (sandbox, opened) in [
        (Sandbox::strict().read("/proc"), [denied, denied]),
        (Sandbox::strict().read("/proc").memory(1 << 30), [denied, denied]),
        (Sandbox::none().network(false), [0, denied]),
        (Sandbox::none().network(false).best_effort(), [0, denied]),
    ] {
        let pool = builder().processes(1).sandbox(sandbox.clone()).build().unwrap();
        let process = Process::new(look_at_each::call(&outside)).sandbox(sandbox).start().unwrap();
        for threads in [pool.apply(look_at_each::call(&outside)).unwrap(), process.join().unwrap()] {
            assert!(threads.len() >= 3, "the harness's two, and the one that runs the task: {threads:?}");
            for thread in &threads {
                assert_eq!((&thread.rights, &thread.opened[..]), (&threads[0].rights, &opened[..]), "{threads:?}");
            }
        }
    }
    // Whoever may lift limits could do so on any thread.
    let pool = builder().processes(1).sandbox(Sandbox::none().memory(1 << 30)).build().unwrap();
    let threads = pool.apply(look_at_each::call(&outside)).unwrap();
    assert!(threads.len() >= 3 && threads.iter().all(|thread| thread.rights == threads[0].rights), "{threads:?}");
}
