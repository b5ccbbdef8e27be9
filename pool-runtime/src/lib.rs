//! Run ordinary Rust functions in other processes.
//!
//! Put [`#[task]`](macro@task) on a function; a [`Pool`] of worker processes, or a [`Process`] of its own, runs it. If a
//! task crashes, leaks or aborts, its caller gets an [`Error`] and the program goes on. The interface is that of
//! Python's `multiprocessing`, with types.
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
//! `count_words::call(text)` makes a *call*: the task with its arguments, not yet run. The workers are this same program,
//! started again; [`pool_main!`] makes a `main` that serves calls there and reaches `run` only in the program itself.
//! [`#[pool_runtime::main]`](macro@main) is the same as an attribute on `main`, also beside `#[tokio::main]`.
//!
//! # The guide
//!
//! | page | main types and functions |
//! |---|---|
//! | [Which method](guide::which_method) to call | [`Pool`], [`Process`], [`Job`] |
//! | [Pools](guide::pools) | [`Pool`], [`PoolBuilder`], [`Call`], [`Imap`], [`tasks`], [`#[main]`](macro@main), [`pool_main!`], [`enter`] |
//! | [Jobs](guide::jobs) | [`Job`] |
//! | [Errors](guide::errors) | [`Error`], [`Report`], [`PanicInfo`], [`Ran`] |
//! | [Limits](guide::limits): timeouts, retries, memory | [`current_job`], [`CurrentJob`] |
//! | [State](guide::state) of a worker | [`PoolBuilder::initializer`] |
//! | [Shared memory](guide::shared) | [`Shared`], [`Array`], [`Atomic`], [`Value`], [`sync`], [`Passed`], [`Plain`] |
//! | [Queues and pipes](guide::queues) | [`Queue`], [`channel`], [`pipe`], [`wait`](wait()) |
//! | [Managers](guide::managers) | [`Manager`], [`#[managed]`](macro@managed), [`Dict`], [`List`] |
//! | [Processes](guide::processes) | [`Process`], [`RunningProcess`], [`current_process`], [`active_children`] |
//! | [Connections](guide::connection) | [`Listener`](connection::Listener), [`Client`](connection::Client), [`Connection`](connection::Connection), [`AuthKey`](connection::AuthKey) |
//! | [Tests](guide::tests) | [`Backend`] |
//! | [Deaths](guide::deaths): dossiers and replay | [`Dossier`], [`OomKill`] |
//! | [What is logged](guide::logging) | [`PoolStats`] |
//! | [Sandbox](guide::sandbox) | [`Sandbox`] |
//! | [Trust](guide::trust): who trusts whom | |
//! | [Recipes](guide::recipes): anyhow, inputs, seeds, backlogs, async, logs, C libraries | |
//! | [Programs](guide::programs): static pools, libraries, a graceful end, containers, benchmarks | |
//! | [Coming from](guide::coming_from) rayon, Python or procspawn | |
//! | [Reference](guide::reference): terms, features, versions, environment variables, serde, threads, descriptors, costs | |
//!
//! # Features
//!
//! `connection`, `managers`, `dossiers` and `sandbox` are on by default, and `json` is not. The
//! [reference](guide::reference) says what is missing without each. With `default-features = false`, a program builds in
//! about 70 % of the processor time.
//!
//! Linux 5.4 or newer with glibc; Rust 1.95 or newer.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(all(feature = "connection", feature = "dossiers", feature = "managers", feature = "sandbox")),
    allow(dead_code, unused_imports, reason = "each feature has parts of its own on the floors below it")
)]

extern crate self as pool_runtime;

mod authkey;
mod codec;
#[cfg(feature = "connection")]
pub mod connection;
mod dossier;
mod entry;
mod error;
mod foreign;
#[cfg(all(test, not(loom)))]
mod fuzz;
#[cfg(doc)]
pub mod guide;
mod hash;
mod identity;
mod job;
mod locks;
mod logging;
#[cfg(feature = "managers")]
mod manager;
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
mod report;
mod run;
#[cfg_attr(not(feature = "sandbox"), path = "sandbox/absent.rs")]
mod sandbox;
mod secret;
mod targets;
mod task;
mod transport;
mod wait;
mod worker;

#[cfg(feature = "json")]
pub use codec::Json;
pub use dossier::{Dossier, Ran};
pub use entry::enter;
pub use error::{Error, Result};
pub use identity::{ProcessInfo, cpu_count, cpu_count_physical, current_process, parent_process};
pub use job::Job;
#[cfg(feature = "managers")]
pub use manager::ManagerBuilder;
pub use objects::sync;
pub use objects::{
    Array, Atomic, AtomicInteger, Passed, Pipe, Plain, Queue, QueueItems, ReceivedItems, Receiver, SameEncoding,
    Sender, Shareable, Shared, ToShared, Value, channel, pipe,
};
#[cfg(feature = "managers")]
pub use objects::{Dict, List, Manager, Proxy};
pub use options::{RestartPolicy, Stdio, WorkerOptions};
pub use os::{OomKill, Scheduler};
pub use panic::PanicInfo;
pub use pool::{Backend, Imap, IndexedImap, Pool, PoolBuilder, PoolStats, Transport, WorkerInfo, WorkerState};
#[cfg(feature = "managers")]
pub use pool_macros::managed;
pub use pool_macros::{main, task};
pub use process::{Process, RunningProcess, active_children};
pub use registry::tasks;
pub use report::Report;
pub use run::current::{CurrentJob, current_job};
#[cfg(feature = "sandbox")]
pub use sandbox::Sandbox;
pub use task::{Call, Initializer, Task, TaskCall, TaskInfo};
pub use wait::{Waitable, wait, wait_slice};

/// What the macros' expansions use. Not for users: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::codec::{ByValue, CodecError, Lend, Probe, Reader, ResultParts, Short, Unbounded, Writer, rank0};
    pub use crate::entry::{become_worker_if_marked, main};
    pub use crate::memory::ShortBytes;
    #[cfg(feature = "managers")]
    pub use crate::objects::managed::{
        AnyObject, Made, ManagedObject, MethodBody, MethodInfo, MethodRegistration, ObjectRef, can_be_managed,
    };
    pub use crate::policy::Wish;
    pub use crate::program::TestEntry;
    pub use crate::registry::Registration;
    pub use crate::run::{Fault, Run, Series};
    pub use crate::task::{Body, Registered, StateType, ToState};
    pub use inventory;
    pub use serde;
}
