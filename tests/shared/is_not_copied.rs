//! All workers read the memory that the caller has made: whatever its size, a call with it costs next to nothing, and
//! no worker has a copy.

over_every_transport! { in_turn: the_memory_is_the_same_and_nobody_copies_it }

use crate::support::regions::{held, inode};
use crate::support::{Signals, await_given, builder, count, memory, over_every_transport, until};
use pool_runtime::{Shared, task};
use std::{path::Path, time::Instant};

const LENGTH: usize = (64 << 20) / size_of::<u64>();

#[task]
fn look(all: Shared<[u64]>, index: usize) -> (u64, usize) {
    (all[index], all.len())
}

#[task]
fn sum(all: &Shared<[u64]>) -> u64 {
    all.iter().sum()
}

#[task]
fn hold(all: Shared<[u64]>, here: &Path, release: &Path) -> u64 {
    count(here);
    await_given(release);
    all[LENGTH - 1]
}

fn the_memory_is_the_same_and_nobody_copies_it() {
    let all = Shared::from_fn(LENGTH, |index| index as u64).unwrap();
    let pool = builder().processes(3).build().unwrap();
    let began = Instant::now();
    for index in 0..1000 {
        assert_eq!(pool.apply(look::call(all.clone(), index)).unwrap(), (index as u64, LENGTH));
    }
    let values = pool.map(|index| look::call(all.clone(), index * 1000), 0..1000).unwrap();
    assert!(values.iter().enumerate().all(|(index, found)| *found == (index as u64 * 1000, LENGTH)));
    // 2,000 copies of it would be 128 GB.
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    assert_eq!(pool.apply(sum::call(&all)).unwrap(), (0..LENGTH as u64).sum());

    // All at once have it, each once, and as the same file.
    let signals = Signals::new();
    let (here, release) = (signals.path("here"), signals.path("release"));
    let jobs: Vec<_> = (0..3).map(|_| pool.apply_async(hold::call(all.clone(), &here, &release))).collect();
    until("all have it", || signals.counted("here") == 3);
    for worker in pool.workers() {
        assert_eq!(held(worker.pid), Some((1, 1)));
        assert!(memory(worker.pid) < 24 << 20, "{} bytes are its own", memory(worker.pid));
        assert_eq!(inode(worker.pid), inode(std::process::id()));
    }
    signals.give("release");
    assert!(jobs.into_iter().all(|job| job.get().unwrap() == LENGTH as u64 - 1));
}
