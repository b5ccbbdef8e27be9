//! The facts of a loss: how a process ended, what it was doing, and whether the call had started.

use crate::os::{Crash, End, OomKill, Usage, signal_name};
use crate::panic::PanicInfo;
use std::sync::OnceLock;

/// Whether the task of a failed call had started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
}

impl Stage {
    pub(crate) fn from_u32(number: u32) -> Self {
        let stages = [Self::Idle, Self::Decoding, Self::Running, Self::Encoding];
        stages.get(number as usize).copied().unwrap_or_default()
    }

    /// Whether a task that came this far has started.
    pub(crate) fn ran(self) -> Ran {
        match self {
            Self::Idle | Self::Decoding => Ran::No,
            Self::Running | Self::Encoding => Ran::Yes,
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Idle => "before it began",
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
    /// None if something else reaped the process, or if it lives but its state is corrupt.
    pub(crate) status: Option<End>,
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
    /// `stderr` and the addresses in `crash` as text, made on demand.
    pub(crate) stderr_text: OnceLock<String>,
    pub(crate) backtrace: OnceLock<Option<String>>,
}

impl Loss {
    /// Of a process of which nothing more is known.
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, ..Self::default() }
    }

    pub(crate) fn is_stack_overflow(&self) -> bool {
        self.crash.as_ref().is_some_and(|crash| crash.overflow)
    }

    /// How the process ended, and at which stage.
    pub(crate) fn sentence(&self) -> String {
        let pid = self.pid;
        let how = match (&self.fault, self.status) {
            (fault, _) if self.lives => {
                let fault = fault.as_ref().map_or(String::new(), |fault| format!(" {fault} and"));
                format!("process {pid}{fault} was to be killed, but has not ended (is it frozen, or waits for a disk?)")
            }
            (Some(fault), _) => format!("process {pid} {fault} and was killed"),
            (None, None) => format!("process {pid} ended, and something else in this program took its exit status"),
            _ if self.is_stack_overflow() => format!("process {pid} overflowed its stack"),
            _ if self.oom == Some(OomKill::Certain) => format!("process {pid} was killed by the kernel's OOM killer"),
            (None, Some(End::Exited(code))) => format!("process {pid} exited with code {code}"),
            (None, Some(End::Signal(signal))) => {
                let whose = self.oom.map_or("", |_| ", probably by the kernel's OOM killer,");
                format!("process {pid} was killed by signal {signal}{}{whose}", signal_name(signal))
            }
        };
        let panicked = self.panic.as_ref().map_or(String::new(), |panic| format!("; it panicked {panic}"));
        format!("{how} {}{panicked}", self.stage.text())
    }
}
