//! With SIGPIPE at its default, sending to a dead worker does not end the program.

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{pool_main, task};
use support::{over_every_transport, pids, pool, signal};

pool_main!();

over_every_transport! { sending_to_a_dead_worker_does_not_end_the_program }

#[task]
fn default_sigpipe() {
    // SAFETY: no handler is installed, and no memory involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

#[task]
fn length(bytes: &[u8]) -> usize {
    bytes.len()
}

fn sending_to_a_dead_worker_does_not_end_the_program() {
    default_sigpipe();
    let pool = pool(2);
    pool.map(|()| default_sigpipe::call(), [(); 8]).unwrap();
    for round in 0..50 {
        // Stopped first, so that the calls are under way when it dies.
        let pid = pids(&pool)[round % 2];
        signal(pid, libc::SIGSTOP);
        let jobs: Vec<_> = (0..20).map(|n| pool.apply_async(length::call(&vec![0; n * 4000]))).collect();
        signal(pid, libc::SIGKILL);
        for (n, job) in jobs.into_iter().enumerate() {
            match job.get() {
                Ok(length) => assert_eq!(length, n * 4000),
                Err(error) => assert!(error.is_worker_lost(), "{error}"),
            }
        }
        // Also the one that is dead is listed until that is noticed.
        support::until("both workers are there", || {
            let workers = pids(&pool);
            workers.len() == 2 && !workers.contains(&pid)
        });
    }
}
