//! A task has as much room on its stack as `main` has in an ordinary program, also in a test program, where `main` is the
//! harness's and tests run on threads with a quarter of that. One that uses more is known to have overflowed its stack.

use crate::support::{builder, over_every_transport, pool};
use pool_runtime::{Process, Sandbox, task};
use serde::{Deserialize, Serialize};
use std::{hint::black_box, thread, time::Duration};

over_every_transport! {
    in_a_worker,
    in_a_worker_in_a_sandbox,
    in_a_process,
    an_overflow_is_still_seen,
    a_deep_result_does_not_overflow_the_stack_of_its_caller,
    a_deep_argument_does_not_overflow_the_stack_of_its_worker,
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
fn thread_name() -> Option<String> {
    std::thread::current().name().map(str::to_owned)
}

fn in_a_worker() {
    let pool = pool(1);
    assert_eq!(pool.apply(use_stack::call(MUCH)).unwrap(), MUCH / FRAME);
    assert_eq!(pool.apply(thread_name::call()).unwrap().as_deref(), Some("main"));
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

/// Large in memory, and one in the other.
#[derive(Serialize, Deserialize)]
struct Node {
    pad: [[u64; 32]; 32],
    next: Option<Box<Node>>,
}

impl Node {
    fn chain(count: usize) -> Self {
        on_a_stack_of(256 << 20, move || {
            let outer = |next: Self, _| Self { pad: [[0; 32]; 32], next: Some(Box::new(next)) };
            (1..count).fold(Self { pad: [[0; 32]; 32], next: None }, outer)
        })
    }

    fn count(&self) -> usize {
        std::iter::successors(Some(self), |node| node.next.as_deref()).count()
    }
}

fn on_a_stack_of<R: Send>(bytes: usize, work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| thread::Builder::new().stack_size(bytes).spawn_scoped(scope, work).unwrap().join().unwrap())
}

#[task]
fn chain(count: usize) -> Node {
    Node::chain(count)
}

#[task]
fn count(chain: Node) -> usize {
    chain.count()
}

/// What a worker returns must not end its parent, on whichever of its threads that is read.
fn a_deep_result_does_not_overflow_the_stack_of_its_caller() {
    let pool = pool(1);
    let pid = pool.apply(std_pid::call()).unwrap();
    let call = || pool.apply(chain::call(120)).map(|chain| chain.count());
    let refused = |result: pool_runtime::Result<usize>| {
        let error = result.expect_err("the stack is too small for that");
        assert!(error.is_decode() && error.to_string().contains("stack of this thread"), "{error}");
    };
    // On the smallest of these, not even one is read.
    for stack in [1 << 18, 1 << 19] {
        on_a_stack_of(stack, || refused(call()));
    }
    on_a_stack_of(1 << 19, || refused(pool.map(chain::call, [120]).map(|chains| chains[0].count())));
    on_a_stack_of(1 << 19, || {
        refused(Process::new(chain::call(120)).start().unwrap().join().map(|chain| chain.count()))
    });
    on_a_stack_of(1 << 20, || assert_eq!(pool.apply(chain::call(2)).unwrap().count(), 2));
    on_a_stack_of(256 << 20, || assert_eq!(call().unwrap(), 120));
    // A callback has a thread of the library's.
    let (sender, heard) = std::sync::mpsc::channel();
    let _job = pool.apply_async(chain::call(120)).on_done(move |result| {
        sender.send(result.as_ref().map(Node::count).map_err(ToString::to_string)).unwrap();
    });
    match heard.recv_timeout(Duration::from_secs(60)).expect("the callback is called") {
        Ok(count) => assert_eq!(count, 120),
        Err(error) => assert!(error.contains("stack of this thread"), "{error}"),
    }
    assert_eq!(pool.apply(std_pid::call()).unwrap(), pid);
}

#[task]
fn std_pid() -> u32 {
    std::process::id()
}

fn a_deep_argument_does_not_overflow_the_stack_of_its_worker() {
    let pool = pool(1);
    let pid = pool.apply(std_pid::call()).unwrap();
    match on_a_stack_of(256 << 20, || pool.apply(count::call(Node::chain(120)))) {
        Ok(count) => assert_eq!(count, 120),
        Err(error) => assert!(error.is_decode() && error.to_string().contains("stack of this thread"), "{error}"),
    }
    assert_eq!(pool.apply(std_pid::call()).unwrap(), pid);
}
