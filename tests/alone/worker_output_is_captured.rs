//! Under a test harness the output of workers belongs to the test that started them: shown with it when it fails, or
//! when all output is shown, and nowhere else. No process is left behind.
//!
//! The tests in `inner` run a second time, as a test run of its own in which some of them fail; what that prints is
//! looked at here.

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Pool, Process, Sandbox, pool_main, task};
use std::{path::Path, process::Command};
use support::{BUILD_PATIENCE, Ended, Running, run};

pool_main!();

/// Set in the inner run.
const INNER: &str = "POOL_TEST_INNER_RUN";

#[task]
fn print(text: &str) {
    println!("{text} on stdout");
    eprintln!("{text} on stderr");
}

/// A long text of characters that are two bytes each: at some place a piece of it ends within one.
#[task]
fn print_at_length(text: &str) {
    println!("{text}:x{}", "é".repeat(100_000));
}

#[task]
fn panic_in_task(text: &str) {
    panic!("{text}");
}

mod inner {
    use super::*;

    fn is_inner() -> bool {
        std::env::var_os(INNER).is_some()
    }

    /// Prints from a pool's workers and from a process, between two lines of its own.
    fn print_everywhere(name: &str) {
        println!("{name} begins");
        let pool = Pool::new(2).expect("a pool");
        let texts: Vec<String> = (0..20).map(|n| format!("{name} worker {n}")).collect();
        pool.map(|text| print::call(text), &texts).expect("they run");
        let process = Process::new(print::call(&format!("{name} process"))).start().expect("it starts");
        process.join().expect("it returns");
        pool.close();
        pool.join().expect("it was closed");
        println!("{name} ends");
    }

    macro_rules! tests {
        ($($name:ident: $fails:literal,)*) => {$(
            #[test]
            fn $name() {
                print_everywhere(stringify!($name));
                assert!(!($fails && is_inner()), "asked to fail");
            }
        )*};
    }

    tests! {
        passes_first: false,
        passes_second: false,
        passes_third: false,
        fails_first: true,
        fails_second: true,
    }

    #[test]
    fn prints_at_length() {
        let process = Process::new(print_at_length::call("length")).start().expect("it starts");
        process.join().expect("it returns");
        assert!(!is_inner(), "asked to fail");
    }

    #[test]
    fn prints_colours() {
        let process = Process::new(print::call("\x1b[31mcolours"))
            .sandbox(Sandbox::strict().best_effort())
            .start()
            .expect("it starts");
        process.join().expect("it returns");
        assert!(!is_inner(), "asked to fail");
    }

    #[test]
    fn panics_in_process() {
        let process = Process::new(panic_in_task::call("a panic of panics_in_process")).start().expect("it starts");
        process.join().expect_err("it panics");
        assert!(!is_inner(), "asked to fail");
    }
}

const PASSES: [&str; 3] = ["passes_first", "passes_second", "passes_third"];
const FAILS: [&str; 2] = ["fails_first", "fails_second"];

fn inner_run(arguments: &[&str]) -> Ended {
    let program = std::env::current_exe().expect("a path");
    let mut command = Command::new(program);
    // What a run of all tests around this one has set does not count for the inner one.
    command
        .env_remove("RUST_TEST_NOCAPTURE")
        .env_remove("RUST_TEST_THREADS")
        .env(INNER, "1")
        .env("RUST_BACKTRACE", "0");
    run(command.arg("inner::").args(arguments))
}

/// All that a test and its workers print.
fn lines_of(name: &str) -> Vec<String> {
    let workers = (0..20).map(|n| format!("{name} worker {n}"));
    let mut lines: Vec<String> = workers
        .chain([format!("{name} process")])
        .flat_map(|text| [format!("{text} on stdout"), format!("{text} on stderr")])
        .collect();
    lines.extend([format!("{name} begins"), format!("{name} ends")]);
    lines
}

/// The output of each failed test, as the harness shows it.
fn section<'o>(ended: &'o Ended, name: &str) -> &'o str {
    let (_, section) = ended.stdout.split_once(&format!("---- inner::{name} stdout ----\n")).expect("a failed test");
    let end = ["\n---- inner::", "\n\nfailures:\n"].iter().filter_map(|end| section.find(end)).min();
    &section[..end.expect("an end")]
}

#[track_caller]
fn contains_each_once(output: &str, lines: &[String]) {
    for line in lines {
        assert_eq!(output.lines().filter(|found| found == line).count(), 1, "{line:?} in\n{output}");
    }
}

#[track_caller]
fn was_one_run(ended: &Ended) {
    assert_eq!(ended.status.code(), Some(101), "{ended:?}");
    // No harness of a worker says anything.
    let count = |text: &str| ended.stdout.matches(text).count() + ended.stderr.matches(text).count();
    assert_eq!((count("running "), count("test result:"), count("pool_main_way_in")), (1, 1, 0), "{ended:?}");
}

#[track_caller]
fn is_captured(ended: &Ended) {
    was_one_run(ended);
    for name in PASSES {
        assert!(!ended.stdout.contains(&format!("{name} worker")), "{ended:?}");
        assert!(!ended.stdout.contains(&format!("{name} process")) && !ended.stderr.contains(name), "{ended:?}");
    }
    for name in FAILS {
        contains_each_once(section(ended, name), &lines_of(name));
        assert_eq!(ended.stdout.matches(&format!("{name} worker 7 on")).count(), 2, "nowhere else");
        assert!(!ended.stderr.contains(name), "{ended:?}");
    }
    let colours = section(ended, "prints_colours");
    assert!(
        ["stdout", "stderr"].iter().all(|to| colours.contains(&format!("\\x1b[31mcolours on {to}\n"))),
        "{colours}"
    );
    let long = section(ended, "prints_at_length").lines().find_map(|line| line.strip_prefix("length:"));
    assert!(long == Some(&format!("x{}", "é".repeat(100_000))), "a long text is torn");
    assert!(section(ended, "panics_in_process").contains("a panic of panics_in_process"), "{ended:?}");
}

#[test]
fn it_is_shown_with_the_test_that_failed() {
    is_captured(&inner_run(&[]));
    is_captured(&inner_run(&["--test-threads=1"]));
    is_captured(&inner_run(&["--test-threads=8"]));
}

#[test]
fn all_is_shown_on_request() {
    for threads in ["--test-threads=1", "--test-threads=8"] {
        let ended = inner_run(&["--nocapture", threads]);
        was_one_run(&ended);
        for name in PASSES.into_iter().chain(FAILS) {
            // The harness may have begun a line of its own: "test inner::x ... ".
            for line in lines_of(name) {
                let wanted = format!("{line}\n");
                let output = if line.ends_with("stderr") { &ended.stderr } else { &ended.stdout };
                assert_eq!(output.matches(&wanted).count(), 1, "{line:?} in\n{output}");
            }
        }
    }
}

#[test]
fn all_that_passed_is_shown_on_request() {
    let ended = inner_run(&["--show-output"]);
    was_one_run(&ended);
    for name in PASSES {
        contains_each_once(section(&ended, name), &lines_of(name));
    }
}

/// nextest runs each test in a process of its own.
#[test]
fn nextest_sees_the_same() {
    let version = Command::new(env!("CARGO")).args(["nextest", "--version"]).output().expect("cargo");
    if !version.status.success() {
        println!("nextest is not installed");
        return;
    }
    // The directory in which this very program was built, so that nothing has to be built again.
    let program = std::env::current_exe().expect("a path");
    let profile = program.ancestors().nth(2).expect("a directory");
    let target = profile.parent().expect("a directory");
    let profile = match profile.file_name().and_then(|name| name.to_str()).expect("a name") {
        "debug" => "dev",
        other => other,
    };
    let mut command = Command::new(env!("CARGO"));
    command.args([
        "nextest",
        "run",
        "--offline",
        "--no-fail-fast",
        "--color=never",
        "--test",
        "worker_output_is_captured",
    ]);
    command.args(["--cargo-profile", profile, "--target-dir"]).arg(target).arg("inner::");
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).env(INNER, "1").env("RUST_BACKTRACE", "0");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("NEXTEST")) {
        command.env_remove(name);
    }
    let ended = Running::start(&mut command).finish_within(BUILD_PATIENCE);
    let output = &ended.stderr;
    assert!(output.contains("8 tests run: 3 passed, 5 failed"), "{ended:?}");
    assert!(!output.contains("LEAK"), "{ended:?}");
    for name in PASSES {
        assert!(!output.contains(&format!("{name} worker")), "{output}");
    }
    for name in FAILS {
        // Its output is shown when it fails, indented, and once.
        for line in lines_of(name) {
            assert_eq!(output.lines().filter(|found| found.trim_start() == line).count(), 1, "{line:?} in\n{output}");
        }
    }
}
