//! [`wait`]: for whichever of several things is ready first.
//!
//! ```text
//!   ask: from now on, tell me      a queue and a channel: a mark in their memory; a job: a waker
//!   look: who is ready?            none: sleep in one `poll` of all handles, and of a bell that wakers ring
//!   told, and nothing there?       a nudge from before, which is taken off
//! ```
//!
//! Nobody sleeps for longer than a nap without looking: who was to tell may have ended before it did.

#[cfg(feature = "connection")]
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::job::Job;
use crate::memory::parking::{FIRST_NAP, LONGEST_NAP};
use crate::objects::{Passed, Pipe, Queue, Receiver};
use crate::os::{HandleRef, Poller};
use crate::process::RunningProcess;
use sealed::Polled;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// What [`wait`] can wait for.
///
/// | type | is ready when |
/// |---|---|
/// | [`Queue`] | it has an item, or is closed |
/// | [`Receiver`], [`Pipe`] | there is a message, or no sender is left |
/// | [`Job`] | it has ended, however |
/// | [`RunningProcess`] | it has ended, however |
/// | [`Connection`] | something has arrived, or the other side has closed it |
/// | [`Passed`], or a file's `as_fd()` | there is something to read, or its other side is gone |
///
/// It is implemented for these alone.
pub trait Waitable: Polled {}

mod sealed {
    use crate::os::HandleRef;
    use std::task::Waker;

    pub trait Polled {
        /// Whether it is ready, as far as its memory tells.
        fn seems_ready(&self) -> bool;
        /// What was asked for is not needed any more.
        fn no_longer_tell(&self, _: &Waker) {}
        /// Whether it is ready, when its handle is readable. If not, that is over.
        fn is_ready_when_told(&self) -> bool;
        /// None: the waker tells.
        fn handle(&self) -> Option<HandleRef<'_>>;
        /// From now on, the handle or this waker tells when it is to be looked at.
        fn ask_to_be_told(&self, waker: &Waker);
    }
}

/// Waits until at least one of several things is ready, and tells which are: their positions, in ascending order. None
/// are ready when the time is over. A timeout of zero looks once, and none, which is `None`, waits for ever.
///
/// ```
/// # use pool_runtime::{Queue, Result, channel, wait};
/// # use std::time::Duration;
/// # fn main() -> Result<()> {
/// let (sender, receiver) = channel::<u32>()?;
/// let queue = Queue::<String>::unbounded()?;
/// assert!(wait([&receiver, &queue], Duration::from_millis(10))?.is_empty());
/// queue.put("an item")?;
/// assert_eq!(wait([&receiver, &queue], None)?, [1]);
/// // At its end, a channel is ready, too.
/// drop(sender);
/// assert_eq!(wait([&receiver, &queue], None)?, [0, 1]);
/// # Ok(())
/// # }
/// ```
///
/// Others may be faster: what was ready may be taken by somebody else before you take it, so that taking it waits again.
/// `try_get` and `try_recv` do not.
///
/// A signal does not end the wait. Several threads may wait for the same thing, and each is told.
///
/// # Errors
///
/// There is nothing to wait for, and no timeout; or the process has too many open files: a thread that waits has one.
pub fn wait<const N: usize>(objects: [&dyn Waitable; N], timeout: impl Into<Option<Duration>>) -> Result<Vec<usize>> {
    wait_slice(&objects, timeout)
}

/// As [`wait`], for a number of things that is only known when it runs.
///
/// ```
/// # use pool_runtime::{Queue, Result, Waitable, wait_slice};
/// # fn main() -> Result<()> {
/// let queues = (0..3).map(|_| Queue::<u32>::unbounded()).collect::<Result<Vec<_>>>()?;
/// queues[2].put(&5)?;
/// let all: Vec<&dyn Waitable> = queues.iter().map(|queue| queue as _).collect();
/// assert_eq!(wait_slice(&all, None)?, [2]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`wait`].
pub fn wait_slice(objects: &[&dyn Waitable], timeout: impl Into<Option<Duration>>) -> Result<Vec<usize>> {
    let timeout = timeout.into();
    if objects.is_empty() && timeout.is_none() {
        return Err(Error::invalid("there is nothing to wait for, and no timeout"));
    }
    // A time that the clock cannot reach never comes.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let bell = bell().map_err(|error| Error::os("cannot wait for several things", error))?;
    let waker = Waker::from(bell.clone());
    let _asking = Asking { objects, waker: &waker };
    let mut nap = FIRST_NAP;
    loop {
        // Before they are looked at, so that what happens after that is told.
        objects.iter().for_each(|object| object.ask_to_be_told(&waker));
        let seem_ready = objects.iter().any(|object| object.seems_ready());
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let sleep = if seem_ready { Duration::ZERO } else { left.map_or(nap, |left| left.min(nap)) };
        let ready = look(objects, &bell.0, sleep)?;
        if !ready.is_empty() || left == Some(Duration::ZERO) {
            return Ok(ready);
        }
        nap = LONGEST_NAP.min(2 * nap);
    }
}

/// A wait that is under way.
struct Asking<'w> {
    objects: &'w [&'w dyn Waitable],
    waker: &'w Waker,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.objects.iter().for_each(|object| object.no_longer_tell(self.waker));
    }
}

/// Sleeps until one of them may be ready, at most so long. Returns which are.
fn look(objects: &[&dyn Waitable], poller: &Poller, sleep: Duration) -> Result<Vec<usize>> {
    let handles = objects.iter().filter_map(|object| object.handle());
    let told = poller.wait(handles, Some(sleep));
    let mut told = told.map_err(|error| Error::os("cannot wait for several things", error))?.into_iter();
    let mut ready = Vec::new();
    for (position, object) in objects.iter().enumerate() {
        let is_told = object.handle().is_some() && told.next() == Some(true);
        if object.seems_ready() || is_told && object.is_ready_when_told() {
            ready.push(position);
        }
    }
    Ok(ready)
}

/// What wakes a thread that waits.
struct WaitBell(Poller);

impl Wake for WaitBell {
    fn wake(self: Arc<Self>) {
        self.0.ring();
    }
}

thread_local! {
    /// That of this thread, once it has waited. Jobs keep it while it waits for them.
    static BELL: RefCell<Option<Arc<WaitBell>>> = const { RefCell::new(None) };
}

fn bell() -> std::io::Result<Arc<WaitBell>> {
    let kept = BELL.try_with(|bell| bell.borrow().clone()).ok().flatten();
    if let Some(bell) = kept {
        return Ok(bell);
    }
    let bell = Arc::new(WaitBell(Poller::new()?));
    let _ = BELL.try_with(|kept| kept.replace(Some(bell.clone())));
    Ok(bell)
}

impl<T> Waitable for Queue<T> {}

impl<T> Polled for Queue<T> {
    fn seems_ready(&self) -> bool {
        self.is_ready()
    }

    fn is_ready_when_told(&self) -> bool {
        self.was_told();
        self.is_ready()
    }

    fn handle(&self) -> Option<HandleRef<'_>> {
        Some(self.poll_handle())
    }

    fn ask_to_be_told(&self, _: &Waker) {
        self.ask_to_be_told();
    }
}

impl<T> Waitable for Receiver<T> {}

impl<T> Polled for Receiver<T> {
    fn seems_ready(&self) -> bool {
        self.has_message()
    }

    fn is_ready_when_told(&self) -> bool {
        self.is_ready() || {
            self.was_told();
            self.has_message()
        }
    }

    fn handle(&self) -> Option<HandleRef<'_>> {
        Some(self.poll_handle())
    }

    fn ask_to_be_told(&self, _: &Waker) {
        self.ask_to_be_told();
    }
}

impl<S, R> Waitable for Pipe<S, R> {}

impl<S, R> Polled for Pipe<S, R> {
    fn seems_ready(&self) -> bool {
        self.receiver().seems_ready()
    }

    fn is_ready_when_told(&self) -> bool {
        self.receiver().is_ready_when_told()
    }

    fn handle(&self) -> Option<HandleRef<'_>> {
        Polled::handle(self.receiver())
    }

    fn ask_to_be_told(&self, waker: &Waker) {
        Polled::ask_to_be_told(self.receiver(), waker);
    }
}

impl<R> Waitable for Job<R> {}

impl<R> Polled for Job<R> {
    fn seems_ready(&self) -> bool {
        self.would_return()
    }

    fn is_ready_when_told(&self) -> bool {
        self.would_return()
    }

    fn handle(&self) -> Option<HandleRef<'_>> {
        None
    }

    fn ask_to_be_told(&self, waker: &Waker) {
        self.wake_at_end(waker);
    }

    fn no_longer_tell(&self, waker: &Waker) {
        self.forget_waiting(waker);
    }
}

/// What has nothing but a handle.
macro_rules! implement_by_handle {
    ([$($parameter:tt)*] $type:ty, |$this:ident| $handle:expr) => {
        impl<$($parameter)*> Waitable for $type {}

        impl<$($parameter)*> Polled for $type {
            fn seems_ready(&self) -> bool {
                false
            }

            fn is_ready_when_told(&self) -> bool {
                true
            }

            fn handle(&self) -> Option<HandleRef<'_>> {
                let $this = self;
                Some($handle)
            }

            fn ask_to_be_told(&self, _: &Waker) {}
        }
    };
}

implement_by_handle!([R] RunningProcess<R>, |process| process.sentinel());
#[cfg(feature = "connection")]
implement_by_handle!([] Connection, |connection| connection.poll_handle());
implement_by_handle!([T] Passed<T>, |passed| passed.poll_handle());
implement_by_handle!([] HandleRef<'_>, |handle| *handle);
