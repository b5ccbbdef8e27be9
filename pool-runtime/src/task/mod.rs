//! What `#[task]` makes of a function: an entry for the table ([`TaskInfo`]), a type that stands for the task ([`Task`]),
//! and calls of it ([`Call`]).

mod call;
mod info;
mod state;

pub(crate) use call::Encoded;
pub use call::{Call, Initializer, RawCall, Task, TaskCall};
pub use info::{Body, Registered, StateType, TaskInfo};
pub use state::{StateItself, StateOrDebug, StateOrError, StateProbe};
