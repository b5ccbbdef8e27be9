//! What a pool logs: all its events are made here, so that their targets, levels and fields are seen side by side. The
//! guide's page `logging.md` lists them for users, and a test subscribes to them.
//!
//! A subscriber is the user's code. It is called while the core is not locked, and never for a call that succeeds. The
//! job of a [`Process`](crate::Process) is not logged here: whoever joins it is told.

use crate::dossier::Loss;
use crate::error::{self, Error};
use crate::locks::lock;
use crate::pool::dispatcher::{AfterStarts, Excess, Parting, PoolStats, Retirement};
use crate::pool::{Inner, Station, Submission};
use crate::protocol::CallHeader;
use crate::targets::{JOB, POOL, PROCESS, WORKER};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Inner {
    pub(super) fn log_built(&self) {
        let (pool, workers, backend) = (&*self.name, self.seats, self.source.name());
        self.is_told.store(true, Ordering::Relaxed);
        tracing::debug!(
            target: POOL,
            pool,
            workers,
            backend,
            "pool `{pool}` of {workers} workers, which are {backend}, was built"
        );
    }

    /// All work is done, and no worker is left. Only the first one who says so is heard.
    pub(super) fn log_ended(&self) {
        if self.is_told.swap(false, Ordering::Relaxed) {
            let PoolStats { done, failed, .. } = lock(&self.core).dispatcher.counts();
            let pool = &*self.name;
            tracing::debug!(target: POOL, pool, done, failed, "pool `{pool}` has ended");
        }
    }

    pub(super) fn log_abandoned(&self, abandoned: usize) {
        tracing::warn!(
            target: POOL,
            pool = self.name,
            abandoned,
            "pool `{}` was dropped with {abandoned} calls that had not ended: close and join it to let them finish",
            self.name
        );
    }

    /// Starts have failed so often that something was decided.
    pub(super) fn log_starts_failed(&self, tries: u32, then: AfterStarts, reason: &Error) {
        let pool = &*self.name;
        match then {
            _ if self.single => {}
            AfterStarts::TryOn => tracing::warn!(
                target: WORKER,
                pool,
                tries,
                %reason,
                "a worker could not be started {tries} times, and is tried again: {reason}"
            ),
            AfterStarts::GiveUpSeat => tracing::warn!(
                target: WORKER,
                pool,
                tries,
                %reason,
                "a worker is given up after {tries} starts that failed, the last one so: {reason}"
            ),
            AfterStarts::GiveUpPool => {
                tracing::error!(target: POOL, pool, tries, %reason, "pool `{pool}` has failed: {reason}");
            }
        }
    }

    /// A worker takes calls. `replaces`: the worker before it at its seat was lost.
    pub(super) fn log_started(&self, Station { seat, epoch, peer, .. }: &Station, replaces: bool) {
        let (pool, worker, pid) = (&*self.name, seat + 1, peer.pid());
        if self.single {
            tracing::debug!(target: PROCESS, pid, "process {pid} takes its call");
        } else if replaces {
            tracing::info!(
                target: WORKER,
                pool,
                worker,
                pid,
                epoch,
                "worker {worker} of pool `{pool}` was replaced: process {pid} takes calls"
            );
        } else {
            tracing::debug!(
                target: WORKER,
                pool,
                worker,
                pid,
                epoch,
                "worker {worker} of pool `{pool}` was started: process {pid} takes calls"
            );
        }
    }

    pub(super) fn log_retired(&self, seat: usize, epoch: u32, why: Retirement) {
        let Some(station) = self.station(seat, epoch).filter(|_| !self.single) else { return };
        let (pool, worker, pid) = (&*self.name, seat + 1, station.peer.pid());
        let reason = match why {
            Retirement::Calls => "it has run as many calls as `max_tasks_per_child` allows",
            Retirement::Age => "it is as old as `max_age_per_child` allows",
            Retirement::Memory => "it has more memory than `max_memory_per_child` allows",
            Retirement::Panic => "its call panicked",
        };
        tracing::debug!(
            target: WORKER,
            pool,
            worker,
            pid,
            epoch,
            reason,
            "worker {worker} of pool `{pool}` (process {pid}) is replaced: {reason}"
        );
    }

    pub(super) fn log_departed(&self, seat: usize, epoch: u32, how: Parting, loss: &Loss) {
        let (pool, worker, pid, reason) = (&*self.name, seat + 1, loss.pid, loss.sentence());
        if self.single {
            return tracing::debug!(target: PROCESS, pid, reason, "a process has ended: {reason}");
        }
        match how {
            Parting::Lost => tracing::warn!(
                target: WORKER,
                pool,
                worker,
                pid,
                epoch,
                reason,
                "worker {worker} of pool `{pool}` was lost: {reason}"
            ),
            Parting::Killed | Parting::Left => tracing::debug!(
                target: WORKER,
                pool,
                worker,
                pid,
                epoch,
                reason,
                "worker {worker} of pool `{pool}` has ended: {reason}"
            ),
        }
    }

    /// The worker is killed, as it was told to leave and has not.
    pub(super) fn log_overstayed(&self, Station { seat, epoch, peer, .. }: &Station) {
        let (pool, worker, pid, grace) = (&*self.name, seat + 1, peer.pid(), self.exit_grace);
        if self.single {
            tracing::warn!(
                target: PROCESS,
                pid,
                "process {pid} has done its work and has not ended in {grace:?}, so it is killed: what runs at its end, \
                 such as `atexit` handlers, takes longer; `Process::exit_grace` gives it more time"
            );
        } else {
            tracing::warn!(
                target: WORKER,
                pool,
                worker,
                pid,
                epoch,
                "worker {worker} of pool `{pool}` (process {pid}) was told to leave and has not in {grace:?}, so it is \
                 killed: what runs at its end, such as the `drop` of its state or `atexit` handlers, takes longer; \
                 `exit_grace` gives it more time"
            );
        }
    }

    /// The worker is killed, as it has too much memory and runs nothing.
    pub(super) fn log_outgrown(&self, Station { seat, epoch, peer, .. }: &Station, limit: u64, used: u64) {
        let (pool, worker, pid) = (&*self.name, seat + 1, peer.pid());
        tracing::warn!(
            target: WORKER,
            pool,
            worker,
            pid,
            epoch,
            limit,
            used,
            "worker {worker} of pool `{pool}` (process {pid}) {}, though it says that it runs no call, so it is killed: \
             what earlier calls and the initializer have left there counts",
            error::over_memory(limit, used)
        );
    }

    pub(super) fn log_exceeded(&self, work: &dyn Submission, call: CallHeader, seat: usize, excess: Excess) {
        let (pool, worker, task) = (&*self.name, seat + 1, work.task());
        let CallHeader { job, attempt, .. } = call;
        match excess {
            _ if self.single => {}
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
                    "job {job} of task `{task}` took longer than {limit:?}, so its worker was killed"
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
                "job {job} of task `{task}` {}, so its worker was killed",
                error::over_memory(limit, used)
            ),
        }
    }

    /// These calls, from index `first` on, are tried again, as this attempt at them was lost with its worker.
    pub(super) fn log_retried(&self, work: &dyn Submission, calls: Range<u32>, attempt: u32, seat: usize, loss: &Loss) {
        let (pool, worker, task) = (&*self.name, seat + 1, work.task());
        let (job, calls) = (work.first_job() + u64::from(calls.start), calls.len());
        let (reason, others) = (loss.sentence(), if calls > 1 { " and those behind it" } else { "" });
        tracing::info!(
            target: JOB,
            pool,
            worker,
            task,
            job,
            calls,
            attempt,
            reason,
            "job {job} of task `{task}`{others} is tried again after attempt {attempt}: {reason}"
        );
    }

    /// A call has failed that was tried more than once, or never started as worker after worker died before.
    pub(super) fn log_given_up(&self, work: &dyn Submission, index: u32, attempts: u32, reason: &Error) {
        let (pool, task, job) = (&*self.name, work.task(), work.first_job() + u64::from(index));
        tracing::warn!(target: JOB, pool, task, job, attempts, %reason, "job {job} is given up: {reason}");
    }
}
