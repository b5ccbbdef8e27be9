//! A memory barrier that one process has executed in others: `membarrier`, of the kind GLOBAL_EXPEDITED.

use rustix::thread::{MembarrierCommand, membarrier};

/// Has other processes' [barriers](remote_barrier) executed in this one from now on. Returns whether they are.
pub(crate) fn accept_barriers() -> bool {
    membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
}

/// Has every process that [accepts](accept_barriers) it execute a memory barrier. Returns whether the system can.
pub(crate) fn remote_barrier() -> bool {
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}
