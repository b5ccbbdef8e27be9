//! Without processes, no way in for them is needed: this file has no `pool_main!`.

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Backend, Pool, Sandbox, task};
use support::pool_on;

#[task]
fn pid() -> u32 {
    std::process::id()
}

#[test]
fn calls_run_in_this_process() {
    for backend in [Backend::Inline, Backend::Threads, Backend::Faults(0)] {
        let pool = pool_on(backend, 2);
        let pids: Vec<u32> = pool.imap(|()| pid::call(), [(); 20]).filter_map(Result::ok).collect();
        assert!(!pids.is_empty() && pids.iter().all(|pid| *pid == std::process::id()), "{backend:?} {pids:?}");
        assert!(pool.workers().iter().all(|worker| worker.pid == std::process::id()));
    }
    let error = Pool::new(1).unwrap_err();
    assert!(error.to_string().contains("pool_main!"), "{error}");
}

#[test]
fn what_only_a_process_can_have_is_refused() {
    for backend in [Backend::Inline, Backend::Threads, Backend::Faults(0)] {
        for builder in [
            Pool::builder().env("LANGUAGE", "la"),
            Pool::builder().env_remove("LANGUAGE"),
            Pool::builder().current_dir("/"),
            Pool::builder().each_worker(|_, options| options.env("LANGUAGE", "la")),
            Pool::builder().sandbox(Sandbox::strict()),
        ] {
            let text = builder.backend(backend).build().unwrap_err().to_string();
            assert!(text.contains(&format!("`Backend::{backend:?}`")) && text.contains("current_dir"), "{text}");
        }
    }
}
