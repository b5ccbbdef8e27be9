//! Every kind of failure that a call can meet without ending its process is told in the same words, with the same
//! answers, wherever the call runs.

use crate::support::{BACKENDS, on_every_backend, pool_on};
use pool_runtime::{Backend, Error, Pool, Ran, Result, task};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::fmt::Debug;

on_every_backend! {
    a_map_fails_at_the_lowest_index,
    the_next_call_is_unharmed,
    a_map_ends_when_its_pool_is_closed_while_it_reads,
}

/// What goes wrong with a value on its way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Trouble {
    None,
    Error,
    Panic,
}

/// Meets trouble when it is written, or when it is read.
#[derive(Debug)]
struct Awkward {
    written: Trouble,
    read: Trouble,
}

impl Serialize for Awkward {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.written {
            Trouble::None => self.read.serialize(serializer),
            Trouble::Error => Err(ser::Error::custom("it resists")),
            Trouble::Panic => panic!("it resists violently"),
        }
    }
}

impl<'de> Deserialize<'de> for Awkward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Trouble::deserialize(deserializer)? {
            Trouble::None => Ok(Self { written: Trouble::None, read: Trouble::None }),
            Trouble::Error => Err(de::Error::custom("it is spoiled")),
            Trouble::Panic => panic!("it is spoiled violently"),
        }
    }
}

#[task]
fn take(value: Awkward) -> bool {
    value.written == Trouble::None
}

#[task]
fn give(written: Trouble, read: Trouble) -> Awkward {
    Awkward { written, read }
}

#[task]
fn panics(how: u32) -> u32 {
    match how {
        0 => panic!("plainly"),
        1 => panic!("with {how}"),
        2 => std::panic::panic_any(17),
        3 => [].first().copied().expect("no element"),
        4 => {
            struct Bomb;
            impl Drop for Bomb {
                fn drop(&mut self) {
                    panic!("in a destructor");
                }
            }
            let _bomb = Bomb;
            0
        }
        5 => {
            let caught = std::panic::catch_unwind(|| panic!("caught"));
            assert!(caught.is_ok(), "was caught");
            0
        }
        _ => std::panic::resume_unwind(Box::new("resumed")),
    }
}

#[task]
fn with_state(#[state] state: &mut u32) -> u32 {
    *state
}

#[task(max_result = "1KiB")]
fn long(length: usize) -> Vec<u8> {
    vec![1; length]
}

#[task(initializer)]
fn fails(how: u32) -> Result<u32, String> {
    match how {
        0 => Err("no such model".to_owned()),
        _ => panic!("the model is broken"),
    }
}

#[derive(Debug, PartialEq)]
struct Told {
    text: String,
    chain: String,
    ran: Ran,
    attempts: u32,
    questions: [bool; 9],
    message: Option<String>,
    place: Option<(String, u32, u32)>,
}

fn told(error: &Error) -> Told {
    let panic = error.panic();
    let place = panic.and_then(|panic| Some((panic.file()?.to_owned(), panic.line()?, panic.column()?)));
    Told {
        text: error.to_string(),
        chain: format!("{error:?}"),
        ran: error.ran(),
        attempts: error.attempts(),
        questions: [
            error.is_panic(),
            error.is_worker_lost(),
            error.is_timeout(),
            error.is_pending(),
            error.is_cancelled(),
            error.is_closed(),
            error.is_encode(),
            error.is_decode(),
            error.is_result_too_large(),
        ],
        message: panic.map(|panic| panic.message().to_owned()),
        place,
    }
}

fn failures(backend: Backend) -> Vec<Told> {
    fn of<R: Debug>(result: Result<R>) -> Told {
        told(&result.unwrap_err())
    }
    use Trouble::{Error, None, Panic};
    let pool = pool_on(backend, 1);
    let mut all = Vec::new();
    for how in 0..7 {
        all.push(of(pool.apply(panics::call(how))));
    }
    for (written, read) in [(Error, None), (Panic, None), (None, Error), (None, Panic)] {
        all.push(of(pool.apply(take::call(Awkward { written, read }))));
        all.push(of(pool.apply_async(give::call(written, read)).get()));
        all.push(of(pool.map(|read| give::call(written, read), [None, read])));
        all.push(of(pool.imap(|()| give::call(written, read), [()]).next().unwrap()));
    }
    all.push(of(pool.apply(with_state::call())));
    all.push(of(pool.map(|()| with_state::call(), [()])));
    all.push(of(pool.apply(long::call(2000))));
    all.push(of(pool.apply(long::call(200).max_result(100))));
    pool.close();
    all.push(of(pool.apply(panics::call(0))));
    pool.join().unwrap();
    for how in 0..2 {
        all.push(of(Pool::builder().processes(2).backend(backend).initializer(fails::call(how)).build()));
    }
    all
}

#[test]
fn every_failure_is_told_in_the_same_words() {
    let [processes, threads, inline] = BACKENDS.map(failures);
    assert_eq!(processes.len(), 30);
    for (number, expected) in processes.iter().enumerate() {
        assert_eq!(&threads[number], expected, "in threads, number {number}");
        assert_eq!(&inline[number], expected, "inline, number {number}");
    }
}

fn a_map_fails_at_the_lowest_index(backend: Backend) {
    let pool = pool_on(backend, 2);
    let error = pool.map(panics::call, [5, 1, 0, 5]).unwrap_err();
    assert_eq!(error.panic().unwrap().message(), "was caught");
    let results: Vec<_> = pool.imap(|ok| half::call(if ok { 4 } else { 3 }), [true, false, true]).collect();
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!((pool.stats().done, pool.stats().failed), (2, 5));
}

#[task]
fn half(n: u32) -> u32 {
    assert!(n.is_multiple_of(2), "{n} is odd");
    n / 2
}

fn the_next_call_is_unharmed(backend: Backend) {
    let pool = pool_on(backend, 1);
    for how in 0..7 {
        assert_eq!(pool.apply(half::call(2 * how)).unwrap(), how);
        assert!(pool.apply(panics::call(how)).unwrap_err().is_panic());
    }
}

#[task]
fn same(n: u32) -> u32 {
    n
}

fn a_map_ends_when_its_pool_is_closed_while_it_reads(backend: Backend) {
    let closing = |pool: &'static Pool| {
        (0u32..).inspect(move |n| {
            if *n == 10_000 {
                pool.close()
            }
        })
    };
    let pool = || -> &'static Pool { Box::leak(Box::new(pool_on(backend, 2))) };
    let first = pool();
    assert!(first.map(same::call, closing(first)).unwrap_err().is_closed());
    assert!(first.map(same::call, 0..).unwrap_err().is_closed());
    let second = pool();
    assert!(second.map_async(same::call, closing(second)).get().unwrap_err().is_closed());
    let third = pool();
    let results: Vec<_> = third.imap(same::call, closing(third)).collect();
    let (last, values) = results.split_last().unwrap();
    assert!(last.as_ref().unwrap_err().is_closed());
    assert!(values.iter().map(|value| *value.as_ref().unwrap()).eq(0..10_000));
    for pool in [first, second, third] {
        pool.join().unwrap();
    }
}
