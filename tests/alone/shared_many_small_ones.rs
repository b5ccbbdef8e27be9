//! Thousands of shared slices pass through workers that may have few descriptors; where more are needed at once than
//! there are, that is an error that says so, and nobody hangs.

pool_runtime::pool_main!();

over_every_transport! { in_turn: few_descriptors_are_enough_for_many }

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Shared, task};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::regions::{held, held_here};
use support::{builder, over_every_transport, returns, until};

fn limit(descriptors: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(descriptors), maximum }).unwrap();
}

#[task]
fn sum(numbers: Shared<[u64]>) -> u64 {
    numbers.iter().sum()
}

#[task]
fn sum_all(all: &[Shared<[u64]>]) -> u64 {
    all.iter().flatten().sum()
}

#[task]
fn allow(descriptors: u64) {
    limit(descriptors);
}

// The only test of this program: the limit is the whole process's, and its workers'.
fn few_descriptors_are_enough_for_many() {
    limit(256);
    returns("it hangs", move || {
        let pool = builder().processes(2).build().unwrap();
        let small = |n: u64| Shared::new(&[n, n]).unwrap();
        let expected: Vec<u64> = (0..3000).map(|n| 2 * n).collect();
        assert_eq!(pool.map(|n| sum::call(small(n)), 0..3000).unwrap(), expected);
        let streamed = pool.imap(|n| sum::call(small(n)), 0..3000).look_ahead(60);
        assert_eq!(streamed.collect::<Result<Vec<_>, _>>().unwrap(), expected);
        for n in 0..500 {
            assert_eq!(pool.apply(sum::call(small(n))).unwrap(), 2 * n);
        }
        until("all are freed", || held_here() == (0, 0));

        // More than this process may have.
        let mut all = Vec::new();
        let error = loop {
            match Shared::new(&[1_u64, 2]) {
                Ok(one) => all.push(one),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("os error 24"), "{error}");
        // Nobody is harmed: those that are there can be passed, all together.
        assert_eq!(pool.apply(sum_all::call(&all)).unwrap(), 3 * all.len() as u64);

        // More than a worker may have.
        let poor = {
            drop(all.split_off(100));
            builder().processes(1).build().unwrap()
        };
        poor.apply(allow::call(40)).unwrap();
        let error = poor.apply(sum_all::call(&all)).unwrap_err();
        assert!(error.is_decode(), "{error}");
        assert!(error.to_string().contains("os error 24"), "{error}");
        drop(all);
        until("they are released", || held(poor.workers()[0].pid) == Some((0, 0)));
        assert_eq!(poor.apply(sum::call(small(4))).unwrap(), 8);
    });
}
