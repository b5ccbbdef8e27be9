//! Run ordinary functions in other processes.

extern crate self as pool_runtime;

mod codec;
mod error;
mod panic;
mod registry;
mod task;

pub use error::{Error, Ran, Result};
pub use panic::PanicInfo;
pub use pool_macros::task;
pub use registry::tasks;
pub use task::{Call, Initializer, Task, TaskCall, TaskInfo};

/// What the macros' expansions use. Not for users: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::codec::{Probe, Reader, Writer, CodecError, rank0, rank1, rank2, rank3, rank4};
    pub use crate::registry::Registration;
    pub use crate::task::{Body, Fault, Registered, Run, StateItself, StateOrDebug, StateOrError, StateProbe, StateType};
    pub use inventory;
}
