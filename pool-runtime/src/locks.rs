//! Locks and condition variables. It imports nothing of the crate.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Ignores poison: no user code runs while one of the library's locks is held, so what it guards is intact.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`]; None if another thread holds it.
pub(crate) fn try_lock<T: ?Sized>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Waits for `changed`, at most until `deadline`. Returns None after that.
pub(crate) fn sleep_on<'g, T>(
    changed: &Condvar,
    guard: MutexGuard<'g, T>,
    deadline: Option<Instant>,
) -> Option<MutexGuard<'g, T>> {
    match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
        None => Some(changed.wait(guard).unwrap_or_else(PoisonError::into_inner)),
        Some(Duration::ZERO) => None,
        Some(left) => Some(changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0),
    }
}
