//! What the signals mean that a process can end by.

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
    // The standard library knows the names, but only prints them inside of a status: "signal: 11 (SIGSEGV)".
    let status = End::Signal(signal).to_string();
    match (status.find('('), status.find(')')) {
        (Some(open), Some(close)) if open < close => format!(" {}", &status[open..=close]),
        _ => String::new(),
    }
}
