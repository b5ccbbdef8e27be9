//! Inside of a sandbox, a task that panics, aborts, crashes or exits is told as anywhere else, and the next call works.

mod support;

use pool_runtime::{Ran, Sandbox, pool_main, task};
use serde::{Deserialize, Serialize};
use support::{builder, over_every_transport, pids};

pool_main!();

over_every_transport! { the_crash_matrix_inside }

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Fate {
    Panic,
    PanicInThread,
    Exit,
    Abort,
    Segv,
    Kill,
    Overflow,
}

#[expect(unconditional_recursion, reason = "until the stack is full")]
fn deeper(n: u64) -> u64 {
    let room = std::hint::black_box([n; 512]);
    deeper(n + 1) + room[n as usize % 512]
}

#[task]
fn meet(fate: Fate) {
    match fate {
        Fate::Panic => panic!("a panic by design"),
        Fate::PanicInThread => std::thread::spawn(|| panic!("in a thread")).join().expect("a thread that panics"),
        Fate::Exit => std::process::exit(7),
        Fate::Abort => std::process::abort(),
        // SAFETY: it is not: writing there is what the test is about, and ends the process.
        Fate::Segv => unsafe { std::ptr::null_mut::<u8>().wrapping_add(8).write_volatile(1) },
        Fate::Kill => {
            // SAFETY: no memory is involved.
            unsafe { libc::raise(libc::SIGKILL) };
        }
        Fate::Overflow => {
            std::hint::black_box(deeper(1));
        }
    }
}

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn the_crash_matrix_inside() {
    let pool = builder().processes(1).sandbox(Sandbox::strict()).build().unwrap();
    let before = pids(&pool);
    for (fate, message) in [(Fate::Panic, "a panic by design"), (Fate::PanicInThread, "a thread that panics")] {
        let error = pool.apply(meet::call(fate)).unwrap_err();
        let panic = error.panic().expect("a panic");
        assert!(panic.message().starts_with(message) && panic.file().unwrap().ends_with(".rs"), "{error}");
        assert_eq!((error.is_worker_lost(), error.ran()), (false, Ran::Yes), "{fate:?}: {error}");
    }
    assert_eq!(pids(&pool), before, "a panic costs no worker");
    for (fate, code, signal) in [
        (Fate::Exit, Some(7), None),
        (Fate::Abort, None, Some(libc::SIGABRT)),
        (Fate::Segv, None, Some(libc::SIGSEGV)),
        (Fate::Kill, None, Some(libc::SIGKILL)),
        (Fate::Overflow, None, Some(libc::SIGSEGV)),
    ] {
        let error = pool.apply(meet::call(fate)).unwrap_err();
        assert_eq!((error.exit_code(), error.signal(), error.ran()), (code, signal, Ran::Yes), "{fate:?}: {error}");
        assert_eq!(pool.apply(add::call(20, 22)).unwrap(), 42, "after {fate:?}");
    }
}
