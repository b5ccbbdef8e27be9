//! `chunk_size` submits inputs so many at a time, and never holds a result up: what remains at the end of the inputs,
//! and what the look-ahead does not let grow to a chunk, goes as well.

use crate::support::{over_every_transport, pool};
use pool_runtime::{Pool, Result, task};
use std::cell::Cell;

over_every_transport! {
    inputs_are_submitted_in_whole_chunks,
    what_is_no_whole_chunk_is_submitted_too,
    the_length_that_remains_is_known,
}

#[task]
fn same(n: u64) -> u64 {
    n
}

fn submitted(pool: &Pool) -> u64 {
    let stats = pool.stats();
    stats.waiting as u64 + stats.running as u64 + stats.done + stats.failed
}

fn inputs_are_submitted_in_whole_chunks() {
    let pool = pool(2);
    let read = Cell::new(0);
    let mut results = pool.imap(same::call, (0..).inspect(|_| read.set(read.get() + 1))).chunk_size(8).look_ahead(20);
    for n in 0..100 {
        assert_eq!(results.next().unwrap().unwrap(), n);
        assert_eq!(submitted(&pool) % 8, 0, "after {n}");
        assert_eq!(read.get(), n + 20, "the look-ahead is as long as was asked for");
    }
}

fn what_is_no_whole_chunk_is_submitted_too() {
    let pool = pool(2);
    for (inputs, chunk_size, look_ahead) in
        [(10, 4, 100), (3, 100, 100), (25, 10, 3), (25, 10, 15), (1, 2, 1), (0, 5, 5)]
    {
        let results = pool.imap(same::call, 0..inputs).chunk_size(chunk_size).look_ahead(look_ahead);
        let results: Vec<u64> = results.collect::<Result<_>>().unwrap();
        assert_eq!(results, (0..inputs).collect::<Vec<_>>(), "{inputs} {chunk_size} {look_ahead}");
        let results = pool.imap_unordered(same::call, 0..inputs).chunk_size(chunk_size).look_ahead(look_ahead);
        assert_eq!(results.count() as u64, inputs);
    }
}

fn the_length_that_remains_is_known() {
    let pool = pool(1);
    let mut results = pool.imap(same::call, 0..10).look_ahead(4);
    for left in (0..10).rev() {
        results.next().unwrap().unwrap();
        assert_eq!(results.size_hint().1, Some(left));
        assert!(results.size_hint().0 <= left);
    }
    assert!(results.next().is_none());
    assert_eq!(results.size_hint(), (0, Some(0)));
}
