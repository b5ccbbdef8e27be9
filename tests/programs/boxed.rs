//! What workers in a sandbox do to their parent, and what they print.

use super::{builder, say};
use pool_runtime::{Process, Result, Sandbox, task};
use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
};

/// The error number of each way to reach a process's memory or to signal it, or 0.
#[task]
fn reach(pid: u32) -> Vec<i32> {
    let number = |error: std::io::Error| error.raw_os_error().unwrap_or(-1);
    let opened = |name: &str, write: bool| {
        let path = format!("/proc/{pid}/{name}");
        OpenOptions::new().read(true).write(write).open(path).map_or_else(number, |_| 0)
    };
    // SAFETY: signal 0 is none.
    let signalled = if unsafe { libc::kill(pid as i32, 0) } == 0 { 0 } else { number(std::io::Error::last_os_error()) };
    vec![opened("mem", true), opened("maps", false), opened("environ", false), signalled]
}

pub(super) fn traces_its_parent() -> Result<()> {
    let pid = std::process::id();
    let line = |what: &str, reached: Vec<i32>| say(format!("{what} {reached:?}"));
    line("none", builder().processes(1).sandbox(Sandbox::none()).build()?.apply(reach::call(pid))?);
    let sandboxes = [
        ("network", Sandbox::none().network(false)),
        ("processes", Sandbox::none().processes(false)),
        ("files", Sandbox::none().write("/")),
    ];
    for (what, sandbox) in sandboxes {
        line(what, builder().processes(1).sandbox(sandbox.clone()).build()?.apply(reach::call(pid))?);
        line(what, Process::new(reach::call(pid)).sandbox(sandbox).start()?.join()?);
    }
    Ok(())
}

#[task]
fn print_in_lines(worker: u32) {
    for line in 0..500 {
        println!("{worker}:{line}:{}", "x".repeat(200));
    }
}

#[task]
fn print_and_die() {
    println!("a line before the end");
    print!("the last words");
    std::io::stdout().flush().expect("standard output");
    std::process::abort();
}

pub(super) fn prints() -> Result<()> {
    let pool = builder().processes(2).sandbox(Sandbox::strict()).build()?;
    pool.map(print_in_lines::call, 0..4)?;
    pool.apply(print_and_die::call()).expect_err("it dies");
    say(": the error was told");
    pool.close();
    pool.join()?;
    say("the pool has ended");
    Process::new(print_in_lines::call(4)).sandbox(Sandbox::strict()).start()?.join()?;
    say("the process has ended");
    Ok(())
}

/// As programs do that print results while they come.
pub(super) fn prints_while_locked() -> Result<()> {
    let pool = builder().processes(1).sandbox(Sandbox::strict()).build()?;
    let mut stdout = std::io::stdout().lock();
    for printed in pool.imap(print_in_lines::call, 0..10) {
        printed?;
        writeln!(stdout, "one has printed").expect("standard output");
    }
    Ok(())
}

/// Which files the standard output and standard error of this process are.
fn own_streams() -> [(u64, u64); 2] {
    let which = |stream: std::io::Result<std::os::fd::OwnedFd>| {
        let file = File::from(stream.expect("a stream")).metadata().expect("an open file");
        (file.dev(), file.ino())
    };
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    [which(stdout.as_fd().try_clone_to_owned()), which(stderr.as_fd().try_clone_to_owned())]
}

#[task]
fn streams_of_worker() -> [(u64, u64); 2] {
    own_streams()
}

/// Says how many of the streams of workers are those of this program.
pub(super) fn streams() -> Result<()> {
    let own = own_streams();
    let same = |theirs: [(u64, u64); 2]| own.iter().zip(theirs).filter(|(own, theirs)| **own == *theirs).count();
    for sandbox in [Sandbox::strict(), Sandbox::none().network(false), Sandbox::strict().inherit_output(true)] {
        let pool = builder().processes(1).capture_stderr(false).sandbox(sandbox.clone()).build()?;
        let in_pool = same(pool.apply(streams_of_worker::call())?);
        let process = Process::new(streams_of_worker::call()).sandbox(sandbox).start()?;
        say(format!("{in_pool} {}", same(process.join()?)));
    }
    Ok(())
}

/// How many threads can be started, of so many, and why not another one.
#[task]
fn start_threads(most: usize) -> (usize, Option<i32>) {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = std::sync::Arc::new(std::sync::Mutex::new(ended));
    let mut threads = Vec::new();
    let error = loop {
        if threads.len() == most {
            break None;
        }
        let ended = ended.clone();
        // Nobody sends: all wait until the sender is gone.
        let wait = move || {
            ended.lock().expect("nobody panics").recv().expect_err("nobody sends");
        };
        match std::thread::Builder::new().stack_size(1 << 16).spawn(wait) {
            Ok(thread) => threads.push(thread),
            Err(error) => break error.raw_os_error(),
        }
    };
    let started = threads.len();
    drop(end);
    threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    (started, error)
}

pub(super) fn threads_in_a_sandbox() -> Result<()> {
    let tried = |sandbox: Sandbox| {
        let pool = builder().processes(1).sandbox(sandbox).build()?;
        pool.apply(start_threads::call(100))
    };
    say(format!("{:?}", tried(Sandbox::strict())?));
    match tried(Sandbox::strict().threads(60)) {
        Ok(done) => say(format!("{done:?}")),
        Err(error) => say(error),
    }
    say(format!("{:?}", tried(Sandbox::none().threads(60).best_effort())?));
    Ok(())
}

/// Of becoming real-time, and nicer to itself: an error number each, or 0.
#[task]
fn raise_priority() -> [i32; 2] {
    let number = |done: i32| if done == 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) };
    // SAFETY: all zeroes is a value of the parameters, which live for the call; the rest are plain numbers.
    unsafe {
        let mut parameters = std::mem::zeroed::<libc::sched_param>();
        parameters.sched_priority = 1;
        let nicer = number(libc::setpriority(libc::PRIO_PROCESS, 0, -5));
        [number(libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters)), nicer]
    }
}

/// Lets this user take a higher priority first, if it may.
pub(super) fn priority() -> Result<()> {
    for (resource, most) in [(libc::RLIMIT_RTPRIO, 10), (libc::RLIMIT_NICE, 40)] {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: the limit lives for the call.
        if unsafe { libc::setrlimit(resource, &raw const limit) } != 0 {
            say(format!("{resource} {}", std::io::Error::last_os_error()));
            return Ok(());
        }
    }
    for sandbox in [Sandbox::none(), Sandbox::strict(), Sandbox::none().network(false)] {
        let pool = builder().processes(1).sandbox(sandbox).build()?;
        say(format!("{:?}", pool.apply(raise_priority::call())?));
    }
    Ok(())
}
