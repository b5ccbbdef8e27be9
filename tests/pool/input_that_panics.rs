//! Inputs that panic or end early. The results before stand, the panic comes out where the inputs are read, and the
//! pool goes on.

use crate::support::{Signals, await_given, count, over_every_transport, pool, until};
use pool_runtime::{Pool, task};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

over_every_transport! {
    map_passes_the_panic_on,
    calls_of_a_map_that_panicked_do_not_start_any_more,
    imap_gives_the_results_before_the_panic,
    inputs_that_end_earlier_than_announced_are_all_there_are,
}

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

#[task]
fn wait_and_count(begun: &Path, release: &Path) {
    count(begun);
    await_given(release);
}

fn three_then_panic() -> impl Iterator<Item = u32> {
    (0..).inspect(|n| assert!(*n < 3, "no more inputs"))
}

fn message_of(work: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(work)).expect_err("a panic");
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap()
}

fn goes_on(pool: &Pool) {
    assert_eq!(pool.map(double::call, 0..10).unwrap(), (0..10).map(double).collect::<Vec<_>>());
}

fn map_passes_the_panic_on() {
    let pool = pool(2);
    let message = message_of(|| drop(pool.map(double::call, three_then_panic())));
    assert_eq!(message, "no more inputs");
    goes_on(&pool);
    let message = message_of(|| drop(pool.map_async(|n| if n < 2 { double::call(n) } else { panic!("in f") }, 0..9)));
    assert_eq!(message, "in f");
    goes_on(&pool);
}

fn calls_of_a_map_that_panicked_do_not_start_any_more() {
    let (pool, signals) = (pool(1), Signals::new());
    let (begun, release) = (signals.path("begun"), signals.path("release"));
    // Large enough a map that the calls read so far have been submitted, all but the first of which wait.
    let inputs = (0..1000).inspect(|n| assert!(*n < 900, "no more inputs"));
    message_of(|| drop(pool.map(|_| wait_and_count::call(&begun, &release), inputs)));
    until("nothing waits", || pool.stats().waiting == 0);
    signals.give("release");
    until("nothing runs", || pool.stats().running == 0);
    assert!(signals.counted("begun") <= 1, "{} calls have begun", signals.counted("begun"));
    goes_on(&pool);
}

fn imap_gives_the_results_before_the_panic() {
    let pool = pool(2);
    let mut results = pool.imap(double::call, three_then_panic());
    let before: Vec<u32> = results.by_ref().take(3).map(Result::unwrap).collect();
    assert_eq!(before, [0, 2, 4]);
    assert_eq!(message_of(|| drop(results.next())), "no more inputs");
    assert!(results.next().is_none());

    let mut unordered: Vec<u32> = Vec::new();
    let mut results = pool.imap_unordered(double::call, three_then_panic());
    let message = message_of(|| results.by_ref().for_each(|result| unordered.push(result.unwrap())));
    assert_eq!(message, "no more inputs");
    unordered.sort_unstable();
    assert_eq!(unordered, [0, 2, 4]);
    assert!(results.next().is_none());
    goes_on(&pool);
}

fn inputs_that_end_earlier_than_announced_are_all_there_are() {
    /// Says that it has 1,000 items, and has three.
    struct Boastful(u32);
    impl Iterator for Boastful {
        type Item = u32;
        fn next(&mut self) -> Option<u32> {
            self.0 += 1;
            (self.0 <= 3).then_some(self.0)
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (1000, Some(1000))
        }
    }
    let pool = pool(2);
    assert_eq!(pool.map(double::call, Boastful(0)).unwrap(), [2, 4, 6]);
    let results: Vec<u32> = pool.imap(double::call, Boastful(0)).map(Result::unwrap).collect();
    assert_eq!(results, [2, 4, 6]);
}
