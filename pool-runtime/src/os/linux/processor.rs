//! Which processors there are, and on which of them a thread runs.

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::collections::HashSet;
use std::io;

/// The processors on which this thread, and so what it starts, may run.
pub(crate) fn usable_cpus() -> Vec<usize> {
    let usable = sched_getaffinity(None).unwrap_or_default();
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
