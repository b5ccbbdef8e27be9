//! A quarter of the jobs panic or die; exactly those fail. What stood in line behind them is run.

use crate::support::{over_every_transport, pool};
use pool_runtime::task;

over_every_transport! {
    a_quarter_of_the_jobs_die_and_exactly_those_fail,
    an_item_of_a_map_that_dies_costs_that_item,
}

#[task]
fn square(n: u64) -> u64 {
    match n % 16 {
        3 => panic!("{n} is unlucky"),
        7 => std::process::abort(),
        9 => std::process::exit(9),
        // SAFETY: no memory is involved.
        12 => unsafe {
            libc::raise(libc::SIGKILL);
        },
        _ => {}
    }
    n * n
}

fn a_quarter_of_the_jobs_die_and_exactly_those_fail() {
    let pool = pool(2);
    // So short that they are sent many at a time.
    pool.map(square::call, [0; 50]).unwrap();
    let jobs: Vec<_> = (0..200).map(|n| pool.apply_async(square::call(n))).collect();
    check(jobs.into_iter().map(|job| job.get()));
}

fn an_item_of_a_map_that_dies_costs_that_item() {
    let pool = pool(2);
    pool.map(square::call, [0; 50]).unwrap();
    check(pool.imap(square::call, 0..200).chunk_size(50).look_ahead(200));
    let error = pool.map(square::call, 0..200).unwrap_err();
    assert_eq!(error.panic().unwrap().message(), "3 is unlucky", "the failure of the lowest index");
}

fn check(results: impl Iterator<Item = pool_runtime::Result<u64>>) {
    let mut count = 0;
    for (n, result) in results.enumerate() {
        let n = n as u64;
        count += 1;
        match (n % 16, result) {
            (3, Err(error)) => assert!(error.is_panic() && !error.is_worker_lost(), "{n}: {error}"),
            (7, Err(error)) => assert_eq!(error.signal(), Some(6), "{n}: {error}"),
            (9, Err(error)) => assert_eq!(error.exit_code(), Some(9), "{n}: {error}"),
            (12, Err(error)) => assert_eq!(error.signal(), Some(9), "{n}: {error}"),
            (3 | 7 | 9 | 12, Ok(_)) => panic!("{n} cannot have worked"),
            (_, result) => assert_eq!(result.unwrap(), n * n),
        }
    }
    assert_eq!(count, 200);
}
