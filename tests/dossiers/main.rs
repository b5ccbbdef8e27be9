//! What is known of a worker that died, and the same call again.

#[path = "../support/mod.rs"]
mod support;

mod directory_is_private;
mod has_nothing_of_other_calls;
mod has_the_last_of_stderr;
mod knows_the_oom_killer;
mod replay_runs_the_call_again;
mod says_how_a_worker_died;
mod says_what_was_used;

pool_runtime::pool_main!();
