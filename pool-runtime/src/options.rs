//! How a process starts: environment, directory, processors, niceness and standard streams. And how often.

use crate::error::{Error, Result};
use crate::os::{self, Scheduler};
use crate::protocol::Place;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The options of one worker's process, which begin as the pool's builder sets them: see
/// [`PoolBuilder::each_worker`](crate::PoolBuilder::each_worker).
#[derive(Clone, Debug, Default)]
#[must_use = "what is chosen counts only if it is returned"]
pub struct WorkerOptions {
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    pub(crate) current_dir: Option<PathBuf>,
    /// What the process sets itself, as soon as it is greeted.
    pub(crate) place: Place,
}

/// The methods that set these options, for [`WorkerOptions`] and for builders that keep them in a field. The literals are
/// what the documentation calls the processes, and the verb that goes with that; the field follows, with a dot.
macro_rules! surroundings {
    ($whose:literal, $start:literal, $($options:tt)*) => {
        #[doc = concat!("Sets an environment variable of ", $whose, ".")]
        pub fn env(mut self, name: impl Into<std::ffi::OsString>, value: impl Into<std::ffi::OsString>) -> Self {
            self.$($options)*env.push((name.into(), Some(value.into())));
            self
        }

        #[doc = concat!("Removes an environment variable of ", $whose, ".")]
        pub fn env_remove(mut self, name: impl Into<std::ffi::OsString>) -> Self {
            self.$($options)*env.push((name.into(), None));
            self
        }

        #[doc = concat!("The directory in which ", $whose, " ", $start, ".")]
        pub fn current_dir(mut self, dir: impl Into<std::path::PathBuf>) -> Self {
            self.$($options)*current_dir = Some(dir.into());
            self
        }

        #[doc = concat!("The niceness with which ", $whose, " ", $start, ", from −20 to 19. Less than that of this")]
        /// process takes privileges.
        pub fn nice(mut self, nice: i32) -> Self {
            self.$($options)*place.nice = Some(nice);
            self
        }

        #[doc = concat!("The processors on which ", $whose, " may run, counted from 0 as the system does.")]
        ///
        /// By default those of the thread that makes the pool or starts the process: what is bound to few processors
        /// starts processes that are.
        pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
            self.$($options)*place.cpus = Some(cpus.into_iter().collect());
            self
        }

        #[doc = concat!("How the system schedules ", $whose, "; in real time only with privileges.")]
        ///
        /// By default as the thread that makes the pool or starts the process.
        pub fn scheduler(mut self, scheduler: $crate::Scheduler) -> Self {
            self.$($options)*place.scheduler = Some(scheduler);
            self
        }
    };
}
pub(crate) use surroundings;

impl WorkerOptions {
    surroundings!("the process", "starts",);

    /// Refuses impossible options before anything is started.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(nice) = self.place.nice.filter(|nice| !(-20..=19).contains(nice)) {
            return Err(Error::invalid(format!("niceness must be between -20 and 19, got {nice}")));
        }
        if let Some(priority) = self.place.scheduler.and_then(Scheduler::priority).filter(|of| !(1..=99).contains(of)) {
            return Err(Error::invalid(format!("a priority in real time must be between 1 and 99, got {priority}")));
        }
        let Some(cpus) = &self.place.cpus else { return Ok(()) };
        if cpus.is_empty() {
            return Err(Error::invalid("a worker needs at least 1 processor, got none"));
        }
        let usable = os::usable_cpus();
        match cpus.iter().find(|cpu| !usable.contains(cpu)) {
            Some(cpu) => Err(Error::invalid(format!(
                "a worker cannot run on processor {cpu}: this process may use {usable:?}, counted from 0"
            ))),
            None => Ok(()),
        }
    }

    /// Whether they change what all threads of a process share.
    pub(crate) fn change_the_process(&self) -> bool {
        !self.env.is_empty() || self.current_dir.is_some()
    }
}

/// A standard stream of a process.
#[derive(Debug, Default)]
pub struct Stdio(pub(crate) StdioKind);

#[derive(Debug, Default)]
pub(crate) enum StdioKind {
    #[default]
    Inherit,
    Null,
    Piped,
    Handle(os::Handle),
}

impl Stdio {
    /// The same as this process's.
    pub fn inherit() -> Self {
        Self(StdioKind::Inherit)
    }

    /// Empty to read; writes are discarded.
    pub fn null() -> Self {
        Self(StdioKind::Null)
    }

    /// A pipe, whose other end is taken from the running process.
    pub fn piped() -> Self {
        Self(StdioKind::Piped)
    }
}

impl<T: Into<os::Handle>> From<T> for Stdio {
    /// An open file, pipe or socket.
    fn from(open: T) -> Self {
        Self(StdioKind::Handle(open.into()))
    }
}

/// How often a worker is started again after it failed to start or died before it finished a call.
///
/// After a failed start, the next one at that place in the pool waits for [`backoff`](Self::backoff), doubled with each
/// failure. After [`intensity`](Self::intensity) failures in a row, starts there end; if no other worker is left, the
/// pool fails, and so do the waiting calls. A finished call ends the row. If the cause may pass (a shortage of
/// processes or memory, or a kill from outside), starts go on for at least [`period`](Self::period).
///
/// A worker that is lost during a call is always replaced, without waiting.
///
/// ```
/// # use pool_runtime::{Pool, RestartPolicy, Result, enter};
/// # use std::time::Duration;
/// fn main() -> Result<()> {
///     enter();
///     let restarts = RestartPolicy::default().intensity(20).backoff(Duration::from_millis(100), Duration::from_secs(5));
///     let pool = Pool::builder().processes(1).restarts(restarts).build()?;
///     pool.close();
///     pool.join()
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    pub(crate) intensity: u32,
    pub(crate) period: Duration,
    pub(crate) first_backoff: Duration,
    pub(crate) longest_backoff: Duration,
}

impl RestartPolicy {
    /// No worker is started again after a failure or an unexpected death.
    pub const NEVER: Self =
        Self { intensity: 0, period: Duration::ZERO, first_backoff: Duration::ZERO, longest_backoff: Duration::ZERO };

    /// How many starts may fail in a row at one place; the default is 5.
    pub fn intensity(self, failures: u32) -> Self {
        Self { intensity: failures, ..self }
    }

    /// How long starts go on at least when the cause may pass; the default is 10 s.
    pub fn period(self, period: Duration) -> Self {
        Self { period, ..self }
    }

    /// How long the first start after a failure waits, and the longest wait; the defaults are 10 ms and 2 s.
    pub fn backoff(self, first: Duration, longest: Duration) -> Self {
        Self { first_backoff: first, longest_backoff: longest, ..self }
    }
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            intensity: 5,
            period: Duration::from_secs(10),
            first_backoff: Duration::from_millis(10),
            longest_backoff: Duration::from_secs(2),
        }
    }
}
