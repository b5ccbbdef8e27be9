//! The error of the library: opaque, with methods that tell failures apart.
//!
//! The private [`Kind`] says which failure it is; [`travelling`] is how it goes to another process. What a task returns of
//! an error of another type becomes a [`Report`] in [`raised`], or goes as [`io_error`] has it.

use crate::dossier::{CalledTask, Dossier, Loss, Ran};
use crate::foreign;
use crate::os::{self, End, OomKill};
use crate::panic::PanicInfo;
use crate::protocol::{Failed, Failure, NotReady};
use crate::registry;
use crate::report::Report;
use std::borrow::Cow;
use std::sync::Arc;
use std::{fmt, io};

mod io_error;
mod kind;
mod raised;
mod travelling;

pub(crate) use kind::{Kind, Question, TravelledError, over_memory};
pub(crate) use raised::{DynError, messages, printed};

/// The result of most functions of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with a call, a process or a pool.
///
/// It prints as a sentence fragment that names the task, in a form that is safe for terminals and logs whatever the
/// worker said (see [`raw_text`](Self::raw_text)). `{:#}` adds the causes that a task's error has. Methods such as
/// [`is_panic`](Self::is_panic) and [`is_worker_lost`](Self::is_worker_lost) tell failures apart. Before making a call
/// again, check [`ran`](Self::ran).
///
/// An `Error` can be an argument, and a task may return it: a task that uses pools and queues itself returns
/// [`pool_runtime::Result`](crate::Result). What has come from another process prints as it did there, and all methods
/// answer as they did there, but for [`dossier`](Self::dossier) and [`into_message`](Self::into_message): a dossier and a
/// message stay where they are. Texts of more than 256 KiB are cut off on the way.
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

impl Error {
    pub(crate) fn new(kind: Kind) -> Self {
        Self(Box::new(ErrorInner {
            task: None,
            noun: travelling::TASK,
            index: None,
            job: None,
            ran: Ran::No,
            attempts: 1,
            kind,
        }))
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
        (self.0.task, self.0.noun) = (Some(method.into()), travelling::METHOD);
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

    /// Whether this is an error of another process that answered this question with yes.
    fn was(&self, question: Question) -> bool {
        match &self.0.kind {
            Kind::Travelled(error) => error.answers(question),
            Kind::PoolFailed { cause, .. } | Kind::SeatFailed { cause, .. } if question.is_of_the_worker() => {
                cause.was(question)
            }
            _ => false,
        }
    }

    fn travelled(&self) -> Option<&TravelledError> {
        match &self.0.kind {
            Kind::Travelled(error) => Some(error),
            Kind::PoolFailed { cause, .. } | Kind::SeatFailed { cause, .. } => cause.travelled(),
            _ => None,
        }
    }

    fn loss(&self) -> Option<&Loss> {
        match &self.0.kind {
            Kind::Lost(dossier) | Kind::DiedStarting { dossier: Some(dossier), .. } => Some(&dossier.loss),
            Kind::PoolFailed { cause, .. } | Kind::SeatFailed { cause, .. } => cause.loss(),
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
            Kind::PoolFailed { cause, .. } | Kind::SeatFailed { cause, .. } => cause.dossier(),
            _ => None,
        }
    }

    /// Where its dossier was saved, as it prints: in this process, or in the one that it has come from.
    fn dossier_file(&self) -> Option<Cow<'_, str>> {
        match &self.0.kind {
            Kind::Travelled(error) => error.dossier_file.as_deref().map(Cow::from),
            _ => Some(self.dossier()?.saved()?.to_string_lossy()),
        }
    }

    /// Its sources, the outermost first.
    fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        std::iter::successors(std::error::Error::source(self), |cause| cause.source())
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
            Kind::PoolFailed { cause, .. } | Kind::SeatFailed { cause, .. } => cause.panic(),
            Kind::Travelled(error) => error.panic.as_ref(),
            _ => self.loss()?.panic.as_ref(),
        }
    }

    /// Whether the worker ended before the task did.
    pub fn is_worker_lost(&self) -> bool {
        self.loss().is_some() || self.was(Question::WorkerLost)
    }

    /// The exit code of the lost worker, if it exited.
    pub fn exit_code(&self) -> Option<i32> {
        match self.travelled() {
            Some(error) => error.exit_code,
            None => self.loss()?.status?.code(),
        }
    }

    /// The number of the signal that killed the lost worker, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.travelled() {
            Some(error) => error.signal,
            None => self.loss()?.status?.signal(),
        }
    }

    /// Whether something had to be waited for, and was not: a queue has no room, or no item; a channel has no message; a
    /// lock is held; as many calls of a pool wait as [may](crate::PoolBuilder::max_waiting).
    pub fn is_would_block(&self) -> bool {
        matches!(self.0.kind, Kind::Blocked { .. } | Kind::BacklogFull(_)) || self.was(Question::WouldBlock)
    }

    /// Whether a message cannot be sent, as no [receiver](crate::Receiver) is left.
    pub fn is_disconnected(&self) -> bool {
        matches!(self.0.kind, Kind::Disconnected) || self.was(Question::Disconnected)
    }

    /// How many items of a queue were lost, if [`Queue::join`](crate::Queue::join) has found that out.
    pub fn lost_items(&self) -> Option<u64> {
        match &self.0.kind {
            Kind::ItemsLost(lost) => Some(*lost),
            Kind::Travelled(error) => error.lost_items,
            _ => None,
        }
    }

    /// Whether the wait or the task took too long. [`is_pending`](Self::is_pending) tells which.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, Kind::NotYet(_) | Kind::TimedOut { .. } | Kind::Waited { .. })
            || self.was(Question::Timeout)
    }

    /// Whether only the wait ended. The job goes on, and can be waited for again.
    pub fn is_pending(&self) -> bool {
        matches!(self.0.kind, Kind::NotYet(_)) || self.was(Question::Pending)
    }

    /// Whether the worker was killed because the call exceeded its memory limit, or by the kernel's OOM killer; or has
    /// aborted because it could not allocate memory, as with [`Sandbox::memory`](crate::Sandbox::memory). False if the OOM
    /// killer is only probable, as the kernel's log cannot be read: see [`Dossier::oom_killer`]; and for an abort if
    /// [standard error was not captured](crate::PoolBuilder::capture_stderr), or ends in a long backtrace, as nothing else
    /// tells why.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.0.kind, Kind::OverMemory { used, .. } if used != os::UNSEEN)
            || self.loss().is_some_and(|loss| loss.oom == Some(OomKill::Certain) || loss.failed_allocation().is_some())
            || self.was(Question::OutOfMemory)
    }

    /// Whether the worker ended because the task, or a thread that it had started, overflowed its stack.
    pub fn is_stack_overflow(&self) -> bool {
        self.loss().is_some_and(Loss::is_stack_overflow) || self.was(Question::StackOverflow)
    }

    /// Whether the job was cancelled, or its pool terminated.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.kind, Kind::Cancelled | Kind::Terminated) || self.was(Question::Cancelled)
    }

    /// Whether the pool was closed before the job was submitted, or terminated before it ended; or the queue was closed.
    pub fn is_closed(&self) -> bool {
        matches!(self.0.kind, Kind::Closed(_) | Kind::StartsEnded(_) | Kind::QueueClosed | Kind::Terminated)
            || self.was(Question::Closed)
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
        matches!(self.0.kind, Kind::Authentication(_) | Kind::Unproved(_)) || self.was(Question::Authentication)
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
        matches!(self.0.kind, Kind::Exhausted(_)) || self.was(Question::Exhausted)
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
        matches!(self.0.kind, Kind::ManagerLost(_)) || self.was(Question::ManagerLost)
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
        matches!(
            self.0.kind,
            Kind::EncodeArgument(_)
                | Kind::EncodeResult(_)
                | Kind::EncodeItem(_)
                | Kind::EncodeMessage { .. }
                | Kind::PanickedEncoding { .. }
        ) || self.was(Question::Encode)
    }

    /// Whether an argument, the result or a message could not be decoded.
    pub fn is_decode(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::DecodeArgument(_)
                | Kind::DecodeResult(_)
                | Kind::DecodeItem(_)
                | Kind::DecodeMessage { .. }
                | Kind::PanickedDecoding { .. }
        ) || self.was(Question::Decode)
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
            Kind::PoolFailed { cause, .. } | Kind::SeatFailed { cause, .. } => cause.raw_text(),
            Kind::Reported(report) => report.messages().next(),
            Kind::Travelled(error) => error.raw_text.as_deref(),
            _ => self.panic().map(PanicInfo::message),
        }
    }

    /// Whether the result has more bytes than it may have: see
    /// [`PoolBuilder::max_result`](crate::PoolBuilder::max_result). The task has run to its end.
    pub fn is_result_too_large(&self) -> bool {
        matches!(self.0.kind, Kind::ResultTooLarge { .. }) || self.was(Question::ResultTooLarge)
    }

    /// The error of the operating system, if it was one. Its text is part of this error's, so it is none of its sources.
    ///
    /// Its [`kind`](std::io::Error::kind) is always known. Its [`raw_os_error`](std::io::Error::raw_os_error) may be
    /// `None`, as where this crate has added to its text which step the system refused, and what to change.
    ///
    /// ```
    /// # use pool_runtime::connection::Listener;
    /// let error = Listener::bind("/no/such/directory/socket").unwrap_err();
    /// assert_eq!(error.io_error().map(std::io::Error::kind), Some(std::io::ErrorKind::NotFound));
    /// ```
    pub fn io_error(&self) -> Option<&io::Error> {
        match &self.0.kind {
            Kind::Os { source, .. } => Some(source),
            Kind::PoolFailed { cause, .. } | Kind::SeatFailed { cause, .. } => cause.io_error(),
            Kind::Travelled(error) => error.io_error.as_deref(),
            _ => None,
        }
    }

    /// The error that a task returned, if it was converted to this one.
    ///
    /// ```
    /// # use pool_runtime::{Error, Report};
    /// let error = Error::from(Report::new("no room"));
    /// assert_eq!(error.report().unwrap().messages().next(), Some("no room"));
    /// ```
    pub fn report(&self) -> Option<&Report> {
        match &self.0.kind {
            Kind::Reported(report) => Some(report),
            _ => None,
        }
    }

    /// Whether the task started. If it did not, the call can safely be made again.
    pub fn ran(&self) -> Ran {
        self.0.ran
    }
}

/// An error that a task returned, as the caller's own: `pool.apply(call)??`. It has [run](Self::ran).
impl From<Report> for Error {
    fn from(report: Report) -> Self {
        Self::new(Kind::Reported(report)).with_ran(Ran::Yes)
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
        if let Some(file) = self.dossier_file() {
            write!(f, "; its dossier is in {}", foreign::line(&*file))?;
        }
        match f.alternate() {
            true => self.causes().try_for_each(|cause| write!(f, ": {cause}")),
            false => Ok(()),
        }
    }
}

/// As `Display`, followed by the causes that it does not name: a `main` that returns the error prints this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        self.causes().try_for_each(|cause| write!(f, "\n  caused by: {cause}"))
    }
}

/// A source is what `Display` has not said. Where the text of another error is a part of it, that error's sources are.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.kind {
            Kind::PoolFailed { cause, .. } | Kind::SeatFailed { cause, .. } => cause.source(),
            Kind::Os { source, .. } => (**source).source(),
            Kind::Reported(report) => report.source(),
            Kind::Travelled(error) => error.cause.as_ref().map(|cause| cause as _),
            _ => None,
        }
    }
}
