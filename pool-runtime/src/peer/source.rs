//! Where the workers of a pool come from.

use crate::error::Error;
use crate::options::WorkerOptions;
use crate::os;
use crate::peer::{Bells, Inline, Launch, Peer, Plan, WorkerThread};
use crate::protocol::NamedCall;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) enum Source {
    Processes(Arc<Launch>),
    Threads {
        /// The faults to inject.
        plan: Option<Arc<Plan>>,
        initializer_timeout: Option<Duration>,
    },
    /// There are no workers: the thread that submits a call runs it.
    Inline(Inline),
}

impl Source {
    /// Starts a worker, which has yet to be [greeted](Peer::greet). Fails if the system refuses. The name and the
    /// initializer are for a thread; a process gets them otherwise.
    pub(crate) fn start(
        &self,
        seat: usize,
        name: String,
        options: &WorkerOptions,
        initializer: Option<&NamedCall>,
        bells: Option<&Arc<Bells>>,
    ) -> Result<Peer, Error> {
        match self {
            Self::Processes(launch) => {
                let bells = bells.and_then(|bells| bells.page(seat));
                Ok(Peer::from(launch.start(options, bells.map(|bells| &**bells))?))
            }
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

    /// No more calls come from this thread.
    pub(crate) fn leave(&self) {
        if let Self::Inline(inline) = self {
            inline.leave();
        }
    }

    /// Waits until what the workers have printed is passed on, at most until `deadline`. They have ended. Returns whether
    /// it is.
    pub(crate) fn finish(&self, deadline: Option<Instant>) -> bool {
        match self {
            Self::Processes(launch) => launch.relay.as_ref().is_none_or(|relay| relay.finish(deadline)),
            Self::Threads { .. } | Self::Inline(_) => true,
        }
    }

    /// What its workers are.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Processes(_) => "processes",
            Self::Threads { .. } => "threads",
            Self::Inline(_) => "the threads that submit",
        }
    }

    pub(crate) fn has_processes(&self) -> bool {
        matches!(self, Self::Processes(_))
    }

    pub(crate) fn confinement(&self) -> Option<os::Confinement> {
        match self {
            Self::Processes(launch) => launch.confinement.clone(),
            Self::Threads { .. } | Self::Inline(_) => None,
        }
    }
}
