//! What `#[task]` makes of a function: an entry for the table, a type that stands for the task, and calls of it.
//!
//! The traits here carry the texts that a user reads who hands something else to a pool.

use crate::{
    codec::{CodecError, Few, Reader, Writer},
    error::{Error, Kind},
    panic,
    payload::Payload,
    policy::Wish,
    run::{Fault, Run, Series},
    shared::{self, Regions},
};
use std::{
    any::{Any, TypeId},
    fmt,
    marker::PhantomData,
    time::Duration,
};

/// One registered task: an entry of the table that [`tasks`](crate::tasks) lists.
pub struct TaskInfo {
    name: &'static str,
    file: &'static str,
    line: u32,
    signature: &'static str,
    body: Body,
    state: Option<fn() -> StateType>,
    wish: Wish,
}

/// What an entry runs.
pub enum Body {
    /// A task: one call, and many calls one after the other, for which it is compiled into the loop.
    Task(fn(&mut Run<'_>) -> Result<(), Fault>, fn(&mut Series<'_>)),
    /// An initializer: reads its arguments, runs, and leaves the worker's state.
    Initializer(fn(&mut Run<'_>) -> Result<Box<dyn Any>, Fault>),
}

impl TaskInfo {
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        (file, line): (&'static str, u32),
        signature: &'static str,
        body: Body,
        state: Option<fn() -> StateType>,
    ) -> Self {
        Self { name, file, line, signature, body, state, wish: Wish::NONE }
    }

    /// As the attribute declares it.
    #[doc(hidden)]
    #[must_use]
    pub const fn wishes(mut self, wish: Wish) -> Self {
        self.wish = wish;
        self
    }

    /// What the attribute asks for.
    pub(crate) fn wish(&self) -> &Wish {
        &self.wish
    }

    /// The name by which a worker finds the task: `module_path::function`, or what `#[task(name = "…")]` says.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The source file of the function.
    pub fn file(&self) -> &'static str {
        self.file
    }

    /// The line of the function in [`file`](Self::file).
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The function's signature, as it is written.
    pub fn signature(&self) -> &'static str {
        self.signature
    }

    /// Is it a `#[task(initializer)]`?
    pub fn is_initializer(&self) -> bool {
        matches!(self.body, Body::Initializer(_))
    }

    /// A hash of the name and the signature: two builds that disagree about a task do not work together.
    pub(crate) fn signature_hash(&self) -> u64 {
        let mut hash = crate::registry::Fnv::new();
        hash.write(self.name.as_bytes());
        hash.write(self.signature.as_bytes());
        hash.finish()
    }

    pub(crate) fn body(&self) -> &Body {
        &self.body
    }

    /// The state that a task asks for, or that an initializer makes.
    pub(crate) fn state(&self) -> Option<StateType> {
        self.state.map(|state| state())
    }
}

impl fmt::Debug for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskInfo")
            .field("name", &self.name)
            .field("file", &self.file)
            .field("line", &self.line)
            .field("signature", &self.signature)
            .finish_non_exhaustive()
    }
}

/// The type of a worker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateType {
    id: TypeId,
    name: &'static str,
}

impl StateType {
    /// The state type `S`.
    pub fn of<S: 'static>() -> Self {
        Self { id: TypeId::of::<S>(), name: std::any::type_name::<S>() }
    }

    pub(crate) fn name(self) -> &'static str {
        self.name
    }

    pub(crate) fn is_unit(self) -> bool {
        self.id == TypeId::of::<()>()
    }
}

/// Anything that stands in the table.
pub trait Registered: 'static {
    #[doc(hidden)]
    fn info() -> &'static TaskInfo;
}

/// A task: the type beside a function that has `#[task]`.
///
/// It is implemented by the attribute alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task that can be called in another process",
    label = "not a task",
    note = "put `#[task]` on the function; a `#[task(initializer)]` goes to `Pool::builder().initializer(…)`"
)]
pub trait Task: Registered {
    /// What the task returns.
    type Output;

    #[doc(hidden)]
    fn decode(result: &mut Reader<'_>) -> Result<Self::Output, CodecError>;
}

/// An initializer: the type beside a function that has `#[task(initializer)]`.
///
/// It is implemented by the attribute alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an initializer",
    label = "not an initializer",
    note = "put `#[task(initializer)]` on the function whose value each worker keeps as its state"
)]
pub trait Initializer: Registered {}

/// A task with its arguments: a call that has not run yet.
///
/// `name::call(arguments…)` makes one; a [`Pool`](crate::Pool) or a [`Process`](crate::Process) runs it. What it may
/// take can be chosen for it alone.
///
/// ```
/// # use pool_runtime::{Pool, Result, enter, task};
/// # use std::time::Duration;
/// #[task]
/// fn never_ends() {
///     loop {
///         std::thread::sleep(Duration::from_secs(1));
///     }
/// }
///
/// fn main() -> Result<()> {
///     enter();
///     let pool = Pool::new(1)?;
///     let error = pool.apply(never_ends::call().timeout(Duration::from_millis(50)).retries(1)).unwrap_err();
///     assert!(error.is_timeout() && error.attempts() == 2);
///     Ok(())
/// }
/// ```
#[must_use = "a call does nothing until a pool or a process runs it"]
pub struct Call<'a, T> {
    arguments: Result<Encoded, Error>,
    /// What is asked for this call alone.
    wish: Option<Box<Wish>>,
    lent: PhantomData<&'a ()>,
    task: PhantomData<fn() -> T>,
}

impl<T: Registered> Call<'_, T> {
    #[doc(hidden)]
    #[inline]
    pub fn encode(write: impl FnOnce(&mut Writer) -> Result<(), (&'static str, CodecError)>) -> Self {
        let encoded = panic::catch(|| {
            let mut writer = Writer::with_spare();
            let (written, regions) = shared::collect(|| write(&mut writer));
            written.map(|()| Encoded { bytes: writer.into_bytes().into(), regions })
        });
        let arguments = match encoded {
            Ok(Ok(arguments)) => Ok(arguments),
            Ok(Err((argument, reason))) => {
                Err(Kind::EncodeArgument(format!("`{argument}` cannot be encoded: {reason}")))
            }
            Err(panic) => Err(Kind::PanickedEncoding { panic }),
        };
        Self {
            arguments: arguments.map_err(|kind| Error::new(kind).of_task(T::info().name())),
            wish: None,
            lent: PhantomData,
            task: PhantomData,
        }
    }

    /// A call whose arguments are a few bytes.
    #[doc(hidden)]
    #[inline]
    pub fn few(arguments: Few) -> Self {
        let encoded = Encoded { bytes: Payload::Few(arguments), regions: Regions::default() };
        Self { arguments: Ok(encoded), wish: None, lent: PhantomData, task: PhantomData }
    }

    /// The task's name.
    pub fn task_name(&self) -> &'static str {
        T::info().name()
    }

    /// How long this call may take, from when a worker takes it up, whatever the task or the pool says; then its worker
    /// is killed and replaced, and the job fails with an error that [`is_timeout`](Error::is_timeout). `Duration::MAX`
    /// is no limit.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(|wish| wish.timeout = Some(limit))
    }

    /// After how long this call is told to come to an end, from when a worker takes it up: see
    /// [`current_job`](crate::current_job). `Duration::MAX` is never.
    pub fn soft_timeout(self, limit: Duration) -> Self {
        self.with(|wish| wish.soft_timeout = Some(limit))
    }

    /// How often this call may be tried again if its worker is lost, or killed because the call took too long.
    pub fn retries(self, retries: u32) -> Self {
        self.with(|wish| wish.retries = Some(retries))
    }

    /// How many bytes of memory its worker may use while it runs this call: see
    /// [`PoolBuilder::memory`](crate::PoolBuilder::memory). `u64::MAX` is no limit.
    pub fn memory(self, bytes: u64) -> Self {
        self.with(|wish| wish.memory = Some(bytes))
    }

    fn with(mut self, change: impl FnOnce(&mut Wish)) -> Self {
        change(self.wish.get_or_insert_default());
        self
    }

    #[inline]
    pub(crate) fn into_raw(self) -> RawCall {
        RawCall { task: T::info(), arguments: self.arguments, wish: self.wish }
    }
}

impl<T: Registered> fmt::Debug for Call<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", T::info().name())
    }
}

/// Arguments as they travel.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Payload,
    /// The shared memory of which the bytes speak: to be held as long as the call may run.
    pub(crate) regions: Regions,
}

/// A call without its type.
pub struct RawCall {
    pub(crate) task: &'static TaskInfo,
    pub(crate) arguments: Result<Encoded, Error>,
    /// What is asked for this call alone.
    pub(crate) wish: Option<Box<Wish>>,
}

impl fmt::Debug for RawCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawCall({})", self.task.name())
    }
}

/// What a pool or a process takes: a [`Call`] of a task.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a call of a task",
    label = "expected a call, such as `name::call(…)`",
    note = "put `#[task]` on the function, and hand over `name::call(arguments…)`: a call that has not run yet (for \
            `map` and its like, `name::call` itself or a closure that returns a call)"
)]
pub trait TaskCall: sealed::Sealed {
    /// The task that is called.
    type Task: Task<Output = Self::Output>;
    /// What it returns.
    type Output;

    #[doc(hidden)]
    fn into_raw(self) -> RawCall;
}

impl<T: Task> TaskCall for Call<'_, T> {
    type Task = T;
    type Output = T::Output;

    #[inline]
    fn into_raw(self) -> RawCall {
        Call::into_raw(self)
    }
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for super::Call<'_, T> {}
}

/// Picks how the value of an initializer becomes a state, as [`Probe`](crate::codec::Probe) does for values.
#[derive(Debug)]
pub struct StateProbe<T>(PhantomData<T>);

impl<T> StateProbe<T> {
    /// The probe of `T`.
    #[expect(clippy::new_without_default, reason = "made by the macro alone")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// A `Result` whose error can be displayed.
pub trait StateOrError<T> {
    /// The state, or the error's text.
    fn state(&self, value: T) -> Result<Box<dyn Any>, Fault>;
    /// Its type.
    fn state_type(&self) -> StateType;
}

impl<S: 'static, E: fmt::Display> StateOrError<Result<S, E>> for &&StateProbe<Result<S, E>> {
    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(|state| Box::new(state) as Box<dyn Any>).map_err(|error| Fault::Initializer(error.to_string()))
    }
    fn state_type(&self) -> StateType {
        StateType::of::<S>()
    }
}

/// A `Result` whose error can only be debugged.
pub trait StateOrDebug<T> {
    /// The state, or the error's text.
    fn state(&self, value: T) -> Result<Box<dyn Any>, Fault>;
    /// Its type.
    fn state_type(&self) -> StateType;
}

impl<S: 'static, E: fmt::Debug> StateOrDebug<Result<S, E>> for &StateProbe<Result<S, E>> {
    fn state(&self, value: Result<S, E>) -> Result<Box<dyn Any>, Fault> {
        value.map(|state| Box::new(state) as Box<dyn Any>).map_err(|error| Fault::Initializer(format!("{error:?}")))
    }
    fn state_type(&self) -> StateType {
        StateType::of::<S>()
    }
}

/// Any other value is the state itself.
pub trait StateItself<T> {
    /// The state.
    fn state(&self, value: T) -> Result<Box<dyn Any>, Fault>;
    /// Its type.
    fn state_type(&self) -> StateType;
}

impl<S: 'static> StateItself<S> for StateProbe<S> {
    fn state(&self, value: S) -> Result<Box<dyn Any>, Fault> {
        Ok(Box::new(value))
    }
    fn state_type(&self) -> StateType {
        StateType::of::<S>()
    }
}
