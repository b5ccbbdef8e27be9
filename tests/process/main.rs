//! What a process of its own does.

#[path = "../support/mod.rs"]
mod support;

mod becomes_another_program;
mod daemon;
mod ends_within_its_grace;
mod exit_codes;
mod identity;
mod is_a_future;
mod join_from_other_threads;
mod limits;
mod sentinel;
mod signals;
mod tree;
mod workers_join_what_they_started;

pool_runtime::pool_main!();
