//! What a sandbox denies, allows and limits.

#[path = "../support/mod.rs"]
mod support;

mod failures_are_told;
mod files;
mod large_arguments_stay_apart;
mod limits;
mod network;
mod no_way_out;
mod of_a_process;
mod paths_are_settled;
mod processes;
mod values_of_any_size;

pool_runtime::pool_main!();
