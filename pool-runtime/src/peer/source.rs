//! What brings workers about.

use crate::error::Error;
use crate::options::WorkerOptions;
use crate::os;
use crate::peer::faults::Plan;
use crate::peer::spawn::Launch;
use crate::peer::thread::WorkerThread;
use crate::peer::{Bells, Inline, Peer};
use crate::protocol::NamedCall;
use std::sync::Arc;
use std::time::Duration;

/// What brings workers about.
pub(crate) enum Source {
    Processes(Box<Launch>),
    Threads {
        /// What goes wrong on purpose, if anything.
        plan: Option<Arc<Plan>>,
        initializer_timeout: Option<Duration>,
    },
    /// None: whoever submits a call runs it.
    Inline(Inline),
}

impl Source {
    /// Starts a worker, which has yet to be [greeted](Peer::greet). It is known by `name`, rings these bells, and, if
    /// it is a thread, runs the initializer.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(crate) fn start(
        &self,
        name: String,
        options: &WorkerOptions,
        initializer: Option<&NamedCall>,
        bells: Option<&Arc<Bells>>,
    ) -> Result<Peer, Error> {
        match self {
            Self::Processes(launch) => Ok(Peer::from(launch.start(options)?)),
            Self::Threads { plan, initializer_timeout } => {
                let hired = WorkerThread::hire(name, initializer.cloned(), plan.clone(), *initializer_timeout)?;
                if let Some(bells) = bells.cloned() {
                    hired.lifeline.reports.set_bell(move |mark| bells.ring(mark));
                }
                Ok(Peer::Thread(hired))
            }
            Self::Inline(_) => Err(Error::invalid("calls that run at once have no workers")),
        }
    }

    /// No call comes any more from this thread.
    pub(crate) fn leave(&self) {
        match self {
            Self::Inline(inline) => inline.leave(),
            Self::Processes(_) | Self::Threads { .. } => {}
        }
    }

    /// Waits until what the workers have printed is passed on. They have ended.
    pub(crate) fn finish(&self) {
        if let Self::Processes(launch) = self
            && let Some(relay) = &launch.relay
        {
            relay.finish();
        }
    }

    /// What its workers may not do.
    pub(crate) fn confinement(&self) -> Option<os::Confinement> {
        match self {
            Self::Processes(launch) => launch.confinement.clone(),
            Self::Threads { .. } | Self::Inline(_) => None,
        }
    }
}
