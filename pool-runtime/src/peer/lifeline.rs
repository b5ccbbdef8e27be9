//! What others may know of a thread that works in a worker's place, and do about it.

use crate::dossier::Stage;
use crate::memory::StatusPage;
use crate::transport::local::LocalSender;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What others may know of a thread that works, and do about it.
#[derive(Debug)]
pub(crate) struct Lifeline {
    pub(super) calls: LocalSender,
    pub(super) reports: LocalSender,
    pub(super) abandoned: AtomicBool,
    /// It had nothing to do when it was abandoned, and so ends at once.
    pub(super) was_idle: AtomicBool,
    /// It has come to an end that stands for the death of a process.
    pub(super) lost: AtomicBool,
    /// What is wrong with it.
    pub(super) fault: OnceLock<String>,
}

impl Lifeline {
    /// Nobody waits for it any more.
    pub(crate) fn kill(&self) {
        self.abandoned.store(true, Ordering::Release);
        // Before anybody hears of the end.
        if self.calls.close() {
            self.was_idle.store(true, Ordering::Release);
        }
        self.reports.close();
    }

    /// As if its process had been killed, at this stage of its call.
    pub(super) fn lose(&self, page: &StatusPage, stage: Stage) {
        page.set_stage(stage as u32);
        self.lost.store(true, Ordering::Release);
    }
}
