//! A worker that has the kernel move those who sleep on its memory elsewhere, or keep them from being woken, delays
//! nobody but itself: other workers' results come, and the pool can be terminated and dropped.

use crate::support::{PATIENCE, Signals, await_given, count, over_every_transport, pool, returns, until};
use pool_runtime::{Pool, task};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

over_every_transport! {
    a_pool_whose_sleepers_are_moved_ends,
    a_pool_whose_sleepers_are_held_ends,
    results_of_others_come_though_sleepers_are_moved,
}

/// The addresses of the words on which threads of the parent sleep.
fn shared_memory() -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    let named = maps.lines().filter(|line| line.contains("/memfd:pool-bells "));
    let ranges = named.map(|line| {
        let (range, _) = line.split_once(' ').expect("a range");
        let (from, to) = range.split_once('-').expect("two addresses");
        [from, to].map(|hex| usize::from_str_radix(hex, 16).expect("a number"))
    });
    ranges.map(|[from, to]| (from, to)).collect()
}

fn futex(word: usize, operation: libc::c_int, value: u32, second: usize, other: usize) {
    // SAFETY: the words are mapped; the kernel checks all else, and changes at most a word that this process shares.
    unsafe { libc::syscall(libc::SYS_futex, word, operation, value, second, other, 0) };
}

/// Returns, and a thread of the worker goes on to move whoever sleeps on a shared word to the next one.
#[task]
fn move_sleepers() -> u32 {
    let memory = shared_memory();
    std::thread::spawn(move || {
        loop {
            for (from, to) in &memory {
                for word in (*from..to - 4).step_by(4) {
                    futex(word, libc::FUTEX_REQUEUE, 0, i32::MAX as usize, word + 4);
                }
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    std::process::id()
}

/// Returns, and a thread of the worker for each word of the bells waits for a lock there, which nobody gives up.
#[task]
fn hold_sleepers() -> u32 {
    for (from, _) in shared_memory() {
        for word in [from, from + 128] {
            std::thread::spawn(move || futex(word, libc::FUTEX_LOCK_PI, 0, 0, 0));
        }
    }
    std::process::id()
}

#[task]
fn add(a: u32, b: u32) -> (u32, u32) {
    (a + b, std::process::id())
}

#[task]
fn wait(begun: &Path, release: &Path) {
    count(begun);
    await_given(release);
}

/// A job whose end nobody waits for but the pool's own threads.
fn told(pool: &Pool, n: u32) -> mpsc::Receiver<(u32, u32)> {
    let (tell, told) = mpsc::channel();
    let job = pool.apply_async(add::call(n, 1));
    drop(job.on_done(move |result| tell.send(*result.as_ref().unwrap()).unwrap_or(())));
    told
}

fn ends(pool: Pool) {
    until("nothing is in flight", || pool.stats().running == 0);
    assert_eq!(told(&pool, 1).recv_timeout(PATIENCE).unwrap().0, 2);
    // Now and after a while, when all its threads sleep.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(told(&pool, 2).recv_timeout(PATIENCE).unwrap().0, 3);
    returns("terminate and join", move || {
        pool.terminate();
        pool.join()
    })
    .unwrap();
}

fn a_pool_whose_sleepers_are_moved_ends() {
    let pool = pool(2);
    pool.apply(move_sleepers::call()).unwrap();
    ends(pool);
}

fn a_pool_whose_sleepers_are_held_ends() {
    let pool = pool(2);
    pool.apply(hold_sleepers::call()).unwrap();
    ends(pool);
}

fn results_of_others_come_though_sleepers_are_moved() {
    let (pool, signals) = (pool(2), Signals::new());
    pool.apply(move_sleepers::call()).unwrap();
    let busy = pool.apply_async(wait::call(&signals.path("begun"), &signals.path("release")));
    signals.await_given("begun");
    let others: Vec<_> = (0..50).map(|n| told(&pool, n).recv_timeout(PATIENCE).unwrap()).collect();
    signals.give("release");
    busy.get().unwrap();
    assert!(others.iter().zip(1..).all(|((sum, _), n)| *sum == n));
}
