//! Parts of the scenarios: a program that a filter of system calls does not let send signals, as in a container.

use super::{builder, say, twice};
use pool_runtime::{Process, Result, task};
use seccompiler::{SeccompAction, SeccompFilter, apply_filter_all_threads};
use std::time::{Duration, Instant};

#[task]
fn hang() {
    loop {
        std::thread::park();
    }
}

/// From now on, no process is killed in these ways.
fn deny(ways: &str) {
    let numbers = ways.split(',').map(|way| match way {
        "pidfd" => libc::SYS_pidfd_send_signal,
        "pid" => libc::SYS_kill,
        unknown => panic!("no way {unknown:?}"),
    });
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into().expect("a known architecture");
    let rules = numbers.map(|number| (number, vec![])).collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture);
    apply_filter_all_threads(&filter.and_then(TryInto::<Vec<_>>::try_into).expect("a filter")).expect("a filter");
}

fn within<R>(what: &str, work: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let done = work();
    assert!(begun.elapsed() < Duration::from_secs(30), "{what} took {:?}", begun.elapsed());
    done
}

/// Limits, cancelling, terminating and dropping, where workers cannot be killed in these ways.
pub(super) fn all_ends(ways: &str) -> Result<()> {
    deny(ways);
    let limit = Duration::from_millis(100);
    let pool = builder().processes(2).build()?;
    let error = within("a timeout", || pool.apply(hang::call().timeout(limit))).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let job = pool.apply_async(hang::call());
    while pool.stats().running == 0 {
        std::thread::yield_now();
    }
    job.cancel();
    assert!(within("cancelling", || job.get()).unwrap_err().is_cancelled());
    assert_eq!(within("the next worker", || pool.apply(twice::call(4)))?, 8);
    let job = pool.apply_async(hang::call());
    pool.terminate();
    within("joining", || pool.join())?;
    assert!(job.get().unwrap_err().is_closed());
    let pool = builder().processes(1).build()?;
    let _job = pool.apply_async(hang::call());
    within("dropping", || drop(pool));
    let process = Process::new(hang::call().timeout(limit)).start()?;
    let error = within("a process", || process.join()).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    say("all have ended");
    Ok(())
}
