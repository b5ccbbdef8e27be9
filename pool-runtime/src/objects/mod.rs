//! Values that users share between processes: a call has them as arguments, and their content is not copied
//! for it.

mod array;
mod atomic;
mod shared;
mod written;

pub use array::Array;
pub use atomic::{Atomic, AtomicInteger};
pub use shared::{Plain, Shared};
