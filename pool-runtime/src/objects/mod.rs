//! Values that users share between processes: a call has them as arguments, and their content is not copied
//! for it.

mod shared;

pub use shared::{Plain, Shared};
