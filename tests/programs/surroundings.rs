//! A small program that does a little of everything, and says of each step how it went: `name: ok`, `name: error: …`,
//! or `name: wrong: …`. Tests start it in hostile surroundings.
//!
//! `surroundings [self | forked | daemon]`

use pool_runtime::{Error, Pool, PoolBuilder, Process, Result, Sandbox, Transport, pool_main, task};
use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

pool_main!(run);

/// What a call may take, and what may pass until that is noticed on a loaded machine.
const LIMIT: Duration = Duration::from_millis(300);
const NOTICED: Duration = Duration::from_secs(10);
const MEMORY: u64 = 64 << 20;

#[task]
fn twice(number: u64) -> u64 {
    2 * number
}

#[task]
fn die() {
    std::process::abort();
}

#[task]
fn sleep() {
    loop {
        std::thread::park();
    }
}

#[task]
fn hold(bytes: usize) -> u8 {
    let held = vec![1; bytes];
    std::thread::sleep(NOTICED);
    held[bytes / 2]
}

/// What a step found: the right thing, another one, or an error.
type Found = std::result::Result<std::result::Result<(), String>, Error>;

const RIGHT: Found = Ok(Ok(()));

fn wrong(what: impl std::fmt::Display) -> Found {
    Ok(Err(what.to_string()))
}

fn say(name: &str, text: &str) {
    let text = text.replace('\n', " / ");
    // Not `println!`, which panics where nothing can be written.
    let _ = std::io::stdout().write_all(format!("{name}: {text}\n").as_bytes());
}

fn step(name: &str, work: impl FnOnce() -> Found) {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(Ok(()))) => say(name, "ok"),
        Ok(Ok(Err(what))) => say(name, &format!("wrong: {what}")),
        Ok(Err(error)) => {
            let last_words = error.dossier().and_then(|dossier| dossier.stderr()).unwrap_or_default();
            say(name, &format!("error: {error} | {last_words}"));
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            say(name, &format!("wrong: it panics: {:?}", text.or(panic.downcast_ref::<&str>().copied())));
        }
    }
}

fn builder() -> PoolBuilder {
    let builder = Pool::builder().processes(2);
    match std::env::var("POOL_TEST_TRANSPORT").as_deref() {
        Ok("rings") => builder.transport(Transport::Ring),
        Ok("channels") => builder.transport(Transport::Channel),
        _ => builder,
    }
}

fn run() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("forked") => forked(false),
        Some("daemon") => forked(true),
        Some("self") | None => all(),
        Some(unknown) => say("start", &format!("wrong: it was given {unknown:?}")),
    }
    Ok(())
}

fn all() {
    let mut made = None;
    step("pool", || {
        made = Some(builder().build()?);
        RIGHT
    });
    if let Some(pool) = made {
        with(&pool);
        step("join", || {
            pool.close();
            pool.join()?;
            RIGHT
        });
    }
    step("process", || match Process::new(twice::call(4)).start()?.join()? {
        8 => RIGHT,
        other => wrong(other),
    });
    step("process in a sandbox", || match sandboxed()? {
        10 => RIGHT,
        other => wrong(other),
    });
    step("process that dies", || {
        let process = Process::new(die::call()).start()?;
        match process.join() {
            Err(_) if process.exit_code() == Some(-6) => RIGHT,
            Err(error) => Err(error),
            Ok(()) => wrong("it has returned"),
        }
    });
    step("drop", || {
        let pool = builder().build()?;
        let job = pool.apply_async(sleep::call());
        let began = Instant::now();
        drop(pool);
        match job.get() {
            Err(_) if began.elapsed() < NOTICED => RIGHT,
            Err(error) => wrong(format!("after {:?}: {error}", began.elapsed())),
            Ok(()) => wrong("it has returned"),
        }
    });
    say("end", "ok");
}

fn sandboxed() -> Result<u64> {
    Process::new(twice::call(5)).sandbox(Sandbox::strict()).start()?.join()
}

fn with(pool: &Pool) {
    step("apply", || match pool.apply(twice::call(21))? {
        42 => RIGHT,
        other => wrong(other),
    });
    step("map", || match pool.map(twice::call, 0..1_000)? {
        all if all.iter().copied().eq((0..1_000).map(|number| 2 * number)) => RIGHT,
        other => wrong(format!("{other:?}")),
    });
    step("large", || match pool.apply(length::call(&vec![7; 1 << 20]))? {
        1_048_576 => RIGHT,
        other => wrong(other),
    });
    step("crash", || match pool.apply(die::call()) {
        Err(error) if error.is_worker_lost() && error.signal() == Some(6) => RIGHT,
        Err(error) => Err(error),
        Ok(()) => wrong("it has returned"),
    });
    step("after the crash", || match pool.apply(twice::call(4))? {
        8 => RIGHT,
        other => wrong(other),
    });
    step("timeout", || {
        let began = Instant::now();
        match pool.apply(sleep::call().timeout(LIMIT)) {
            Err(error) if error.is_timeout() && began.elapsed() < NOTICED => RIGHT,
            Err(error) if began.elapsed() < NOTICED => Err(error),
            Err(error) => wrong(format!("after {:?}: {error}", began.elapsed())),
            Ok(()) => wrong("it has returned"),
        }
    });
    step("memory", || match pool.apply(hold::call(200 << 20).memory(MEMORY)) {
        Err(error) if error.is_out_of_memory() => RIGHT,
        Err(error) => Err(error),
        Ok(_) => wrong("the limit is off"),
    });
    step("after all", || match pool.apply(twice::call(5))? {
        10 => RIGHT,
        other => wrong(other),
    });
}

#[task]
fn length(bytes: &[u8]) -> usize {
    bytes.len()
}

/// The program forks once it has a pool. The child uses what it has inherited, and the parent goes on, or, as
/// `daemon()` does it, ends.
fn forked(ends: bool) {
    let pool = match builder().build() {
        Ok(pool) => pool,
        Err(error) => return say("pool", &format!("error: {error}")),
    };
    if let Err(error) = pool.apply(twice::call(1)) {
        return say("apply", &format!("error: {error}"));
    }
    // SAFETY: what a child may do that is forked from a process with threads is what is to be seen.
    let child = unsafe { libc::fork() };
    if child == 0 {
        step("in the fork", || pool.apply(twice::call(1)).map(|_| Err("it has a value".into())));
        step("map in the fork", || pool.map(twice::call, 0..10).map(|_| Err("it has a value".into())));
        drop(pool);
        say("dropped in the fork", "ok");
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(0) };
    }
    if ends {
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: the kernel writes a status where one is.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    if status != 0 {
        say("fork", &format!("wrong: it has ended with status {status}"));
    }
    with(&pool);
    drop(pool);
    all();
}
