//! What `#[task]` makes of a function: an entry for the table ([`TaskInfo`]), a type ([`Task`]), and calls ([`Call`]).

mod call;
mod info;
mod state;

pub(crate) use call::Encoded;
pub use call::{Call, Initializer, RawCall, Task, TaskCall};
pub use info::{Body, Registered, StateType, TaskInfo};
pub use state::ToState;
