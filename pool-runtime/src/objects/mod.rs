//! Values that users share between processes: a call has them as arguments, and their content is not copied
//! for it.

mod array;
mod atomic;
mod channel;
mod committed;
#[cfg(feature = "managers")]
pub(crate) mod managed;
mod messages;
mod passed;
mod queue;
mod reference;
mod shared;
pub mod sync;
mod value;
mod written;

pub use array::Array;
pub use atomic::{Atomic, AtomicInteger};
pub use channel::{Pipe, ReceivedItems, Receiver, Sender, channel, pipe};
#[cfg(feature = "managers")]
pub use managed::{Dict, List, Manager, Proxy};
pub use messages::SameEncoding;
pub use passed::Passed;
pub use queue::{Queue, QueueItems};
pub use shared::{Plain, Shareable, Shared, ToShared};
pub use value::Value;
