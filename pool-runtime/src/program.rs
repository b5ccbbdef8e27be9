//! The way in for workers, and the variable that makes a process one. Only this file reads the environment.
//!
//! Whoever starts a program chooses its environment. So a program that has more rights than its starter (set-user-ID,
//! set-group-ID, file capabilities) obeys none of these variables: they would let anybody run its tasks.

use crate::error::{Error, Result};
use crate::os::{self, Manifest};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Makes a process a worker. A worker removes it before anything else.
const MARK: &str = "POOL_RUNTIME_WORKER";

/// Names a file with a call, which the program runs again in place of everything else.
const REPLAY: &str = "POOL_REPLAY";

/// If it is 1, that call runs without the sandbox in which it ran; never if others could have written the file.
const UNCONFINED: &str = "POOL_REPLAY_UNCONFINED";

/// If it is 1, the file may be another user's; never for root.
const FOREIGN: &str = "POOL_REPLAY_FOREIGN";

/// If it is `strict`, the call runs in a strict sandbox, whatever the file says.
const SANDBOX: &str = "POOL_REPLAY_SANDBOX";

/// How a process of this program gets to the worker's loop.
#[derive(Debug)]
pub(crate) enum WayIn {
    /// Through `main`, which calls `enter`.
    Main,
    /// Through a hidden test, as `main` belongs to the test harness.
    Test { name: String },
}

/// The module in which `pool_main!();` stands in a test program.
#[derive(Debug)]
pub struct TestEntry(pub &'static str);

inventory::collect!(TestEntry);

static ENTERED: OnceLock<()> = OnceLock::new();

/// Notes that `main` leads workers to their loop.
pub(crate) fn entered() {
    let _ = ENTERED.set(());
}

pub(crate) fn way_in() -> Result<WayIn> {
    // In a test program `main` is the harness's, whoever calls `enter`.
    let Some(entry) = inventory::iter::<TestEntry>.into_iter().next() else {
        const NO_ENTRY: &str = "this program has no way in for workers: add `pool_main!(run);` in place of `fn main` (or \
                                `pool_main!();` at the top of a test file, or call `pool_runtime::enter()` first thing \
                                in `main`)";
        return ENTERED.get().map(|()| WayIn::Main).ok_or_else(|| Error::invalid(NO_ENTRY));
    };
    // The harness names tests by their path inside the crate.
    let path = format!("{}::pool_main_way_in_for_workers", entry.0);
    let (_, name) = path.split_once("::").unwrap_or(("", &path));
    Ok(WayIn::Test { name: name.to_owned() })
}

impl WayIn {
    pub(crate) fn args(&self) -> Vec<OsString> {
        let own = std::env::args_os();
        match self {
            Self::Main => own.collect(),
            Self::Test { name } => {
                own.take(1).chain(["--exact", name, "--nocapture", "--test-threads=1"].map(OsString::from)).collect()
            }
        }
    }
}

/// What is handed on of this process's environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandedOn {
    All,
    /// What is no secret, and what a program of this kind is started with.
    Ordinary,
}

impl HandedOn {
    fn includes(self, name: &OsStr) -> bool {
        // Where programs are, the user's language and time; the loader's, without which the program may not start; Rust's.
        const ORDINARY: &[&str] = &[
            "PATH",
            "LANG",
            "LANGUAGE",
            "LC_ALL",
            "LC_ADDRESS",
            "LC_COLLATE",
            "LC_CTYPE",
            "LC_IDENTIFICATION",
            "LC_MEASUREMENT",
            "LC_MESSAGES",
            "LC_MONETARY",
            "LC_NAME",
            "LC_NUMERIC",
            "LC_PAPER",
            "LC_TELEPHONE",
            "LC_TIME",
            "TZ",
            "LD_LIBRARY_PATH",
            "LD_PRELOAD",
            "RUST_BACKTRACE",
            "RUST_LIB_BACKTRACE",
            "RUST_MIN_STACK",
            // A program that rustdoc makes of many examples finds there which one it runs.
            "RUSTDOC_DOCTEST_RUN_NB_TEST",
        ];
        self == Self::All || ORDINARY.iter().any(|ordinary| name == *ordinary)
    }
}

/// Leaves in the environment of this process what is no secret, and what it was started with.
pub(crate) fn forget_environment() {
    os::forget_variables(|name| HandedOn::Ordinary.includes(name));
}

/// The environment of a worker: what is handed on of this process's, with changes and the mark.
pub(crate) fn environment(
    handed_on: HandedOn,
    changes: &[(OsString, Option<OsString>)],
    mark: &Mark,
) -> Vec<(OsString, OsString)> {
    let changed = |name: &OsStr| name == MARK || name == REPLAY || changes.iter().any(|(changed, _)| changed == name);
    std::env::vars_os()
        .filter(|(name, _)| handed_on.includes(name) && !changed(name))
        .chain(changes.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))))
        .chain([(MARK.into(), mark.to_string().into())])
        .collect()
}

/// The value of the variable [`MARK`]: whose worker the process is, and what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) parent: u32,
    pub(crate) given: Manifest,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.parent, self.given)
    }
}

impl Mark {
    fn parse(text: &str) -> Option<Self> {
        let (parent, given) = text.split_once(':')?;
        Some(Self { parent: parent.parse().ok()?, given: Manifest::parse(given)? })
    }
}

/// Reads the mark and removes it, so that no process started from this one takes it for its own. None in an ordinary
/// process; the error is why a process that has a mark cannot be a worker.
pub(crate) fn take_mark() -> Option<std::result::Result<Mark, String>> {
    let value = std::env::var_os(MARK)?;
    os::remove_variable(MARK);
    if os::has_more_rights() {
        let why = "its program has more rights than whoever started it, by its file's owner, group or capabilities: it \
                   is nobody's worker";
        return Some(Err(why.into()));
    }
    Some(value.to_str().and_then(Mark::parse).ok_or_else(|| format!("its mark {value:?} cannot be read")))
}

/// What the environment says of a call to run again.
#[derive(Debug)]
pub(crate) struct ReplayOrder {
    pub(crate) file: PathBuf,
    /// Leave out the sandbox in which it ran.
    pub(crate) unconfined: bool,
    /// The file may be another user's.
    pub(crate) foreign: bool,
    /// The name of a sandbox.
    pub(crate) sandbox: Option<OsString>,
}

/// The order to run a call again, if there is one. Works once.
pub(crate) fn take_replay() -> Option<ReplayOrder> {
    let take = |name| std::env::var_os(name).inspect(|_| os::remove_variable(name));
    let is_set = |name| take(name).is_some_and(|value| value == "1");
    let file = take(REPLAY)?.into();
    let order = ReplayOrder { file, unconfined: is_set(UNCONFINED), foreign: is_set(FOREIGN), sandbox: take(SANDBOX) };
    // A program with more rights than its caller does not obey it.
    (!os::has_more_rights()).then_some(order)
}

/// The shell command that runs the call in a file again.
pub(crate) fn replay_command(file: &Path) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "the program".into());
    let name = program.clone().into_os_string();
    let args = match way_in() {
        Ok(way_in @ WayIn::Test { .. }) => way_in.args(),
        _ => vec![name],
    };
    // It may be the loader, and the program one of its arguments.
    let args = os::own_command(args.clone()).map_or(args, |(_, args)| args);
    let words = [quoted(&program)].into_iter().chain(args.iter().skip(1).map(|arg| quoted(Path::new(arg))));
    format!("{REPLAY}={} {}", quoted(file), words.collect::<Vec<_>>().join(" "))
}

/// Quotes for a shell.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/tmp/a-b.c")), "/tmp/a-b.c");
        assert_eq!(quoted(Path::new("a b")), "'a b'");
        assert_eq!(quoted(Path::new("it's")), "'it'\\''s'");
        assert_eq!(quoted(Path::new("")), "''");
    }

    #[test]
    fn secrets_are_not_ordinary() {
        let includes = |name: &str| HandedOn::Ordinary.includes(name.as_ref());
        assert!(["PATH", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "RUST_BACKTRACE"].into_iter().all(includes));
        assert!(!["HOME", "AWS_SECRET_ACCESS_KEY", "PATHS", "XLC_", "SSH_AUTH_SOCK", ""].into_iter().any(includes));
        // SSH hands on whatever has such a name.
        assert!(!["LC_SECRET", "LC_", "LC_ALL2", "RUSTDOC_DOCTEST_SECRET"].into_iter().any(includes));
        assert!(HandedOn::All.includes("HOME".as_ref()));
    }

    #[test]
    fn a_mark_is_read_back() {
        let mark = Mark::parse("17:100:18446744073709551615:1:0").unwrap();
        assert_eq!((mark.parent, Mark::parse(&mark.to_string())), (17, Some(mark)));
        for damaged in ["", "1:2", "1:100:2:1", "1:100:2:1:0:4", "a:b:c:d:e", "-1:100:2:1:0"] {
            assert_eq!(Mark::parse(damaged), None, "{damaged}");
        }
    }
}
