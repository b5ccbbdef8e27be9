//! Each form of a `main` is the way in for workers, and starts no executor there.

use std::process::Command;

fn exit_code_of(form: &str) -> Option<i32> {
    let output = Command::new(env!("CARGO_BIN_EXE_entries")).arg(form).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{form}");
    output.status.code()
}

#[test]
fn the_attribute_stacks_with_that_of_an_executor_in_either_order() {
    assert_eq!(exit_code_of("above"), Some(7));
    assert_eq!(exit_code_of("below"), Some(7));
}

#[test]
fn the_macro_goes_around_a_main_with_an_executor() {
    assert_eq!(exit_code_of("around"), Some(7));
}

#[test]
fn the_attribute_keeps_what_main_returns_and_its_own_attributes() {
    assert_eq!(exit_code_of("without"), Some(6));
}
