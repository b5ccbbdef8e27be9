//! What `#[task]` refuses, and what the compiler says of tasks that are used wrongly: each text in `ui/*.stderr` is
//! part of the interface, and is read by a person when it changes.
//!
//! `TRYBUILD=overwrite cargo test --test builds macro_refusals` records the texts anew.

#[test]
fn each_mistake_gives_one_readable_message() {
    trybuild::TestCases::new().compile_fail("ui/*.rs");
}
