//! A program that has more rights than whoever starts it runs nobody's tasks, and starts no workers itself. A worker
//! works only for a process with exactly its own rights.

use crate::support::{Ended, VARIABLE, copy_program, directory, over_every_transport, run, script, transport_name};
use std::os::unix::{fs::PermissionsExt, process::CommandExt};
use std::path::{Path, PathBuf};
use std::process::Command;

over_every_transport! {
    a_set_user_id_program_is_nobodys_worker,
    a_set_group_id_program_is_nobodys_worker,
    a_worker_of_another_user_is_refused_by_itself,
    a_worker_with_more_groups_is_refused_by_itself,
    a_worker_with_more_capabilities_is_refused_by_itself,
}

const SCENARIO: &str = env!("CARGO_BIN_EXE_scenario");
const NOBODY: u32 = 65534;

/// A directory that anybody can enter, with copies of the program: an ordinary one, and one with `mode`. None, and a
/// line that says so, where no program gets rights from its file.
fn copies(mode: u32) -> Option<(tempfile::TempDir, [PathBuf; 2])> {
    // SAFETY: a system call without arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: only root can make a program that runs with root's rights");
        return None;
    }
    let directory = directory();
    let permit = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("a file");
    permit(directory.path(), 0o755);
    let [plain, privileged] = ["plain", "privileged"].map(|name| {
        let copy = directory.path().join(name);
        copy_program(SCENARIO, &copy);
        copy
    });
    permit(&plain, 0o755);
    permit(&privileged, mode);
    let file = rustix::fs::statvfs(&privileged).expect("a file");
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let gains_none = status.lines().any(|line| line.starts_with("NoNewPrivs:") && !line.ends_with('0'));
    if file.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID) || gains_none {
        eprintln!("skipped: files give no rights where {} is", privileged.display());
        return None;
    }
    Some((directory, [plain, privileged]))
}

/// As a user without rights.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).env(VARIABLE, transport_name()).current_dir("/");
    command
}

fn is_nobodys_worker(mode: u32) {
    let Some((_directory, [plain, privileged])) = copies(mode) else { return };
    // The ordinary copy is the same program, with the same tasks: it works.
    let ended = run(as_nobody(&plain).args(["double-with-executable", "21"]).arg(&plain));
    assert_eq!(ended.printed(), "42");

    let refused = |ended: &Ended| {
        assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:#?}");
        assert!(
            ended.stderr.contains("cannot work: its program has more rights than whoever started it"),
            "{ended:#?}"
        );
    };
    let ended = run(as_nobody(&plain).args(["double-with-executable", "21"]).arg(&privileged));
    refused(&ended);
    assert!(ended.stderr.contains("exited with code 70 before it became a worker"), "{ended:#?}");
    // Nor does it believe a mark of whoever knows how one looks, and it does not go on as if there was none.
    let ended =
        run(as_nobody(&privileged).args(["double-into-file", "/dev/null", "21"]).env("POOL_RUNTIME_WORKER", "1"));
    refused(&ended);
    // It starts no workers with rights that are not its starter's.
    let ended = run(as_nobody(&privileged).arg("double-in-processes").arg("21"));
    let lines: Vec<&str> = ended.printed().lines().collect();
    assert_eq!(lines.len(), 2, "{ended:#?}");
    assert!(lines.iter().all(|line| line.contains("error: this process has more rights than")), "{ended:#?}");
}

fn a_set_user_id_program_is_nobodys_worker() {
    is_nobodys_worker(0o4755);
}

fn a_set_group_id_program_is_nobodys_worker() {
    is_nobodys_worker(0o2755);
}

fn a_worker_of_another_user_is_refused_by_itself() {
    let Some((directory, [plain, _])) = copies(0o755) else { return };
    // It hands on what it was given, to a program that runs as somebody else, with nobody's file to blame.
    let other = directory.path().join("other");
    script(
        &other,
        &format!("exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups {:?} \"$@\"", plain.display()),
    );
    let mut command = Command::new(&plain);
    let ended = run(command.args(["double-with-executable", "21"]).arg(&other).env(VARIABLE, transport_name()));
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:#?}");
    let why = "it was started to work for a process of user 0 and group 0, and runs as user 65534 and group 65534";
    assert!(ended.stderr.contains(why), "{ended:#?}");
}

/// What comes of a worker that has the rights of its starter, and more of this kind.
fn with_more(more: &str) -> Option<Ended> {
    let (directory, [plain, _]) = copies(0o755)?;
    // As programs that give rights to others do: a set-user-ID one that becomes its caller again, and keeps something.
    let gives = directory.path().join("gives");
    let setpriv =
        std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join("setpriv")).find(|path| path.exists());
    let Some(setpriv) = setpriv else {
        eprintln!("skipped: there is no `setpriv`");
        return None;
    };
    copy_program(setpriv, &gives);
    std::fs::set_permissions(&gives, PermissionsExt::from_mode(0o4755)).expect("a file");
    let other = directory.path().join("other");
    let user = format!("--reuid {NOBODY} --regid {NOBODY}");
    script(&other, &format!("exec {:?} {user} {more} {:?} \"$@\"", gives.display(), plain.display()));
    Some(run(as_nobody(&plain).args(["double-with-executable", "21"]).arg(&other)))
}

fn a_worker_with_more_groups_is_refused_by_itself() {
    let Some(ended) = with_more("--groups 65533") else { return };
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:#?}");
    assert!(ended.stderr.contains("it belongs to group 65533, and the process for which"), "{ended:#?}");
    // With what both have, it works.
    let ended = with_more("--clear-groups").expect("as before");
    assert_eq!(ended.printed(), "42");
}

fn a_worker_with_more_capabilities_is_refused_by_itself() {
    let Some(ended) = with_more("--clear-groups --inh-caps +net_raw --ambient-caps +net_raw") else { return };
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:#?}");
    assert!(
        ended.stderr.contains("it has capabilities that its parent has not (CapabilitySet(NET_RAW))"),
        "{ended:#?}"
    );
    // Where the parent has them, they are handed on.
    let Some((_directory, [plain, _])) = copies(0o755) else { return };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.args(["--inh-caps", "+net_raw", "--ambient-caps", "+net_raw"]);
    let ended =
        run(command.arg(&plain).args(["double-in-processes", "21"]).env(VARIABLE, transport_name()).current_dir("/"));
    assert_eq!(ended.printed().lines().filter(|line| *line == "42").count(), 2, "{ended:#?}");
}
