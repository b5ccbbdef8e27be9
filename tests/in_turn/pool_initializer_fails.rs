//! An initializer that fails, panics or dies makes `build` fail, after few tries, with its own reason; one that fails
//! later makes the waiting jobs fail with it. There are no endless restarts, and no process is left.

use crate::support::{END_AT_SIGNALS, Signals, builder, children, count, over_every_transport, returns};
use pool_runtime::{Error, Ran, Result, task};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

over_every_transport! { in_turn: build_fails_and_says_why }

struct Connection;

#[task(initializer)]
fn fail(tried: &Path) -> std::result::Result<Connection, std::num::ParseIntError> {
    count(tried);
    "twelve".parse::<u8>().map(|_| Connection)
}

/// Its error cannot be displayed, only debugged.
#[derive(Debug)]
#[allow(dead_code, reason = "seen by Debug")]
struct Plain(u8);

#[task(initializer)]
fn fail_plainly() -> std::result::Result<Connection, Plain> {
    Err(Plain(9))
}

#[task(initializer)]
fn panic_inside(tried: &Path) -> Connection {
    count(tried);
    panic!("no server at {}", 42);
}

#[task(initializer)]
fn exit_inside(tried: &Path) -> Connection {
    count(tried);
    std::process::exit(3);
}

#[task(initializer)]
fn abort_inside(tried: &Path) -> Connection {
    count(tried);
    eprintln!("about to abort");
    std::process::abort();
}

/// Works for the first worker only.
#[task(initializer)]
fn fail_later(tried: &Path) -> std::result::Result<Connection, String> {
    count(tried);
    let tries = std::fs::metadata(tried).unwrap().len();
    if tries == 1 { Ok(Connection) } else { Err("the server has gone".into()) }
}

#[task(initializer)]
fn unreadable(#[allow(unused)] value: Untagged) -> Connection {
    Connection
}

/// Does not say what caused it.
#[derive(Debug)]
struct Loading {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Loading {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl Loading {
    fn model() -> Self {
        let file = Self { message: "no file".into(), source: Some(Box::new(io::Error::from(ErrorKind::NotFound))) };
        Self { message: "cannot load the model".into(), source: Some(Box::new(file)) }
    }
}

#[task(initializer)]
fn load() -> std::result::Result<Connection, Loading> {
    Err(Loading::model())
}

#[task(initializer)]
fn load_with_anyhow() -> anyhow::Result<Connection> {
    Err(Loading::model().into())
}

#[task(initializer)]
fn fail_at_length(length: usize) -> std::result::Result<Connection, Loading> {
    Err(Loading { message: "long".repeat(length / 4), source: None })
}

/// Can be encoded, and not decoded.
#[derive(serde::Serialize)]
struct Untagged(u32);

impl<'de> serde::Deserialize<'de> for Untagged {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> std::result::Result<Self, D::Error> {
        Err(serde::de::Error::custom("not this way"))
    }
}

#[task]
fn use_it(#[state] _connection: &Connection) -> u32 {
    std::process::id()
}

fn failure(build: impl FnOnce() -> Result<pool_runtime::Pool> + Send + 'static) -> Error {
    returns("build", move || build().map(drop)).unwrap_err()
}

// It counts this process's children.
fn build_fails_and_says_why() {
    let signals = Signals::new();

    let tried = signals.path("failed");
    let error = failure(move || builder().processes(3).initializer(fail::call(&tried)).build());
    assert_eq!(error.to_string(), "the workers cannot start: the initializer failed: invalid digit found in string");
    assert!(!error.is_panic() && !error.is_worker_lost() && !error.is_timeout());
    assert_eq!(error.ran(), Ran::No);
    assert!(std::error::Error::source(&error).is_none(), "its text has said all");
    assert!(signals.counted("failed") <= 3, "it fails for good at the first try of each");
    assert_eq!(children(), []);

    let error = failure(|| builder().processes(1).initializer(fail_plainly::call()).build());
    assert_eq!(error.to_string(), "the workers cannot start: the initializer failed: Plain(9)");

    let chained = "the workers cannot start: the initializer failed: cannot load the model: no file: entity not found";
    let error = failure(|| builder().processes(1).initializer(load::call()).build());
    assert_eq!(error.to_string(), chained);
    let error = failure(|| builder().processes(1).initializer(load_with_anyhow::call()).build());
    assert_eq!(error.to_string(), chained);
    let error = failure(|| builder().processes(1).initializer(fail_at_length::call(1 << 20)).build()).to_string();
    assert!(error.ends_with("long [… more]"), "it is cut off once: {}", &error[error.len() - 60..]);

    let tried = signals.path("panicked");
    let error = failure(move || builder().processes(3).initializer(panic_inside::call(&tried)).build());
    let panic = error.panic().expect("a panic");
    assert_eq!(panic.message(), "no server at 42");
    let line = panic.line().unwrap();
    let start = format!(
        "the workers cannot start: the initializer panicked at tests/in_turn/pool_initializer_fails.rs:{line}:"
    );
    assert!(error.to_string().starts_with(&start), "{error}");
    assert!(error.to_string().ends_with(": no server at 42"), "{error}");
    assert!(signals.counted("panicked") <= 3);
    assert_eq!(children(), []);

    let error = failure(|| builder().processes(1).initializer(unreadable::call(Untagged(1))).build());
    assert!(error.to_string().starts_with("the workers cannot start: the initializer failed: "), "{error}");
    assert!(error.to_string().contains("not this way") && error.to_string().contains("value"), "{error}");

    // One that takes the process with it: a few tries, as the next may be luckier.
    let tried = signals.path("exited");
    let error = failure(move || builder().processes(2).initializer(exit_inside::call(&tried)).build());
    assert_eq!((error.exit_code(), error.ran()), (Some(3), Ran::No));
    let error = error.to_string();
    assert!(error.contains("exited with code 3") && error.contains("initializer"), "{error}");
    assert!((1..=10).contains(&signals.counted("exited")), "{} tries", signals.counted("exited"));
    assert_eq!(children(), []);

    let tried = signals.path("aborted");
    let error = failure(move || builder().processes(2).initializer(abort_inside::call(&tried)).build());
    // As of a call that is lost, there is all that is known.
    let dossier = error.dossier().expect("it died");
    assert_eq!((error.signal(), dossier.signal(), error.is_stack_overflow()), (Some(6), Some(6), false));
    assert_eq!((dossier.job(), dossier.on_main_thread()), (None, Some(true)));
    assert!(dossier.stderr().unwrap().contains("about to abort"), "{dossier}");
    let backtrace = dossier.backtrace().unwrap();
    assert!(backtrace.contains("abort_inside") || END_AT_SIGNALS, "{dossier}");
    let error = error.to_string();
    assert!(error.contains("SIGABRT") && error.contains("initializer"), "{error}");
    assert!((1..=10).contains(&signals.counted("aborted")));
    assert_eq!(children(), []);

    // One that works at first: what waits when no worker can be replaced any more fails, and says why.
    let tried = signals.path("later");
    let pool = builder().processes(1).max_tasks_per_child(2).initializer(fail_later::call(&tried)).build().unwrap();
    let jobs: Vec<_> = (0..6).map(|_| pool.apply_async(use_it::call())).collect();
    let results: Vec<_> = returns("all", move || jobs.into_iter().map(|job| job.get()).collect());
    assert!(results[..2].iter().all(Result::is_ok));
    let expected = "the workers cannot start: the initializer failed: the server has gone";
    for result in &results[2..] {
        let error = result.as_ref().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().starts_with("task `in_turn::pool_initializer_fails::use_it` "), "{error}");
        assert_eq!(error.ran(), Ran::No);
    }
    let error = pool.apply(use_it::call()).unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    let (failed, terminated) = returns("join", move || {
        let failed = pool.join();
        pool.terminate();
        (failed, pool.join())
    });
    let error = failed.unwrap_err();
    assert!(error.to_string().contains(expected), "{error}");
    terminated.expect("a pool that was terminated ends as it was told to");
    assert!((3..=10).contains(&signals.counted("later")), "{} tries", signals.counted("later"));
    assert_eq!(children(), []);
}
