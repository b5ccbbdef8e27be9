//! What a pool keeps of a lost call is a file for its owner alone, with all there is to say; `POOL_REPLAY` runs the
//! call again, with the same arguments, in one process, and it ends in the same way.

use crate::support::{Ended, builder, copy_program, directory, over_every_transport, run};
use pool_runtime::{Array, Atomic, Dossier, Pool, PoolBuilder, Sandbox, Shared, task};
use std::{
    os::unix::{
        fs::{PermissionsExt, chown},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::Ordering,
};

over_every_transport! {
    every_death_comes_again,
    all_kinds_of_arguments_come_again,
    what_may_be_written_comes_again_as_it_was_left,
    the_state_comes_again,
    the_sandbox_comes_again,
    a_call_of_a_map_is_kept_by_itself,
    a_task_that_lives_on_is_told,
    files_are_for_their_owner_and_have_names,
    what_cannot_be_written_is_no_other_error,
    foreign_files_are_refused,
    a_file_of_another_user_runs_only_when_told,
    a_file_of_another_user_never_runs_without_a_sandbox,
    a_file_where_others_may_replace_it_is_refused,
    a_file_that_others_may_write_is_refused,
    the_callers_sandbox_counts_too,
    a_strict_sandbox_is_given_nothing,
}

/// Whether this process runs a call again: what it does then is seen by the test.
fn again() -> bool {
    std::env::var_os("TEST_IS_REPLAY").is_some()
}

#[inline(never)]
fn crash() -> ! {
    // SAFETY: it is not: writing there is what the test is about, and ends the process.
    unsafe { std::hint::black_box(std::ptr::null_mut::<u8>()).wrapping_add(8).write_volatile(1) };
    unreachable!("nothing is at address 8")
}

#[expect(unconditional_recursion, reason = "until the stack is full")]
fn dive(n: u64) -> u64 {
    std::hint::black_box(dive(n + 1)) + n
}

#[task]
fn die(how: &str) {
    if again() {
        assert_eq!(std::env::var_os("POOL_REPLAY"), None, "nobody who is started from here does it again");
    }
    match how {
        "segv" => crash(),
        "overflow" => drop(std::hint::black_box(dive(1))),
        "overflow on a thread" => drop(std::thread::spawn(|| std::hint::black_box(dive(1))).join()),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(33),
        // SAFETY: no memory is involved.
        "kill" => drop(unsafe { libc::raise(libc::SIGKILL) }),
        unknown => panic!("{unknown}"),
    }
}

fn keeping(dir: &Path) -> Pool {
    builder().processes(1).dossiers(dir).build().expect("a pool")
}

fn again_command(file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.env("POOL_REPLAY", file).env("TEST_IS_REPLAY", "1");
    command.args(["--exact", "pool_main_way_in_for_workers", "--nocapture", "--test-threads=1"]);
    command
}

/// As [`Dossier`] says to do it, in a shell.
fn run_again(dossier: &Dossier) -> Ended {
    let report = dossier.to_string();
    let command = report.lines().find_map(|line| line.trim().strip_prefix("run again")).expect("a command");
    run(Command::new("sh").args(["-c", &format!("TEST_IS_REPLAY=1 exec env {}", command.trim())]))
}

fn every_death_comes_again() {
    let dir = directory();
    let pool = keeping(dir.path());
    for how in ["segv", "overflow", "overflow on a thread", "abort", "exit", "kill"] {
        let error = pool.apply(die::call(how)).unwrap_err();
        let dossier = error.dossier().unwrap();
        let file = dossier.saved().unwrap_or_else(|| panic!("{how}: no file: {error}"));
        assert!(error.to_string().ends_with(&format!("; its dossier is in {}", file.display())), "{error}");
        let ended = run_again(dossier);
        assert_eq!(
            (ended.status.signal(), ended.status.code()),
            (error.signal(), error.exit_code()),
            "{how}: {ended:?}"
        );
        let said = format!("runs `{}` ({}:", dossier.task_name().unwrap(), file!());
        assert!(ended.stderr.contains(&said), "{how}: {ended:?}");
        assert!(!ended.stderr.contains("another build"), "{ended:?}");
        // The text comes first, whole, and the backtrace in it.
        let kept = std::fs::read(file).unwrap();
        let text = String::from_utf8_lossy(&kept);
        for line in dossier.to_string().lines() {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        let named = text.lines().any(|line| line.ends_with(" crash") || line.ends_with("::crash"));
        assert_eq!(named, how == "segv", "{text}");
    }
}

#[task]
fn compare(small: u32, text: &str, numbers: &[f64], large: &[u64], shared: Shared<[u32]>, nested: Vec<Shared<[u8]>>) {
    let right = small == 7
        && text == "a text"
        && *numbers == [1.5; 100]
        && large.len() == 1 << 17
        && large.iter().zip(0..).all(|(found, n)| *found == n * n)
        && shared.len() == 1000
        && shared.iter().zip(0..).all(|(found, n)| *found == n)
        && nested.iter().map(|part| part[0]).eq([1, 2]);
    // Another code if one is wrong.
    std::process::exit(if right { 44 } else { 45 });
}

fn all_kinds_of_arguments_come_again() {
    let dir = directory();
    let pool = keeping(dir.path());
    // A megabyte travels in memory that is shared, and so does what was shared before.
    let large: Vec<u64> = (0..1 << 17).map(|n| n * n).collect();
    let shared = Shared::from_fn(1000, |n| n as u32).unwrap();
    let nested = || vec![Shared::new(&[1_u8]).unwrap(), Shared::new(&[2_u8; 3]).unwrap()];
    let error = pool.apply(compare::call(7, "a text", &[1.5; 100], &large, shared, nested())).unwrap_err();
    assert_eq!(error.exit_code(), Some(44), "{error}");
    let ended = run_again(error.dossier().unwrap());
    assert_eq!(ended.status.code(), Some(44), "{ended:?}");
}

#[task]
fn change(numbers: Array<u32>, all: Array<u32>, total: Atomic<u64>) {
    // What a call finds when it runs again is what its first attempt has left.
    numbers.set(0, numbers.get(0) + 1);
    total.fetch_add(1, Ordering::Relaxed);
    std::process::exit((all.get(1) + numbers.get(0)) as i32 + total.load(Ordering::Relaxed) as i32);
}

fn what_may_be_written_comes_again_as_it_was_left() {
    let dir = directory();
    // In a sandbox that makes no shared memory itself.
    let pool = builder().processes(1).dossiers(dir.path()).sandbox(Sandbox::strict().memory(1 << 30)).build().unwrap();
    let (all, total) = (Array::new(&[1, 20]).unwrap(), Atomic::<u64>::new(30).unwrap());
    let error = pool.apply(change::call(all.split(2)[1].clone(), all.clone(), total.clone())).unwrap_err();
    assert_eq!(error.exit_code(), Some(21 + 21 + 31), "{error}");
    let ended = run_again(error.dossier().unwrap());
    assert_eq!(ended.status.code(), Some(22 + 22 + 32), "{ended:?}");
    // It had a copy.
    assert_eq!((all.get(1), total.load(Ordering::Relaxed)), (21, 31));
}

struct Model(Vec<u32>, Shared<[u32]>);

#[task(initializer)]
fn make_model(length: u32, shared: Shared<[u32]>) -> Model {
    Model((0..length).collect(), shared)
}

#[task]
fn use_model(#[state] model: &mut Model, n: usize) {
    std::process::exit((model.0[n] + model.1[n]) as i32);
}

fn the_state_comes_again() {
    let dir = directory();
    let shared = Shared::new(&[10_u32; 100]).unwrap();
    let pool = builder().processes(1).initializer(make_model::call(50, shared)).dossiers(dir.path()).build().unwrap();
    let error = pool.apply(use_model::call(23)).unwrap_err();
    assert_eq!(error.exit_code(), Some(33), "{error}");
    let ended = run_again(error.dossier().unwrap());
    assert_eq!(ended.status.code(), Some(33), "{ended:?}");
    assert!(ended.stderr.contains("runs the initializer"), "{ended:?}");
}

/// Tells by its exit code what can be read.
#[task]
fn die_of_what_is_there(inside: &Path, outside: &Path) {
    let code = |file: &Path| i32::from(std::fs::read(file).is_ok());
    std::process::exit(50 + 2 * code(inside) + code(outside));
}

fn the_sandbox_comes_again() {
    let (dir, given) = (directory(), directory());
    let (inside, outside) = (given.path().join("inside"), given.path().join("outside"));
    for file in [&inside, &outside] {
        std::fs::write(file, "").unwrap();
    }
    let sandbox = Sandbox::strict().read(&inside);
    let pool = builder().processes(1).dossiers(dir.path()).sandbox(sandbox).build().unwrap();
    let error = pool.apply(die_of_what_is_there::call(&inside, &outside)).unwrap_err();
    assert_eq!(error.exit_code(), Some(52), "{error}");
    let ended = run_again(error.dossier().unwrap());
    assert_eq!(ended.status.code(), Some(52), "{ended:?}");
    assert!(ended.stderr.contains("runs in a sandbox"), "{ended:?}");
    // Without, if that is asked for.
    let file = error.dossier().unwrap().saved().unwrap();
    let ended = run(again_command(file).env("POOL_REPLAY_UNCONFINED", "1"));
    assert_eq!(ended.status.code(), Some(53), "{ended:?}");
    assert!(ended.stderr.contains("now it runs without"), "{ended:?}");
    // Not just so, where it cannot be.
    std::fs::remove_file(&inside).unwrap();
    let ended = run(&mut again_command(file));
    assert_eq!(ended.status.code(), Some(70), "{ended:?}");
    assert!(ended.stderr.contains("POOL_REPLAY_UNCONFINED=1") && ended.stderr.contains("inside"), "{ended:?}");
}

#[task]
fn die_of_a_multiple(n: u32, pad: &[u8], shared: Shared<[u32]>) -> u32 {
    if n.is_multiple_of(10) {
        std::process::exit((n + shared[0]) as i32 + i32::from(pad[0]));
    }
    n
}

fn a_call_of_a_map_is_kept_by_itself() {
    let dir = directory();
    let pool = keeping(dir.path());
    let shared: Vec<_> = (0..4).map(|n| Shared::new(&[n]).unwrap()).collect();
    let pad = [1; 40];
    let call = |n: u32| die_of_a_multiple::call(n, &pad[..20 + n as usize % 20], shared[n as usize % 4].clone());
    let results: Vec<_> = pool.imap(call, 1..50).collect();
    let mut lost = 0;
    for error in results.into_iter().filter_map(Result::err) {
        let (dossier, code) = (error.dossier().unwrap(), error.exit_code());
        assert!(code.is_some_and(|code| code > 10), "{error}");
        assert_eq!(run_again(dossier).status.code(), code);
        lost += 1;
    }
    assert_eq!((lost, std::fs::read_dir(dir.path()).unwrap().count()), (4, 4));
}

/// What did not happen the first time happens the second time.
#[task]
fn differ(how: &str) -> Result<u32, String> {
    if !again() {
        crash();
    }
    match how {
        "value" => Ok(1),
        "error" => Err("no".into()),
        _ => panic!("a panic by design"),
    }
}

fn a_task_that_lives_on_is_told() {
    let dir = directory();
    let pool = keeping(dir.path());
    for (how, code, says) in [
        ("value", 0, "replay: the task returned"),
        ("error", 0, "replay: the task returned"),
        ("panic", 101, "replay: the task panicked"),
    ] {
        let error = pool.apply(differ::call(how)).unwrap_err();
        let ended = run_again(error.dossier().unwrap());
        assert_eq!(ended.status.code(), Some(code), "{ended:?}");
        assert!(ended.stderr.contains(says), "{ended:?}");
        assert_eq!(ended.stderr.contains("a panic by design"), how == "panic", "{ended:?}");
    }
}

fn files_are_for_their_owner_and_have_names() {
    let dir = directory();
    let inner = dir.path().join("not/yet/there");
    let pool = keeping(&inner);
    let error = pool.apply(die::call("exit")).unwrap_err();
    let dossier = error.dossier().unwrap();
    let file = dossier.saved().unwrap();
    let name = format!("dossiers.replay_runs_the_call_again.die-{}-{}.dossier", dossier.pid(), dossier.job().unwrap());
    assert_eq!(file, inner.join(name));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(file), mode(&inner)), (0o600, 0o700));
    // Other failures are no deaths.
    assert!(pool.apply(die::call("in another way")).unwrap_err().is_panic());
    assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
}

fn what_cannot_be_written_is_no_other_error() {
    let dir = directory();
    let file = dir.path().join("a file");
    std::fs::write(&file, "").unwrap();
    let error = keeping(&file).apply(die::call("exit")).unwrap_err();
    assert_eq!((error.exit_code(), error.dossier().unwrap().saved()), (Some(33), None), "{error}");
}

fn foreign_files_are_refused() {
    let dir = directory();
    let error = keeping(dir.path()).apply(die::call("exit")).unwrap_err();
    let whole = std::fs::read(error.dossier().unwrap().saved().unwrap()).unwrap();
    let damaged = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (file, says) in [
        (damaged("cut off", &whole[..whole.len() - 1]), "it is cut off"),
        (damaged("empty", b""), "it is not a dossier"),
        (damaged("another", b"#!/bin/sh\nexit 0\n"), "it is not a dossier"),
        (damaged("flipped", &flipped), "damaged"),
        (dir.path().join("missing"), "No such file"),
        (dir.path().to_owned(), "directory"),
    ] {
        let ended = run(&mut again_command(&file));
        assert_eq!(ended.status.code(), Some(70), "{ended:?}");
        assert!(ended.stderr.contains(says) && ended.stderr.contains("cannot run the call"), "{ended:?}");
    }
    // A program that has no such task.
    let kept = error.dossier().unwrap().saved().unwrap();
    let ended = run(Command::new(env!("CARGO_BIN_EXE_scenario")).env("POOL_REPLAY", kept));
    assert_eq!(ended.status.code(), Some(70), "{ended:?}");
    assert!(ended.stderr.contains("this program has no task `dossiers::replay_runs_the_call_again::die`"), "{ended:?}");
}

/// A dossier of a call without a sandbox, whose exit code says what it can read: 53 is all, 50 nothing.
fn of_what_is_there(dir: &Path) -> PathBuf {
    let (inside, outside) = (dir.join("inside"), dir.join("outside"));
    for file in [&inside, &outside] {
        std::fs::write(file, "").unwrap();
    }
    let error = keeping(dir).apply(die_of_what_is_there::call(&inside, &outside)).unwrap_err();
    assert_eq!(error.exit_code(), Some(53), "{error}");
    error.dossier().unwrap().saved().unwrap().to_owned()
}

/// Of a user without rights, by a copy of this program that it can run.
fn as_another_user(dir: &Path, file: &Path) -> Command {
    let copy = dir.join("program");
    if !copy.exists() {
        copy_program(std::env::current_exe().expect("a path"), &copy);
        for path in [dir, &copy] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
    let again = again_command(file);
    let mut command = Command::new(&copy);
    command.args(again.get_args()).env("POOL_REPLAY", file).env("TEST_IS_REPLAY", "1");
    command.uid(65534).gid(65534).current_dir("/");
    command
}

fn is_root() -> bool {
    // SAFETY: returns a number.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        eprintln!("not tested: only root can give files to another user");
    }
    is_root
}

fn a_file_of_another_user_runs_only_when_told() {
    if !is_root() {
        return;
    }
    let dir = directory();
    let file = of_what_is_there(dir.path());
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let foreign = |owner, group| {
        chown(&file, Some(owner), Some(group)).unwrap();
        let mut command = as_another_user(dir.path(), &file);
        command.env("POOL_REPLAY_FOREIGN", "1");
        (run(&mut as_another_user(dir.path(), &file)), run(&mut command))
    };
    for (owner, group, says) in [(65533, 65534, "belongs to user 65533"), (65534, 65533, "belongs to group 65533")] {
        let (ended, told) = foreign(owner, group);
        assert_eq!(ended.status.code(), Some(70), "{ended:?}");
        assert!(ended.stderr.contains(says) && ended.stderr.contains("POOL_REPLAY_FOREIGN=1"), "{ended:?}");
        assert_eq!(told.status.code(), Some(50), "in a strict sandbox: {told:?}");
    }
    assert_eq!(foreign(65534, 65534).0.status.code(), Some(53), "one's own");
    assert_eq!(foreign(0, 0).0.status.code(), Some(53), "root's");
}

/// Whoever starts a program chooses its environment, also where that program has become another user on the way.
fn a_file_of_another_user_never_runs_without_a_sandbox() {
    if !is_root() {
        return;
    }
    let dir = directory();
    let file = of_what_is_there(dir.path());
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    chown(&file, Some(65533), None).unwrap();
    let unconfined = |mut command: Command, more: &[(&str, &str)]| {
        command.env("POOL_REPLAY_FOREIGN", "1").envs(more.iter().copied());
        let ended = run(&mut command);
        assert_eq!(ended.status.code(), Some(70), "{ended:?}");
        ended.stderr
    };
    for more in
        [&[("POOL_REPLAY_UNCONFINED", "1")][..], &[("POOL_REPLAY_UNCONFINED", "1"), ("POOL_REPLAY_SANDBOX", "strict")]]
    {
        let said = unconfined(as_another_user(dir.path(), &file), more);
        assert!(said.contains("unset POOL_REPLAY_UNCONFINED"), "{said}");
    }
    // Nor for root with one.
    for more in [&[][..], &[("POOL_REPLAY_UNCONFINED", "1")], &[("POOL_REPLAY_SANDBOX", "strict")]] {
        let said = unconfined(again_command(&file), more);
        assert!(said.contains("run this program as an ordinary user"), "{said}");
    }
}

fn a_file_where_others_may_replace_it_is_refused() {
    let dir = directory();
    let file = of_what_is_there(dir.path());
    let open = directory();
    let moved = open.path().join("moved");
    std::fs::copy(&file, &moved).unwrap();
    std::fs::set_permissions(open.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let ended = run(&mut again_command(&moved));
    assert_eq!(ended.status.code(), Some(70), "{ended:?}");
    assert!(ended.stderr.contains("others may replace what is there (its mode is 777"), "{ended:?}");
    // As in `/tmp`.
    std::fs::set_permissions(open.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    assert_eq!(run(&mut again_command(&moved)).status.code(), Some(53));
}

fn a_file_that_others_may_write_is_refused() {
    let dir = directory();
    let file = of_what_is_there(dir.path());
    for mode in [0o606, 0o620] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let ended = run(&mut again_command(&file));
        assert_eq!(ended.status.code(), Some(70), "{ended:?}");
        assert!(ended.stderr.contains(&format!("others may write to it (its mode is {mode:o}")), "{ended:?}");
    }
}

/// Whatever the file says, the call has no more than the caller allows.
fn the_callers_sandbox_counts_too() {
    let dir = directory();
    let file = of_what_is_there(dir.path());
    assert_eq!(run(&mut again_command(&file)).status.code(), Some(53));
    for unconfined in ["0", "1"] {
        let mut command = again_command(&file);
        let ended = run(command.env("POOL_REPLAY_SANDBOX", "strict").env("POOL_REPLAY_UNCONFINED", unconfined));
        assert_eq!(ended.status.code(), Some(50), "{ended:?}");
        assert!(ended.stderr.contains("in a strict sandbox"), "{ended:?}");
    }
    let ended = run(again_command(&file).env("POOL_REPLAY_SANDBOX", "lenient"));
    assert_eq!(ended.status.code(), Some(70), "{ended:?}");
    assert!(ended.stderr.contains("\"lenient\""), "{ended:?}");
}

/// Tells by its exit code whether it has a variable, where the kernel has put it; a descriptor; and something to read.
#[task]
fn die_of_what_it_was_given() {
    use std::io::Read as _;
    let variable = std::env::var_os("A_SECRET").is_some();
    // SAFETY: only asked whether it is open.
    let open = unsafe { libc::fcntl(7, libc::F_GETFD) } >= 0;
    let read = std::io::stdin().read(&mut [0]).is_ok_and(|length| length > 0);
    std::process::exit(60 + i32::from(variable) + 2 * i32::from(open) + 4 * i32::from(read));
}

fn a_strict_sandbox_is_given_nothing() {
    let unconfined = |pool: PoolBuilder| pool;
    let confined = |pool: PoolBuilder| pool.sandbox(Sandbox::strict());
    let with_env = |pool: PoolBuilder| pool.sandbox(Sandbox::strict().inherit_env(true));
    it_is_given(unconfined, &[(None, 67), (Some("strict"), 60)]);
    // As it was in the pool.
    it_is_given(confined, &[(None, 60), (Some("strict"), 60)]);
    it_is_given(with_env, &[(None, 61), (Some("strict"), 60)]);
}

/// What a call of such a pool is given when it is run again, by the sandbox that is asked for.
fn it_is_given(pool: impl Fn(PoolBuilder) -> PoolBuilder, cases: &[(Option<&str>, i32)]) {
    let dir = directory();
    let pool = pool(builder().processes(1).dossiers(dir.path())).build().unwrap();
    let error = pool.apply(die_of_what_it_was_given::call()).unwrap_err();
    assert_eq!(error.exit_code(), Some(60), "{error}");
    let file = error.dossier().unwrap().saved().unwrap();
    for (sandbox, code) in cases {
        let again = again_command(file);
        let mut command = Command::new("sh");
        command.args(["-c", "exec 7<\"$0\" <\"$0\"; exec \"$@\""]).arg(file).arg(again.get_program());
        command.args(again.get_args()).env("POOL_REPLAY", file).env("A_SECRET", "told");
        sandbox.as_ref().map(|name| command.env("POOL_REPLAY_SANDBOX", name));
        let ended = run(&mut command);
        assert_eq!(ended.status.code(), Some(*code), "{sandbox:?}: {ended:?}");
    }
}
