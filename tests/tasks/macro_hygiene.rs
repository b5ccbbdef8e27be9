//! `#[task]` compiles wherever its function does: under the strictest lints, without a prelude, beside names that
//! shadow everything, in function bodies and out of `macro_rules!`.

#![no_implicit_prelude]
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unreachable_pub, unused_qualifications, missing_debug_implementations)]
#![deny(missing_copy_implementations, single_use_lifetimes, unused_lifetimes, unused_results, unnameable_types)]
#![deny(elided_lifetimes_in_paths, redundant_lifetimes, let_underscore_drop, absolute_paths_not_starting_with_crate)]
#![deny(clippy::all, clippy::pedantic)]
#![allow(clippy::items_after_statements, reason = "tasks in function bodies are a case of this test")]

use ::pool_runtime::{Call, TaskInfo, task};
use ::std::{
    assert, assert_eq,
    convert::From as _,
    iter::{IntoIterator as _, Iterator as _},
    prelude::rust_2024::{derive, test},
};

/// Everything that an expansion could have meant by accident.
pub mod shadowed {
    use ::pool_runtime::task;

    /// Not core's.
    #[derive(Debug, Clone, Copy)]
    pub struct Result;
    /// Not core's.
    pub type Option = u8;
    /// Not alloc's.
    pub type String = u16;
    /// Not alloc's.
    pub type Vec = u32;
    /// Not alloc's.
    pub type Box = u64;
    /// Not the runtime's.
    pub type Run = i8;
    /// Not the runtime's.
    pub type Call = i16;
    /// Not the runtime's.
    pub type Task = i32;
    /// Not the runtime's.
    pub type Probe = i64;
    /// Not core's.
    pub mod core {}
    /// Not the standard library's.
    pub mod std {}
    /// Not the runtime's.
    pub mod pool_runtime {}
    #[allow(non_upper_case_globals, missing_docs)]
    pub const result: u8 = 1;
    #[allow(non_upper_case_globals, missing_docs)]
    pub static run: u8 = 1;
    #[allow(non_upper_case_globals, missing_docs)]
    pub const writer: u8 = 1;
    use ::std::fmt::Debug;
    use ::std::prelude::rust_2024::derive;

    /// Each type is the one of this module.
    #[task]
    #[must_use]
    #[allow(clippy::too_many_arguments, clippy::many_single_char_names)]
    pub fn types(a: Option, b: String, c: &Vec, d: &[Box], e: Run, f: Call, g: Task, h: Probe) -> Option {
        let _ = (b, c, d, e, f, g, h);
        a
    }
}

/// Takes nothing and says nothing.
#[task]
pub const fn nothing() {}

/// Named like a keyword.
#[task]
#[must_use]
pub const fn r#type(r#match: u8) -> u8 {
    r#match
}

/// Patterns have no name to keep.
#[task]
#[must_use]
pub fn patterns(_: u8, (a, b): (u8, u8), mut arg0: u8, [c, ..]: [u8; 3]) -> u8 {
    arg0 += a + b + c;
    arg0
}

/// Out of use.
#[deprecated(note = "it is old")]
#[task]
#[must_use]
pub fn old(xs: &[u8]) -> ::std::vec::Vec<u8> {
    xs.to_vec()
}

#[task]
pub(crate) fn crate_wide(text: &str, path: &::std::path::Path) -> usize {
    text.len() + path.as_os_str().len()
}

/// Not compiled at all.
#[task]
#[cfg(any())]
pub fn compiled_out(missing: NoSuchType) -> NoSuchType {
    missing
}

/// Not compiled at all.
#[task]
#[cfg_attr(all(), cfg(any()), doc = "more")]
pub fn compiled_out_too(missing: NoSuchType) -> NoSuchType {
    missing
}

/// Its twin is where the function is.
#[task]
#[cfg_attr(all(), cfg(all()), must_use, inline)]
pub const fn compiled_in() -> u8 {
    1
}

/// Its name is its own.
#[task(name = "renamed, freely")]
pub const fn renamed(_unused: &bool) {}

/// Reached through another path.
#[task(crate = reexport::deep::runtime)]
#[must_use]
pub const fn reexported(n: u8) -> u8 {
    n
}

/// What a library does that re-exports the runtime.
pub mod reexport {
    /// One level deeper.
    pub mod deep {
        pub use ::pool_runtime as runtime;
    }
}

#[derive(Debug)]
struct Model {
    scale: f64,
}

#[derive(Debug)]
struct Missing;

#[task(initializer)]
fn open_model(scale: f64, _path: &str) -> ::std::result::Result<Model, Missing> {
    if scale > 0.0 { ::std::result::Result::Ok(Model { scale }) } else { ::std::result::Result::Err(Missing) }
}

#[task(initializer)]
fn only_runs() {}

#[task]
fn with_state(xs: &[f64], #[state] model: &mut Model, by: f64) -> ::std::vec::Vec<f64> {
    model.scale *= by;
    xs.iter().map(|x| x * model.scale).collect()
}

#[task]
fn reads_state(#[state] model: &Model) -> f64 {
    model.scale
}

macro_rules! made {
    ($($name:ident($parameter:ident: $ty:ty) -> $output:ty = $value:expr;)*) => {
        $(
            #[task]
            fn $name($parameter: $ty, extra: &[u8]) -> $output {
                let _ = extra;
                $value
            }
        )*
    };
}

made! {
    made_of_text(text: &str) -> usize = text.len();
    made_of_number(n: u32) -> u32 = n + 1;
}

fn signature_of(name: &str) -> &'static TaskInfo {
    ::pool_runtime::tasks().find(|task| task.name() == name).expect(name)
}

fn signature(name: &str) -> &'static str {
    signature_of(&::std::format!("tasks::macro_hygiene::{name}")).signature()
}

#[test]
fn every_task_is_listed_with_its_signature() {
    assert_eq!(signature("nothing"), "fn nothing()");
    assert_eq!(signature("type"), "fn r#type(r#match: u8) -> u8");
    assert_eq!(signature("patterns"), "fn patterns(_: u8, (a, b): (u8, u8), arg0: u8, [c, ..]: [u8; 3]) -> u8");
    assert_eq!(signature("crate_wide"), "fn crate_wide(text: &str, path: &::std::path::Path) -> usize");
    assert_eq!(signature("made_of_text"), "fn made_of_text(text: &str, extra: &[u8]) -> usize");
    assert_eq!(
        signature("with_state"),
        "fn with_state(xs: &[f64], model: &mut Model, by: f64) -> ::std::vec::Vec<f64>"
    );
    assert_eq!(signature_of("renamed, freely").signature(), "fn renamed(_unused: &bool)");
    assert!(signature_of("tasks::macro_hygiene::open_model").is_initializer());
    assert!(!::pool_runtime::tasks().any(|task| task.name().contains("compiled_out")));
}

#[test]
fn a_task_knows_its_place() {
    assert!(signature_of("tasks::macro_hygiene::made_of_text").file().ends_with("macro_hygiene.rs"));
    let line = ::std::line!() + 2;
    #[task]
    fn here() {}
    assert_eq!(signature("here"), "fn here()");
    assert_eq!(signature_of("tasks::macro_hygiene::here").line(), line);
    here();
}

#[test]
fn calls_take_what_the_function_takes() {
    #[allow(clippy::ptr_arg, reason = "the coercion is the case")]
    fn lent_for(xs: &::std::vec::Vec<f64>) -> Call<'_, with_state> {
        with_state::call(xs, 2.0)
    }
    fn lends_nothing() -> Call<'static, made_of_number> {
        // `extra` is lent, so this is a call for as long as a constant lives.
        made_of_number::call(1, &[])
    }
    assert_eq!(lent_for(&::std::vec![1.0]).task_name(), "tasks::macro_hygiene::with_state");
    assert_eq!(lends_nothing().task_name(), "tasks::macro_hygiene::made_of_number");
    let calls = [1_u8, 2].into_iter().map(r#type::call).count();
    assert_eq!(calls, 2);
    let path = ::std::path::PathBuf::from("/tmp");
    let text = ::std::string::String::from("text");
    let _call = crate_wide::call(&text, &path);
    let _call = patterns::call(1, (2, 3), 4, [5, 6, 7]);
    let _call = open_model::call(1.0, &text);
    let _call = only_runs::call();
    let _call = reads_state::call();
    let _call = nothing::call();
    let _call = compiled_in::call();
    let _call = renamed::call(&true);
    let _call = reexported::call(1);
    let _call = made_of_text::call("text", &[]);
    let _call = shadowed::types::call(1, 2, &3, &[4], 5, 6, 7, 8);
    #[allow(deprecated)]
    let _call = old::call(&[1]);
}

#[test]
fn functions_stay_what_they_were() {
    nothing();
    assert_eq!(patterns(1, (2, 3), 4, [5, 6, 7]), 14);
    const ONE: u8 = r#type(1);
    assert_eq!(ONE, 1);
    let mut model = open_model(2.0, "").expect("positive");
    assert_eq!(with_state(&[1.0], &mut model, 2.0), [4.0]);
    assert!((reads_state(&model) - 4.0).abs() < f64::EPSILON);
    assert!(open_model(-1.0, "").is_err());
    assert_eq!(crate_wide("four", ::std::path::Path::new("/")), 5);
    only_runs();
    renamed(&true);
    assert_eq!(compiled_in() + reexported(1), 2);
    assert_eq!([1, 2].map(|n| made_of_number(n, &[])), [2, 3]);
    assert_eq!(made_of_text("four", &[]), 4);
}
