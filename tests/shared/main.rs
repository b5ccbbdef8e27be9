//! Shared slices. Most of these tests count those that the whole process has: all of them run one after the other, each
//! in a list behind `in_turn:` or with [`support::turn`].

#[path = "../support/mod.rs"]
mod support;

mod barriers;
mod channels;
mod comes_again;
mod comes_back;
mod condvars;
mod events;
mod for_every_worker;
mod handles_in_messages;
mod in_a_process;
mod inside_of_arguments;
mod is_freed;
mod is_not_copied;
mod locks;
mod passed_on;
mod queues;
mod reader_locks;
mod waits;
mod with_a_stopped_worker;
mod written_by_many;

pool_runtime::pool_main!();
