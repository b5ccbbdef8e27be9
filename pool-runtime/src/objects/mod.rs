//! Values that users share between processes: each is an argument of calls, and is not copied for them.

mod shared;

pub use shared::{Plain, Shared};
