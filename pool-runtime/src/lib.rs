//! Run ordinary functions in other processes.

extern crate self as pool_runtime;

mod codec;
mod entry;
mod error;
mod job;
mod launch;
mod os;
mod panic;
mod pool;
mod process;
mod program;
mod protocol;
mod registry;
mod task;
mod transport;
mod worker;

pub use entry::enter;
pub use error::{Error, Ran, Result};
pub use job::Job;
pub use launch::Stdio;
pub use panic::PanicInfo;
pub use pool::{Imap, Pool, PoolBuilder, PoolStats, WorkerInfo, WorkerState};
pub use pool_macros::task;
pub use process::{Process, RunningProcess, active_children};
pub use program::{ProcessInfo, cpu_count, current_process, parent_process};
pub use registry::tasks;
pub use task::{Call, Initializer, Task, TaskCall, TaskInfo};

/// What the macros' expansions use. Not for users: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::codec::{CodecError, Probe, Reader, Writer, rank0, rank1, rank2, rank3, rank4};
    pub use crate::entry::{enter_from_test, main};
    pub use crate::program::TestEntry;
    pub use crate::registry::Registration;
    pub use crate::task::{
        Body, Fault, Registered, Run, StateItself, StateOrDebug, StateOrError, StateProbe, StateType,
    };
    pub use inventory;
}
