//! Results that are there are handed out while a slow call of the same task runs behind them.

over_every_transport! { results_before_a_slow_call_arrive }

use crate::support::{PATIENCE, Signals, await_given, over_every_transport, pool};
use pool_runtime::task;
use std::{path::Path, sync::mpsc};

/// Returns at once, but for the one that is told to wait.
#[task]
fn sometimes_slow(n: u32, waits: bool, release: &Path) -> u32 {
    if waits {
        await_given(release);
    }
    n
}

fn results_before_a_slow_call_arrive() {
    let (pool, signals) = (pool(1), Signals::new());
    let release = signals.path("release");
    // It is known to be short by then.
    pool.map(|n| sometimes_slow::call(n, false, &release), 0..1000).unwrap();
    for _ in 0..20 {
        let (sender, ends) = mpsc::channel();
        let submit = |n| {
            let sender = sender.clone();
            // Nobody waits for it, who could listen to the worker meanwhile.
            pool.apply_async(sometimes_slow::call(n, n == 8, &release)).on_done(move |result| {
                let _ = sender.send(result.as_ref().map(|n| *n).map_err(ToString::to_string));
            })
        };
        let jobs: Vec<_> = (0..9).map(submit).collect();
        for n in 0..8 {
            assert_eq!(ends.recv_timeout(PATIENCE).expect("a result that is there"), Ok(n));
        }
        assert!(!jobs[8].is_ready());
        signals.give("release");
        assert_eq!(ends.recv_timeout(PATIENCE).unwrap(), Ok(8));
        std::fs::remove_file(&release).unwrap();
    }
}
