//! A memory barrier that one process executes in others: `membarrier`, of the kind GLOBAL_EXPEDITED.

use rustix::thread::{MembarrierCommand, membarrier};

/// Lets other processes' [barriers](remote_barrier) take effect in this one. Returns whether the system can.
pub(crate) fn accept_barriers() -> bool {
    membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
}

/// Executes a memory barrier in every process that [accepts](accept_barriers) it. Returns whether the system can.
pub(crate) fn remote_barrier() -> bool {
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}
