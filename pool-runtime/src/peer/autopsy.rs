//! Finds out how a process ended.

use crate::dossier::{Loss, Stage};
use crate::os::{End, OomWatch};
use crate::panic::PanicInfo;
use crate::peer::spawn::Launched;
use std::time::Duration;

/// How long a process may live on after its channel has closed.
pub(crate) const LAST_BREATH: Duration = Duration::from_secs(2);

impl Launched {
    /// It works from now on: what kills it is asked for from here on.
    pub(crate) fn works(&self) {
        let _ = self.oom.set(OomWatch::new(self.child.pid()));
    }

    /// Waits until all that the process printed has been passed on. It has ended.
    pub(crate) fn drain(&self) {
        if let Some(relay) = &self.relay {
            self.strands.iter().flatten().for_each(|strand| relay.drain(strand, self.in_test));
        }
    }

    /// Finds out how the process ended, which it has; or is about to, killed for its `fault`.
    pub(crate) fn examine(&self, fault: Option<String>) -> Loss {
        let status = self.child.wait();
        self.drain();
        let may_be_oom = status == Some(End::KILLED) && !self.child.was_killed();
        let oom = self.oom.get().filter(|_| may_be_oom).and_then(OomWatch::ask);
        // It may have written anything there: what does not fit how it ended is not believed.
        let crash = self.page.crash().filter(|crash| Some(End::Signal(crash.signal)) == status);
        let stderr = self.strands[1].as_ref().filter(|_| self.captured).map(|strand| strand.last());
        Loss {
            status,
            stage: Stage::from_u32(self.page.stage()),
            panic: PanicInfo::from_last_words(&self.page.words(), status),
            fault,
            usage: self.child.usage(),
            // What it was charged with before it began may be its parent's.
            first_peak: self.page.first_peak(),
            oom,
            crash,
            stderr,
            ..Loss::of(self.child.pid())
        }
    }
}
