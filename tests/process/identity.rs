//! A process sees the name, the pid, the parent and the arguments that it was given.

use crate::support::{Signals, await_given, copy_program, directory, script};
use pool_runtime::{
    Pool, Process, Sandbox, Stdio, active_children, cpu_count, cpu_count_physical, current_process, parent_process,
    task,
};
use std::{collections::BTreeMap, io::Read, path::Path, time::Duration};

type Seen = (String, u32, Option<(String, u32)>, String);

#[task]
fn introduce(text: &str, number: u64) -> Seen {
    let me = current_process();
    assert_eq!(me.pid(), std::process::id());
    let parent = parent_process().map(|parent| (parent.name().to_owned(), parent.pid()));
    (me.name().to_owned(), me.pid(), parent, format!("{text} {number}"))
}

#[task]
fn environment(names: Vec<String>) -> (BTreeMap<String, String>, String, usize) {
    let found = names.iter().filter_map(|name| Some((name.clone(), std::env::var(name).ok()?))).collect();
    let directory = std::env::current_dir().expect("a directory").display().to_string();
    let marks = std::env::vars().filter(|(name, _)| name.starts_with("POOL_RUNTIME")).count();
    (found, directory, marks)
}

#[task]
fn copy_input() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("standard input");
    println!("{text}");
    eprintln!("not {text}");
}

#[test]
fn names_pids_and_arguments() {
    assert_eq!((current_process().name(), current_process().pid()), ("MainProcess", std::process::id()));
    assert_eq!(parent_process(), None);
    let here = Some(("MainProcess".to_owned(), std::process::id()));

    let process = Process::new(introduce::call("añ", u64::MAX)).name("a b/ü").start().expect("it starts");
    let seen = process.join().expect("it returns");
    assert_eq!(process.name(), "a b/ü");
    assert_eq!(seen, ("a b/ü".into(), process.pid(), here.clone(), format!("añ {}", u64::MAX)));
}

#[test]
fn run_here() {
    let (name, pid, parent, text) = Process::new(introduce::call("here", 1)).name("unused").run().expect("it runs");
    assert_eq!((name.as_str(), pid, parent, text.as_str()), ("MainProcess", std::process::id(), None, "here 1"));
}

/// What is asked for is enforced, or nothing runs.
#[test]
fn a_sandbox_is_not_left_out_here() {
    let error = Process::new(introduce::call("here", 1)).sandbox(Sandbox::strict()).run().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("introduce") && text.contains("sandbox") && text.contains("`start`"), "{text}");
}

#[test]
fn environment_and_directory() {
    let directory = directory();
    let real = directory.path().canonicalize().expect("it exists").display().to_string();
    let names = ["GIVEN", "CARGO_MANIFEST_DIR", "PATH"].map(String::from).to_vec();
    let process = Process::new(environment::call(names.clone())).name("changed");
    let process = process.env("GIVEN", "a = b").env_remove("CARGO_MANIFEST_DIR").current_dir(directory.path());
    let (found, seen, marks) = process.start().expect("it starts").join().expect("it returns");
    let path = std::env::var("PATH").expect("a path");
    assert_eq!(found, BTreeMap::from([("GIVEN".into(), "a = b".into()), ("PATH".into(), path)]));
    assert_eq!((seen, marks), (real, 0));

    let process = Process::new(environment::call(names));
    let (found, seen, _) = process.start().expect("it starts").join().expect("it returns");
    assert_eq!(found.get("CARGO_MANIFEST_DIR"), std::env::var("CARGO_MANIFEST_DIR").ok().as_ref());
    assert_eq!(seen, std::env::current_dir().expect("a directory").display().to_string());
}

#[test]
fn a_directory_that_does_not_exist() {
    let process = Process::new(introduce::call("", 0)).name("lost").current_dir("/nonexistent/directory");
    let error = process.start().expect_err("there is no such directory");
    let text = error.to_string();
    assert!(text.contains("cannot start a process") && text.contains("\"/nonexistent/directory\""), "{text}");
    assert!(!text.contains(std::env::current_exe().unwrap().to_str().unwrap()), "{text}");
}

#[test]
fn a_program_that_does_not_exist() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = Pool::builder().processes(1).executable("/nonexistent/program").current_dir(directory.path()).build();
    let text = made.expect_err("there is no such program").to_string();
    assert!(text.contains("\"/nonexistent/program\""), "{text}");
    assert!(!text.contains(directory.path().to_str().unwrap()), "{text}");
}

#[test]
fn standard_streams() {
    let mut input = tempfile::tempfile().expect("a file");
    std::io::Write::write_all(&mut input, b"input").expect("a file");
    std::io::Seek::rewind(&mut input).expect("a file");
    let process = Process::new(copy_input::call()).stdin(input);
    let mut process = process.stdout(Stdio::piped()).stderr(Stdio::piped()).start().expect("it starts");
    let (mut out, mut err) = (String::new(), String::new());
    process.take_stdout().expect("a pipe").read_to_string(&mut out).expect("a pipe");
    process.take_stderr().expect("a pipe").read_to_string(&mut err).expect("a pipe");
    process.join().expect("it returns");
    assert_eq!((out.as_str(), err.as_str()), ("input\n", "not input\n"));

    // By default there is nothing to read.
    let process = Process::new(copy_input::call()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = process.start().expect("it starts");
    let mut out = String::new();
    process.take_stdout().expect("a pipe").read_to_string(&mut out).expect("a pipe");
    assert_eq!(out, "\n");
    process.join().expect("it returns");
}

#[task]
fn wait_for(release: &Path) {
    await_given(release);
}

#[task]
fn is_the_parent_alive() -> (bool, bool, bool) {
    let parent = parent_process().expect("the test");
    let waited = |patience| parent.wait_timeout(patience).expect("another process");
    (parent.is_alive(), waited(Duration::ZERO), waited(Duration::from_millis(20)))
}

#[test]
fn the_end_of_a_relative_can_be_waited_for() {
    // Also where the parent cannot be opened.
    for sandbox in [Sandbox::none(), Sandbox::strict()] {
        let process = Process::new(is_the_parent_alive::call()).sandbox(sandbox).start().expect("it starts");
        assert_eq!(process.join().expect("it returns"), (true, false, false));
    }
    let signals = Signals::new();
    let process = Process::new(wait_for::call(&signals.path("go"))).name("waited for").start().expect("it starts");
    let child = active_children().into_iter().find(|child| child.name() == "waited for").expect("it is listed");
    assert!(child.is_alive() && !child.wait_timeout(Duration::from_millis(20)).expect("another process"));
    signals.give("go");
    child.wait().expect("another process");
    assert!(!child.is_alive() && !process.is_alive());
    let error = current_process().wait().expect_err("it would not return");
    assert!(error.to_string().contains("it is this process itself"), "{error}");
}

#[test]
fn another_file_of_the_same_build_is_started() {
    let directory = directory();
    let [copy, wrapper, other] = ["copy", "wrapper", "other"].map(|name| directory.path().join(name));
    let own = std::env::current_exe().expect("a path");
    copy_program(&own, &copy);
    script(&wrapper, &format!("export WRAPPED=1\nexec '{}' \"$@\"", own.display()));
    script(&other, "exit 3");
    let wrapped = || Process::new(environment::call(vec!["WRAPPED".to_owned()]));
    let found = |path: &Path| wrapped().executable(path).start().and_then(|process| process.join());
    assert_eq!(found(&copy).expect("it is the same build").0.len(), 0);
    assert_eq!(found(&wrapper).expect("it becomes the same build").0["WRAPPED"], "1");
    let error = found(&other).expect_err("it is another program");
    assert!(error.to_string().contains("exited with code 3 before it became a worker"), "{error}");
    let error = found(&directory.path().join("missing")).expect_err("there is none");
    assert!(error.to_string().contains("cannot start a process of this program"), "{error}");
}

#[test]
fn cores_are_counted_as_the_system_does() {
    let cores = cpu_count_physical();
    assert!((1..=cpu_count()).contains(&cores), "{cores}");
    // What the first processor says of its core.
    let list = "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list";
    match std::fs::read_to_string(list) {
        Ok(list) if list.trim() == "0" => eprintln!("not tested: the cores are not shared"),
        Ok(_) => assert!(cores < std::thread::available_parallelism().map_or(1, usize::from) || cores == 1),
        Err(error) => eprintln!("not tested: {error}"),
    }
}
