//! How long somebody is ready to wait at an end of a queue or a channel.

use crate::error::{Error, Kind};
use std::time::{Duration, Instant};

/// How long somebody is ready to wait.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    Endless,
    None,
    For(Duration),
}

/// When that is over: the clock is read once, and only if there is something to wait for.
pub(crate) struct Limit {
    patience: Patience,
    deadline: Option<Option<Instant>>,
}

impl From<Patience> for Limit {
    #[inline]
    fn from(patience: Patience) -> Self {
        Self { patience, deadline: None }
    }
}

/// How long who does not want to wait waits for who is about to put or take another item.
const GRACE: Duration = Duration::from_millis(100);

impl Limit {
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        *self.deadline.get_or_insert_with(|| match self.patience {
            Patience::Endless => None,
            Patience::None => Some(Instant::now()),
            Patience::For(time) => Instant::now().checked_add(time),
        })
    }

    /// Who does not want to wait does so for those who are about to put or take another item.
    pub(super) fn of_lock(&mut self) -> Option<Instant> {
        match self.patience {
            Patience::None => Instant::now().checked_add(GRACE),
            Patience::Endless | Patience::For(_) => self.deadline(),
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self.patience, Patience::None)
    }

    /// How much of a pause there is time for. None: it is over.
    pub(crate) fn pause(&mut self, pause: Duration) -> Option<Duration> {
        let Some(deadline) = self.deadline() else { return Some(pause) };
        let left = deadline.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(pause))
    }

    /// That it is over, and why it was waited.
    pub(crate) fn over(&self, what: &'static str) -> Error {
        Error::new(match self.patience {
            Patience::For(time) => Kind::Waited { what, time },
            Patience::None | Patience::Endless => Kind::Blocked { what },
        })
    }
}
