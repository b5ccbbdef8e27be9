//! A task that returns more than it may fails its own call; the worker and the other calls go on.

use crate::support::{builder, over_every_transport, pids};
use pool_runtime::{Error, Process, Ran, Sandbox, task};

over_every_transport! {
    a_result_above_the_limit_is_an_error_of_its_call,
    the_call_goes_before_the_task_and_the_task_before_the_pool,
    of_a_map_only_what_is_too_large_fails,
    a_failure_with_an_endless_text_is_cut,
}

const LIMIT: u64 = 1 << 16;

#[task]
fn numbers(count: usize) -> Vec<u64> {
    vec![7; count]
}

#[task]
fn text(length: usize) -> String {
    "x".repeat(length)
}

#[task]
fn texts(count: usize, length: usize) -> Vec<String> {
    vec!["y".repeat(length); count]
}

#[task(max_result = "1KiB")]
fn little(length: usize) -> Vec<u8> {
    vec![1; length]
}

#[task]
fn add(a: u8, b: u8) -> u8 {
    a + b
}

#[task]
fn complains(length: usize) {
    panic!("{}", "no ".repeat(length / 3));
}

#[track_caller]
fn is_too_large<T>(outcome: Result<T, Error>, limit: &str) {
    let Err(error) = outcome else { panic!("it was returned") };
    assert!(error.is_result_too_large() && !error.is_worker_lost() && !error.is_encode(), "{error}");
    assert_eq!(error.ran(), Ran::Yes);
    assert!(error.to_string().contains(&format!("its limit is {limit}")), "{error}");
}

fn a_result_above_the_limit_is_an_error_of_its_call() {
    let pool = builder().processes(1).max_result(LIMIT).build().unwrap();
    let before = pids(&pool);
    for (large, small) in [(1 << 13, 8000), (1 << 15, 100), (1 << 20, 0)] {
        is_too_large(pool.apply(numbers::call(large)), "65536 bytes");
        assert_eq!(pool.apply(numbers::call(small)).unwrap().len(), small);
        is_too_large(pool.apply(text::call(8 * large)), "65536 bytes");
        assert_eq!(pool.apply(text::call(8 * small)).unwrap().len(), 8 * small);
        is_too_large(pool.apply(texts::call(large / 16, 140)), "65536 bytes");
        assert_eq!(pool.apply(texts::call(small / 20, 100)).unwrap().len(), small / 20);
    }
    assert_eq!(pids(&pool), before, "the worker is not to blame");
}

fn the_call_goes_before_the_task_and_the_task_before_the_pool() {
    let pool = builder().processes(1).max_result(LIMIT).build().unwrap();
    is_too_large(pool.apply(little::call(1025)), "1024 bytes");
    is_too_large(pool.apply(little::call(4000).max_result(3000)), "3000 bytes");
    assert_eq!(pool.apply(little::call(4000).max_result(1 << 13)).unwrap().len(), 4000);
    assert_eq!(pool.apply(little::call(1 << 20).max_result(u64::MAX)).unwrap().len(), 1 << 20);
    // What takes no more than a number is always accepted.
    assert_eq!(pool.apply(add::call(1, 2).max_result(0)).unwrap(), 3);
    let sandboxed = builder().processes(1).sandbox(Sandbox::none().open_files(1000)).build().unwrap();
    is_too_large(sandboxed.apply(little::call(1025)), "1024 bytes");
    assert_eq!(sandboxed.apply(text::call(3 << 20)).unwrap().len(), 3 << 20);
    is_too_large(sandboxed.apply(text::call(3 << 20).max_result(2 << 20)), "2.0 MiB");
}

fn of_a_map_only_what_is_too_large_fails() {
    let pool = builder().processes(2).max_result(LIMIT).build().unwrap();
    let lengths = || (0..400_usize).map(|n| if n % 50 == 49 { 1 << 16 } else { n });
    let results: Vec<_> = pool.imap(numbers::call, lengths()).chunk_size(20).collect();
    for (length, result) in lengths().zip(results) {
        match length {
            0..400 => assert_eq!(result.unwrap().len(), length),
            _ => is_too_large(result, "65536 bytes"),
        }
    }
    is_too_large(pool.map(numbers::call, lengths()), "65536 bytes");
    assert_eq!(pool.map(|n| add::call(n, 1), 0..100).unwrap(), (1..=100).collect::<Vec<_>>());
}

/// A panic's text is no way around the limit: a long one is cut, and says so.
fn a_failure_with_an_endless_text_is_cut() {
    let pool = builder().processes(1).build().unwrap();
    let error = pool.apply(complains::call(9 << 20)).unwrap_err();
    let message = error.panic().expect("a panic").message();
    assert!(message.starts_with("no no no") && message.ends_with("bytes more]"), "{} bytes", message.len());
    assert!(message.len() < 1 << 23, "{} bytes", message.len());
    // Who limits results limits failures, and leaves room for a text.
    let limited = |limit| pool.apply(complains::call(3 << 20).max_result(limit)).unwrap_err();
    let length = |error: Error| error.panic().expect("a panic").message().len();
    assert!((10_000..1 << 16).contains(&length(limited(1))));
    assert!((100_000..1 << 20).contains(&length(limited(1 << 20))));
    assert_eq!(length(limited(4 << 20)), 3 << 20);
    assert_eq!(length(pool.apply(complains::call(30_000).max_result(1)).unwrap_err()), 30_000);
    let error = pool.apply(complains::call(3000)).unwrap_err();
    assert_eq!(error.panic().expect("a panic").message().len(), 3000);
}

#[test]
fn a_process_has_the_limit_of_its_call() {
    is_too_large(Process::new(little::call(5000)).start().unwrap().join(), "1024 bytes");
    let process = Process::new(little::call(5000).max_result(1 << 20)).start().unwrap();
    assert_eq!(process.join().unwrap().len(), 5000);
}
