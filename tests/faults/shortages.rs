//! No more descriptors, processes or shared memory: a pool that is made then is refused with the reason, or uses the
//! other transport; one that works loses nothing, and is whole again when the shortage is over. `/dev/shm` is not
//! needed.

use crate::support::{VARIABLE, copy_program, directory, over_every_transport, run, transport, transport_name};
use pool_runtime::Transport;
use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt as _},
    path::PathBuf,
    process::Command,
};

over_every_transport! {
    no_descriptors,
    no_processes,
    no_shared_memory,
    no_shared_memory_for_rings_alone,
    files_are_limited_by_the_shell,
    no_memory_for_results,
    dev_shm_is_not_needed,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");

/// The scenario, as a user who may not have more than its limits allow: to them, root's are none.
struct Program {
    directory: tempfile::TempDir,
    path: PathBuf,
    user: Option<u32>,
}

impl Program {
    fn new(as_another_user: bool) -> Self {
        let directory = directory();
        let path = directory.path().join("scenario");
        copy_program(SCENARIO, &path);
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("a directory of ours");
        let is_root = rustix::process::geteuid().is_root();
        // Nobody else's processes are counted together with ours.
        let other = 100_000 + 2 * (std::process::id() % 1_000_000) + u32::from(transport() == Transport::Ring);
        Self { directory, path, user: (is_root && as_another_user).then_some(other) }
    }

    fn run(&self, arguments: &[&str]) -> crate::support::Ended {
        let mut command = Command::new(&self.path);
        command.args(arguments).env(VARIABLE, transport_name()).current_dir("/");
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        run(&mut command)
    }

    /// A pool that works when the shortage begins.
    fn outlasts(&self, what: &str) {
        let directory = self.directory.path().to_str().expect("a path in UTF-8");
        assert_eq!(self.run(&["starved-while-another-works", what, directory]).printed(), "2 of 2 work");
        assert_eq!(self.run(&["starved-while-calls-wait", what]).printed(), "none is lost");
        assert_eq!(self.run(&["starved-and-terminated", what]).printed(), "joined");
    }

    /// A pool that is made during the shortage. Returns what it says.
    fn is_refused(&self, what: &str, why: &str) -> String {
        let ended = self.run(&["starved-at-start", what]);
        let (refusal, afterwards) = ended.printed().split_once('\n').expect("two lines");
        assert!(refusal.starts_with("error: ") && refusal.contains(why), "{refusal}");
        assert_eq!(afterwards, "8", "after the shortage");
        refusal.to_owned()
    }
}

fn no_descriptors() {
    let program = Program::new(false);
    let refusal = program.is_refused("descriptors", "os error 24");
    assert!(refusal.contains("(`ulimit -n`)"), "{refusal}");
    program.outlasts("descriptors");
}

fn no_processes() {
    let program = Program::new(true);
    if program.user.is_some() && !program.run(&["double", "21"]).status.success() {
        println!("skipped: this user cannot become another one, and has no limit of processes");
        return;
    }
    let refusal = program.is_refused("processes", "Resource temporarily unavailable");
    assert!(refusal.contains("(`ulimit -u`)"), "{refusal}");
    program.outlasts("processes");
}

fn no_shared_memory() {
    let program = Program::new(false);
    let refusal = program.is_refused("memory", "File too large");
    assert!(refusal.contains("0 bytes in a file") && refusal.contains("(`ulimit -f`)"), "{refusal}");
    program.outlasts("memory");
}

fn no_shared_memory_for_rings_alone() {
    let program = Program::new(false);
    if transport() == Transport::Ring {
        program.is_refused("memory-for-rings", "File too large");
        program.outlasts("memory-for-rings");
        // Who has not chosen gets the other transport.
        let mut command = Command::new(&program.path);
        assert_eq!(run(command.args(["starved-at-start", "memory-for-rings"])).printed(), "42\n8");
    } else {
        assert_eq!(program.run(&["starved-at-start", "memory-for-rings"]).printed(), "42\n8");
    }
}

/// No signal ends the program: who has not chosen gets channels, and what is too large is an error.
fn files_are_limited_by_the_shell() {
    let limited = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -f 100; exec \"$0\" \"$@\"", SCENARIO]).args(arguments);
        run(&mut command).printed().to_owned()
    };
    assert_eq!(limited(&["double", "21"]), "42");
    for bytes in ["200000", "5000000"] {
        let error = limited(&["share", bytes]);
        assert!(error.starts_with("error: ") && error.contains("(`ulimit -f`)"), "{error}");
    }
    assert_eq!(limited(&["share", "1000"]), "1000");
    let chosen = run(Command::new("sh")
        .args(["-c", "ulimit -f 100; exec \"$0\" \"$@\"", SCENARIO, "double", "21"])
        .env(VARIABLE, transport_name()));
    match transport() {
        Transport::Channel => assert_eq!(chosen.printed(), "42"),
        _ => assert!(chosen.printed().contains("(`ulimit -f`)"), "{chosen:?}"),
    }
}

/// How much memory a result takes is the worker's choice: what there is no memory for is an error, and not the end.
fn no_memory_for_results() {
    let ended = Program::new(false).run(&["starved-of-addresses"]);
    let lines: Vec<&str> = ended.printed().lines().collect();
    for error in &lines[..3] {
        assert!(error.starts_with("error: ") && error.contains("for which there is no memory"), "{error}");
    }
    assert_eq!(lines[3..], [((20 << 20) / 100 * 100).to_string()]);
}

fn dev_shm_is_not_needed() {
    let hidden = |hide: &str| {
        // In a mount name space of its own, which nobody else sees.
        let script = format!("{hide} && exec \"$0\" \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).env(VARIABLE, transport_name());
        command
    };
    let probe = hidden("mount -t tmpfs -o ro none /dev/shm").arg("true").output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        println!("skipped: this user cannot hide /dev/shm");
        return;
    }
    for hide in ["mount -t tmpfs -o ro none /dev/shm", "mount -t tmpfs none /dev && mkdir /dev/fd && : >/dev/null"] {
        assert_eq!(run(hidden(hide).arg(SCENARIO).args(["double", "21"])).printed(), "42", "{hide}");
    }
    let full = "mount -t tmpfs -o size=4k none /dev/shm && (cat /dev/zero >/dev/shm/all 2>&1; true)";
    assert_eq!(run(hidden(full).arg(SCENARIO).args(["double", "21"])).printed(), "42");
}
