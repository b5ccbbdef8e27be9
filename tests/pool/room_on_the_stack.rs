//! A task has as much room on its stack as `main` has in an ordinary program, also in a test program, where `main` is the
//! harness's and tests run on threads with a quarter of that. One that uses more is known to have overflowed its stack.

use crate::support::{builder, over_every_transport, pool};
use pool_runtime::{Process, Sandbox, task};
use std::hint::black_box;

over_every_transport! {
    in_a_worker,
    in_a_worker_in_a_sandbox,
    in_a_process,
    an_overflow_is_still_seen,
}

const FRAME: usize = 1 << 14;
/// Of eight: the rest is for what stands below, and around each frame.
const MUCH: usize = 6 << 20;

#[inline(never)]
fn dive(frames: usize) -> usize {
    let mut frame = [1_u8; FRAME];
    let frame = black_box(&mut frame);
    if frames == 0 { 0 } else { usize::from(frame[frames % FRAME]) + dive(frames - 1) }
}

#[task]
fn use_stack(bytes: usize) -> usize {
    dive(bytes / FRAME)
}

#[task]
fn thread() -> Option<String> {
    std::thread::current().name().map(str::to_owned)
}

fn in_a_worker() {
    let pool = pool(1);
    assert_eq!(pool.apply(use_stack::call(MUCH)).unwrap(), MUCH / FRAME);
    assert_eq!(pool.apply(thread::call()).unwrap().as_deref(), Some("main"));
}

fn in_a_worker_in_a_sandbox() {
    let pool = builder().processes(1).sandbox(Sandbox::none().network(false)).build().unwrap();
    assert_eq!(pool.apply(use_stack::call(MUCH)).unwrap(), MUCH / FRAME);
}

fn in_a_process() {
    assert_eq!(Process::new(use_stack::call(MUCH)).start().unwrap().join().unwrap(), MUCH / FRAME);
}

fn an_overflow_is_still_seen() {
    let pool = pool(1);
    // The limit of this program, and what a stack without a limit gets, are below that.
    let error = pool.apply(use_stack::call(1 << 31)).unwrap_err();
    assert!(error.is_stack_overflow(), "{error}");
    assert_eq!(error.dossier().unwrap().on_main_thread(), Some(true), "{error}");
}
