//! What a pool logs: all its events are made here, so that their targets, levels and fields are seen side by side. The
//! guide's page `logging.md` lists them for users, and a test subscribes to them.
//!
//! A subscriber is the user's code, so events are handed to the [thread](crate::logging) that calls it, and own what they
//! print. The core may be locked meanwhile, which gives them the order of the dispatcher's decisions. Nothing is logged for
//! a call that succeeds. The job of a [`Process`](crate::Process) is not logged here: whoever joins it is told.
//!
//! A message is short. Why something has happened is in the field `reason`, on one line: workers have written parts of it.

use crate::dossier::Loss;
use crate::error::{self, Error};
use crate::foreign;
use crate::locks::lock;
use crate::os::End;
use crate::pool::dispatcher::{AfterStarts, Excess, Parting, PoolStats, Retirement};
use crate::pool::{Inner, Station, Submission};
use crate::protocol::CallHeader;
use crate::targets::{JOB, POOL, PROCESS, WORKER};
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tracing::Level;

/// A text that workers may have written, as one line.
fn line(text: &dyn Display) -> String {
    foreign::line(&text.to_string()).to_string()
}

/// How a worker has ended. A thread has no exit code and no signal.
fn sentence(loss: &Loss, of_process: bool) -> String {
    match (&loss.fault, loss.status) {
        _ if of_process => line(&loss.sentence()),
        (Some(fault), _) => format!("the thread {} and was given up", foreign::line(fault)),
        (None, Some(End::Exited(_))) => "the thread has ended".to_owned(),
        (None, _) => format!("the thread was given up {}", loss.stage.text()),
    }
}

impl Inner {
    pub(super) fn log_built(&self) {
        self.is_told.store(true, Ordering::Relaxed);
        self.subscriber.log(Level::DEBUG, || {
            let (pool, workers, backend) = (self.name.clone(), self.seats, self.source.name());
            move || tracing::debug!(target: POOL, pool, workers, backend, "pool `{pool}` was built")
        });
    }

    /// All work is done, and no worker is left. Only the first one who says so is heard.
    pub(super) fn log_ended(&self) {
        if self.is_told.swap(false, Ordering::Relaxed) {
            self.subscriber.log(Level::DEBUG, || {
                let PoolStats { done, failed, .. } = lock(&self.core).dispatcher.counts();
                let pool = self.name.clone();
                move || tracing::debug!(target: POOL, pool, done, failed, "pool `{pool}` has ended")
            });
        }
    }

    pub(super) fn log_abandoned(&self, abandoned: usize) {
        self.subscriber.log(Level::WARN, || {
            let pool = self.name.clone();
            move || {
                tracing::warn!(
                    target: POOL,
                    pool,
                    abandoned,
                    "pool `{pool}` was dropped with calls that had not ended: close and join it to let them finish"
                );
            }
        });
    }

    /// A worker could not be started. `calls_wait`: for a worker.
    pub(super) fn log_start_failed(&self, seat: usize, epoch: u32, calls_wait: bool, reason: &Error) {
        if self.single {
            return;
        }
        self.subscriber.log(if calls_wait { Level::WARN } else { Level::INFO }, || {
            let (pool, worker, reason) = (self.name.clone(), seat + 1, reason.clone());
            move || {
                let reason = line(&reason);
                match calls_wait {
                    true => tracing::warn!(
                        target: WORKER,
                        pool,
                        worker,
                        epoch,
                        %reason,
                        "worker {worker} of pool `{pool}` could not be started, and calls wait"
                    ),
                    false => tracing::info!(
                        target: WORKER,
                        pool,
                        worker,
                        epoch,
                        %reason,
                        "worker {worker} of pool `{pool}` could not be started"
                    ),
                }
            }
        });
    }

    /// Starts have failed so often that something was decided.
    pub(super) fn log_starts_failed(&self, tries: u32, then: AfterStarts, reason: &Error) {
        if self.single {
            return;
        }
        let level = if then == AfterStarts::GiveUpPool { Level::ERROR } else { Level::WARN };
        self.subscriber.log(level, || {
            let (pool, reason) = (self.name.clone(), reason.clone());
            move || {
                let reason = line(&reason);
                match then {
                    AfterStarts::TryOn => tracing::warn!(
                        target: WORKER,
                        pool,
                        tries,
                        %reason,
                        "a worker of pool `{pool}` could not be started {tries} times, and is tried again"
                    ),
                    AfterStarts::GiveUpSeat => tracing::warn!(
                        target: WORKER,
                        pool,
                        tries,
                        %reason,
                        "a worker of pool `{pool}` is given up, as {tries} starts have failed"
                    ),
                    AfterStarts::GiveUpPool => tracing::error!(
                        target: POOL,
                        pool,
                        tries,
                        %reason,
                        "pool `{pool}` has failed, and no call that waits is run"
                    ),
                }
            }
        });
    }

    /// A worker takes calls. `replaces`: the worker before it at its seat was lost or killed.
    pub(super) fn log_started(&self, Station { seat, epoch, peer, .. }: &Station, replaces: bool) {
        let level = if replaces && !self.single { Level::INFO } else { Level::DEBUG };
        self.subscriber.log(level, || {
            let (pool, worker, pid, epoch, single) = (self.name.clone(), seat + 1, peer.pid(), *epoch, self.single);
            move || match replaces {
                _ if single => tracing::debug!(target: PROCESS, pid, "a process takes its call"),
                true => tracing::info!(
                    target: WORKER,
                    pool,
                    worker,
                    pid,
                    epoch,
                    "worker {worker} of pool `{pool}` was replaced, and takes calls"
                ),
                false => tracing::debug!(
                    target: WORKER,
                    pool,
                    worker,
                    pid,
                    epoch,
                    "worker {worker} of pool `{pool}` was started, and takes calls"
                ),
            }
        });
    }

    /// The worker gets no more calls, and another one takes its place.
    pub(super) fn log_retired(&self, Station { seat, epoch, peer, .. }: &Station, why: Retirement) {
        if self.single {
            return;
        }
        self.subscriber.log(Level::DEBUG, || {
            let (pool, worker, pid, epoch) = (self.name.clone(), seat + 1, peer.pid(), *epoch);
            let reason = match why {
                Retirement::Calls => "it has run as many calls as `max_tasks_per_child` allows",
                Retirement::Age => "it is as old as `max_age_per_child` allows",
                Retirement::Memory => "it has more memory than `max_memory_per_child` allows",
                Retirement::Panic => "its call panicked",
            };
            move || {
                tracing::debug!(
                    target: WORKER,
                    pool,
                    worker,
                    pid,
                    epoch,
                    %reason,
                    "worker {worker} of pool `{pool}` is replaced"
                );
            }
        });
    }

    pub(super) fn log_departed(&self, seat: usize, epoch: u32, how: Parting, loss: &Arc<Loss>) {
        let is_warning = how == Parting::Lost && !self.single;
        self.subscriber.log(if is_warning { Level::WARN } else { Level::DEBUG }, || {
            let (pool, worker, pid, loss, single) = (self.name.clone(), seat + 1, loss.pid, loss.clone(), self.single);
            let has_processes = self.source.has_processes();
            move || {
                let reason = sentence(&loss, has_processes);
                match is_warning {
                    _ if single => tracing::debug!(target: PROCESS, pid, %reason, "a process has ended"),
                    true => tracing::warn!(
                        target: WORKER,
                        pool,
                        worker,
                        pid,
                        epoch,
                        %reason,
                        "worker {worker} of pool `{pool}` was lost"
                    ),
                    false => tracing::debug!(
                        target: WORKER,
                        pool,
                        worker,
                        pid,
                        epoch,
                        %reason,
                        "worker {worker} of pool `{pool}` has ended"
                    ),
                }
            }
        });
    }

    /// The worker is killed, as it was told to leave and has not.
    pub(super) fn log_overstayed(&self, Station { seat, epoch, peer, .. }: &Station) {
        self.subscriber.log(Level::WARN, || {
            let (pool, worker, pid, epoch, single) = (self.name.clone(), seat + 1, peer.pid(), *epoch, self.single);
            let (grace, end) = (self.exit_grace, self.end_of_worker());
            move || match single {
                true => tracing::warn!(
                    target: PROCESS,
                    pid,
                    ?grace,
                    "a process has done its work and has not ended in {grace:?}, so it is killed: what runs at its end, \
                     such as `atexit` handlers, takes longer; `Process::exit_grace` gives it more time"
                ),
                false => tracing::warn!(
                    target: WORKER,
                    pool,
                    worker,
                    pid,
                    epoch,
                    ?grace,
                    "worker {worker} of pool `{pool}` was told to leave and has not in {grace:?}, so it is {end}: what \
                     runs at its end, such as the `drop` of its state, takes longer; `exit_grace` gives it more time"
                ),
            }
        });
    }

    /// The worker is killed, as it has too much memory and runs nothing.
    pub(super) fn log_outgrown(&self, Station { seat, epoch, peer, .. }: &Station, limit: u64, used: u64) {
        self.subscriber.log(Level::WARN, || {
            let (pool, worker, pid, epoch) = (self.name.clone(), seat + 1, peer.pid(), *epoch);
            move || {
                tracing::warn!(
                    target: WORKER,
                    pool,
                    worker,
                    pid,
                    epoch,
                    limit,
                    used,
                    "worker {worker} of pool `{pool}` {}, though it says that it runs no call, so it is killed: what \
                     earlier calls and the initializer have left there counts",
                    error::over_memory(limit, used)
                );
            }
        });
    }

    pub(super) fn log_exceeded(&self, work: &dyn Submission, call: CallHeader, seat: usize, excess: Excess) {
        if self.single {
            return;
        }
        self.subscriber.log(Level::WARN, || {
            let (pool, worker, task, end) = (self.name.clone(), seat + 1, work.task(), self.end_of_worker());
            let CallHeader { job, attempt, .. } = call;
            move || match excess {
                Excess::Time { limit } => {
                    let limit = Duration::from_nanos(limit);
                    tracing::warn!(
                        target: JOB,
                        pool,
                        worker,
                        task,
                        job,
                        attempt,
                        ?limit,
                        "job {job} took longer than {limit:?}, so its worker was {end}"
                    );
                }
                Excess::Memory { limit, used } => tracing::warn!(
                    target: JOB,
                    pool,
                    worker,
                    task,
                    job,
                    attempt,
                    limit,
                    used,
                    "job {job} {}, so its worker was {end}",
                    error::over_memory(limit, used)
                ),
            }
        });
    }

    /// These calls, from index `first` on, are tried again, as this attempt at them was lost with its worker.
    pub(super) fn log_retried(
        &self,
        work: &dyn Submission,
        calls: Range<u32>,
        attempt: u32,
        seat: usize,
        loss: &Arc<Loss>,
    ) {
        self.subscriber.log(Level::INFO, || {
            let (pool, worker, task, loss) = (self.name.clone(), seat + 1, work.task(), loss.clone());
            let (job, calls) = (work.first_job() + u64::from(calls.start), calls.len());
            let has_processes = self.source.has_processes();
            move || {
                let reason = sentence(&loss, has_processes);
                let others = if calls > 1 { " and those behind it" } else { "" };
                tracing::info!(
                    target: JOB,
                    pool,
                    worker,
                    task,
                    job,
                    calls,
                    attempt,
                    %reason,
                    "job {job}{others} is tried again after attempt {attempt}"
                );
            }
        });
    }

    /// A call has failed that was tried more than once, or never started as worker after worker died before.
    pub(super) fn log_given_up(&self, work: &dyn Submission, index: u32, attempts: u32, reason: &Error) {
        self.subscriber.log(Level::WARN, || {
            let (pool, task, job) = (self.name.clone(), work.task(), work.first_job() + u64::from(index));
            let reason = reason.clone();
            move || {
                let reason = line(&reason);
                tracing::warn!(target: JOB, pool, task, job, attempts, %reason, "job {job} is given up");
            }
        });
    }

    /// What becomes of a worker that is made to end.
    fn end_of_worker(&self) -> &'static str {
        if self.source.has_processes() { "killed" } else { "given up" }
    }
}
