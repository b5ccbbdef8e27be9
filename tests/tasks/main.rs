//! What tasks, their arguments and their results can be.

#[path = "../support/mod.rs"]
mod support;

mod arguments_and_results_arrive;
pub mod macro_hygiene;
mod serde_attributes_that_cannot_travel;
mod task_parameters;
mod tasks_in_every_place;
mod values_of_any_size_arrive;

pool_runtime::pool_main!();
