//! Signals without SA_RESTART arrive all the time, here and in the workers, and nothing goes wrong.

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Pool, Process, Shared, WorkerState, pool_main, task};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use support::{builder, over_every_transport};

pool_main!();

over_every_transport! { in_turn: everything_works_in_a_storm_of_signals }

static SEEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: i32) {
    SEEN.fetch_add(1, Ordering::Relaxed);
}

/// Counts SIGUSR1 and SIGPROF, and has the kernel send SIGPROF for every 200 µs of work.
#[task(initializer)]
fn storm() {
    // SAFETY: the handler only touches an atomic; all structures are initialised.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as extern "C" fn(i32) as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        libc::sigaction(libc::SIGPROF, &raw const action, std::ptr::null_mut());
        let often = libc::timeval { tv_sec: 0, tv_usec: 200 };
        let timer = libc::itimerval { it_interval: often, it_value: often };
        libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut());
    }
}

#[task]
fn double(xs: &[u64]) -> Vec<u64> {
    xs.iter().map(|x| 2 * x).collect()
}

/// Brings about a storm of its own, which the result has to pass through.
#[task]
fn double_in_a_storm(xs: &[u64]) -> Vec<u64> {
    storm();
    double(xs)
}

#[task]
fn sum(all: &Shared<[u64]>, from: usize) -> u64 {
    all[from..].iter().sum()
}

#[task]
fn seen() -> u64 {
    SEEN.load(Ordering::Relaxed)
}

/// The storm ends whatever happens.
struct Calm<'s>(&'s AtomicBool);

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn everything_works_in_a_storm_of_signals() {
    storm();
    let stop = AtomicBool::new(false);
    let pool = builder().processes(2).initializer(storm::call()).build().unwrap();
    // One that has not yet heard of SIGUSR1 would die of it.
    let ready = |pool: &Pool| pool.workers().iter().filter(|worker| worker.state == WorkerState::Idle).count();
    support::until("both workers are ready", || ready(&pool) == 2);
    let workers = support::pids(&pool);
    std::thread::scope(|scope| {
        let _calm = Calm(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for pid in workers.iter().copied().chain([std::process::id()]) {
                    // SAFETY: no memory is involved; a worker may have ended.
                    unsafe { libc::kill(pid as i32, libc::SIGUSR1) };
                }
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        });
        let large: Vec<u64> = (0..1 << 18).collect();
        let last = large[large.len() - 1];
        let huge: Vec<u64> = (0..1 << 21).collect();
        for round in 0..20 {
            let inputs = [[1], [2], [3]];
            assert_eq!(pool.map(|xs| double::call(xs), &inputs).unwrap(), [[2], [4], [6]]);
            let jobs: Vec<_> = (0..500u64).map(|n| pool.apply_async(double::call(&[n]))).collect();
            for (n, job) in jobs.into_iter().enumerate() {
                assert_eq!(job.get().unwrap(), [2 * n as u64]);
            }
            assert_eq!(pool.apply(double::call(&large)).unwrap()[round], 2 * round as u64);
            let process = Process::new(double::call(&[21])).start().unwrap();
            assert_eq!(process.join().unwrap(), [42]);
            // New memory each time, so that it has to be passed on, and released.
            let shared = Shared::new(&large).unwrap();
            let sums = pool.imap(|from| sum::call(&shared, from), (0..64).map(|n| large.len() - n));
            for (n, sum) in (0..64).zip(sums) {
                assert_eq!(sum.unwrap(), (0..n).map(|back| last - back).sum());
            }
        }
        // Larger than any buffer, both ways at once, in a pool and beside it.
        for _ in 0..2 {
            let jobs = [(); 3].map(|()| pool.apply_async(double::call(&huge)));
            let process = Process::new(double_in_a_storm::call(&huge)).start().unwrap();
            let whole = |doubled: Vec<u64>| doubled.len() == huge.len() && (0..).zip(doubled).all(|(n, x)| x == 2 * n);
            assert!(whole(process.join().unwrap()));
            assert!(jobs.into_iter().all(|job| whole(job.get().unwrap())));
            let inputs = (0..40).map(|n| &huge[..n << 10]);
            let lengths = pool.imap_unordered(double::call, inputs).map(|doubled| doubled.unwrap().len());
            assert_eq!(lengths.sum::<usize>(), (0..40).map(|n| n << 10).sum());
        }
        support::until("the storm is felt in a worker", || pool.apply(seen::call()).unwrap() > 100);
        pool.close();
        pool.join().unwrap();
    });
    assert!(SEEN.load(Ordering::Relaxed) > 100, "no storm here");
}
