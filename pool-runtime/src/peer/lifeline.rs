//! What a thread that works in a worker's place shares with the other threads of the pool.

use crate::dossier::Stage;
use crate::memory::StatusPage;
use crate::memory::upward::RegionList;
use crate::transport::local::LocalSender;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// | field | set by |
/// |---|---|
/// | `abandoned`, `was_idle` | [`kill`](Self::kill), from any thread |
/// | `lost`, `fault` | the thread itself |
pub(crate) struct Lifeline {
    pub(super) calls: LocalSender,
    pub(super) reports: LocalSender,
    pub(super) abandoned: AtomicBool,
    /// Whether it was idle then, and so ends at once.
    pub(super) was_idle: AtomicBool,
    /// It has ended in a way that stands for the death of a process.
    pub(super) lost: AtomicBool,
    pub(super) fault: OnceLock<String>,
    /// The shared memory of its results.
    pub(super) returned: RegionList,
}

impl Lifeline {
    pub(super) fn new(calls: LocalSender, reports: LocalSender) -> Self {
        let [abandoned, was_idle, lost] = [const { AtomicBool::new(false) }; 3];
        let (fault, returned) = Default::default();
        Self { calls, reports, abandoned, was_idle, lost, fault, returned }
    }

    /// Abandons the thread.
    pub(crate) fn kill(&self) {
        self.abandoned.store(true, Ordering::Release);
        // Before closing `reports`, which tells other threads of the end.
        if self.calls.close() {
            self.was_idle.store(true, Ordering::Release);
        }
        self.reports.close();
    }

    /// Makes it look as if a process had been killed at this stage of its call.
    pub(super) fn lose(&self, page: &StatusPage, stage: Stage) {
        page.set_stage(stage as u32);
        self.lost.store(true, Ordering::Release);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }
}
