//! Connections between programs. In one program, as all of them need raw peers that speak the protocol, or break it.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod keys_are_inherited;
mod messages;
mod peer;
mod proof_of_the_key;
mod with_python;

pool_runtime::pool_main!();
