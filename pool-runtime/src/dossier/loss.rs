//! The plain facts of a loss: how a process ended, what it was doing then, and whether the call had started.

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
    /// What is true of a call that has also been tried before.
    pub(crate) fn or_before(self, before: Self) -> Self {
        match (self, before) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::Maybe, _) | (_, Self::Maybe) => Self::Maybe,
            (Self::No, Self::No) => Self::No,
        }
    }
}

/// What a worker was doing when it was last heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Stage {
    /// Between calls, or not yet at its first.
    Idle = 0,
    /// Reading the arguments.
    Decoding = 1,
    /// In the task.
    Running = 2,
    /// Writing the result.
    Encoding = 3,
}

impl Stage {
    pub(crate) fn from_u32(number: u32) -> Self {
        match number {
            1 => Self::Decoding,
            2 => Self::Running,
            3 => Self::Encoding,
            _ => Self::Idle,
        }
    }

    /// Whether a task that came this far, and no further, has started.
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
#[derive(Clone, Debug)]
pub(crate) struct Loss {
    pub(crate) pid: u32,
    /// None if somebody else reaped the process, or if it is not dead but no longer makes sense.
    pub(crate) status: Option<End>,
    pub(crate) stage: Stage,
    /// The panic that ended the process, where one did (`panic = "abort"`, a panic while panicking).
    pub(crate) panic: Option<PanicInfo>,
    /// What is wrong with a worker that had to be killed.
    pub(crate) fault: Option<String>,
    pub(crate) usage: Option<Usage>,
    /// The most memory, in KiB, that the process was charged with before it did anything.
    pub(crate) first_peak: u64,
    /// Whether the kernel killed it for want of memory.
    pub(crate) oom: Option<OomKill>,
    /// What its fault handler noted.
    pub(crate) crash: Option<Crash>,
    /// The last that it wrote to standard error, if that was captured.
    pub(crate) stderr: Option<Vec<u8>>,
    /// What was made of that and of the addresses in the crash, once somebody has asked.
    pub(crate) rendered: Rendered,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Rendered {
    pub(super) stderr: OnceLock<String>,
    pub(super) backtrace: OnceLock<Option<String>>,
}

impl Loss {
    /// Of a process of which nothing more is known.
    pub(crate) fn of(pid: u32) -> Self {
        Self {
            pid,
            status: None,
            stage: Stage::Idle,
            panic: None,
            fault: None,
            usage: None,
            first_peak: 0,
            oom: None,
            crash: None,
            stderr: None,
            rendered: Rendered::default(),
        }
    }

    pub(crate) fn is_stack_overflow(&self) -> bool {
        self.crash.as_ref().is_some_and(|crash| crash.overflow)
    }

    /// How it ended, and where it was then.
    pub(crate) fn sentence(&self) -> String {
        let pid = self.pid;
        let mut text = match (&self.fault, self.status) {
            (Some(fault), _) => format!("process {pid} {fault} and was killed"),
            (None, None) => format!("process {pid} ended, and something else in this program took its exit status"),
            (None, Some(_)) if self.is_stack_overflow() => format!("process {pid} overflowed its stack"),
            (None, Some(_)) if self.oom == Some(OomKill::Certain) => {
                format!("process {pid} was killed by the kernel's OOM killer")
            }
            (None, Some(End::Exited(code))) => format!("process {pid} exited with code {code}"),
            (None, Some(End::Signal(signal))) => {
                let whose = self.oom.map_or("", |_| ", probably by the kernel's OOM killer,");
                format!("process {pid} was killed by signal {signal}{}{whose}", signal_name(signal))
            }
        };
        text.push(' ');
        text.push_str(self.stage.text());
        if let Some(panic) = &self.panic {
            text.push_str(&format!("; it panicked {panic}"));
        }
        text
    }
}
