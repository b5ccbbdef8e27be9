//! Finds out how a process ended.

use crate::dossier::{Loss, Stage};
use crate::os::{End, OomWatch};
use crate::panic::PanicInfo;
use crate::peer::Launched;
use std::time::Duration;

/// How long a process may live on after its channel has closed.
pub(crate) const TIME_TO_EXIT: Duration = Duration::from_secs(2);

impl Launched {
    /// Waits until everything that the process, which has ended, printed is passed on.
    pub(crate) fn drain(&self) {
        self.strands.iter().flatten().for_each(|(relay, strand)| relay.drain(strand, self.launch.is_in_test()));
    }

    /// Finds out how the process ended. It has ended, or was just killed for its `fault`.
    pub(crate) fn examine(&self, fault: Option<String>) -> Loss {
        let status = self.child.wait();
        self.drain();
        let may_be_oom = status == Some(End::KILLED) && !self.child.was_killed();
        let stderr = self.strands[1].as_ref().filter(|_| self.launch.capture);
        Loss {
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
        }
    }
}
