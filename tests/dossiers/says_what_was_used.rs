//! The dossier of a lost worker says what it has used: processor time, memory, page faults.

use crate::support::{over_every_transport, pool};
use pool_runtime::task;
use std::time::{Duration, Instant};

over_every_transport! {
    time_and_memory_are_counted,
}

/// What this process has used a processor for, by the clock of that.
fn used() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is that of a time.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[task]
fn use_and_die(memory: usize, time: Duration) {
    let pages = vec![1_u8; memory];
    let began = Instant::now();
    while used() < time {
        std::hint::black_box(&pages);
        assert!(began.elapsed() < crate::support::PATIENCE);
    }
    std::process::abort();
}

fn time_and_memory_are_counted() {
    const MEMORY: usize = 200 << 20;
    const TIME: Duration = Duration::from_millis(200);
    let error = pool(1).apply(use_and_die::call(MEMORY, TIME)).unwrap_err();
    let dossier = error.dossier().unwrap();
    let (own, system) = (dossier.user_time().unwrap(), dossier.system_time().unwrap());
    // The system counts the two in its own way; their sum is right, up to a tick.
    assert!(own + system > TIME * 9 / 10 && own > Duration::ZERO, "{dossier}");
    let peak = dossier.peak_memory().unwrap() as usize;
    assert!((MEMORY..4 * MEMORY).contains(&peak), "{dossier}");
    let (faults, read) = dossier.page_faults().unwrap();
    assert!(faults > 100 && read <= faults, "{dossier}");
    assert!(dossier.duration().unwrap() >= Duration::from_millis(50), "{dossier}");
}
