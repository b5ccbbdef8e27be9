//! A program that keeps much for each of its threads, as libraries for numerics do: the C library takes that from the
//! threads' stacks, and the threads of pools and processes still have room to run on.

#[path = "../support/mod.rs"]
mod support;

use crate::support::{PATIENCE, builder, over_every_transport, returns};
use pool_runtime::{Backend, Pool, Process, Result, Shared, task};
use std::cell::RefCell;
use std::time::Duration;

pool_runtime::pool_main!();

const MUCH: usize = 260_000;

thread_local! {
    static TABLE: RefCell<[u8; MUCH]> = const { RefCell::new([1; MUCH]) };
}

fn used() -> usize {
    TABLE.with_borrow_mut(|table| {
        table[MUCH - 1] = 2;
        table.iter().map(|byte| usize::from(*byte)).sum()
    })
}

over_every_transport! {
    every_thread_has_room,
}

#[task]
fn add(slice: Shared<[u64]>) -> u64 {
    eprintln!("adds");
    slice.iter().sum::<u64>() + used() as u64
}

#[task]
fn length(bytes: &[u8]) -> usize {
    bytes.len()
}

#[task]
fn crash() {
    std::process::abort();
}

#[task]
fn sleep() {
    std::thread::sleep(2 * PATIENCE);
}

fn every_thread_has_room() {
    returns("calls of all kinds", || {
        let kept = tempfile::tempdir().unwrap();
        let pool = builder().processes(2).dossiers(kept.path()).build().unwrap();
        let shared = Shared::new(&[1_u64; 1000]).unwrap();
        let sum = 1000 + (MUCH + 1) as u64;
        assert_eq!(pool.apply(add::call(shared.clone())).unwrap(), sum);
        // Regions come and go, callbacks run, large arguments are sent, time is kept, and losses are written down.
        drop(shared);
        let (told, hears) = std::sync::mpsc::channel();
        let job = pool.apply_async(length::call(&vec![0; 1 << 22]));
        let job = job.on_done(move |done: &Result<usize>| {
            told.send((done.clone().ok(), used())).unwrap();
        });
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), (Some(1 << 22), MUCH + 1));
        drop(job);
        let late = pool.apply(sleep::call().timeout(Duration::from_millis(100))).unwrap_err();
        assert!(late.is_timeout(), "{late}");
        let lost = pool.apply(crash::call()).unwrap_err();
        assert!(lost.dossier().unwrap().saved().is_some(), "{lost}");
        let process = Process::new(length::call(&[0; 5])).start().unwrap();
        assert_eq!(process.join().unwrap(), 5);
    });
    let threads = Pool::builder().processes(2).backend(Backend::Threads).build().unwrap();
    assert_eq!(threads.apply(length::call(&[0; 6])).unwrap(), 6);
}
