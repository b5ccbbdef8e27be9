//! What does not depend on where calls run, and what does.

#[path = "../support/mod.rs"]
mod support;

mod failures_are_equal;
mod faults;
mod inline_is_this_thread;
mod results_are_equal;
mod threads;
mod worker_state;

pool_runtime::pool_main!();
