//! Run ordinary functions in other processes.
//!
//! A *task* is a function with [`#[task]`](macro@task). A *call* is a task with its arguments, which has not run yet. A
//! [`Pool`] of worker processes runs calls; a [`Process`] runs a single one. The workers are this very program, started
//! again, and [`pool_main!`] is their way in.
//!
//! ```no_run
//! use pool_runtime::{Pool, Result, pool_main, task};
//!
//! #[task]
//! fn count_words(text: &str) -> usize {
//!     text.split_whitespace().count()
//! }
//!
//! pool_main!(run);
//!
//! fn run() -> Result<()> {
//!     let pool = Pool::new(4)?;
//!     let counts = pool.map(count_words::call, ["to be or not to be", "that is it"])?;
//!     println!("{counts:?}"); // [6, 3]
//!     Ok(())
//! }
//! ```
//!
//! Those who know Python's `multiprocessing` find its names here: apply, map, imap, close, terminate, join, daemon. A
//! small call costs a microsecond or two while both sides are awake, and some 70 after a rest, as it is encoded, sent
//! and decoded; large values are copied on top. For short work on shared data, threads are better; processes are for
//! what may crash, leak or hang, and for code with global state.
//!
//! # Tasks and calls
//!
//! The function stays what it was. Beside it there is `name::call`, with the function's own parameters: a wrong
//! argument is an ordinary compile error. What the function borrows, the call borrows.
//!
//! ```
//! # use pool_runtime::{Pool, Result, enter, task};
//! #[task]
//! fn scale(xs: &[f64], by: f64) -> Vec<f64> {
//!     xs.iter().map(|x| x * by).collect()
//! }
//!
//! fn main() -> Result<()> {
//!     enter(); // what `pool_main!` does first
//!     let numbers = vec![1.0, 2.0];
//!     let pool = Pool::new(1)?;
//!     assert_eq!(scale(&numbers, 2.0), pool.apply(scale::call(&numbers, 2.0))?);
//!     Ok(())
//! }
//! ```
//!
//! What cannot be a task is refused where it stands, with the reason: see [`#[task]`](macro@task). [`tasks`] lists all
//! tasks of the program, also those of its dependencies.
//!
//! # Pools and jobs
//!
//! | | waits | returns at once |
//! |---|---|---|
//! | one call | [`apply`](Pool::apply) | [`apply_async`](Pool::apply_async) |
//! | a call for each input | [`map`](Pool::map) | [`map_async`](Pool::map_async) |
//! | the same, as an iterator | | [`imap`](Pool::imap), [`imap_unordered`](Pool::imap_unordered) |
//!
//! What returns at once gives a [`Job`]: wait for it, with or without a limit, ask whether it is ready, cancel it, have
//! a function called when it is done, or await it in any executor. A job goes on if it is dropped, and ends exactly
//! once, whatever dies.
//!
//! ```
//! # use pool_runtime::{Pool, Result, enter, task};
//! #[task]
//! fn resize(image: &[u8], to: usize) -> Vec<u8> {
//!     image.iter().copied().cycle().take(to).collect()
//! }
//!
//! fn main() -> Result<()> {
//!     enter();
//!     let pool = Pool::builder().processes(2).name("images").max_tasks_per_child(100).build()?;
//!     let image = [1, 2, 3];
//!     // A closure makes a call of each input; the image is lent to all of them.
//!     let job = pool.map_async(|size| resize::call(&image, size), [1, 4]);
//!     for small in pool.imap(|size| resize::call(&image, size), 1..).take(2) {
//!         assert!(small?.len() <= 2);
//!     }
//!     assert_eq!(job.get()?, [vec![1], vec![1, 2, 3, 1]]);
//!     pool.close(); // no more work; what was submitted is finished
//!     pool.join()
//! }
//! ```
//!
//! Dropping a pool terminates it: what has not ended fails. Calls that are short are sent to a worker together, and
//! what waits behind one that takes long is given to another worker; no chunk size has to be chosen. All methods take
//! `&self`, and a pool can be shared between threads.
//!
//! # Shared slices
//!
//! An argument is copied to the worker for each call. What is large and needed by many calls is better put into a
//! [`Shared`] slice, once: all workers read the same memory, and a call with it costs as little as one with a few
//! numbers. It goes wherever a value goes: by itself, in a struct, lent, to an [initializer](PoolBuilder::initializer),
//! to a [`Process`], and on from a worker to a pool of its own.
//!
//! ```
//! # use pool_runtime::{Pool, Result, Shared, enter, task};
//! #[task]
//! fn sum(all: Shared<[f64]>, from: usize, to: usize) -> f64 {
//!     all[from..to].iter().sum()
//! }
//!
//! fn main() -> Result<()> {
//!     enter();
//!     let all = Shared::from_fn(1_000_000, |index| index as f64)?;
//!     let pool = Pool::new(2)?;
//!     let sums = pool.map(|part| sum::call(all.clone(), part * 1000, (part + 1) * 1000), 0..1000)?;
//!     assert_eq!(sums.iter().sum::<f64>(), all.iter().sum());
//!     Ok(())
//! }
//! ```
//!
//! Nobody can write it. It is freed when its last holder is gone, also if processes are killed: see [`Shared`].
//!
//! # Worker state
//!
//! What is costly to make is made once in each worker, by an initializer, and stays there; it need not be serializable.
//! Tasks take it with `#[state]`. [`PoolBuilder::initializer`] has an example. A task that asks for a state which the
//! pool's initializer does not make is refused when it is submitted. A task that panics may leave its state broken: if
//! it has one, its worker is replaced.
//!
//! # Errors
//!
//! There is one [`Error`]. It names the task, and answers questions: did the task panic, where, and with which words?
//! Was the worker lost, and how? Did the task start?
//!
//! ```
//! # use pool_runtime::{Pool, Ran, Result, enter, task};
//! #[task]
//! fn parse(text: &str) -> Result<u32, String> {
//!     text.parse().map_err(|_| format!("{text:?} is no number"))
//! }
//!
//! #[task]
//! fn exits(code: i32) {
//!     std::process::exit(code);
//! }
//!
//! fn main() -> Result<()> {
//!     enter();
//!     let pool = Pool::new(1)?;
//!     // The outer result is the pool's, the inner one the task's.
//!     assert_eq!(pool.apply(parse::call("ten"))?, Err("\"ten\" is no number".to_owned()));
//!     let error = pool.apply(exits::call(3)).unwrap_err();
//!     assert_eq!((error.is_worker_lost(), error.exit_code(), error.ran()), (true, Some(3), Ran::Yes));
//!     // The worker has been replaced.
//!     assert_eq!(pool.apply(parse::call("10"))?, Ok(10));
//!     Ok(())
//! }
//! ```
//!
//! # When a worker dies
//!
//! [`Error::dossier`] has what is known of it: signal or exit code, whether it was a stack overflow or the kernel's OOM
//! killer, the functions in which it crashed, what it had used, and the last lines that it wrote to standard error. It
//! prints as a report:
//!
//! ```text
//! process 28815 was killed by signal 11 (SIGSEGV) while running
//!   task       errors::segfaults (examples/errors.rs:26)
//!   call       job 9, attempt 1, after about 3.4ms
//!   signal     11 (SIGSEGV) at address 0x8, on the main thread
//!   used       2.67ms of its own time, 0.00ns of the system's, 192 page faults (0 from files)
//!   stderr     about to write field 8 of a struct that is not there
//!   backtrace     0: errors::segfaults
//!                    at examples/errors.rs:31
//!   saved      /tmp/dossiers/errors.segfaults-28815-9.dossier
//!   run again  POOL_REPLAY=/tmp/dossiers/errors.segfaults-28815-9.dossier target/debug/examples/errors
//! ```
//!
//! With [`PoolBuilder::dossiers`], the pool writes that into a file for each call that is lost, with the arguments.
//! `POOL_REPLAY=file program` then runs just that call again: in one process, on its main thread, with nothing between
//! the crash and a debugger (`POOL_REPLAY=file gdb program`), after the pool's initializer, if it has one. The exit
//! code is 0 if the task returns, 101 if it panics, 70 if the call cannot be run: the file is damaged, or of a program
//! whose task has another signature. Whatever the call does to the world, it does again.
//!
//! A call that ran in a [`Sandbox`] runs in the same one again; if that cannot be, because files are gone or others by
//! now, it is refused, unless `POOL_REPLAY_UNCONFINED=1` is set too. A file says which task runs on which bytes, and in
//! which sandbox: one from a stranger is to be trusted as much as a program from a stranger. Programs that have more
//! rights than whoever starts them (`setuid`) ignore both variables.
//!
//! Workers crash as other processes do: handlers for `SIGSEGV`, `SIGBUS`, `SIGILL`, `SIGFPE` and `SIGABRT` only note
//! how, and a program that installs its own in a worker replaces them. A stack overflow ends in `SIGSEGV`. What workers
//! write to standard error passes through a pipe, see [`PoolBuilder::capture_stderr`].
//!
//! # Processes
//!
//! A [`Process`] runs one call in a process of its own, with a name, streams, and an exit code.
//!
//! ```
//! # use pool_runtime::{Process, Result, current_process, enter, task};
//! #[task]
//! fn introduce_yourself() -> String {
//!     current_process().name().to_owned()
//! }
//!
//! fn main() -> Result<()> {
//!     enter();
//!     let process = Process::new(introduce_yourself::call()).name("crawler").daemon(true).start()?;
//!     assert_eq!(process.join()?, "crawler");
//!     assert_eq!(process.exit_code(), Some(0));
//!     Ok(())
//! }
//! ```
//!
//! When `main` returns, with [`pool_main!`], daemonic processes are terminated and the others joined. See also
//! [`current_process`], [`parent_process`], [`active_children`] and [`cpu_count`].
//!
//! # Sandboxes
//!
//! A process is a wall against crashes, not yet against code that means harm: it may do what the program may. A
//! [`Sandbox`] takes that away from the workers of a pool, or from a [`Process`], before any code of yours runs there:
//! files, network, other processes, and memory or processor time beyond a limit.
//!
//! ```
//! # use pool_runtime::{Pool, Result, Sandbox, enter, task};
//! #[task]
//! fn page_count(document: &[u8]) -> Result<usize, String> {
//!     // A parser of a hundred thousand lines of C, say.
//!     std::fs::read("/etc/passwd").map(|stolen| stolen.len() + document.len()).map_err(|error| error.to_string())
//! }
//!
//! fn main() -> Result<()> {
//!     enter();
//!     let pool = Pool::builder().processes(1).sandbox(Sandbox::strict().memory(1 << 30)).build()?;
//!     let refused = pool.apply(page_count::call(b"%PDF"))?.unwrap_err();
//!     assert!(refused.contains("Permission denied"));
//!     Ok(())
//! }
//! ```
//!
//! What is asked for is done, or no worker starts; and not everything can be asked for: [`Sandbox`] says what it needs,
//! and what it does not do.
//!
//! # Tests
//!
//! `pool_main!();` at the top of a test file, or in the module of unit tests, makes pools and processes work there,
//! under `cargo test` and nextest. What workers print is captured with the tests' output. A doc-test calls [`enter`]
//! first thing in its own `main`, as those above do.
//!
//! [`PoolBuilder::backend`] has a pool run its calls in the test's own process: [`Backend::Inline`] on the thread that
//! submits them, where a debugger finds them, and [`Backend::Threads`] side by side. With [`Backend::Faults`], panics,
//! lost workers, delays and broken values happen on purpose, drawn from a seed, so that what a program does about them
//! can be tested: [`Backend`] has an example.
//!
//! # What travels, and how
//!
//! - Whole parameters and results of plain numbers, such as `&[f64]`, `Vec<u8>` or `[u32; 9]`, and lists of types that
//!   derive `bytemuck`'s `NoUninit` and `AnyBitPattern`, are copied in bulk. A slice or string that is lent is read in
//!   the worker where it arrived. A [`Shared`] slice is not copied at all.
//! - All else goes through serde, in a compact form without names of fields. Where `Serialize` and `Deserialize` of a
//!   type do not agree in it, that is an error, never a wrong value: `#[serde(flatten)]`, `untagged`, `tag` without
//!   `content`, `skip_serializing_if` where it leaves a field out, and what is skipped in one direction only. Values
//!   are nested at most 256 deep.
//! - Workers have the arguments and the environment of the program. They read nothing from standard input, write where
//!   the program writes, and get none of its other open files. A `static` belongs to each process.
//!
//! # What happens when things die
//!
//! | who | what happens |
//! |---|---|
//! | a task panics | its call fails with the panic; the worker goes on, unless it has a state |
//! | a worker dies | the call that it had started fails, and says how it died, or is tried again if it may be; what was sent after it is run by others; the worker is replaced |
//! | a call takes too long, or too much memory | its worker is killed, and all is as if it had died by itself |
//! | five workers die, one after another, before they start a call that they were sent | the call fails; it did not run |
//! | workers cannot start | they are tried again, ever more slowly; after five failures in a row, with no worker left, all that waits fails and says why; after twelve, if workers had worked before and processes are short or are killed by others |
//! | Ctrl-C | the program ends, and its workers with it; if it handles `SIGINT` itself, the workers of its pools live on |
//! | the parent dies, in whatever way | its workers end at once, whatever they are doing, and so do theirs |
//!
//! A call that has started is not repeated, unless it [may be](PoolBuilder::retries). After a failure, [`Error::ran`]
//! says whether it had.
//!
//! # Limits of time and memory
//!
//! A call can be limited in time and memory, and be allowed to be tried again: by its task's attribute, for all calls
//! of a pool, or by itself. What is chosen for a call goes before what its task declares, and that before what the pool
//! says.
//!
//! | | the task | the pool | the call |
//! |---|---|---|---|
//! | killed after so long | `timeout = "30s"` | [`timeout`](PoolBuilder::timeout) | [`timeout`](Call::timeout) |
//! | told to stop after so long | `soft_timeout = "20s"` | [`soft_timeout`](PoolBuilder::soft_timeout) | [`soft_timeout`](Call::soft_timeout) |
//! | tried again so often | `retries = 2` | [`retries`](PoolBuilder::retries) | [`retries`](Call::retries) |
//! | killed at so much memory | `memory = "512MiB"` | [`memory`](PoolBuilder::memory) | [`memory`](Call::memory) |
//!
//! Times count from when a worker takes the call up. A task asks [`current_job`] whether it is to stop.
//!
//! ```
//! # use pool_runtime::{Pool, Result, current_job, enter, task};
//! # use std::time::Duration;
//! #[task(timeout = "10s", soft_timeout = "20ms")]
//! fn approximate_pi() -> f64 {
//!     let (mut pi, mut denominator) = (0.0, 1.0);
//!     while !current_job().is_cancelled() {
//!         pi += 4.0 / denominator - 4.0 / (denominator + 2.0);
//!         denominator += 4.0;
//!     }
//!     pi
//! }
//!
//! fn main() -> Result<()> {
//!     enter();
//!     let pool = Pool::new(1)?;
//!     assert!((pool.apply(approximate_pi::call())? - 3.14).abs() < 0.01);
//!     // This one gets no time at all, twice.
//!     let call = approximate_pi::call().timeout(Duration::ZERO).retries(1);
//!     let error = pool.apply(call).unwrap_err();
//!     assert!(error.is_timeout() && error.attempts() == 2);
//!     Ok(())
//! }
//! ```
//!
//! # Limits
//!
//! Linux 5.4 or newer with glibc, Rust 1.95 or newer. Parent and workers are the same build of one program; anything
//! else is refused. Processes are nested at most 16 deep, and a daemonic one starts none. A [`Sandbox`] needs a newer
//! kernel. On other systems the crate compiles, workers that are threads run ([`Backend::Threads`]), and to start a
//! process is an error that says so.

extern crate self as pool_runtime;

mod codec;
mod dossier;
mod entry;
mod error;
#[cfg(all(test, not(loom)))]
mod fuzz;
mod hash;
mod identity;
mod job;
mod limits;
mod memory;
mod objects;
mod options;
mod os;
mod panic;
mod peer;
mod policy;
mod pool;
mod process;
mod program;
mod protocol;
mod registry;
mod replay;
mod run;
mod sandbox;
mod sync;
mod task;
mod transport;
mod worker;

pub use dossier::{Dossier, Ran};
pub use entry::enter;
pub use error::{Error, Result};
pub use identity::{ProcessInfo, cpu_count, current_process, parent_process};
pub use job::Job;
pub use objects::{Plain, Shared};
pub use options::{Stdio, WorkerOptions};
pub use os::OomKill;
pub use panic::PanicInfo;
pub use pool::{Backend, Imap, Pool, PoolBuilder, PoolStats, Transport, WorkerInfo, WorkerState};
pub use pool_macros::task;
pub use process::{Process, RunningProcess, active_children};
pub use registry::tasks;
pub use run::current::{CurrentJob, current_job};
pub use sandbox::Sandbox;
pub use task::{Call, Initializer, Task, TaskCall, TaskInfo};

/// What the macros' expansions use. Not for users: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::codec::{
        CodecError, Probe, Reader, Writer, few_rank0, few_rank1, rank0, rank1, rank2, rank3, rank4,
    };
    pub use crate::entry::{enter_from_test, main};
    pub use crate::memory::Few;
    pub use crate::policy::Wish;
    pub use crate::program::TestEntry;
    pub use crate::registry::Registration;
    pub use crate::run::{Fault, Run, Series};
    pub use crate::task::{Body, Registered, StateItself, StateOrDebug, StateOrError, StateProbe, StateType};
    pub use inventory;
}
