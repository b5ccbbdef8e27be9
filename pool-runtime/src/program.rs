//! The way in for workers, the mark that makes a process a worker, and the environment of one.
//!
//! The only reader of the environment and of the command line.

use crate::error::{Error, Kind, Result};
use crate::os::{self, Manifest};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The variable that makes a process a worker. It is removed before anything else happens there.
const MARK: &str = "POOL_RUNTIME_WORKER";

/// The variable that has a program run one call again, in place of all else: it names the file with the call.
const REPLAY: &str = "POOL_REPLAY";

/// With it, a call that ran in a sandbox is run again without: set to 1.
const UNCONFINED: &str = "POOL_REPLAY_UNCONFINED";

// ---- the way in ----

/// How a process started from this binary gets to the worker's loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WayIn {
    /// Through `main`, which calls `enter`.
    Main,
    /// Through a hidden test, as `main` belongs to the test harness.
    Test {
        /// The test's full name.
        name: String,
    },
}

/// What `pool_main!();` registers in a test program: the module in which it stands.
#[derive(Debug)]
pub struct TestEntry(pub &'static str);

inventory::collect!(TestEntry);

/// The name of the hidden test.
const HIDDEN_TEST: &str = "pool_main_way_in_for_workers";

static ENTERED: OnceLock<()> = OnceLock::new();

/// Notes that `main` leads workers to their loop.
pub(crate) fn entered() {
    let _ = ENTERED.set(());
}

/// The way in, if there is one.
pub(crate) fn way_in() -> Result<WayIn> {
    // In a test program `main` is the harness's, whoever calls `enter`.
    let Some(entry) = inventory::iter::<TestEntry>.into_iter().next() else {
        return ENTERED.get().map(|()| WayIn::Main).ok_or_else(|| Error::new(Kind::NoEntry));
    };
    // The harness names tests by their path inside the crate.
    let name = match entry.0.split_once("::") {
        Some((_, module)) => format!("{module}::{HIDDEN_TEST}"),
        None => HIDDEN_TEST.to_owned(),
    };
    Ok(WayIn::Test { name })
}

impl WayIn {
    /// The command line of a worker.
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

/// The environment of a worker: ours, with changes, and with its mark.
pub(crate) fn environment(changes: &[(OsString, Option<OsString>)], mark: &Mark) -> Vec<(OsString, OsString)> {
    let changed = |name: &OsStr| name == MARK || name == REPLAY || changes.iter().any(|(changed, _)| changed == name);
    std::env::vars_os()
        .filter(|(name, _)| !changed(name))
        .chain(changes.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))))
        .chain([(MARK.into(), mark.to_string().into())])
        .collect()
}

// ---- the mark ----

/// What the variable says: whose worker it is, and what it was given.
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

/// What the environment says this process is.
#[derive(Debug)]
pub(crate) enum Marked {
    /// An ordinary process.
    No,
    /// A worker.
    Worker(Mark),
    /// A worker whose mark cannot be read.
    Damaged(OsString),
}

/// Reads the mark and removes it, so that no process started from here takes it for its own.
pub(crate) fn take_mark() -> Marked {
    let Some(value) = std::env::var_os(MARK) else { return Marked::No };
    os::remove_variable(MARK);
    match value.to_str().and_then(Mark::parse) {
        Some(mark) => Marked::Worker(mark),
        None => Marked::Damaged(value),
    }
}

/// The file whose call is to be run again, if one is, and whether that is to be without the sandbox in which it ran. It
/// is read once.
pub(crate) fn take_replay() -> Option<(PathBuf, bool)> {
    let file = std::env::var_os(REPLAY)?;
    let unconfined = std::env::var_os(UNCONFINED).is_some_and(|value| value == "1");
    os::remove_variable(REPLAY);
    os::remove_variable(UNCONFINED);
    // A program with more rights than its caller takes no orders from it.
    (!os::has_more_rights()).then(|| (file.into(), unconfined))
}

/// What to type to have the call in a file run again.
pub(crate) fn replay_command(file: &Path) -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "the program".into());
    let mut command = format!("{REPLAY}={} {}", quoted(file), quoted(&program));
    if let Ok(way_in @ WayIn::Test { .. }) = way_in() {
        for argument in way_in.args().iter().skip(1) {
            command.push(' ');
            command.push_str(&quoted(Path::new(argument)));
        }
    }
    command
}

/// As a shell reads it.
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
    fn a_mark_is_read_back() {
        let mark = Mark::parse("17:18446744073709551615:1:0").unwrap();
        assert_eq!((mark.parent, Mark::parse(&mark.to_string())), (17, Some(mark)));
        for damaged in ["", "1:2", "1:2:1", "1:2:1:0:4", "a:b:c:d", "-1:2:1:0"] {
            assert_eq!(Mark::parse(damaged), None, "{damaged}");
        }
    }
}
