//! No input, one input, a million inputs (a quarter of them where the compiler does not optimise, which takes 10 s).

use crate::support::{over_every_transport, pool};
use pool_runtime::{Result, task};

over_every_transport! {
    no_input_gives_no_result_at_once,
    one_input_gives_one_result,
    many_inputs_give_as_many_results,
}

const MANY: u32 = if cfg!(debug_assertions) { 250_000 } else { 1_000_000 };

#[task]
fn scramble(n: u32) -> u32 {
    n.wrapping_mul(2_654_435_761).rotate_left(7)
}

#[task]
fn nothing() {}

fn no_input_gives_no_result_at_once() {
    let pool = pool(2);
    let none = std::iter::empty::<u32>;
    assert_eq!(pool.map(scramble::call, none()).unwrap(), []);
    let job = pool.map_async(scramble::call, none());
    assert!(job.is_ready());
    assert_eq!(job.is_successful(), Some(true));
    assert!(!job.cancel(), "nothing to cancel");
    assert_eq!(job.get().unwrap(), []);
    assert!(pool.imap(scramble::call, none()).next().is_none());
    assert!(pool.imap_unordered(scramble::call, none()).next().is_none());
    assert_eq!(pool.stats(), pool_runtime::PoolStats::default());
}

fn one_input_gives_one_result() {
    let pool = pool(2);
    assert_eq!(pool.map(scramble::call, [7]).unwrap(), [scramble(7)]);
    assert_eq!(pool.map_async(scramble::call, [7]).get().unwrap(), [scramble(7)]);
    assert_eq!(pool.imap(scramble::call, [7]).collect::<Result<Vec<_>>>().unwrap(), [scramble(7)]);
    assert_eq!(pool.imap_unordered(scramble::call, [7]).collect::<Result<Vec<_>>>().unwrap(), [scramble(7)]);
    assert_eq!(pool.map(|()| nothing::call(), [()]).unwrap(), [()]);
}

fn many_inputs_give_as_many_results() {
    let pool = pool(2);
    let results = pool.map(scramble::call, 0..MANY).unwrap();
    assert_eq!(results.len(), MANY as usize);
    let wrong = (0..).zip(&results).find(|(n, result)| scramble(*n) != **result);
    assert_eq!(wrong, None);
    assert_eq!((pool.stats().done, pool.stats().failed), (u64::from(MANY), 0));
}
