//! The error of the library: opaque, with methods that tell failures apart.
//!
//! The private [`Kind`] has a variant for each failure that differs in more than its text. The text says what happened
//! and, where possible, what to do.

use crate::dossier::{CalledTask, Dossier, Loss, Ran, Stage};
use crate::foreign;
use crate::os::{self, End, OomKill};
use crate::panic::PanicInfo;
use crate::protocol::{Failed, Failure, NotReady};
use crate::registry;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

/// The result of most functions of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with a call, a process or a pool.
///
/// It prints as a sentence fragment that names the task, in a form that is safe for terminals and logs whatever the
/// worker said (see [`raw_text`](Self::raw_text)). Methods such as [`is_panic`](Self::is_panic) and
/// [`is_worker_lost`](Self::is_worker_lost) tell failures apart. Before making a call again, check [`ran`](Self::ran).
///
/// ```
/// # use pool_runtime::{Pool, Ran, Result, enter, task};
/// #[task]
/// fn crash() {
///     std::process::abort();
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let pool = Pool::new(1)?;
///     let error = pool.apply(crash::call()).unwrap_err();
///     assert!(error.is_worker_lost());
///     assert_eq!((error.signal(), error.exit_code()), (Some(6), None));
///     assert_eq!(error.ran(), Ran::Yes);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Error(Box<ErrorInner>);

#[derive(Clone)]
struct ErrorInner {
    task: Option<Cow<'static, str>>,
    /// What has that name: a task, or a method of a managed object.
    noun: &'static str,
    /// The position of the call's input.
    index: Option<usize>,
    job: Option<u64>,
    ran: Ran,
    attempts: u32,
    kind: Kind,
}

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

impl Error {
    pub(crate) fn new(kind: Kind) -> Self {
        Self(Box::new(ErrorInner { task: None, noun: "task", index: None, job: None, ran: Ran::No, attempts: 1, kind }))
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(Kind::Invalid(text.into()))
    }

    pub(crate) fn os(action: impl Into<Cow<'static, str>>, source: impl Into<io::Error>) -> Self {
        Self::new(Kind::Os { action: action.into(), source: Arc::new(source.into()) })
    }

    /// A limit of memory cannot be kept.
    pub(crate) fn memory_unseen(source: io::Error) -> Self {
        const ACTION: &str = "cannot keep a limit of memory, as the memory of processes cannot be seen (mount the `/proc` \
                              of this container, or leave out the limit)";
        Self::os(ACTION, source)
    }

    /// This process has no memory for a result of so many bytes.
    pub(crate) fn no_memory(length: usize) -> Self {
        Self::new(Kind::DecodeResult(format!("this process has no memory for its {length} bytes"))).with_ran(Ran::Yes)
    }

    /// The pool has failed because of this error, after so many tries.
    pub(crate) fn pool_failed(tries: u32, cause: Self) -> Self {
        let reason = if tries == 1 { cause.to_string() } else { format!("{cause} ({tries} tries)") };
        Self::new(Kind::PoolFailed { reason, cause: Box::new(cause) })
    }

    pub(crate) fn of_task(mut self, task: impl Into<Cow<'static, str>>) -> Self {
        let task = self.0.task.get_or_insert(task.into()).clone();
        if let Some(dossier) = self.dossier_mut() {
            dossier.task.get_or_insert_with(|| {
                let place = registry::find(&task).map(|info| (info.file(), info.line()));
                CalledTask { name: task, place }
            });
        }
        self
    }

    pub(crate) fn of_method(mut self, method: &'static str) -> Self {
        (self.0.task, self.0.noun) = (Some(method.into()), "method");
        self
    }

    /// The error of the call that was made of this input.
    #[cold]
    pub(crate) fn at_input(mut self, index: usize) -> Self {
        self.0.index = Some(index);
        self
    }

    pub(crate) fn of_job(mut self, job: u64) -> Self {
        self.0.job = Some(job);
        self
    }

    pub(crate) fn with_ran(mut self, ran: Ran) -> Self {
        self.0.ran = ran;
        self
    }

    pub(crate) fn with_attempts(mut self, attempts: u32) -> Self {
        self.0.attempts = attempts;
        self
    }

    /// Whether the start of a worker may succeed when tried again, as resources were short or the process was killed.
    pub(crate) fn may_pass(&self) -> bool {
        match &self.0.kind {
            // These errors are permanent.
            Kind::Os { source, .. } => {
                use io::ErrorKind::{InvalidInput, NotFound, PermissionDenied, Unsupported};
                !matches!(source.kind(), NotFound | PermissionDenied | InvalidInput | Unsupported)
            }
            Kind::DiedStarting { killed, .. } => *killed,
            Kind::Lost(dossier) => dossier.loss.status.is_some_and(End::was_killed),
            _ => false,
        }
    }

    pub(crate) fn dossier_mut(&mut self) -> Option<&mut Dossier> {
        match &mut self.0.kind {
            Kind::Lost(dossier) | Kind::TimedOut { dossier, .. } | Kind::OverMemory { dossier, .. } => Some(dossier),
            _ => None,
        }
    }

    fn loss(&self) -> Option<&Loss> {
        match &self.0.kind {
            Kind::Lost(dossier) | Kind::DiedStarting { dossier: Some(dossier), .. } => Some(&dossier.loss),
            Kind::PoolFailed { cause, .. } => cause.loss(),
            _ => None,
        }
    }

    /// What is known of the death of the worker, if the call was lost with it. This includes workers that were killed
    /// because of a call's limits, or died in the pool's initializer.
    pub fn dossier(&self) -> Option<&Dossier> {
        match &self.0.kind {
            Kind::Lost(dossier)
            | Kind::TimedOut { dossier, .. }
            | Kind::OverMemory { dossier, .. }
            | Kind::DiedStarting { dossier: Some(dossier), .. } => Some(dossier),
            Kind::PoolFailed { cause, .. } => cause.dossier(),
            _ => None,
        }
    }

    /// The number of attempts at the call: more than one only with [retries](crate::PoolBuilder::retries).
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The name of the task, or of the method of a managed object, if the error belongs to a call.
    pub fn task_name(&self) -> Option<&str> {
        self.0.task.as_deref()
    }

    /// Which input failed, if the error is that of one of the calls of [`map`](crate::Pool::map),
    /// [`map_async`](crate::Pool::map_async), [`try_map`](crate::Pool::try_map), [`imap`](crate::Pool::imap) or
    /// [`imap_unordered`](crate::Pool::imap_unordered): its position among the inputs, from 0.
    ///
    /// `None` for a single call, and where the failure is not that of one input: the pool was closed, for example.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// #[task]
    /// fn invert(n: i32) -> i32 {
    ///     100 / n
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let inputs = [5, 2, 0, 1];
    ///     let error = Pool::new(2)?.map(invert::call, inputs).unwrap_err();
    ///     assert_eq!(error.index(), Some(2));
    ///     assert!(error.to_string().contains("invert` (input 2) panicked at "));
    ///     Ok(())
    /// }
    /// ```
    pub fn index(&self) -> Option<usize> {
        self.0.index
    }

    /// The number of the job that failed, as [`Job::id`](crate::Job::id) returns it and the task's
    /// [`current_job`](crate::current_job) knows it. `None` for a call that was never submitted, and for failures that
    /// are found when the result is decoded.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// #[task]
    /// fn fail() {
    ///     panic!("always");
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let pool = Pool::new(1)?;
    ///     let job = pool.apply_async(fail::call());
    ///     let id = job.id();
    ///     assert_eq!(job.get().unwrap_err().job(), Some(id));
    ///     Ok(())
    /// }
    /// ```
    pub fn job(&self) -> Option<u64> {
        self.0.job
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        self.panic().is_some()
    }

    /// The message and place of the panic.
    pub fn panic(&self) -> Option<&PanicInfo> {
        match &self.0.kind {
            Kind::Panicked { panic, .. }
            | Kind::InitializerPanicked(panic)
            | Kind::PanickedEncoding { panic }
            | Kind::PanickedDecoding { panic } => Some(panic),
            Kind::PoolFailed { cause, .. } => cause.panic(),
            _ => self.loss()?.panic.as_ref(),
        }
    }

    /// Whether the worker ended before the task did.
    pub fn is_worker_lost(&self) -> bool {
        self.loss().is_some()
    }

    /// The exit code of the lost worker, if it exited.
    pub fn exit_code(&self) -> Option<i32> {
        self.loss()?.status?.code()
    }

    /// The number of the signal that killed the lost worker, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.loss()?.status?.signal()
    }

    /// Whether something had to be waited for, and was not: a queue has no room, or no item; a
    /// channel has no message; a lock is held.
    pub fn is_would_block(&self) -> bool {
        matches!(self.0.kind, Kind::Blocked { .. })
    }

    /// Whether a message cannot be sent, as no [receiver](crate::Receiver) is left.
    pub fn is_disconnected(&self) -> bool {
        matches!(self.0.kind, Kind::Disconnected)
    }

    /// How many items of a queue were lost, if [`Queue::join`](crate::Queue::join) has found that out.
    pub fn lost_items(&self) -> Option<u64> {
        match self.0.kind {
            Kind::ItemsLost(lost) => Some(lost),
            _ => None,
        }
    }

    /// Whether the wait or the task took too long. [`is_pending`](Self::is_pending) tells which.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, Kind::NotYet(_) | Kind::TimedOut { .. } | Kind::Waited { .. })
    }

    /// Whether only the wait ended. The job goes on, and can be waited for again.
    pub fn is_pending(&self) -> bool {
        matches!(self.0.kind, Kind::NotYet(_))
    }

    /// Whether the worker was killed because the call exceeded its memory limit, or by the kernel's OOM killer. False if
    /// the latter is only probable, as the kernel's log cannot be read: see [`Dossier::oom_killer`].
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.0.kind, Kind::OverMemory { used, .. } if used != os::UNSEEN)
            || self.loss().is_some_and(|loss| loss.oom == Some(OomKill::Certain))
    }

    /// Whether the worker ended because the task, or a thread that it had started, overflowed its stack.
    pub fn is_stack_overflow(&self) -> bool {
        self.loss().is_some_and(Loss::is_stack_overflow)
    }

    /// Whether the job was cancelled, or its pool terminated.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.kind, Kind::Cancelled | Kind::Terminated)
    }

    /// Whether the pool was closed before the job was submitted, or terminated before it ended; or the queue was closed.
    pub fn is_closed(&self) -> bool {
        matches!(self.0.kind, Kind::Closed(_) | Kind::QueueClosed | Kind::Terminated)
    }

    /// Whether one side of a [connection](crate::connection) did not prove to the other that it has the same key, or
    /// not in time. A [`Listener`](crate::connection::Listener) goes on after it.
    ///
    /// ```
    /// # use pool_runtime::connection::{AuthKey, Client, Listener};
    /// let listener = Listener::builder().authkey(AuthKey::new("one")).bind("127.0.0.1:0")?;
    /// let address = listener.address().clone();
    /// let client = std::thread::spawn(|| Client::builder().authkey(AuthKey::new("another")).connect(address));
    /// let error = listener.accept().unwrap_err();
    /// assert!(error.is_authentication() && error.to_string().contains("it has another key"));
    /// assert!(client.join().expect("no panic").unwrap_err().is_authentication());
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn is_authentication(&self) -> bool {
        matches!(self.0.kind, Kind::Authentication(_) | Kind::Unproved(_))
    }

    /// Whether that was because the other side has left, for whatever reason.
    pub(crate) fn is_unproved(&self) -> bool {
        matches!(self.0.kind, Kind::Unproved(_))
    }

    /// Whether a [`Listener`](crate::connection::Listener) could not accept a connection, as the process or the system
    /// has no descriptors or no memory left. It goes on, and so should a server: clients wait until others have left.
    ///
    /// ```
    /// # use pool_runtime::connection::{AuthKey, Client, Listener};
    /// # let listener = Listener::bind("127.0.0.1:0")?;
    /// # let address = listener.address().clone();
    /// # let client = std::thread::spawn(move || Client::connect(&address).map(drop));
    /// let connection = loop {
    ///     match listener.accept() {
    ///         Ok(connection) => break connection,
    ///         Err(error) if error.is_authentication() || error.is_exhausted() => eprintln!("{error}"),
    ///         Err(error) => return Err(error),
    ///     }
    /// };
    /// # client.join().expect("no panic")?;
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn is_exhausted(&self) -> bool {
        matches!(self.0.kind, Kind::Exhausted(_))
    }

    /// Whether the server of a [`Manager`](crate::Manager) was not there for a call, or ended before it answered. The
    /// objects that it had are gone. [`ran`](Self::ran) tells whether the method may have been called.
    ///
    /// ```
    /// # use pool_runtime::{Dict, Manager, Ran, Result, enter};
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let manager = Manager::start()?;
    ///     let dict = Dict::<u32, u32>::new(&manager)?;
    ///     manager.shutdown()?;
    ///     assert!(dict.len().unwrap_err().is_manager_lost());
    ///     Ok(())
    /// }
    /// ```
    pub fn is_manager_lost(&self) -> bool {
        matches!(self.0.kind, Kind::ManagerLost(_))
    }

    /// The message for which a buffer was too short: see
    /// [`recv_bytes_into`](crate::connection::Connection::recv_bytes_into). `None` for other failures.
    ///
    /// ```
    /// # use pool_runtime::connection::{Client, Listener};
    /// let listener = Listener::builder().no_authkey().bind("127.0.0.1:0")?;
    /// Client::builder().no_authkey().connect(listener.address())?.send_bytes(b"message")?;
    /// let error = listener.accept()?.recv_bytes_into(&mut [0; 2]).unwrap_err();
    /// assert_eq!(error.into_message().as_deref(), Some(&b"message"[..]));
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    pub fn into_message(self) -> Option<Vec<u8>> {
        match self.0.kind {
            Kind::BufferTooShort { message, .. } => Some(message),
            _ => None,
        }
    }

    /// Whether an argument, the result or a message could not be encoded.
    pub fn is_encode(&self) -> bool {
        use Kind::{EncodeArgument, EncodeItem, EncodeMessage, EncodeResult, PanickedEncoding};
        matches!(
            self.0.kind,
            EncodeArgument(_) | EncodeResult(_) | EncodeItem(_) | EncodeMessage { .. } | PanickedEncoding { .. }
        )
    }

    /// Whether an argument, the result or a message could not be decoded.
    pub fn is_decode(&self) -> bool {
        use Kind::{DecodeArgument, DecodeItem, DecodeMessage, DecodeResult, PanickedDecoding};
        matches!(
            self.0.kind,
            DecodeArgument(_) | DecodeResult(_) | DecodeItem(_) | DecodeMessage { .. } | PanickedDecoding { .. }
        )
    }

    /// What the worker, or the code that encodes and decodes values, said of the failure, as it was written: a panic's
    /// message, a refusal, an error of `serde`. It may include what a terminal obeys, and be of any length; where the
    /// whole error is printed, control characters are escaped and long texts cut off. `None` for other failures.
    ///
    /// ```
    /// # use pool_runtime::{Pool, Result, enter, task};
    /// #[task]
    /// fn complain() {
    ///     panic!("\x1b[31mred");
    /// }
    ///
    /// fn main() -> Result<()> {
    ///     enter();
    ///     let error = Pool::new(1)?.apply(complain::call()).unwrap_err();
    ///     assert_eq!(error.raw_text(), Some("\x1b[31mred"));
    ///     assert!(error.to_string().ends_with(r"\x1b[31mred"));
    ///     Ok(())
    /// }
    /// ```
    pub fn raw_text(&self) -> Option<&str> {
        match &self.0.kind {
            Kind::EncodeArgument(text)
            | Kind::EncodeResult(text)
            | Kind::DecodeArgument(text)
            | Kind::DecodeResult(text)
            | Kind::EncodeItem(text)
            | Kind::DecodeItem(text)
            | Kind::Initializer(text)
            | Kind::EncodeMessage { why: text, .. }
            | Kind::DecodeMessage { why: text, .. }
            | Kind::Refused(text)
            | Kind::Unfit(text) => Some(text),
            Kind::PoolFailed { cause, .. } => cause.raw_text(),
            _ => self.panic().map(PanicInfo::message),
        }
    }

    /// Whether the result has more bytes than it may have: see
    /// [`PoolBuilder::max_result`](crate::PoolBuilder::max_result). The task has run to its end.
    pub fn is_result_too_large(&self) -> bool {
        matches!(self.0.kind, Kind::ResultTooLarge { .. })
    }

    /// Whether the task started. If it did not, the call can safely be made again.
    pub fn ran(&self) -> Ran {
        self.0.ran
    }
}

impl From<Failed> for Error {
    fn from(Failed { stage, failure, .. }: Failed) -> Self {
        match failure {
            Failure::Panicked(panic) => Self::new(Kind::Panicked { panic, stage }).with_ran(stage.ran()),
            Failure::Decode(why) => Self::new(Kind::DecodeArgument(why)),
            Failure::Encode(why) => Self::new(Kind::EncodeResult(why)).with_ran(stage.ran()),
            Failure::TooLarge { length, most } => {
                Self::new(Kind::ResultTooLarge { length, most }).with_ran(stage.ran())
            }
            Failure::Unfit(why) => Self::new(Kind::Unfit(why)),
        }
    }
}

impl From<NotReady> for Error {
    fn from(why: NotReady) -> Self {
        Self::new(match why {
            NotReady::Failed(why) => Kind::Initializer(why),
            NotReady::Panicked(panic) => Kind::InitializerPanicked(panic),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(task) = &self.0.task {
            write!(f, "{} `{task}` ", self.0.noun)?;
        }
        if let Some(index) = self.0.index {
            write!(f, "(input {index}) ")?;
        }
        self.0.kind.fmt(f)?;
        if self.0.attempts > 1 {
            write!(f, " ({} attempts)", self.0.attempts)?;
        }
        match self.dossier().and_then(Dossier::saved) {
            Some(file) => write!(f, "; its dossier is in {}", file.display()),
            None => Ok(()),
        }
    }
}

/// As `Display`, followed by the causes: a `main` that returns the error prints this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, "\n  caused by: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            Kind::Os { source, .. } => Some(&**source),
            Kind::PoolFailed { cause, .. } => Some(&**cause),
            _ => None,
        }
    }
}
