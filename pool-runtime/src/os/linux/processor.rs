//! Which processors there are, and on which of them a thread runs.

use crate::os::Scheduler;
use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::collections::HashSet;
use std::{io, mem};

/// The processors on which the processes that this one starts may run. The calling thread may be bound to fewer: another
/// one tries them all.
pub(crate) fn usable_cpus() -> Vec<usize> {
    let try_all = || {
        super::block_all_signals();
        let mut all = CpuSet::new();
        (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
        // In a sandbox, a thread stays where it is.
        let _ = sched_setaffinity(None, &all);
        sched_getaffinity(None)
    };
    let tried = super::spawn_thread("pool-cpus", None, try_all).ok().and_then(|thread| thread.join().ok()?.ok());
    let usable = tried.or_else(|| sched_getaffinity(None).ok()).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|cpu| usable.is_set(*cpu)).collect()
}

/// How many cores these processors are: processors of one core share it. None if the system does not say.
pub(crate) fn count_cores(cpus: &[usize]) -> Option<usize> {
    let core_of = |cpu: &usize| {
        let topology = format!("/sys/devices/system/cpu/cpu{cpu}/topology");
        // The second name is the older one.
        let list = |name| std::fs::read_to_string(format!("{topology}/{name}")).ok();
        list("core_cpus_list").or_else(|| list("thread_siblings_list"))
    };
    cpus.iter().map(core_of).collect::<Option<HashSet<_>>>().map(|cores| cores.len())
}

/// Runs this thread, and all that it makes later, on these processors.
pub(crate) fn set_cpus(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU).for_each(|cpu| set.set(*cpu));
    Ok(sched_setaffinity(None, &set)?)
}

/// Sets the priority of this thread, and of all that it makes later.
pub(crate) fn set_nice(nice: i32) -> io::Result<()> {
    Ok(setpriority_process(None, nice)?)
}

/// Has this thread, and all that it makes later, scheduled like this.
pub(crate) fn set_scheduler(scheduler: Scheduler) -> io::Result<()> {
    let policy = match scheduler {
        Scheduler::Normal => libc::SCHED_OTHER,
        Scheduler::Batch => libc::SCHED_BATCH,
        Scheduler::Idle => libc::SCHED_IDLE,
        Scheduler::Fifo(_) => libc::SCHED_FIFO,
        Scheduler::RoundRobin(_) => libc::SCHED_RR,
    };
    // SAFETY: all zeroes is a value of the parameters.
    let mut parameters: libc::sched_param = unsafe { mem::zeroed() };
    parameters.sched_priority = scheduler.priority().unwrap_or(0).into();
    // The system call itself: musl has no function that does this.
    // SAFETY: the pointer is that of the parameters.
    match unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The processor on which the calling thread runs now. No system call on most architectures.
#[inline]
pub(crate) fn current_cpu() -> u32 {
    sched_getcpu() as u32
}

/// Moves the calling thread to another processor, if it may use another; it may come back later. A change of its
/// affinity at the same moment is lost.
pub(crate) fn leave_cpu(cpu: u32) {
    let Ok(usable) = sched_getaffinity(None) else { return };
    let mut others = usable;
    others.unset(cpu as usize);
    if others.count() > 0 && sched_setaffinity(None, &others).is_ok() {
        // If this is not allowed any more, the thread stays on the others.
        let _ = sched_setaffinity(None, &usable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_cores_as_processors_at_most() {
        let usable = usable_cpus();
        match count_cores(&usable) {
            Some(cores) => assert!((1..=usable.len()).contains(&cores), "{cores} of {usable:?}"),
            None => eprintln!("not tested: the system does not tell cores"),
        }
        assert_eq!(count_cores(&[CpuSet::MAX_CPU]), None, "there is no such processor");
    }

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
