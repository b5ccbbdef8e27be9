//! Crashes, kills, time-outs, shortages and signals, and what goes on all the same.

#[path = "../support/mod.rs"]
mod support;

mod asked_to_end;
mod connection_half_closed;
mod crash_matrix;
mod exactly_those_that_die;
mod floods_after_the_end;
mod foreign_texts;
mod frozen_worker;
mod hooks_that_are_replaced;
mod interrupts;
mod kill_is_denied;
mod killed_in_the_middle_of_a_message;
mod limits_hold;
mod memory_limit;
mod overflow_that_nobody_reads_of;
mod result_too_large;
mod retries;
mod shortages;
mod sleepers_that_are_moved;
mod stopped_worker;
mod strange_panics;
mod timeout;
mod waiting_call_is_run_elsewhere;
mod workers_that_cannot_start;
mod workers_that_do_not_last;
mod workers_that_do_not_leave;

pool_runtime::pool_main!();
