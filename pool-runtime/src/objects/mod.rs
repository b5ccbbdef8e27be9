//! What users share between processes: values that are arguments of calls, and live in memory or in another process.

mod shared;

pub use shared::{Plain, Shared};
