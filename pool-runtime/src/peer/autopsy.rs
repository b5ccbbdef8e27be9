//! Finds out how a process ended.

use crate::dossier::{Loss, Stage};
use crate::locks::lock;
use crate::logging::LogSubscriber;
use crate::os::{self, End, OomWatch};
use crate::panic::PanicInfo;
use crate::peer::Launched;
use crate::peer::relay::Relay;
use crate::targets::WORKER;
use std::time::Duration;
use tracing::Level;

/// How long a process may live on after its channel has closed.
pub(crate) const TIME_TO_EXIT: Duration = Duration::from_secs(2);

/// How long a process may live on after it was killed. The kernel ends it at once unless it is frozen, waits for a disk, or
/// has much memory to give back.
pub(crate) const TIME_TO_DIE: Duration = Duration::from_secs(2);

impl Launched {
    /// Waits until everything that the process, which has ended, printed is passed on.
    pub(crate) fn drain(&self) {
        let until = Relay::patience(self.launch.is_in_test());
        self.strands.iter().flatten().for_each(|(relay, strand)| relay.drain(strand, until));
    }

    /// Since when it has been seen to run this call, or what it says is one: by the monotonic clock.
    pub(super) fn seen_since(&self, claimed: u32) -> u64 {
        let mut seen = lock(&self.claim_seen);
        if seen.0 != claimed {
            *seen = (claimed, os::monotonic());
        }
        seen.1
    }

    /// Whether a process that says so may be joining others: it is allowed to start some, and the system shows that it has
    /// some.
    pub(super) fn may_join(&self) -> bool {
        let allowed = self.launch.confinement.as_ref().is_none_or(|confinement| confinement.processes);
        allowed && self.child.has_children() == Some(true)
    }

    /// Kills the process. Closes the connection too: if the system does not let it be killed, its watcher ends it; and
    /// whoever waits for its end wakes up, whatever it does.
    pub(crate) fn kill(&self) {
        if let Err(error) = self.child.kill()
            && self.unkilled.set(error.to_string()).is_ok()
        {
            let pid = self.child.pid();
            LogSubscriber::default().log(Level::WARN, || {
                move || {
                    let reason = error.to_string();
                    tracing::warn!(target: WORKER, pid, %reason, "a process cannot be killed, so its connection is closed");
                }
            });
        }
        self.socket.shut_down();
        self.way_out.shut_down();
    }

    /// What is known of a process that was killed and has not ended.
    pub(crate) fn sketch(&self) -> Loss {
        let unkilled = self.unkilled.get().map(|error| format!("cannot be killed ({error}): it"));
        Loss { stage: Stage::from_u32(self.page.stage()), lives: true, fault: unkilled, ..Loss::of(self.child.pid()) }
    }

    /// Finds out how the process ended. It has ended, or is about to, or was killed.
    pub(crate) fn examine(&self, fault: Option<String>) -> Loss {
        if !self.child.await_death(TIME_TO_DIE) {
            let sketch = self.sketch();
            return Loss { fault: fault.or(sketch.fault.clone()), ..sketch };
        }
        let status = self.child.status();
        self.drain();
        let may_be_oom = status == Some(End::KILLED) && !self.child.was_killed();
        let stderr = self.strands[1].as_ref().filter(|_| self.launch.capture);
        let mut loss = Loss {
            status,
            no_status: self.child.status_error(),
            stage: Stage::from_u32(self.page.stage()),
            panic: PanicInfo::from_last_words(&self.page.words(), status),
            fault,
            usage: self.child.usage(),
            first_peak: self.page.first_peak(),
            oom: self.oom.get().filter(|_| may_be_oom).and_then(OomWatch::ask),
            // The process may have written anything there: believed only where it fits how the process ended.
            crash: self.page.crash().filter(|crash| Some(End::Signal(crash.signal)) == status),
            stderr: stderr.map(|(_, strand)| strand.last()),
            ..Loss::of(self.child.pid())
        };
        // It did not end by a panic: the task had caught that itself.
        if loss.failed_allocation().is_some() {
            loss.panic = None;
        }
        loss
    }
}
