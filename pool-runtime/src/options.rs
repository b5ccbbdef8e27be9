//! In what surroundings a process starts: its environment, directory, processors and priority.

use crate::error::{Error, Result};
use crate::os;
use crate::protocol::Place;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What the process of one worker is started with: see [`PoolBuilder::each_worker`](crate::PoolBuilder::each_worker).
///
/// It begins as what the pool's builder says for all workers.
#[derive(Clone, Debug, Default)]
#[must_use = "what is chosen counts only if it is returned"]
pub struct WorkerOptions {
    pub(crate) env: Vec<(OsString, Option<OsString>)>,
    pub(crate) current_dir: Option<PathBuf>,
    pub(crate) nice: Option<i32>,
    pub(crate) cpus: Option<Vec<usize>>,
}

/// The same choices as methods of a builder that keeps them in a field `options`: what its processes are called in the
/// documentation, and the verbs that go with that.
macro_rules! surroundings {
    ($whose:literal, $start:literal, $stand:literal) => {
        #[doc = concat!("Sets an environment variable of ", $whose, ".")]
        pub fn env(mut self, name: impl Into<std::ffi::OsString>, value: impl Into<std::ffi::OsString>) -> Self {
            self.options = self.options.env(name, value);
            self
        }

        #[doc = concat!("Removes an environment variable of ", $whose, ".")]
        pub fn env_remove(mut self, name: impl Into<std::ffi::OsString>) -> Self {
            self.options = self.options.env_remove(name);
            self
        }

        #[doc = concat!("The directory in which ", $whose, " ", $start, ".")]
        pub fn current_dir(mut self, dir: impl Into<std::path::PathBuf>) -> Self {
            self.options = self.options.current_dir(dir);
            self
        }

        #[doc = concat!("How far ", $whose, " ", $stand, " back for others: from −20 to 19; what is")]
        /// less than this process's own takes privileges.
        pub fn nice(mut self, nice: i32) -> Self {
            self.options = self.options.nice(nice);
            self
        }

        #[doc = concat!("The processors on which ", $whose, " may run, counted from 0 as the system does.")]
        pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
            self.options = self.options.cpus(cpus);
            self
        }
    };
}
pub(crate) use surroundings;

impl WorkerOptions {
    /// Sets an environment variable.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), Some(value.into())));
        self
    }

    /// Removes an environment variable.
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.env.push((name.into(), None));
        self
    }

    /// The directory in which the process starts.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// How far the process stands back for others: from −20, which takes privileges as all that are less than this
    /// process's own, to 19.
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice);
        self
    }

    /// The processors on which the process may run, counted from 0 as the system does.
    pub fn cpus(mut self, cpus: impl IntoIterator<Item = usize>) -> Self {
        self.cpus = Some(cpus.into_iter().collect());
        self
    }

    /// Refuses what cannot be had, before anything is started.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(nice) = self.nice.filter(|nice| !(-20..=19).contains(nice)) {
            return Err(Error::invalid(format!("a process is as nice as -20 to 19, and {nice} was asked for")));
        }
        let Some(cpus) = &self.cpus else { return Ok(()) };
        if cpus.is_empty() {
            return Err(Error::invalid("a worker runs on at least 1 processor, and none were given"));
        }
        let usable = os::usable_cpus();
        match cpus.iter().find(|cpu| !usable.contains(cpu)) {
            Some(cpu) => Err(Error::invalid(format!(
                "a worker cannot run on processor {cpu}: this process may use {usable:?}, counted from 0"
            ))),
            None => Ok(()),
        }
    }

    /// Do they give the process something of its own that a thread shares with all others?
    pub(crate) fn change_the_process(&self) -> bool {
        !self.env.is_empty() || self.current_dir.is_some()
    }

    /// What the process does itself, as soon as it is greeted.
    pub(crate) fn place(&self) -> Place {
        Place { nice: self.nice, cpus: self.cpus.clone() }
    }
}

/// What a standard stream of a process is.
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

    /// Reads nothing; writes are discarded.
    pub fn null() -> Self {
        Self(StdioKind::Null)
    }

    /// A pipe, whose other end the running process hands out.
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

/// When a worker that could not be started, or died young, is started again, and when that is given up.
///
/// After a start that failed, the next one at that place in the pool waits: [`backoff`](Self::backoff), doubled with
/// each failure. After [`intensity`](Self::intensity) failures in a row the place is given up; if no other worker is
/// left, the pool fails, and so do the calls that wait. Where what is wrong may pass (the system was short of processes
/// or memory, or somebody killed the worker), starts are tried for at least [`period`](Self::period). A call that
/// finishes ends the row.
///
/// A worker that is lost with a call is always replaced, without waiting.
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
    /// Nothing is started again after a failure or an unexpected death.
    pub const NEVER: Self =
        Self { intensity: 0, period: Duration::ZERO, first_backoff: Duration::ZERO, longest_backoff: Duration::ZERO };

    /// How many starts may fail in a row at one place; the default is 5.
    pub fn intensity(self, failures: u32) -> Self {
        Self { intensity: failures, ..self }
    }

    /// For how long starts are tried at least, where what is wrong may pass; the default is 10 s.
    pub fn period(self, period: Duration) -> Self {
        Self { period, ..self }
    }

    /// How long the first start after a failure waits, and how long any of them waits at the most; the defaults are
    /// 10 ms and 2 s.
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
