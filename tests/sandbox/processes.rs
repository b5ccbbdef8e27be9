//! In a sandbox, a task makes threads, and no processes; it sends no signals to others. What it may execute, it can.

use crate::support::{builder, directory, over_every_transport};
use pool_runtime::{Pool, Sandbox, task};
use std::{io, path::Path, process::Command};

over_every_transport! {
    nothing_is_executed,
    nobody_forks_however_often_they_try,
    nobody_makes_children_of_the_program,
    threads_work,
    processors_of_own_threads_can_be_chosen,
    signals_reach_oneself_alone,
    what_may_be_executed_runs_in_the_same_sandbox,
    signals_reach_what_it_started_alone,
    a_pool_inside_needs_its_own_program,
}

type Outcome<T = ()> = Result<T, Option<i32>>;

const NOT_PERMITTED: Outcome = Err(Some(libc::EPERM));

fn outcome<T>(done: io::Result<T>) -> Outcome<T> {
    done.map_err(|error| error.raw_os_error())
}

fn done(code: impl Into<i64>) -> Outcome {
    outcome(if code.into() >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) })
}

fn inside(sandbox: Sandbox) -> Pool {
    builder().processes(1).sandbox(sandbox).build().expect("a pool")
}

#[task]
fn shell(script: &str) -> Outcome<String> {
    let output = outcome(Command::new("/bin/sh").args(["-c", script]).output())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[task]
fn replace_itself() -> Outcome {
    use std::os::unix::process::CommandExt;
    outcome(Err(Command::new("/bin/true").exec()))
}

/// Tries so often, until one works; that one is gone at once.
#[task]
fn fork(times: u32) -> (u32, Outcome) {
    for tried in 0..times {
        // SAFETY: the child calls nothing but `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: it ends the process, and nothing else.
            unsafe { libc::_exit(0) };
        }
        if pid > 0 {
            return (tried, Ok(()));
        }
    }
    (times, done(-1))
}

#[task]
fn vfork_and_clone() -> [Outcome; 3] {
    let raw = |call, flags: i64| {
        // SAFETY: a child would go on with a copy of this process's memory, or share it while this thread waits; it
        // ends at once.
        let pid = unsafe { libc::syscall(call, flags, 0, 0, 0, 0) };
        if pid == 0 {
            // SAFETY: it ends the process, and nothing else.
            unsafe { libc::_exit(0) };
        }
        done(pid)
    };
    let signal = i64::from(libc::SIGCHLD);
    [
        raw(libc::SYS_clone, signal),
        raw(libc::SYS_clone, signal | i64::from(libc::CLONE_NEWUSER)),
        // Its flags are out of sight: there is none.
        raw(libc::SYS_clone3, 0),
    ]
}

fn nothing_is_executed() {
    let pool = inside(Sandbox::strict().read("/"));
    assert_eq!(pool.apply(shell::call("echo out")).unwrap().map(drop), NOT_PERMITTED);
    assert_eq!(pool.apply(replace_itself::call()).unwrap(), NOT_PERMITTED);
    // The other way to say so.
    let pool = inside(Sandbox::none().processes(false));
    assert_eq!(pool.apply(shell::call("echo out")).unwrap().map(drop), NOT_PERMITTED);
}

fn nobody_forks_however_often_they_try() {
    let pool = inside(Sandbox::strict());
    assert_eq!(pool.apply(fork::call(100_000)).unwrap(), (100_000, NOT_PERMITTED));
    let no_such_call = Err(Some(libc::ENOSYS));
    assert_eq!(pool.apply(vfork_and_clone::call()).unwrap(), [NOT_PERMITTED, NOT_PERMITTED, no_such_call]);
}

/// Makes a child of this process's parent, which ends at once.
#[task]
fn make_a_sibling() -> Outcome {
    // SAFETY: the child has a copy of this process's memory.
    let pid = unsafe { libc::syscall(libc::SYS_clone, i64::from(libc::CLONE_PARENT | libc::SIGCHLD), 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: it ends the process, and nothing else.
        unsafe { libc::_exit(0) };
    }
    done(pid)
}

/// The program would wait for them in vain, or get their status in place of another's.
fn nobody_makes_children_of_the_program() {
    for sandbox in [Sandbox::none().network(false), Sandbox::strict().processes(true), Sandbox::none().write("/")] {
        let pool = inside(sandbox);
        assert_eq!(pool.apply(make_a_sibling::call()).unwrap(), NOT_PERMITTED);
        assert_eq!(pool.apply(fork::call(1)).unwrap(), (0, Ok(())), "children of its own are another matter");
    }
}

#[task]
fn add_in_threads(numbers: &[u64]) -> u64 {
    std::thread::scope(|scope| {
        let halves = numbers.split_at(numbers.len() / 2);
        let other = scope.spawn(|| halves.1.iter().sum::<u64>());
        halves.0.iter().sum::<u64>() + other.join().expect("a thread")
    })
}

/// A thread opens no more than the one that started it.
#[task]
fn open_in_a_thread(file: &Path) -> Outcome {
    std::thread::scope(|scope| scope.spawn(|| outcome(std::fs::File::open(file).map(drop))).join().expect("a thread"))
}

fn threads_work() {
    let pool = inside(Sandbox::strict());
    assert_eq!(pool.apply(add_in_threads::call(&[1, 2, 3, 4])).unwrap(), 10);
    assert_eq!(pool.apply(open_in_a_thread::call(Path::new("/etc/passwd"))).unwrap(), Err(Some(libc::EACCES)));
}

/// Chooses the processors of another thread, and its own, as they are.
#[task]
fn choose_processors() -> [Outcome; 2] {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: it takes nothing.
        tell.send(unsafe { libc::gettid() }).expect("somebody listens");
        ended.recv().expect_err("nobody sends");
    });
    let other = told.recv().expect("it tells");
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: the set is plain bits; there is room for it.
    let chosen = unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        assert_eq!(libc::sched_getaffinity(0, size, &raw mut set), 0);
        [other, 0].map(|thread| done(libc::sched_setaffinity(thread, size, &raw const set)))
    };
    drop(end);
    thread.join().expect("it ends");
    chosen
}

fn processors_of_own_threads_can_be_chosen() {
    for sandbox in [Sandbox::none().network(false), Sandbox::strict().processes(true)] {
        assert_eq!(inside(sandbox).apply(choose_processors::call()).unwrap(), [Ok(()); 2]);
    }
    // Without processes, each thread chooses its own.
    assert_eq!(inside(Sandbox::strict()).apply(choose_processors::call()).unwrap(), [NOT_PERMITTED, Ok(())]);
}

#[task]
fn signal_others() -> Vec<(String, Outcome)> {
    let parent = std::os::unix::process::parent_id() as i32;
    // SAFETY: system calls on plain numbers; where a pointer is asked for, there is none, or it leads to valid memory.
    unsafe {
        let info = std::mem::zeroed::<libc::siginfo_t>();
        let tries = [
            ("kill", done(libc::kill(parent, libc::SIGTERM))),
            ("look", done(libc::kill(parent, 0))),
            ("group", done(libc::kill(0, libc::SIGTERM))),
            ("all", done(libc::kill(-1, libc::SIGTERM))),
            ("tkill", done(libc::syscall(libc::SYS_tkill, parent, libc::SIGTERM))),
            ("tgkill", done(libc::syscall(libc::SYS_tgkill, parent, parent, libc::SIGTERM))),
            ("queue", done(libc::syscall(libc::SYS_rt_sigqueueinfo, parent, libc::SIGTERM, &raw const info))),
            ("pidfd", done(libc::syscall(libc::SYS_pidfd_open, parent, 0))),
            ("owner", done(libc::fcntl(1, libc::F_SETOWN, parent))),
            ("which", done(libc::fcntl(1, 10, libc::SIGKILL))),
            ("limits", {
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                done(libc::prlimit(parent, libc::RLIMIT_CPU, &raw const none, std::ptr::null_mut()))
            }),
            ("nice", done(libc::setpriority(libc::PRIO_PROCESS, parent as u32, 19))),
        ];
        tries.map(|(what, outcome)| (what.to_owned(), outcome)).into()
    }
}

/// As a process, and as its main thread: the ways of both C libraries.
#[task]
fn signal_itself() -> [Outcome; 3] {
    let own = std::process::id() as i32;
    // SAFETY: signal 0 is none.
    unsafe {
        [
            done(libc::kill(own, 0)),
            done(libc::syscall(libc::SYS_tkill, own, 0)),
            done(libc::syscall(libc::SYS_tgkill, own, libc::gettid(), 0)),
        ]
    }
}

fn signals_reach_oneself_alone() {
    let pool = inside(Sandbox::strict());
    for (what, outcome) in pool.apply(signal_others::call()).unwrap() {
        assert_eq!(outcome, NOT_PERMITTED, "{what}");
    }
    assert_eq!(pool.apply(signal_itself::call()).unwrap(), [Ok(()); 3]);
}

/// What a shell needs.
fn with_a_shell() -> Sandbox {
    let libraries = ["/lib", "/lib64", "/usr/lib"].into_iter().filter(|dir| Path::new(dir).exists());
    libraries.fold(Sandbox::strict(), Sandbox::execute).execute("/bin/sh")
}

fn what_may_be_executed_runs_in_the_same_sandbox() {
    let dir = directory();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "told\n").unwrap();
    let pool = inside(with_a_shell());
    assert_eq!(pool.apply(shell::call("echo out")).unwrap(), Ok("out".into()));
    let read = format!("read line < {} && echo $line; echo end", secret.display());
    assert_eq!(pool.apply(shell::call(&read)).unwrap(), Ok("end".into()));
    // Programs that were not named.
    assert_eq!(pool.apply(shell::call("/bin/ls / || echo end")).unwrap(), Ok("end".into()));
    assert_eq!(pool.apply(replace_itself::call()).unwrap(), Err(Some(libc::EACCES)));
    let pool = inside(with_a_shell().read(&secret));
    assert_eq!(pool.apply(shell::call(&read)).unwrap(), Ok("told\nend".into()));
}

fn signals_reach_what_it_started_alone() {
    let pool = inside(with_a_shell());
    let script = "(while :; do :; done) & kill $! && wait $!; echo $?";
    assert_eq!(pool.apply(shell::call(script)).unwrap(), Ok((128 + libc::SIGTERM).to_string()));
    let parent = std::process::id();
    assert_eq!(pool.apply(shell::call(&format!("kill -0 {parent} || echo refused"))).unwrap(), Ok("refused".into()));
}

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

#[task]
fn add_in_a_pool(a: u32, b: u32) -> Result<u32, String> {
    let text = |error: pool_runtime::Error| error.to_string();
    // The sandbox around this one has most of that out of sight.
    let pool = builder().processes(1).sandbox(Sandbox::strict().read("/")).build().map_err(text)?;
    pool.apply(add::call(a, b)).map_err(text)
}

fn a_pool_inside_needs_its_own_program() {
    let refused = inside(Sandbox::strict()).apply(add_in_a_pool::call(1, 2)).unwrap().unwrap_err();
    assert!(refused.contains("this one is in a sandbox") && refused.contains("not permitted"), "{refused}");
    let libraries = ["/lib", "/lib64", "/usr/lib"].into_iter().filter(|dir| Path::new(dir).exists());
    let sandbox = libraries.fold(Sandbox::strict(), Sandbox::execute).execute(std::env::current_exe().unwrap());
    assert_eq!(inside(sandbox).apply(add_in_a_pool::call(1, 2)).unwrap(), Ok(3));
}
