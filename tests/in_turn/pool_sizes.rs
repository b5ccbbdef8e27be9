//! A pool of 0 workers is refused, one of 200 works; the default is the number of processors.

use crate::support::{Signals, await_given, builder, children, count, over_every_transport, pool, until};
use pool_runtime::{Pool, WorkerState, cpu_count, current_process, task};
use std::{collections::BTreeSet, path::Path};

over_every_transport! { in_turn: from_none_to_two_hundred }

#[task]
fn meet(arrived: &Path, release: &Path) -> (u32, String) {
    count(arrived);
    await_given(release);
    (std::process::id(), current_process().name().to_owned())
}

// It counts this process's children.
fn from_none_to_two_hundred() {
    for refused in [Pool::new(0), builder().processes(0).build()] {
        assert_eq!(refused.unwrap_err().to_string(), "a pool needs at least 1 process, and 0 were asked for");
    }
    let refused = builder().processes(1).max_tasks_per_child(0).build().unwrap_err();
    assert!(refused.to_string().contains("max_tasks_per_child is at least 1"), "{refused}");
    assert_eq!(children(), []);

    assert_eq!(builder().build().unwrap().processes(), cpu_count());

    let (pool, signals) = (builder().processes(200).name("crowd").build().unwrap(), Signals::new());
    assert_eq!(pool.processes(), 200);
    let (arrived, release) = (signals.path("arrived"), signals.path("release"));
    let met = pool.map_async(|_| meet::call(&arrived, &release), 0..200);
    // They all run at once: each of them waits for the last.
    until("all 200 have arrived", || signals.counted("arrived") == 200);
    let workers = pool.workers();
    assert_eq!(workers.len(), 200);
    assert!(workers.iter().all(|worker| worker.state == WorkerState::Busy && worker.jobs_done == 0));
    assert_eq!((pool.stats().running, pool.stats().waiting), (200, 0));
    signals.give("release");
    let met = met.get().unwrap();
    let pids: BTreeSet<u32> = met.iter().map(|(pid, _)| *pid).collect();
    assert_eq!(pids, workers.iter().map(|worker| worker.pid).collect());
    let names: BTreeSet<String> = met.into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, (1..=200).map(|seat| format!("crowd-{seat}")).collect());
    until("all are idle", || pool.workers().iter().all(|worker| worker.state == WorkerState::Idle));
    assert!(pool.workers().iter().all(|worker| worker.jobs_done == 1));
    pool.close();
    pool.join().unwrap();
    assert_eq!(children(), []);
    drop(self::pool(1));
}
