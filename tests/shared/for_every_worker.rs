//! A worker that takes the place of another one gets what that one had: for the initializer and for calls, after a
//! death, and under `max_tasks_per_child`.

over_every_transport! { in_turn: each_new_worker_gets_it }

use crate::support::regions::{held, held_here};
use crate::support::{builder, over_every_transport, until};
use pool_runtime::{Shared, task};
use std::collections::BTreeSet;

struct Model {
    weights: Shared<[f64]>,
    first: f64,
}

#[task(initializer)]
fn load(weights: Shared<[f64]>, offsets: &Shared<[f64]>) -> Model {
    Model { first: offsets[0], weights }
}

#[task]
fn predict(#[state] model: &Model, x: &Shared<[f64]>) -> (f64, u32) {
    (model.weights.iter().zip(x).map(|(weight, x)| weight * x).sum::<f64>() + model.first, std::process::id())
}

#[task]
fn dies() {
    std::process::abort();
}

// It counts what the whole process holds.
fn each_new_worker_gets_it() {
    for tasks in [1, u64::MAX] {
        let x = Shared::new(&[1.0, 2.0]).unwrap();
        let pool = {
            // The pool keeps what its initializer needs.
            let (weights, offsets) = (Shared::new(&[10.0, 100.0]).unwrap(), Shared::new(&[0.5]).unwrap());
            let initializer = load::call(weights, &offsets);
            let builder = builder().processes(2).initializer(initializer);
            builder.max_tasks_per_child(tasks).build().unwrap()
        };
        assert_eq!(held_here(), (3, 3));
        let mut pids = BTreeSet::new();
        for round in 0..8 {
            let (value, pid) = pool.apply(predict::call(&x)).unwrap();
            assert_eq!(value, 210.5);
            pids.insert(pid);
            if round % 3 == 0 {
                assert!(pool.apply(dies::call()).unwrap_err().is_worker_lost());
            }
        }
        assert!(pids.len() >= if tasks == 1 { 8 } else { 2 }, "{pids:?}");
        let all = pool.map(|_| predict::call(&x), 0..20).unwrap();
        assert!(all.iter().all(|(value, _)| *value == 210.5));
        drop(x);
        until("the argument is freed", || held_here() == (2, 2));
        let of_initializer = |held: Option<(usize, usize)>| held.is_none_or(|(mapped, _)| mapped <= 2);
        until("and released", || pool.workers().iter().all(|worker| of_initializer(held(worker.pid))));
        drop(pool);
        assert_eq!(held_here(), (0, 0));
    }
}
