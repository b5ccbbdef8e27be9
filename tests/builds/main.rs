//! What builds programs first. That takes long, and both processors: these tests have a program of their own, so that
//! nothing is measured beside them.

#[path = "../support/mod.rs"]
mod support;

mod build_profiles;
mod every_file_is_built;
mod macro_refusals;
