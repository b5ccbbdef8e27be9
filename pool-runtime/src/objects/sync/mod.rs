//! Locks between processes, with the names and guards of [`std::sync`].
//!
//! Each is an argument like any other; a clone, and what a task gets, are the same lock. They lie in shared memory, cost
//! no system call unless somebody has to wait, and have no name, so nothing is left of them when the last process that has
//! one has ended.
//!
//! No process that ends can keep them, at whatever instruction it ends: who comes next is [told](Poisoned), and finds a
//! whole value.
//!
//! | type | |
//! |---|---|
//! | [`Mutex`] | a value that one thread at a time may change, of all processes |
//! | [`ReentrantMutex`] | the same, and its thread may take it again |
//! | [`RwLock`] | a value that many may read, or one may change |
//! | [`Condvar`] | waits for something to become true of what a mutex guards |
//! | [`Semaphore`] | so many may do something at a time |
//! | [`Barrier`] | so many wait for each other |
//! | [`Event`] | many wait until one says go |

mod barrier;
mod condvar;
mod event;
mod line;
mod mutex;
mod poison;
mod reentrant;
mod rwlock;
mod semaphore;
mod signalled;

pub use barrier::{Barrier, BarrierWaitResult, BrokenBarrier};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use event::Event;
pub use mutex::{Mutex, MutexGuard};
pub use poison::{Poisoned, TryLockError};
pub use reentrant::{ReentrantMutex, ReentrantMutexGuard};
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{Permit, Semaphore};
