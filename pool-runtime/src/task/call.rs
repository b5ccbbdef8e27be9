//! Tasks as types, and calls of them. The traits carry the error texts for a user who passes something else.

use crate::codec::{CodecError, Reader, Writer};
use crate::error::{Error, Kind};
use crate::memory::referred::collect_of_call;
use crate::memory::region::{Deposit, Regions};
use crate::memory::{ShortBytes, payload::Payload};
use crate::panic;
use crate::policy::Wish;
use crate::task::{Registered, TaskInfo};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A task: the type beside a function that has `#[task]`. Only the attribute implements it.
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

/// An initializer: the type beside a function that has `#[task(initializer)]`. Only the attribute implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an initializer",
    label = "not an initializer",
    note = "put `#[task(initializer)]` on the function whose value each worker keeps as its state"
)]
pub trait Initializer: Registered {}

/// A task with its arguments: a call that has not run yet.
///
/// `name::call(arguments…)` makes one; a [`Pool`](crate::Pool) or a [`Process`](crate::Process) runs it. Its own limits
/// take precedence over those of the task and of the pool.
///
/// `name::call` encodes the arguments at once and returns a `Call<'static, name>`: what they borrow may change or go before
/// the call runs.
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
    pub(crate) raw: RawCall,
    lent: PhantomData<&'a ()>,
    task: PhantomData<fn() -> T>,
}

impl<T: Registered> Call<'_, T> {
    #[doc(hidden)]
    #[inline]
    pub fn encode(write: impl FnOnce(&mut Writer) -> Result<(), (&'static str, CodecError)>) -> Self {
        let encoded = panic::catch(|| {
            let mut writer = Writer::recycled();
            let (written, regions) = collect_of_call(|| write(&mut writer));
            written.map(|()| Encoded { bytes: writer.into_bytes().into(), regions })
        });
        let arguments = match encoded {
            Ok(Ok(arguments)) => Ok(arguments),
            Ok(Err((argument, reason))) => {
                Err(Kind::EncodeArgument(format!("`{argument}` cannot be encoded: {reason}")))
            }
            Err(panic) => Err(Kind::PanickedEncoding { panic }),
        };
        Self::of(arguments.map_err(|kind| Error::new(kind).of_task(T::info().name())))
    }

    /// A call whose arguments are small enough to be stored inline.
    #[doc(hidden)]
    #[inline]
    pub fn short(arguments: ShortBytes) -> Self {
        Self::of(Ok(Encoded { bytes: Payload::Short(arguments), regions: Regions::default() }))
    }

    #[inline]
    fn of(arguments: Result<Encoded, Error>) -> Self {
        Self { raw: RawCall { task: T::info(), arguments, wish: None }, lent: PhantomData, task: PhantomData }
    }

    /// The task's name.
    pub fn task_name(&self) -> &'static str {
        T::info().name()
    }

    /// How long this call may take once a worker has started it. Then its worker is killed and replaced, and the job
    /// fails with an error that [`is_timeout`](Error::is_timeout). `Duration::MAX` is no limit.
    pub fn timeout(self, limit: Duration) -> Self {
        self.with(|wish| wish.timeout = Some(limit))
    }

    /// After how long this call, once a worker has started it, is told to end: see [`current_job`](crate::current_job).
    /// `Duration::MAX` is never.
    pub fn soft_timeout(self, limit: Duration) -> Self {
        self.with(|wish| wish.soft_timeout = Some(limit))
    }

    /// How often this call is retried if its worker is lost, or killed because the call took too long.
    pub fn retries(self, retries: u32) -> Self {
        self.with(|wish| wish.retries = Some(retries))
    }

    /// How many bytes of memory its worker may use while it runs this call: see
    /// [`PoolBuilder::memory`](crate::PoolBuilder::memory). `u64::MAX` is no limit.
    pub fn memory(self, bytes: u64) -> Self {
        self.with(|wish| wish.memory = Some(bytes))
    }

    /// How many bytes the encoded result of this call may have: see
    /// [`PoolBuilder::max_result`](crate::PoolBuilder::max_result). `u64::MAX` is no limit.
    pub fn max_result(self, bytes: u64) -> Self {
        self.with(|wish| wish.max_result = Some(bytes))
    }

    fn with(mut self, change: impl FnOnce(&mut Wish)) -> Self {
        change(self.raw.wish.get_or_insert_default());
        self
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
    /// The shared memory that the bytes refer to: kept as long as the call may run.
    pub(crate) regions: Regions,
}

impl Encoded {
    /// For a confined worker: with large arguments in memory that no other worker is given.
    #[cold]
    pub(crate) fn set_apart(mut self, task: &'static TaskInfo) -> Result<Self, Error> {
        if self.regions.iter().all(|region| region.deposit().is_none()) {
            return Ok(self);
        }
        let failed = |error| Error::os("cannot share a large argument with a worker in a sandbox", error);
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        let mut apart = Vec::with_capacity(self.regions.len());
        for region in self.regions.iter() {
            let Some(Deposit { at, .. }) = region.deposit() else {
                apart.push(region.clone());
                continue;
            };
            let copy = region.copy().map_err(|error| failed(error).of_task(task.name()))?;
            match bytes.get_mut(at..at + size_of::<u64>()) {
                Some(number) if *number == region.id().to_le_bytes() => {
                    number.copy_from_slice(&copy.id().to_le_bytes());
                }
                // The call does not refer to it, so it does not need it.
                _ => continue,
            }
            apart.push(copy);
        }
        Ok(Self { bytes: Payload::from(bytes), regions: apart.into() })
    }
}

/// A call without its type.
#[derive(Debug)]
pub struct RawCall {
    pub(crate) task: &'static TaskInfo,
    pub(crate) arguments: Result<Encoded, Error>,
    pub(crate) wish: Option<Box<Wish>>,
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
        self.raw
    }
}

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for super::Call<'_, T> {}
}
