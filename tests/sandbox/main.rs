//! What a sandbox denies, allows and limits.

#[path = "../support/mod.rs"]
mod support;

mod each_thread;
mod environment;
mod failures_are_told;
mod files;
mod large_arguments_stay_apart;
mod limits;
mod network;
mod no_way_out;
mod of_a_process;
mod open_files;
mod paths_are_settled;
mod processes;
mod shares;
mod values_of_any_size;

pool_runtime::pool_main!();
