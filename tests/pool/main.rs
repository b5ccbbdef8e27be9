//! What pools, their jobs and their workers do.

#[path = "../support/mod.rs"]
mod support;

mod callbacks;
mod calls_sent_ahead_are_recalled;
mod close_terminate_join;
mod current_job;
mod failure_in_the_middle;
mod few_and_many_inputs;
mod get_with_a_timeout;
mod imap_chunks;
mod input_that_panics;
mod inputs_as_they_come;
mod inside_a_task;
mod job_cancel;
mod job_is_a_future;
mod jobs_without_handles_run;
mod large_arguments;
mod max_tasks_per_child;
mod max_waiting;
mod results_do_not_wait_for_a_slow_call;
mod room_on_the_stack;
mod shared_between_threads;
mod slow_job_holds_nobody_back;
mod state_that_does_not_fit;
mod wait_ready;
mod ways_to_submit;
mod which_input_failed;
mod window_of_small_calls;
mod worker_state;
mod worker_surroundings;
mod workers_are_replaced_by_memory_and_age;

pool_runtime::pool_main!();
