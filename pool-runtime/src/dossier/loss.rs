//! The facts of a loss: how a process ended, what it was doing, and whether the call had started.

use crate::dossier::backtrace::Trace;
use crate::foreign;
use crate::os::{Crash, End, OomKill, Usage, exceeded_limit, signal_name};
use crate::panic::PanicInfo;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// Whether the task of a failed call had started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ran {
    /// It never started: it is safe to make the call again.
    No,
    /// It started, and may have done some or all of its work.
    Yes,
    /// Nobody can tell.
    Maybe,
}

impl Ran {
    /// Of all attempts at a call: this one and those before.
    pub(crate) fn or_before(self, before: Self) -> Self {
        match (self, before) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, Self::No) => Self::No,
            _ => Self::Maybe,
        }
    }
}

/// What a worker was doing, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Stage {
    /// Between calls, or before the first.
    #[default]
    Idle = 0,
    Decoding = 1,
    Running = 2,
    Encoding = 3,
    /// It has no more calls, and waits for processes that it has started.
    Joining = 4,
}

impl Stage {
    pub(crate) fn from_u32(number: u32) -> Self {
        let stages = [Self::Idle, Self::Decoding, Self::Running, Self::Encoding, Self::Joining];
        stages.get(number as usize).copied().unwrap_or_default()
    }

    /// Whether a task that came this far has started.
    pub(crate) fn ran(self) -> Ran {
        match self {
            Self::Idle | Self::Decoding | Self::Joining => Ran::No,
            Self::Running | Self::Encoding => Ran::Yes,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Idle | Self::Joining => "before it began",
            Self::Decoding => "while decoding the arguments",
            Self::Running => "while running",
            Self::Encoding => "while encoding the result",
        }
    }
}

/// How a process was lost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loss {
    pub(crate) pid: u32,
    /// Where in its pool it was.
    pub(crate) seat: usize,
    /// None if something else reaped the process, or if it lives but its state is corrupt.
    pub(crate) status: Option<End>,
    /// Why there is no status, of a process that has ended.
    pub(crate) no_status: Option<String>,
    pub(crate) stage: Stage,
    /// It was to be killed, and has not ended: it may still run.
    pub(crate) lives: bool,
    /// The panic that ended the process (`panic = "abort"`, or a panic while panicking).
    pub(crate) panic: Option<PanicInfo>,
    /// Why the worker had to be killed.
    pub(crate) fault: Option<String>,
    pub(crate) usage: Option<Usage>,
    /// The peak memory, in KiB, that the process was charged with at its start.
    pub(crate) first_peak: u64,
    pub(crate) oom: Option<OomKill>,
    /// What its fault handler noted.
    pub(crate) crash: Option<Crash>,
    /// The end of its standard error, if that was captured.
    pub(crate) stderr: Option<Vec<u8>>,
    /// `stderr` as text, and the addresses in `crash` with names, made on demand.
    pub(crate) stderr_text: OnceLock<String>,
    pub(crate) trace: OnceLock<Option<Trace>>,
}

impl Loss {
    /// Of a process of which nothing more is known.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, ..Self::default() }
    }

    pub(crate) fn is_stack_overflow(&self) -> bool {
        self.crash.as_ref().is_some_and(|crash| crash.overflow)
    }

    /// How many bytes the process had asked for and did not get, if it aborted for that. Only the standard library's text
    /// on standard error tells, so nothing is known where that is not captured. It may stand behind what the task has
    /// written without the end of a line.
    ///
    /// A panic that the process has left is none that ended it then, but one that the task has caught itself.
    pub(crate) fn failed_allocation(&self) -> Option<u64> {
        const BEFORE: &[u8] = b"memory allocation of ";
        const BEHIND: &[u8] = b" bytes failed";
        let stderr = self.stderr.as_ref().filter(|_| self.status == Some(End::ABORTED))?;
        let starts = stderr.windows(BEFORE.len()).enumerate().rev().filter(|(_, text)| *text == BEFORE);
        let found = starts.filter_map(|(at, _)| {
            let rest = &stderr[at + BEFORE.len()..];
            let (bytes, behind) = rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
            let bytes = str::from_utf8(bytes).ok().filter(|_| behind.starts_with(BEHIND))?.parse().ok()?;
            Some((at, stderr.len() - behind.len() + BEHIND.len(), bytes))
        });
        // With `RUST_BACKTRACE=1`, the allocations of the backtrace fail next, and are told, too.
        let first = found.fold(None, |later: Option<(usize, usize, u64)>, earlier| match later {
            None => Some(earlier),
            Some((begin, ..)) if stderr[earlier.1..begin].trim_ascii() == b"stack backtrace:" => Some(earlier),
            Some(_) => later,
        });
        first.map(|(.., bytes)| bytes)
    }

    /// How the process ended, and at which stage.
    pub(crate) fn sentence(&self) -> String {
        let pid = self.pid;
        let how = match (&self.fault, self.status) {
            (fault, _) if self.lives => {
                let fault = fault.as_ref().map_or(String::new(), |fault| format!(" {} and", foreign::line(fault)));
                format!("process {pid}{fault} was to be killed, but has not ended (is it frozen, or waits for a disk?)")
            }
            (Some(fault), _) => format!("process {pid} {} and was killed", foreign::line(fault)),
            (None, None) => {
                let why = self.no_status.as_deref().unwrap_or("nobody knows how");
                format!("process {pid} ended, and {why}")
            }
            _ if self.is_stack_overflow() => format!("process {pid} overflowed its stack"),
            _ if self.oom == Some(OomKill::Certain) => format!("process {pid} was killed by the kernel's OOM killer"),
            (None, Some(End::Exited(code))) => format!("process {pid} exited with code {code}"),
            (None, Some(End::Signal(signal))) => {
                let whose = self.oom.map_or("", |_| ", probably by the kernel's OOM killer,");
                format!("process {pid} was killed by signal {signal}{}{whose}", signal_name(signal))
            }
        };
        let limit = self.status.and_then(End::signal).and_then(exceeded_limit);
        let limit = limit.map_or(String::new(), |limit| format!(": {limit}"));
        let short = self.failed_allocation();
        let panic = self.panic.as_ref().filter(|_| short.is_none());
        let panicked = panic.map_or(String::new(), |panic| format!("; it panicked {panic}"));
        let short = short.map_or(String::new(), |bytes| format!(": it could not allocate {bytes} bytes"));
        format!("{how} {}{limit}{short}{panicked}", self.stage.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(stderr: &str) -> Loss {
        Loss { status: Some(End::ABORTED), stderr: Some(stderr.into()), ..Loss::of(1) }
    }

    #[test]
    fn a_failed_allocation_is_found_wherever_its_text_begins() {
        for (stderr, bytes) in [
            ("memory allocation of 16 bytes failed\n", Some(16)),
            ("loading... memory allocation of 16 bytes failed", Some(16)),
            ("memory allocation of 1 bytes failed\nmemory allocation of 2 bytes failed\nnote: more\n", Some(2)),
            ("memory allocation of 3 bytes failed; memory allocation of all bytes failed\n", Some(3)),
            (
                "memory allocation of 5 bytes failed\nstack backtrace:\nmemory allocation of 6 bytes failed\nskipping\n",
                Some(5),
            ),
            ("memory allocation of  bytes failed", None),
            ("memory allocation of 16 bytes", None),
            ("memory allocation of 99999999999999999999 bytes failed", None),
            ("memory allocation of ", None),
            ("", None),
        ] {
            assert_eq!(aborted(stderr).failed_allocation(), bytes, "{stderr}");
        }
        let exited = Loss { status: Some(End::Exited(1)), ..aborted("memory allocation of 16 bytes failed\n") };
        assert_eq!(exited.failed_allocation(), None);
    }

    #[test]
    fn a_failed_allocation_counts_more_than_a_panic_that_was_caught() {
        let caught = Some(PanicInfo::from_message("caught".into()));
        let loss = Loss { panic: caught.clone(), ..aborted("memory allocation of 16 bytes failed\n") };
        let text = loss.sentence();
        assert!(text.contains("could not allocate 16 bytes") && !text.contains("caught"), "{text}");
        let loss = Loss { panic: caught, ..aborted("") };
        assert!(loss.sentence().contains("it panicked caught"));
    }
}
