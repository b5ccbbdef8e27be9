//! F14: signals without SA_RESTART arrive all the time, here and in the workers, and nothing goes wrong.

mod support;

use pool_runtime::{Pool, Process, WorkerState, pool_main, task};
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
        }
        support::until("the storm is felt in a worker", || pool.apply(seen::call()).unwrap() > 100);
        pool.close();
        pool.join().unwrap();
    });
    assert!(SEEN.load(Ordering::Relaxed) > 100, "no storm here");
}
