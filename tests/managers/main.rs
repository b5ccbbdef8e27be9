//! Managers: objects that live in a server process and are used through proxies.

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod containers;
mod ends;
mod killed;
pub mod macro_hygiene;
mod methods;
mod other_programs;
mod proxies_travel;

pool_runtime::pool_main!();
