//! Whole programs, of which the tests start one and look at it: how `main` begins and ends, and where it stands.

#[path = "../support/mod.rs"]
mod support;

mod another_program_is_refused;
mod denied_system_calls;
mod descriptors_by_number;
mod directories_do_not_matter;
mod entries;
mod forks;
mod limit_of_memory_is_kept_or_refused;
mod main_joins_or_ends_processes;
mod orphans_end;
mod panic_text_is_whole;
mod program_file_replaced;
mod rights_of_others;
mod sandbox_threads_before_entry;
mod sandboxes_and_their_parent;
mod standard_streams_closed;
mod started_through_the_loader;
mod stderr_of_workers_is_passed_on;
mod under_valgrind;
mod way_in_missing_or_blocked;

pool_runtime::pool_main!();
