//! Inside of a sandbox, a task that panics, aborts, crashes or exits is told as anywhere else, and the next call works.

use crate::support::{builder, kill_this_process, over_every_transport, overflow, pids, segfault};
use pool_runtime::{Ran, Sandbox, task};
use serde::{Deserialize, Serialize};

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

#[task]
fn meet(fate: Fate) {
    match fate {
        Fate::Panic => panic!("a panic by design"),
        Fate::PanicInThread => std::thread::spawn(|| panic!("in a thread")).join().expect("a thread that panics"),
        Fate::Exit => std::process::exit(7),
        Fate::Abort => std::process::abort(),
        Fate::Segv => segfault(),
        Fate::Kill => kill_this_process(),
        Fate::Overflow => overflow(),
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
