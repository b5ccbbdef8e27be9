//! Tests that look at what their whole process has: children, descriptors, memory. They are in one program and run one
//! after the other, each in a list behind `in_turn:` or with [`support::turn`].

#[path = "../support/mod.rs"]
mod support;

mod active_children;
mod descriptors_are_not_inherited;
mod descriptors_are_out_of_the_way;
mod dropped_process_is_reaped;
mod fault_garbage_in_the_rings;
mod fault_garbage_on_the_wire;
mod fault_result_without_end;
mod pool_dropped_without_close;
mod pool_initializer_fails;
mod pool_join_returns_with_live_handles;
mod pool_sizes;
mod pool_terminate_with_many_waiting;
mod process_life;
mod sandbox_of_an_older_kernel;

pool_runtime::pool_main!();
