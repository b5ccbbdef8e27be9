//! What tasks, their arguments and their results can be.

#[path = "../support/mod.rs"]
mod support;

mod arguments_and_results_arrive;
mod bytes_inside_of_values;
mod errors_that_tasks_return;
pub mod macro_hygiene;
mod serde_attributes_that_cannot_travel;
mod task_parameters;
mod tasks_in_every_place;
mod types_that_ask_what_comes;
mod values_of_any_size_arrive;

pool_runtime::pool_main!();
