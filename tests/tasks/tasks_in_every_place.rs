//! A task runs in a worker wherever its function stands, and under whatever name it is called.

use crate::support::{over_every_transport, pool};
use dependency::inner::circumference as around;
use pool_runtime::{Pool, Process, task};

over_every_transport! {
    a_task_runs_in_a_worker_wherever_it_stands,
    tasks_of_a_dependency_run_in_a_worker,
}

/// What each task here returns: its value, and who made it.
type Made = (u32, u32);

mod outer {
    pub mod inner {
        use super::super::Made;
        use pool_runtime::task;

        #[task]
        pub fn nested(n: u32) -> Made {
            (n + 1, std::process::id())
        }

        pub mod private_parts {
            #[pool_runtime::task]
            pub(in crate::tasks_in_every_place::outer) fn restricted(n: u32) -> super::Made {
                (n + 2, std::process::id())
            }
        }
    }

    pub fn call_of_restricted(n: u32) -> impl pool_runtime::TaskCall<Output = super::Made> {
        inner::private_parts::restricted::call(n)
    }
}

#[cfg(unix)]
#[task]
fn chosen(n: u32) -> Made {
    (n + 3, std::process::id())
}

#[cfg(not(unix))]
#[task]
fn chosen(n: u32) -> Made {
    (n + 30, std::process::id())
}

#[task]
fn r#match(r#type: u32) -> Made {
    (r#type + 4, std::process::id())
}

#[task(name = "a name of its own")]
fn renamed(n: u32) -> Made {
    (n + 5, std::process::id())
}

/// Calls a task that does not exist outside this function.
fn with_task_in_body(pool: &Pool) -> Made {
    #[task]
    fn in_body(n: u32) -> Made {
        (n + 6, std::process::id())
    }
    pool.apply(in_body::call(100)).expect("it runs")
}

#[track_caller]
fn made_elsewhere(made: Made, value: u32) {
    assert_eq!(made.0, value);
    assert_ne!(made.1, std::process::id(), "it ran here");
}

fn a_task_runs_in_a_worker_wherever_it_stands() {
    use outer::inner::nested as imported;
    let pool = pool(1);
    let workers: Vec<u32> = pool.workers().iter().map(|worker| worker.pid).collect();

    let made = pool.apply(outer::inner::nested::call(100)).expect("it runs");
    made_elsewhere(made, 101);
    assert_eq!(workers, [made.1]);
    made_elsewhere(pool.apply(imported::call(200)).expect("it runs"), 201);
    made_elsewhere(pool.apply(outer::call_of_restricted(100)).expect("it runs"), 102);
    made_elsewhere(pool.apply(chosen::call(100)).expect("it runs"), 103);
    made_elsewhere(pool.apply(r#match::call(100)).expect("it runs"), 104);
    made_elsewhere(pool.apply(renamed::call(100)).expect("it runs"), 105);
    made_elsewhere(with_task_in_body(&pool), 106);
}

fn tasks_of_a_dependency_run_in_a_worker() {
    let pool = pool(1);
    made_elsewhere(pool.apply(dependency::area::call(2, 3)).expect("it runs"), 6);
    made_elsewhere(pool.apply(around::call(2, 3)).expect("it runs"), 10);
    let process = Process::new(dependency::area::call(4, 5)).start().expect("it starts");
    let pid = process.pid();
    assert_eq!(process.join().expect("it runs"), (20, pid));
}
