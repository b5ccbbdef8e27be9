//! The dossier of a lost worker tells one death from the other: signal or exit code, a fault's address, a stack
//! overflow, the panic behind an abort, the thread, the functions; which call it was, and where its task stands in the
//! source.

use crate::support::{END_AT_SIGNALS, over_every_transport, pool};
use pool_runtime::{Dossier, Error, Process, task};
use serde::{Deserialize, Serialize};
use std::hint::black_box;

over_every_transport! {
    every_death_is_told_from_the_others,
    the_call_and_its_place_are_told,
    the_functions_are_named,
    a_handler_of_the_program_wins,
    a_child_that_was_forked_crashes_for_itself,
    a_process_has_a_dossier_too,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Death {
    Segv,
    SentSegv,
    Illegal,
    Abort,
    PanicWhilePanicking,
    Overflow,
    Exit,
    Kill,
    CallNothing,
}

use Death::*;

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("the last words");
    }
}

#[inline(never)]
fn touch_nothing() {
    // SAFETY: it is not: reading there is what the test is about, and ends the process.
    black_box(unsafe { black_box(std::ptr::null::<u8>()).wrapping_add(0x18).read_volatile() });
}

#[expect(unconditional_recursion, reason = "until the stack is full")]
fn dive(n: u64) -> u64 {
    let room = black_box([n; 64]);
    black_box(dive(n + 1)) + room[n as usize % 64]
}

fn meet(death: Death) {
    match death {
        Segv => touch_nothing(),
        // SAFETY: no memory is involved.
        SentSegv => drop(unsafe { libc::raise(libc::SIGSEGV) }),
        // SAFETY: it ends the process.
        Illegal => drop(unsafe { libc::raise(libc::SIGILL) }),
        Abort => std::process::abort(),
        PanicWhilePanicking => {
            let _guard = PanicsWhenDropped;
            panic!("the first words");
        }
        Overflow => drop(black_box(dive(1))),
        Exit => std::process::exit(9),
        // SAFETY: no memory is involved.
        Kill => drop(unsafe { libc::raise(libc::SIGKILL) }),
        CallNothing => {
            // SAFETY: it is not: there is no function at this address.
            let nothing: extern "C" fn() = unsafe { std::mem::transmute(black_box(8_usize)) };
            nothing();
            black_box(());
        }
    }
}

#[task]
fn pid() -> u32 {
    std::process::id()
}

#[task]
fn die(death: Death) {
    meet(death);
}

#[task]
fn die_on_a_thread(death: Death) {
    let _ = std::thread::Builder::new().name("diver".into()).spawn(move || meet(death)).unwrap().join();
}

fn dossier(error: &Error) -> &Dossier {
    error.dossier().unwrap_or_else(|| panic!("no dossier: {error}"))
}

fn every_death_is_told_from_the_others() {
    let pool = pool(1);
    for on_main in [true, false] {
        for death in [Segv, SentSegv, Illegal, Abort, PanicWhilePanicking, Overflow, Exit, Kill, CallNothing] {
            let pid = pool.apply(pid::call()).unwrap();
            let died = if on_main { pool.apply(die::call(death)) } else { pool.apply(die_on_a_thread::call(death)) };
            let error = died.expect_err("it cannot live on");
            let dossier = dossier(&error);
            let signal = match death {
                Segv | SentSegv | Overflow | CallNothing => Some(libc::SIGSEGV),
                Illegal => Some(libc::SIGILL),
                Abort | PanicWhilePanicking => Some(libc::SIGABRT),
                Kill => Some(libc::SIGKILL),
                Exit => None,
            };
            let what = format!("{death:?}, on the main thread {on_main}\n{dossier}");
            assert_eq!((dossier.signal(), error.signal()), (signal, signal), "{what}");
            assert_eq!(dossier.exit_code(), (death == Exit).then_some(9), "{what}");
            assert_eq!(dossier.pid(), pid, "{what}");
            assert_eq!(dossier.is_stack_overflow(), death == Overflow, "{what}");
            assert_eq!(error.is_stack_overflow(), death == Overflow, "{what}");
            assert!(!error.is_out_of_memory() && dossier.oom_killer().is_none(), "{what}");
            let noted = !matches!(death, Exit | Kill);
            assert_eq!(dossier.on_main_thread(), noted.then_some(on_main), "{what}");
            let address = match death {
                Segv => Some(0x18),
                CallNothing => Some(8),
                Overflow => dossier.fault_address(),
                _ => None,
            };
            assert_eq!(dossier.fault_address(), address, "{what}");
            assert_eq!(dossier.fault_address().is_some(), matches!(death, Segv | Overflow | CallNothing), "{what}");
            // The whole of the first panic's end is that the second one came.
            assert_eq!(dossier.panic().is_some(), death == PanicWhilePanicking, "{what}");
            let sentence = error.to_string();
            let expected = match death {
                Overflow => format!("process {pid} overflowed its stack while running"),
                Exit => format!("process {pid} exited with code 9 while running"),
                Kill => format!("process {pid} was killed by signal 9 (SIGKILL) while running"),
                Abort | PanicWhilePanicking => format!("process {pid} was killed by signal 6 (SIGABRT) while running"),
                Illegal => format!("process {pid} was killed by signal 4 (SIGILL) while running"),
                Segv | SentSegv | CallNothing => {
                    format!("process {pid} was killed by signal 11 (SIGSEGV) while running")
                }
            };
            assert!(sentence.contains(&expected), "{sentence}\n{what}");
            if death == Overflow {
                let name = if on_main { "main" } else { "diver" };
                let said = format!("thread '{name}' has overflowed its stack\n");
                assert!(dossier.stderr().unwrap().ends_with(&said), "{what}");
            }
        }
    }
}

fn the_call_and_its_place_are_told() {
    let pool = pool(1);
    let job = pool.apply_async(die::call(Kill));
    let id = job.id();
    let error = job.get().unwrap_err();
    let dossier = dossier(&error);
    assert!(dossier.task_name().unwrap().ends_with("dossiers::says_how_a_worker_died::die"));
    assert_eq!(dossier.file(), Some(file!()));
    let source = include_str!("says_how_a_worker_died.rs").lines();
    let line = source.zip(1..).find_map(|(text, line)| text.starts_with("fn die(").then_some(line));
    assert_eq!(dossier.line(), line);
    assert_eq!((dossier.job(), dossier.attempt()), (Some(id), Some(1)));
    assert!(dossier.duration().is_some());
    assert_eq!(dossier.saved(), None, "nobody has asked for files");
    let report = dossier.to_string();
    for wanted in ["SIGKILL", "dossiers::says_how_a_worker_died::die", &format!("job {id}, attempt 1"), "page faults"] {
        assert!(report.contains(wanted), "{wanted} in {report}");
    }
}

fn the_functions_are_named() {
    let pool = pool(1);
    for (death, function) in [(Segv, "touch_nothing"), (Overflow, "dive"), (Abort, "meet"), (CallNothing, "meet")] {
        let error = pool.apply(die::call(death)).unwrap_err();
        let backtrace = dossier(&error).backtrace().unwrap_or_else(|| panic!("{death:?}: none"));
        if END_AT_SIGNALS {
            continue;
        }
        // How much of a name there is depends on how the program was built.
        let has = |name: &str| {
            backtrace.lines().any(|line| line.ends_with(&format!(" {name}")) || line.ends_with(&format!("::{name}")))
        };
        assert!(has(function), "{death:?}: {backtrace}");
        if death != CallNothing {
            let file = file!().rsplit('/').next().unwrap();
            assert!(backtrace.contains(file), "{death:?}: {backtrace}");
        }
        if death == Segv {
            assert!(has("die"), "{backtrace}");
        }
        assert!(
            !has("__invoke") && !backtrace.contains("pool_runtime::"),
            "the library's own functions are left out: {backtrace}"
        );
    }
    for death in [Exit, Kill] {
        let error = pool.apply(die::call(death)).unwrap_err();
        assert_eq!(dossier(&error).backtrace(), None);
    }
}

extern "C" fn own_handler(_: libc::c_int) {
    // SAFETY: it ends the process.
    unsafe { libc::_exit(77) };
}

#[task]
fn die_with_a_handler() {
    // SAFETY: the handler calls only what a handler may.
    unsafe { libc::signal(libc::SIGSEGV, own_handler as *const () as usize) };
    touch_nothing();
}

fn a_handler_of_the_program_wins() {
    let error = pool(1).apply(die_with_a_handler::call()).unwrap_err();
    let dossier = dossier(&error);
    assert_eq!((dossier.exit_code(), dossier.signal(), dossier.backtrace()), (Some(77), None, None));
}

#[task]
fn fork_and_kill() {
    // SAFETY: the child only crashes, and is waited for.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            touch_nothing();
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        assert_eq!(libc::WTERMSIG(status), libc::SIGSEGV);
    }
    std::process::abort();
}

fn a_child_that_was_forked_crashes_for_itself() {
    let error = pool(1).apply(fork_and_kill::call()).unwrap_err();
    let dossier = dossier(&error);
    assert_eq!(dossier.signal(), Some(libc::SIGABRT), "{dossier}");
    let has = |name| dossier.backtrace().unwrap().contains(name);
    assert!(!has("touch_nothing") && (has("fork_and_kill") || END_AT_SIGNALS), "it is the worker's own: {dossier}");
}

fn a_process_has_a_dossier_too() {
    let died = |death| Process::new(die::call(death)).start().unwrap().join().unwrap_err();
    let error = died(Overflow);
    assert!(error.is_stack_overflow() && error.signal() == Some(libc::SIGSEGV), "{error}");
    assert!(dossier(&error).backtrace().unwrap().contains("dive"));
    let error = died(Segv);
    let dossier = dossier(&error);
    assert_eq!((dossier.fault_address(), dossier.job(), dossier.stderr()), (Some(0x18), None, None));
    assert!(dossier.task_name().unwrap().ends_with("::die"));
}
