//! However the program is built — optimised, with link-time optimisation, in one unit or in many, with panics that
//! abort — all its tasks are there, panics and crashes are reported, and the next call works. And each build refuses workers of
//! another one.
//!
//! The debug build is that of all other tests. The first run builds each of the others, which takes half a minute each.

use crate::support::{BUILD_PATIENCE, Running, run};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const DEBUG: &str = env!("CARGO_BIN_EXE_scenario");

/// The profiles of the workspace's manifest that differ in what the linker makes of the program.
const PROFILES: [&str; 3] = ["release", "check-lto", "check-abort"];

fn build(profile: &str) -> PathBuf {
    // Where this very program was built, from all packages as that was: what has been built there is not built again.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a directory");
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--offline", "--quiet", "--workspace", "--bin=scenario", "--profile", profile]);
    command.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    let ended = Running::start(&mut command).finish_within(BUILD_PATIENCE);
    assert!(ended.status.success(), "{profile}: {}", ended.stderr);
    target.join(profile).join("scenario")
}

/// The names of the tasks in a build that works.
fn check(program: &Path) -> String {
    let ended = run(Command::new(program).arg("self-check"));
    let lines: Vec<&str> = ended.printed().lines().collect();
    assert_eq!((lines.len(), lines.last()), (2, Some(&"ok")), "{ended:?}");
    lines[0].to_owned()
}

/// How many functions of the program's source are tasks.
fn tasks_in_source() -> usize {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let read = |name: &str| std::fs::read_to_string(programs.join(name).with_extension("rs")).expect("a source");
    let program = read("scenario");
    let parts = program.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).map(read);
    let tasks = |source: &str| source.lines().filter(|line| line.trim_start().starts_with("#[task")).count();
    tasks(&program) + parts.map(|part| tasks(&part)).sum::<usize>()
}

#[test]
fn every_build_works_and_refuses_the_others() {
    let tasks = check(Path::new(DEBUG));
    assert_eq!(tasks.split(' ').count(), tasks_in_source(), "{tasks}");
    let builds = PROFILES.map(build);
    for build in &builds {
        assert_eq!(check(build), tasks, "{}", build.display());
    }
    // The same program with the same tasks, and yet another build: what is at one place here is at another one there.
    let [release, lto, ..] = &builds;
    for (program, worker) in [(Path::new(DEBUG), release.as_path()), (release, Path::new(DEBUG)), (lto, release)] {
        let ended = run(Command::new(program).args(["double-with-executable", "21"]).arg(worker));
        assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
        assert!(ended.stderr.contains("it is another build of the program than its parent"), "{ended:?}");
    }
}
