//! What a task returns may hold shared memory and open files, which the worker was given or has made.

over_every_transport! {
    in_turn:
    what_was_given_and_what_was_made_come_back,
    it_comes_back_in_every_way_to_call,
    more_than_a_socket_holds_comes_back,
    one_that_cannot_be_written_leaves_nothing_to_the_next,
    it_goes_on_to_others,
    a_sandbox_gives_back_what_it_was_given,
    a_worker_that_ends_leaves_what_it_has_returned,
    whoever_is_killed_while_it_returns_leaves_nothing,
    it_is_freed_with_its_last_holder,
    a_lack_of_descriptors_is_one_calls_error,
    a_file_comes_back,
    what_is_large_comes_back_from_a_worker_that_has_a_pool,
}

use crate::support::regions::{held, held_here};
use crate::support::{Numbers, builder, over_every_transport, pids, signal, until};
use pool_runtime::{Array, Atomic, Passed, Pool, Process, Queue, Result, Sandbox, Shared, sync::Mutex, task};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{OnceLock, mpsc};

#[task]
fn back(numbers: Shared<[u32]>) -> Shared<[u32]> {
    numbers
}

#[task]
fn made(length: usize) -> Result<Option<Shared<[u32]>>, String> {
    Shared::from_fn(length, |index| index as u32).map(Some).map_err(|error| error.to_string())
}

#[derive(Deserialize, Serialize)]
struct Found {
    name: String,
    counts: Array<u64>,
    best: Mutex<[f64; 3]>,
    rest: Vec<Option<Shared<[u8]>>>,
}

#[task]
fn find(seed: u64) -> Found {
    let counts = Array::from_fn(10, |index| seed + index as u64).unwrap();
    let rest = vec![None, Some(Shared::new(&[1, 2]).unwrap()), Some(Shared::new(&[]).unwrap())];
    Found { name: format!("seed {seed}"), counts, best: Mutex::new([0.5; 3]).unwrap(), rest }
}

fn is_range(numbers: &Shared<[u32]>, length: usize) -> bool {
    numbers.iter().copied().eq(0..length as u32)
}

fn what_was_given_and_what_was_made_come_back() {
    let pool = builder().processes(1).build().unwrap();
    let numbers = Shared::from_fn(5000, |index| index as u32).unwrap();
    let returned = pool.apply(back::call(numbers.clone())).unwrap();
    assert_eq!(returned.as_ptr(), numbers.as_ptr(), "it is the same memory");
    drop(numbers);
    assert!(is_range(&returned, 5000));
    for length in [0, 1, 100_000] {
        assert!(is_range(&pool.apply(made::call(length)).unwrap().unwrap().unwrap(), length));
    }
    let found = pool.apply(find::call(7)).unwrap();
    assert_eq!((&*found.name, found.counts.to_vec()), ("seed 7", (7..17).collect()));
    assert_eq!(*found.best.lock().unwrap(), [0.5; 3]);
    let rest: Vec<_> = found.rest.iter().map(|part| part.as_ref().map(|part| part.to_vec())).collect();
    assert_eq!(rest, [None, Some(vec![1, 2]), Some(vec![])]);
}

fn it_comes_back_in_every_way_to_call() {
    let pool = builder().processes(2).build().unwrap();
    let length = |index: usize| index % 7;
    let check = |index: usize, result: Result<Result<Option<Shared<[u32]>>, String>>| {
        assert!(is_range(&result.unwrap().unwrap().unwrap(), length(index)));
    };
    let all = pool.map(|index| made::call(length(index)), 0..200).unwrap();
    all.into_iter().enumerate().for_each(|(index, made)| check(index, Ok(made)));
    let ordered = pool.imap(|index| made::call(length(index)), 0..50);
    ordered.enumerate().for_each(|(index, result)| check(index, result));
    assert_eq!(pool.imap_unordered(|index| made::call(length(index)), 0..50).map(Result::unwrap).count(), 50);
    let jobs: Vec<_> = (0..300).map(|index| pool.apply_async(made::call(length(index)))).collect();
    jobs.into_iter().enumerate().for_each(|(index, job)| check(index, job.get()));
    let (sender, receiver) = mpsc::channel();
    let tell = move |result: &Result<Result<Option<Shared<[u32]>>, String>>| {
        sender.send(result.as_ref().is_ok_and(|made| is_range(made.as_ref().unwrap().as_ref().unwrap(), 5))).unwrap();
    };
    let job = pool.apply_async(made::call(5)).on_done(tell);
    assert!(receiver.recv().unwrap());
    check(5, job.get());
    let process = Process::new(made::call(3)).start().unwrap();
    check(3, process.join());
    check(3, process.join());
    check(4, Process::new(made::call(4)).run());
}

#[task]
fn many(count: usize) -> Vec<Shared<[u32]>> {
    (0..count).map(|length| Shared::from_fn(length, |index| index as u32).unwrap()).collect()
}

fn more_than_a_socket_holds_comes_back() {
    let pool = builder().processes(1).build().unwrap();
    for _ in 0..3 {
        let all = pool.apply(many::call(400)).unwrap();
        assert_eq!(all.len(), 400);
        assert!(all.iter().enumerate().all(|(length, numbers)| is_range(numbers, length)));
    }
}

/// Cannot be written if it is true.
#[derive(Deserialize)]
struct Fails(bool);

impl Serialize for Fails {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 {
            Err(serde::ser::Error::custom("only half of it"))
        } else {
            serializer.serialize_newtype_struct("Fails", &false)
        }
    }
}

#[derive(Deserialize, Serialize)]
struct Halfway(Shared<[u32]>, Fails);

#[task]
fn halfway(numbers: Shared<[u32]>, fails: bool) -> Halfway {
    Halfway(numbers, Fails(fails))
}

#[task]
fn one_more(number: u32) -> u32 {
    number + 1
}

fn one_that_cannot_be_written_leaves_nothing_to_the_next() {
    let pool = builder().processes(1).build().unwrap();
    let numbers = Shared::from_fn(10, |index| index as u32).unwrap();
    let calls =
        pool.imap(|fails| halfway::call(numbers.clone(), fails), [true, false, true, true, false]).chunk_size(5);
    let results: Vec<_> = calls.collect();
    for (result, fails) in results.into_iter().zip([true, false, true, true, false]) {
        match result {
            Ok(Halfway(numbers, _)) => assert!(!fails && is_range(&numbers, 10)),
            Err(error) => assert!(fails && error.to_string().contains("only half of it"), "{error}"),
        }
    }
    assert!(pool.apply(halfway::call(numbers.clone(), true)).is_err());
    assert_eq!(pool.apply(one_more::call(1)).unwrap(), 2);
}

#[task]
fn made_below(depth: u32) -> Shared<[u32]> {
    let inner = Pool::new(1).unwrap();
    match depth {
        0 => inner.apply(made::call(1000)).unwrap().unwrap().unwrap(),
        _ => inner.apply(made_below::call(depth - 1)).unwrap(),
    }
}

#[task]
fn count(counter: Atomic<u32>) -> Atomic<u32> {
    counter.fetch_add(1, Relaxed);
    counter
}

#[task]
fn answers() -> Queue<u64> {
    let queue = Queue::unbounded().unwrap();
    let puts = queue.clone();
    std::thread::spawn(move || (0..1000).for_each(|item| puts.put(&item).unwrap()));
    queue
}

fn it_goes_on_to_others() {
    let pool = builder().processes(3).build().unwrap();
    assert!(is_range(&pool.apply(made_below::call(1)).unwrap(), 1000));
    let mut counter = Atomic::<u32>::new(0).unwrap();
    for _ in 0..50 {
        counter = pool.apply(count::call(counter)).unwrap();
    }
    assert_eq!(counter.load(Relaxed), 50);
    // What a thread of the worker does with it, after it was returned.
    let queue = pool.apply(answers::call()).unwrap();
    let items: Vec<_> = (0..1000).map(|_| queue.get().unwrap().unwrap()).collect();
    assert!(items.into_iter().eq(0..1000));
}

fn a_sandbox_gives_back_what_it_was_given() {
    let pool = builder().processes(2).sandbox(Sandbox::strict()).build().unwrap();
    let numbers = Shared::from_fn(3000, |index| index as u32).unwrap();
    let returned = pool.apply(back::call(numbers.clone())).unwrap();
    assert_eq!(returned.as_ptr(), numbers.as_ptr());
    let counter = pool.apply(count::call(Atomic::<u32>::new(0).unwrap())).unwrap();
    let counter = pool.apply(count::call(counter)).unwrap();
    assert_eq!(counter.load(Relaxed), 2);
    let lock = pool.apply(keep::call(Mutex::new(3).unwrap())).unwrap();
    let lock = pool.apply(keep::call(lock)).unwrap();
    assert_eq!(*lock.lock().unwrap(), 5);
    // From a process that runs who knows what, no descriptor is taken.
    let error = pool.apply(made::call(3)).unwrap_err();
    assert!(error.is_decode() && error.to_string().contains("a worker in a sandbox can only give back"), "{error}");
    // Nor what another call was given.
    let pool = builder().processes(1).sandbox(Sandbox::strict()).build().unwrap();
    assert!(pool.apply(back_from_before::call(Some(numbers.clone()))).is_ok());
    let error = pool.apply(back_from_before::call(None)).unwrap_err();
    assert!(error.is_decode() && error.to_string().contains("what it was given for this call"), "{error}");
    assert!(pool.apply(back::call(numbers)).is_ok(), "it goes on");
}

static BEFORE: OnceLock<Shared<[u32]>> = OnceLock::new();

/// What this worker was given first.
#[task]
fn back_from_before(numbers: Option<Shared<[u32]>>) -> Shared<[u32]> {
    BEFORE.get_or_init(|| numbers.unwrap()).clone()
}

#[task]
fn keep(lock: Mutex<u32>) -> Mutex<u32> {
    *lock.lock().unwrap() += 1;
    lock
}

#[task]
fn die() {
    std::process::abort();
}

fn a_worker_that_ends_leaves_what_it_has_returned() {
    let pool = builder().processes(1).build().unwrap();
    let jobs: Vec<_> = (0..20).map(|length| pool.apply_async(made::call(length))).collect();
    assert!(pool.apply(die::call()).unwrap_err().is_worker_lost());
    for (length, job) in jobs.into_iter().enumerate() {
        assert!(is_range(&job.get().unwrap().unwrap().unwrap(), length));
    }
}

fn whoever_is_killed_while_it_returns_leaves_nothing() {
    let (before, mut numbers) = (held_here(), Numbers::from(3));
    let pool = builder().processes(2).build().unwrap();
    let mut lost = 0;
    for _ in 0..15 {
        let jobs: Vec<_> = (0..40).map(|index| pool.apply_async(many::call(index % 20))).collect();
        let kill_at = numbers.below(40);
        let check = |index: usize, result: Result<Vec<Shared<[u32]>>>| match result {
            Ok(all) => {
                assert_eq!(all.len(), index % 20);
                assert!(all.iter().enumerate().all(|(length, numbers)| is_range(numbers, length)));
                0
            }
            Err(error) => {
                assert!(error.is_worker_lost(), "{error}");
                1
            }
        };
        for (index, job) in jobs.into_iter().enumerate() {
            if index == kill_at {
                pids(&pool).into_iter().for_each(|pid| signal(pid, 9));
            }
            lost += check(index, job.get());
        }
    }
    assert!((1..=15 * 4).contains(&lost), "{lost}");
    assert_eq!(pool.apply(many::call(3)).unwrap().len(), 3);
    drop(pool);
    until("all is freed", || held_here() == before);
}

fn it_is_freed_with_its_last_holder() {
    let pool = builder().processes(1).build().unwrap();
    pool.apply(made::call(1)).unwrap().unwrap();
    // Its own is dropped after it has been sent.
    pool.apply(many::call(0)).unwrap();
    let pid = pool.workers()[0].pid;
    let before = (held_here(), held(pid));
    let kept = pool.apply(many::call(50)).unwrap();
    assert!(held_here().1 >= before.0.1 + 50);
    until("the worker has freed its own", || held(pid) == before.1);
    drop(kept);
    until("all is freed", || (held_here(), held(pid)) == before);
    // Nobody takes the results of these, or their values.
    drop((0..50).map(|_| pool.apply_async(made::call(9))).collect::<Vec<_>>());
    pool.apply(made::call(1)).unwrap().unwrap();
    until("all is freed", || (held_here(), held(pid)) == before);
}

#[task]
fn made_or_failed(count: usize) -> usize {
    // Its own descriptors are limited, not those of whoever starts this.
    let limit = Rlimit { current: Some(200), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let pool = Pool::new(1).unwrap();
    let jobs: Vec<_> = (0..count).map(|length| pool.apply_async(made::call(length))).collect();
    let results: Vec<_> = jobs.into_iter().map(|job| job.get()).collect();
    let failures: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(failures.iter().all(|error| error.is_decode() && error.to_string().contains("open files")), "{failures:?}");
    let failed = failures.len();
    drop(results);
    assert!(is_range(&pool.apply(made::call(5)).unwrap().unwrap().unwrap(), 5), "it goes on");
    failed
}

fn a_lack_of_descriptors_is_one_calls_error() {
    let process = Process::new(made_or_failed::call(300)).start().unwrap();
    let failed = process.join().unwrap();
    assert!((100..300).contains(&failed), "{failed}");
}

#[task]
fn opened(text: String) -> Passed<File> {
    let mut file = rustix::fs::memfd_create("file", rustix::fs::MemfdFlags::CLOEXEC).map(File::from).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    Passed::new(file).unwrap()
}

#[task]
fn appended(file: Passed<File>, text: String) -> (usize, Passed<File>) {
    let mut own = file.clone().into_inner().unwrap();
    own.write_all(text.as_bytes()).unwrap();
    (text.len(), file)
}

fn a_file_comes_back() {
    let pool = builder().processes(2).build().unwrap();
    let file = pool.apply(opened::call("one ".into())).unwrap();
    file.clone().into_inner().unwrap().seek(std::io::SeekFrom::End(0)).unwrap();
    let (_, file) = pool.apply(appended::call(file, "two ".into())).unwrap();
    let (length, file) = pool.apply(appended::call(file, "three".into())).unwrap();
    assert_eq!(length, 5);
    let mut file = file.into_inner().unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "one two three");
}

#[task]
fn large() -> [u8; 300_000] {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool::new(1).unwrap());
    [7; 300_000]
}

fn what_is_large_comes_back_from_a_worker_that_has_a_pool() {
    let pool = builder().processes(1).build().unwrap();
    let all_are_right = move || (0..3).all(|_| pool.apply(large::call()).unwrap().iter().all(|byte| *byte == 7));
    // Such an array is copied on the stack several times.
    let thread = std::thread::Builder::new().stack_size(1 << 26).spawn(all_are_right).unwrap();
    assert!(thread.join().unwrap());
}
