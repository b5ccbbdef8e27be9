//! The kinds of errors: a variant for each failure that differs in more than its text.
//!
//! The text says what happened and, where possible, what to do.

use super::Error;
use crate::dossier::{Dossier, Stage};
use crate::foreign;
use crate::os;
use crate::panic::PanicInfo;
use crate::report::{Cause, Report};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Kind {
    #[error("panicked {panic}{}", if *.stage == Stage::Running { String::new() } else { format!(" ({})", .stage.text()) })]
    Panicked { panic: PanicInfo, stage: Stage },
    #[error("panicked {panic} while encoding its arguments")]
    PanickedEncoding { panic: PanicInfo },
    #[error("panicked {panic} while decoding its result")]
    PanickedDecoding { panic: PanicInfo },
    #[error("lost its worker: {}", .0.loss.sentence())]
    Lost(Dossier),
    #[error("took longer than {limit:?}, and its worker was killed")]
    TimedOut { limit: Duration, dossier: Dossier },
    #[error("{}: its worker was killed", over_memory(*.limit, *.used))]
    OverMemory { limit: u64, used: u64, dossier: Dossier },
    #[error("has no result yet: waited {0:?}; it goes on, and can be waited for again")]
    NotYet(Duration),
    #[error("was cancelled")]
    Cancelled,
    #[error("was not finished when its pool was terminated")]
    Terminated,
    #[error("cannot be submitted: the pool is {0}")]
    Closed(&'static str),
    #[error("{0}")]
    BacklogFull(String),
    #[error("the workers of the pool will not all be ready: the pool is {0}")]
    StartsEnded(&'static str),
    #[error("a worker of the pool cannot start, and the others go on without it: {reason}")]
    SeatFailed { reason: String, cause: Box<Error> },
    #[error("argument {}", foreign::line(.0))]
    EncodeArgument(String),
    #[error("has a result that cannot be sent back: {}", foreign::line(.0))]
    EncodeResult(String),
    #[error(
        "returned a result of {}, and its limit is {}: return less, or raise `max_result`",
        size(*.length), size(*.most)
    )]
    ResultTooLarge { length: u64, most: u64 },
    #[error("cannot read its arguments: {}", foreign::line(.0))]
    DecodeArgument(String),
    #[error("has a result that cannot be read: {}", foreign::line(.0))]
    DecodeResult(String),
    #[error("cannot put an item on a queue: {}", foreign::line(.0))]
    EncodeItem(String),
    #[error("cannot take an item off a queue: {}", foreign::line(.0))]
    DecodeItem(String),
    #[error("cannot put an item on a queue: it is closed")]
    QueueClosed,
    #[error("cannot send a message: no receiver is left")]
    Disconnected,
    #[error("{what}")]
    Blocked { what: &'static str },
    #[error("{what} (waited {time:?})")]
    Waited { what: &'static str, time: Duration },
    #[error(
        "{0} items of the queue were taken by processes that ended and had not said that they are done (`task_done`)"
    )]
    ItemsLost(u64),
    #[error("the initializer failed: {}", foreign::block(.0))]
    Initializer(String),
    #[error("the initializer panicked {0}")]
    InitializerPanicked(PanicInfo),
    #[error("{text}")]
    DiedStarting { text: String, killed: bool, dossier: Option<Dossier> },
    #[error("the workers cannot start: {reason}")]
    PoolFailed { reason: String, cause: Box<Error> },
    #[error("the worker refuses to work: {}", foreign::line(.0))]
    Refused(String),
    #[error("{}", foreign::line(.0))]
    Unfit(String),
    #[error("{0}")]
    Authentication(String),
    /// The other side has left before both keys were proved.
    #[error("{0}")]
    Unproved(String),
    #[error("{0}")]
    Exhausted(String),
    #[error("{0}")]
    ManagerLost(String),
    #[error("cannot send a value to {peer}: {}", foreign::line(.why))]
    EncodeMessage { peer: String, why: String },
    #[error("cannot receive a value from {peer}: {}", foreign::line(.why))]
    DecodeMessage { peer: String, why: String },
    #[error(
        "cannot receive a message of {} bytes into a buffer of {room}: make it longer, or take the message out of this \
         error (`into_message`)",
        message.len()
    )]
    BufferTooShort { room: usize, message: Vec<u8> },
    #[error("{0}")]
    Invalid(String),
    #[error("{action}: {source}")]
    Os { action: Cow<'static, str>, source: Arc<io::Error> },
    /// What a task returned: the pool did what it should.
    #[error("{0}")]
    Reported(Report),
    /// An error of another process.
    #[error("{}", foreign::stream(.0.text.as_bytes()))]
    Travelled(Box<TravelledError>),
}

pub(crate) fn over_memory(limit: u64, used: u64) -> String {
    let limit = mebibytes(limit);
    match used {
        os::UNSEEN => format!("may use {limit} of memory, and how much it uses cannot be seen any more"),
        used => format!("used {} of memory, and its limit is {limit}", mebibytes(used)),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{bytes} bytes") } else { mebibytes(bytes) }
}

/// What is known here of an error of another process.
#[derive(Clone, Debug)]
pub(crate) struct TravelledError {
    /// Without the task's name and the number of attempts. It was cut off when it came, if at all.
    pub(super) text: String,
    /// A bit for each question whose answer was yes.
    pub(super) answers: u32,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) panic: Option<PanicInfo>,
    pub(super) raw_text: Option<String>,
    pub(super) lost_items: Option<u64>,
    pub(super) io_error: Option<Arc<io::Error>>,
    pub(super) cause: Option<Cause>,
    /// Where the other process has saved its dossier.
    pub(super) dossier_file: Option<String>,
}

impl TravelledError {
    pub(super) fn answers(&self, question: Question) -> bool {
        self.answers & question.bit() != 0
    }
}

/// A yes-or-no question about an error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Question {
    WorkerLost,
    WouldBlock,
    Disconnected,
    Timeout,
    Pending,
    OutOfMemory,
    StackOverflow,
    Cancelled,
    Closed,
    Authentication,
    Exhausted,
    ManagerLost,
    Encode,
    Decode,
    ResultTooLarge,
}

impl Question {
    pub(super) fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether a pool that cannot start because of such an error answers it alike.
    pub(super) fn is_of_the_worker(self) -> bool {
        matches!(self, Self::WorkerLost | Self::StackOverflow | Self::OutOfMemory)
    }
}
