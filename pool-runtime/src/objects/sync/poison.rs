//! What a lock says if its holder has ended, or panicked.

use crate::error::{Error, Kind};
use std::fmt;

/// A process has ended, or a thread has panicked, while it held this lock.
///
/// The lock is held all the same, by who gets this: [`into_inner`](Self::into_inner) gives the guard. The value is whole: a
/// holder's changes are stored all at once, when it gives the lock back. But what else it was about to do is not done.
///
/// Every later holder is told, until `clear_poison` of the lock is called.
pub struct Poisoned<G> {
    guard: G,
}

impl<G> Poisoned<G> {
    pub(super) fn new(guard: G) -> Self {
        Self { guard }
    }

    /// The guard: the lock is held.
    pub fn into_inner(self) -> G {
        self.guard
    }

    /// The guard: the lock is held.
    pub fn get_ref(&self) -> &G {
        &self.guard
    }

    /// The guard: the lock is held.
    pub fn get_mut(&mut self) -> &mut G {
        &mut self.guard
    }
}

const WHAT: &str = "a process has ended, or a thread has panicked, while it held this lock: its value is whole, as it was \
                    last stored (`into_inner` of this error gives the guard, `clear_poison` of the lock forgets it)";

impl<G> fmt::Debug for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poisoned").finish_non_exhaustive()
    }
}

impl<G> fmt::Display for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WHAT)
    }
}

impl<G> std::error::Error for Poisoned<G> {}

/// So that `?` works in a function that returns this crate's [`Result`](crate::Result). The lock is given back.
impl<G> From<Poisoned<G>> for Error {
    fn from(_: Poisoned<G>) -> Self {
        Self::invalid(WHAT)
    }
}

/// Why a lock was not taken in time, or not as it should be.
pub enum TryLockError<G> {
    /// It was taken; its last holder has ended, or panicked.
    Poisoned(Poisoned<G>),
    /// Somebody else has it.
    WouldBlock,
}

const HELD: &str = "somebody else holds this lock";

impl<G> fmt::Debug for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisoned(poisoned) => poisoned.fmt(f),
            Self::WouldBlock => f.write_str("WouldBlock"),
        }
    }
}

impl<G> fmt::Display for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poisoned(_) => WHAT,
            Self::WouldBlock => HELD,
        })
    }
}

impl<G> std::error::Error for TryLockError<G> {}

impl<G> From<Poisoned<G>> for TryLockError<G> {
    fn from(poisoned: Poisoned<G>) -> Self {
        Self::Poisoned(poisoned)
    }
}

impl<G> From<TryLockError<G>> for Error {
    fn from(error: TryLockError<G>) -> Self {
        match error {
            TryLockError::Poisoned(poisoned) => poisoned.into(),
            TryLockError::WouldBlock => Self::new(Kind::Blocked { what: HELD }),
        }
    }
}
