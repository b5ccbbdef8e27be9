//! How the end of a process is printed.

use crate::os::End;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// As the standard library prints an `ExitStatus`.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw = match self {
            Self::Exited(code) => (code & 0xff) << 8,
            Self::Signal(signal) => *signal,
        };
        ExitStatus::from_raw(raw).fmt(f)
    }
}

/// ` (SIGSEGV)`, or nothing for a number without a name.
pub(crate) fn signal_name(signal: i32) -> String {
    // The standard library only prints a name as a part of a status: "signal: 11 (SIGSEGV)".
    let status = End::Signal(signal).to_string();
    let name = status.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    name.map(|(name, _)| format!(" ({name})")).unwrap_or_default()
}
