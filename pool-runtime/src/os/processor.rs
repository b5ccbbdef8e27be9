//! Which processors there are, and on which of them a thread runs.

use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};

/// The processors this process may use: the smaller of its affinity and its cgroup's quota.
pub(crate) fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processor on which the calling thread runs just now. No system call on most architectures.
#[inline]
pub(crate) fn current_cpu() -> u32 {
    sched_getcpu() as u32
}

/// Moves the calling thread to another processor than this one, if it may use another; it may come back later. What
/// somebody else says at the same moment about where it may run is lost.
pub(crate) fn leave_cpu(cpu: u32) {
    let Ok(usable) = sched_getaffinity(None) else { return };
    let mut others = usable;
    others.unset(cpu as usize);
    if others.count() > 0 && sched_setaffinity(None, &others).is_ok() {
        // It was allowed a moment ago. If it is not any more, the thread stays on the others.
        let _ = sched_setaffinity(None, &usable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::CpuSet;

    #[test]
    fn a_thread_moves_and_may_still_use_all_processors() {
        let usable = sched_getaffinity(None).unwrap();
        for _ in 0..100 {
            leave_cpu(current_cpu());
        }
        assert_eq!(sched_getaffinity(None).unwrap(), usable);
        std::thread::spawn(|| {
            let mut one = CpuSet::new();
            one.set(current_cpu() as usize);
            sched_setaffinity(None, &one).unwrap();
            leave_cpu(current_cpu());
            assert_eq!(sched_getaffinity(None).unwrap(), one, "there is no other");
        })
        .join()
        .unwrap();
    }
}
