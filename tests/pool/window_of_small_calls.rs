//! However many small calls are under way, and however large their results are: neither side waits for the other to
//! read while the other waits for it.

use crate::support::{over_every_transport, pool};
use pool_runtime::{Result, task};
use std::collections::VecDeque;

over_every_transport! {
    a_wide_window_of_an_iterator_moves_on,
    a_window_of_jobs_moves_on,
}

#[task]
fn page(n: u32) -> Vec<u8> {
    vec![n as u8; 4096]
}

fn a_wide_window_of_an_iterator_moves_on() {
    for look_ahead in [300, 1000] {
        let pool = pool(1);
        let pages: Vec<_> = pool.imap(page::call, 0..20_000).look_ahead(look_ahead).collect::<Result<_>>().unwrap();
        assert!(pages.iter().enumerate().all(|(n, page)| page[0] == n as u8));
    }
}

fn a_window_of_jobs_moves_on() {
    let pool = pool(1);
    let mut window = VecDeque::new();
    for n in 0..20_000 {
        if window.len() == 400 {
            let (n, job): (u32, pool_runtime::Job<Vec<u8>>) = window.pop_front().unwrap();
            assert_eq!(job.get().unwrap(), [n as u8; 4096]);
        }
        window.push_back((n, pool.apply_async(page::call(n))));
    }
}
