//! Keeps a process that runs a single call within what the call may take. Workers of a pool are watched by its
//! dispatcher.

use crate::{dossier::Dossier, error::Kind, memory::StatusPage, os, policy::Policy};
use std::time::{Duration, Instant};

/// How often memory is looked at.
const WEIGH_EVERY: Duration = Duration::from_millis(10);
/// A call that has not started yet is looked at again after so long, at the least.
const SOON: Duration = Duration::from_millis(1);

/// What a call has taken too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Time { limit: u64 },
    Memory { limit: u64, used: u64 },
}

impl Excess {
    /// As the end of its process.
    pub(crate) fn kind(self, dossier: Dossier) -> Kind {
        match self {
            Self::Time { limit } => Kind::TimedOut { limit: Duration::from_nanos(limit), dossier },
            Self::Memory { limit, used } => Kind::OverMemory { limit, used, dossier },
        }
    }
}

/// Looks at a process: whether its call has taken too much, and if not, when to look again, if ever.
pub(crate) fn look(policy: &Policy, page: &StatusPage, pid: u32) -> Result<Option<Instant>, Excess> {
    let mut next: Option<Duration> = None;
    let mut look_in = |time: Duration| next = Some(next.map_or(time, |other| other.min(time)));
    if policy.memory != u64::MAX {
        let used = os::private_memory(pid).unwrap_or(0);
        if used > policy.memory {
            return Err(Excess::Memory { limit: policy.memory, used });
        }
        look_in(WEIGH_EVERY);
    }
    if policy.timeout != u64::MAX {
        let now = os::monotonic();
        let (claimed, started, extended) = page.running();
        // The clock starts when the task does; only one that is told to stop can ask for more time.
        let started = if claimed == 0 { now } else { started.min(now) };
        let extended = if policy.soft_timeout == u64::MAX { 0 } else { extended };
        let deadline = started.saturating_add(policy.timeout).max(extended);
        if deadline <= now {
            return Err(Excess::Time { limit: policy.timeout });
        }
        look_in(Duration::from_nanos(deadline - now).max(SOON));
    }
    Ok(next.and_then(|time| Instant::now().checked_add(time)))
}
