//! A program of many small parts, of which a test runs one: `scenario <name> [argument]…`.

mod boxed;
mod denied;
mod forked;
mod interrupted;
mod starved;
mod terminal;
mod unkillable;
mod weighed;

use pool_runtime::{
    Dossier, Pool, PoolBuilder, Process, Ran, Result, RunningProcess, Sandbox, Stdio, Transport, WorkerInfo,
    WorkerState, active_children, current_process, pool_main, task,
};
use std::{
    io::{Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

pool_main!(run);

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["self-check"] => self_check(),
        ["double", number] => double_in_pool(number),
        ["double-after-event", ready, go, number] => {
            write(Path::new(ready), "ready");
            wait_for(Path::new(go));
            double_in_pool(number)
        }
        ["descriptors-of-a-worker"] => {
            // Code in the task may look for what its environment names.
            let open = pool(1)?.apply(low_descriptors::call())?;
            say(format!("{:?} {:?}", open, Process::new(low_descriptors::call()).start()?.join()?));
            Ok(())
        }
        ["double-elsewhere", directory, number] => {
            std::env::set_current_dir(directory).expect("a directory");
            double_in_pool(number)
        }
        ["double-without-streams", report, number] => without_streams(Path::new(report), number),
        ["double-into-file", report, number] => {
            write(Path::new(report), &double(number));
            Ok(())
        }
        ["double-in-processes", number] => {
            double_in_pool(number)?;
            let process = Process::new(twice::call(number.parse().expect("a number"))).start();
            let doubled = process.and_then(|process| process.join());
            say(doubled.map_or_else(|error| format!("error: {error}"), |doubled| doubled.to_string()));
            Ok(())
        }
        ["double-with-executable", number, executable, ..] => with_executable(executable, number),
        ["main-returns", directory] => main_returns(Path::new(directory)),
        ["daemon-ignores-terminate", directory] => daemon_ignores_terminate(Path::new(directory)),
        ["orphans", directory] => orphans(Path::new(directory), Sandbox::none()),
        ["orphans-in-a-sandbox", directory] => {
            orphans(Path::new(directory), Sandbox::strict().write(directory).memory(1 << 30))
        }
        ["orphans-that-hold-on", directory, how] => orphans_that_hold_on(Path::new(directory), how),
        ["orphans-of-a-tree", directory] => orphans_of_a_tree(Path::new(directory)),
        ["panics-at-once", directory] => panics_at_once(Path::new(directory)),
        ["interrupted", directory] => interrupted::unhandled(Path::new(directory)),
        ["interrupted-handled", directory, signal] => {
            interrupted::handled(Path::new(directory), signal.parse().expect("a number"))
        }
        ["denied", calls, error] => denied::all_ways(calls, error),
        ["denied-and-lost", calls, error] => denied::loss(calls, error),
        ["weighed", executable] => weighed::in_pools_and_processes(Path::new(executable)),
        ["share", bytes] => starved::share(bytes.parse().expect("a number")),
        ["starved-of-addresses"] => starved::of_addresses(),
        ["starved-at-start", what] => starved::at_start(what),
        ["starved-while-another-works", what, directory] => starved::while_another_works(what, Path::new(directory)),
        ["starved-while-calls-wait", what] => starved::while_calls_wait(what),
        ["starved-and-terminated", what] => starved::terminated(what),
        ["unkillable", ways] => unkillable::all_ends(ways),
        ["dies-with-a-dossier", directory] => {
            let pool = builder().processes(1).dossiers(directory).build()?;
            let error = pool.apply(complain_and_die::call(1)).expect_err("it dies");
            let dossier = error.dossier().expect("it died").to_string();
            let (_, command) = dossier.split_once("run again").expect("a command");
            say(command.lines().next().unwrap_or_default().trim());
            Ok(())
        }
        ["forked-after-the-pool", directory] => forked::after_the_pool(Path::new(directory)),
        ["complains", go] => complains(Path::new(go)),
        ["colours"] => colours(),
        ["complains-at-length"] => complains_at_length(),
        ["traces-its-parent"] => boxed::traces_its_parent(),
        ["threads-in-a-sandbox"] => boxed::threads_in_a_sandbox(),
        ["priority-in-a-sandbox"] => boxed::priority(),
        ["prints-in-a-sandbox"] => boxed::prints(),
        ["prints-while-locked"] => boxed::prints_while_locked(),
        ["streams-in-a-sandbox"] => boxed::streams(),
        ["beside-a-terminal"] => terminal::beside_one(),
        ["leads-a-session"] => terminal::leads_a_session(),
        ["in-the-background"] => terminal::in_the_background(),
        ref unknown => panic!("no scenario {unknown:?}"),
    }
}

// ---- files as events ----

fn write(path: &Path, line: &str) {
    let partly = path.with_extension("partly");
    std::fs::write(&partly, format!("{line}\n")).and_then(|()| std::fs::rename(&partly, path)).expect("a file");
}

fn wait_for(path: &Path) {
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn say(text: impl std::fmt::Display) {
    println!("{text}");
    std::io::stdout().flush().expect("standard output");
}

// ---- a task that works, and one that does not ----

#[task]
fn twice(number: u64) -> u64 {
    2 * number
}

/// Those of the numbers 3 to 9 that are open.
#[task]
fn low_descriptors() -> Vec<i32> {
    // SAFETY: asks whether a number is open.
    (3..10).filter(|number| unsafe { libc::fcntl(*number, libc::F_GETFD) } >= 0).collect()
}

#[task]
fn refuse(why: &str) {
    panic!("refused: {why}");
}

mod nested {
    use pool_runtime::task;

    #[task]
    pub(super) fn length(text: &str) -> usize {
        text.len()
    }
}

/// The transport is the one that a test has put into the environment, or the default.
fn builder() -> PoolBuilder {
    match std::env::var("POOL_TEST_TRANSPORT").as_deref() {
        Ok("rings") => Pool::builder().transport(Transport::Ring),
        Ok("channels") => Pool::builder().transport(Transport::Channel),
        _ => Pool::builder(),
    }
}

fn pool(processes: usize) -> Result<Pool> {
    builder().processes(processes).build()
}

fn double(number: &str) -> String {
    let doubled = pool(1).and_then(|pool| pool.apply(twice::call(number.parse().expect("a number"))));
    doubled.map_or_else(|error| format!("error: {error}"), |doubled| doubled.to_string())
}

fn double_in_pool(number: &str) -> Result<()> {
    say(double(number));
    Ok(())
}

fn with_executable(executable: &str, number: &str) -> Result<()> {
    let pool = builder().processes(1).executable(executable).build()?;
    say(pool.apply(twice::call(number.parse().expect("a number")))?);
    Ok(())
}

#[task]
fn crash_at_once(nowhere: usize) {
    let field = std::ptr::without_provenance_mut::<u8>(nowhere);
    // SAFETY: none; nothing is mapped there, so that the system ends the process.
    unsafe { field.write_volatile(1) };
}

/// What holds however the program was built.
fn self_check() -> Result<()> {
    let names: Vec<&str> = pool_runtime::tasks().map(|task| task.name()).collect();
    say(names.join(" "));
    let pool = pool(1)?;
    assert_eq!(pool.apply(twice::call(21))?, 42);
    assert_eq!(pool.apply(nested::length::call("four"))?, 4);

    let error = pool.apply(refuse::call("not today")).unwrap_err();
    let panic = error.panic().expect("the panic is reported");
    assert_eq!(panic.message(), "refused: not today");
    assert!(panic.file().is_some_and(|file| file.ends_with("scenario.rs")), "{error}");
    assert_eq!((error.ran(), error.is_worker_lost()), (Ran::Yes, cfg!(panic = "abort")), "{error}");
    assert_eq!(pool.apply(twice::call(4))?, 8, "the next call works");

    // Whether or not the task has a frame of its own, and the program names for its functions.
    let error = pool.apply(crash_at_once::call(8)).unwrap_err();
    let trace = error.dossier().and_then(Dossier::backtrace).expect("the crash was noted");
    assert!(trace.contains("crash_at_once"), "{trace}");
    let is_inlined = trace.lines().last().is_some_and(|line| line.contains("in task scenario::crash_at_once, at 0x"));
    assert!(is_inlined || !trace.contains("in task"), "{trace}");
    assert_eq!(pool.apply(twice::call(5))?, 10, "the next worker works");

    let process = Process::new(refuse::call("nor tomorrow")).start()?;
    let error = process.join().unwrap_err();
    assert_eq!(error.panic().expect("the panic is reported").message(), "refused: nor tomorrow");
    assert_eq!(process.exit_code(), Some(if cfg!(panic = "abort") { -6 } else { 1 }));
    assert_eq!(Process::new(twice::call(3)).start()?.join()?, 6);
    say("ok");
    Ok(())
}

#[task]
fn read_all() -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).expect("standard input");
    bytes
}

/// The standard streams are closed when the pool is made; whatever is printed goes nowhere and harms nothing.
fn without_streams(report: &Path, number: &str) -> Result<()> {
    for stream in 0..3 {
        // SAFETY: the standard streams belong to nobody; nothing else was opened yet.
        unsafe { libc::close(stream) };
    }
    let mut reader = Process::new(read_all::call()).stdin(Stdio::piped()).start()?;
    let pool = pool(1)?;
    let process = Process::new(twice::call(1)).start()?;
    let mut doubled = String::new();
    for _ in 0..100 {
        // Straight to the descriptors, as C code does, and so that nothing is buffered.
        for stream in [1, 2] {
            // SAFETY: writes bytes of this program's; an error is of no interest.
            unsafe { libc::write(stream, b"\xff\xff\xff\xff\xff\xff\xff\xff".as_ptr().cast(), 8) };
        }
        println!("lost");
        eprintln!("lost");
        doubled = pool.apply(twice::call(number.parse().expect("a number")))?.to_string();
    }
    assert_eq!(process.join()?, 2);
    drop(reader.take_stdin());
    assert_eq!(reader.join()?, [], "what is printed here is nothing for it to read");
    write(report, &doubled);
    Ok(())
}

// ---- processes that wait ----

/// Says that it is there, and waits without end.
#[task]
fn wait_forever(started: PathBuf) {
    write(&started, &std::process::id().to_string());
    loop {
        std::thread::park();
    }
}

/// Says that it is there, and computes without end.
#[task]
fn spin_forever(started: PathBuf) {
    write(&started, &std::process::id().to_string());
    loop {
        std::hint::spin_loop();
    }
}

/// Waits for the file `go`, then makes the file `done`.
#[task]
fn finish_when_told(directory: PathBuf) {
    write(&directory.join("started"), &std::process::id().to_string());
    wait_for(&directory.join("go"));
    write(&directory.join("done"), "done");
}

#[task]
fn ignore_terminate(started: PathBuf) {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    write(&started, &std::process::id().to_string());
    loop {
        std::thread::park();
    }
}

fn started<R>(process: &RunningProcess<R>, file: &Path) {
    wait_for(file);
    assert!(process.is_alive());
}

fn main_returns(directory: &Path) -> Result<()> {
    let joined = Process::new(finish_when_told::call(directory.to_owned())).start()?;
    let idle = Process::new(wait_forever::call(directory.join("idle"))).daemon(true).start()?;
    let busy = Process::new(spin_forever::call(directory.join("busy"))).daemon(true).start()?;
    started(&joined, &directory.join("started"));
    started(&idle, &directory.join("idle"));
    started(&busy, &directory.join("busy"));
    assert_eq!(active_children().len(), 3);
    // Nobody holds a handle any more.
    drop((joined, idle, busy));
    write(&directory.join("returned"), "main returns");
    Ok(())
}

fn daemon_ignores_terminate(directory: &Path) -> Result<()> {
    let file = directory.join("stubborn");
    let daemon = Process::new(ignore_terminate::call(file.clone())).daemon(true).start()?;
    started(&daemon, &file);
    Ok(())
}

// ---- processes whose parent is killed ----

/// Starts idle and busy ones, from a thread that has ended when it says their pids.
fn orphans(directory: &Path, sandbox: Sandbox) -> Result<()> {
    let idle = directory.join("idle");
    let busy = directory.join("busy");
    let (process, pool) = std::thread::scope(|scope| {
        let starter = scope.spawn(|| -> Result<_> {
            let process = Process::new(wait_forever::call(idle.clone())).sandbox(sandbox.clone()).start()?;
            let pool = builder().processes(2).sandbox(sandbox).build()?;
            drop(pool.apply_async(spin_forever::call(busy.clone())));
            Ok((process, pool))
        });
        starter.join().expect("it does not panic")
    })?;
    started(&process, &idle);
    wait_for(&busy);
    // The other worker has nothing to do. One that has not run yet has said nothing of its parent's end to the system.
    let runs = |worker: &WorkerInfo| worker.state != WorkerState::Starting;
    while pool.workers().iter().filter(|worker| runs(worker)).count() < 2 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut pids: Vec<String> = pool.workers().iter().map(|worker| worker.pid.to_string()).collect();
    pids.push(process.pid().to_string());
    say(pids.join(" "));
    loop {
        std::thread::park();
    }
}

/// Loses one or the other way of noticing the end of its parent, and computes without end.
#[task]
fn hold_on(started: PathBuf, how: &str) {
    match how {
        "with-other-descriptors" => replace_descriptors(),
        "as-another-user" => {
            // SAFETY: a system call on plain numbers. The kernel then forgets which signal the parent's death sends.
            assert_eq!(unsafe { libc::setresuid(65534, 65534, 65534) }, 0);
        }
        _ => {}
    }
    write(&started, &std::process::id().to_string());
    loop {
        std::hint::spin_loop();
    }
}

/// In place of everything but the standard streams there is a socket that never hangs up. What was there stays open
/// under other numbers, so that nobody notices.
fn replace_descriptors() {
    const KEPT: i32 = 500;
    let (one, other) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    for number in (3..KEPT).filter(|number| ![one.as_raw_fd(), other.as_raw_fd()].contains(number)) {
        // SAFETY: system calls on numbers, of which some are descriptors of the library's: that is the point here.
        unsafe {
            if libc::fcntl(number, libc::F_DUPFD_CLOEXEC, KEPT) >= 0 {
                libc::dup2(one.as_raw_fd(), number);
            }
        }
    }
    std::mem::forget((one, other));
}

/// Starts some that hold on, says their pids, and then that of a child that was forked and has a copy of all that leads
/// to them.
fn orphans_that_hold_on(directory: &Path, how: &str) -> Result<()> {
    let [first, second] = ["process", "worker"].map(|name| directory.join(name));
    let process = Process::new(hold_on::call(first.clone(), how)).start()?;
    let pool = pool(1)?;
    drop(pool.apply_async(hold_on::call(second.clone(), how)));
    started(&process, &first);
    wait_for(&second);
    // SAFETY: the child only waits.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }
    say(format!("{} {} {child}", process.pid(), pool.workers()[0].pid));
    loop {
        std::thread::park();
    }
}

/// Starts a process that starts a process …, and says its pid at each level.
#[task]
fn descend(levels: u32, directory: PathBuf) {
    write(&directory.join(levels.to_string()), &std::process::id().to_string());
    if levels > 0 {
        let below = Process::new(descend::call(levels - 1, directory)).start().expect("it starts");
        // It ends only if it is killed, and then this level goes on.
        below.join().expect_err("it never returns");
    }
    loop {
        std::thread::park();
    }
}

fn orphans_of_a_tree(directory: &Path) -> Result<()> {
    Process::new(descend::call(2, directory.to_owned())).start()?.join()
}

// ---- panics at once ----

/// A long text whose parts show if something stands between them.
#[task]
fn panic_at_length(directory: PathBuf) {
    let name = current_process().name();
    write(&directory.join(name), "ready");
    wait_for(&directory.join("go"));
    let text: Vec<String> = (0..10_000).map(|line| format!("{name}/{line}")).collect();
    panic!("{}", text.join("\n"));
}

fn panics_at_once(directory: &Path) -> Result<()> {
    let names = ["left", "right"];
    let start = |name| Process::new(panic_at_length::call(directory.to_owned())).name(name).start();
    let processes: Vec<_> = names.into_iter().map(start).collect::<Result<_>>()?;
    for name in names {
        wait_for(&directory.join(name));
    }
    write(&directory.join("go"), "now");
    for process in &processes {
        assert!(process.join().unwrap_err().is_panic());
    }
    Ok(())
}

// ---- what workers have to say ----

#[task]
fn complain_by_halves(go: &Path) {
    eprint!("half a line");
    wait_for(go);
    eprintln!(", and the other half");
}

#[task]
fn complain_in_lines(worker: u32) {
    for line in 0..500 {
        eprintln!("{worker}:{line}:{}", "x".repeat(200));
    }
}

/// Leaves somebody behind who speaks when there is no worker any more.
#[task]
fn leave_a_child(go: &Path) {
    let script = "until test -e \"$0\"; do sleep 0.01; done; echo 'the child of a worker' >&2";
    #[expect(clippy::zombie_processes, reason = "it is to outlive this process")]
    std::process::Command::new("sh").args(["-c", script]).arg(go).spawn().expect("a shell");
}

#[task]
fn complain_and_die(bytes: usize) {
    eprintln!("{}", "x".repeat(bytes));
    eprint!("the last words");
    std::process::abort();
}

fn complains(go: &Path) -> Result<()> {
    pool(1)?.apply(complain_by_halves::call(go))?;
    let pool = pool(2)?;
    pool.map(complain_in_lines::call, 0..4)?;
    pool.apply(leave_a_child::call(&go.with_extension("speak")))?;
    pool.apply(complain_and_die::call(1)).expect_err("it dies");
    eprintln!(": the error was told");
    pool.close();
    pool.join()?;
    eprintln!("the pool has ended");
    write(&go.with_extension("speak"), "now");
    // It is passed on as long as the program lives.
    wait_for(&go.with_extension("end"));
    Ok(())
}

#[task]
fn say_in_colour(who: &str) {
    eprintln!("{who} \x1b[31mred\x1b[0m");
}

fn colours() -> Result<()> {
    builder().processes(1).build()?.apply(say_in_colour::call("free"))?;
    builder().processes(1).sandbox(Sandbox::strict()).build()?.apply(say_in_colour::call("confined"))
}

/// Nobody reads what is said here.
fn complains_at_length() -> Result<()> {
    let pool = pool(1)?;
    // More than a pipe holds, and less than that of the program and that of the worker do together.
    let error = pool.apply(complain_and_die::call(100_000)).expect_err("it dies");
    assert_eq!(error.signal(), Some(6));
    assert_eq!(pool.apply(twice::call(21))?, 42);
    Ok(())
}
