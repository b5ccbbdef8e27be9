//! Values in shared memory that everybody who has them may write: what one writes the others see, in each way to call and
//! in a sandbox, nothing is lost whoever dies, and it is freed with the last holder.

over_every_transport! {
    in_turn:
    what_one_writes_the_others_see,
    parts_belong_to_one_each,
    values_of_every_size_are_whole,
    small_values_are_never_torn,
    nothing_is_lost_whoever_dies,
    a_sandbox_may_write_what_it_was_given,
    the_last_holder_frees_it,
    a_result_may_have_one,
}

use crate::support::regions::{held, held_here};
use crate::support::{Signals, await_given, builder, count, over_every_transport, pids, until};
use bytemuck::{AnyBitPattern, NoUninit};
use pool_runtime::{Array, Atomic, Backend, Pool, Process, Sandbox, task};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

#[derive(Clone, Copy, Debug, PartialEq, NoUninit, AnyBitPattern)]
#[repr(C)]
struct Pixel {
    red: u8,
    green: u8,
    blue: u8,
}

#[derive(Serialize, Deserialize)]
struct Board {
    name: String,
    cells: Array<i16>,
    moves: Option<Atomic<u32>>,
}

#[task]
fn fill(part: Array<u64>, value: u64) -> (u32, usize) {
    assert!((0..part.len()).all(|index| part.get(index) == 0));
    part.fill(value);
    (std::process::id(), part.len())
}

#[task]
fn answer(question: &Atomic<u32>, answers: &Array<u32>) -> u32 {
    loop {
        match question.load(Acquire) {
            0 => std::thread::yield_now(),
            asked => {
                answers.set(1, asked + 1);
                question.store(0, Release);
                return answers.get(0);
            }
        }
    }
}

#[task]
fn play(mut board: Board) -> usize {
    board.cells.set(2, -7);
    board.moves.iter().for_each(|moves| {
        moves.fetch_add(1, Relaxed);
    });
    board.name.push('!');
    board.name.len()
}

fn what_one_writes_the_others_see() {
    let pool = builder().processes(2).build().unwrap();
    // While the task runs, in both directions.
    let (question, answers) = (Atomic::new(0).unwrap(), Array::zeroed(2).unwrap());
    answers.set(0, 40);
    let job = pool.apply_async(answer::call(&question, &answers));
    until("it runs", || job.is_running());
    answers.set(0, 50);
    question.store(6, Release);
    assert_eq!(job.get().unwrap(), 50);
    assert_eq!((answers.to_vec(), question.load(Acquire)), (vec![50, 7], 0));

    // Inside of an argument, in each way to call, and through another process.
    let (cells, moves) = (Array::zeroed(3).unwrap(), Atomic::<u32>::new(0).unwrap());
    let board = || Board { name: "abc".into(), cells: cells.clone(), moves: Some(moves.clone()) };
    let check = |played: usize, expected: u32| {
        assert_eq!((played, moves.load(Relaxed), cells.to_vec()), (4, expected, vec![0, 0, -7]));
        cells.set(2, 0);
    };
    check(pool.apply(play::call(board())).unwrap(), 1);
    check(pool.map(|_| play::call(board()), 0..5).unwrap()[4], 6);
    check(Process::new(play::call(board())).run().unwrap(), 7);
    check(Process::new(play::call(board())).start().unwrap().join().unwrap(), 8);
    check(pool.apply(pass_on::call(board())).unwrap(), 9);
    for backend in [Backend::Threads, Backend::Inline] {
        let pool = Pool::builder().processes(1).backend(backend).build().unwrap();
        let before = moves.load(Relaxed);
        check(pool.apply(play::call(board())).unwrap(), before + 1);
    }
}

#[task]
fn pass_on(board: Board) -> usize {
    Process::new(play::call(board)).start().unwrap().join().unwrap()
}

fn parts_belong_to_one_each() {
    let pool = builder().processes(2).build().unwrap();
    let all = Array::<u64>::zeroed(10_001).unwrap();
    let filled = pool.map(|(part, value)| fill::call(part, value), all.split(7).into_iter().zip(1..)).unwrap();
    assert_eq!(filled.iter().map(|(_, length)| length).sum::<usize>(), 10_001);
    let values = all.to_vec();
    assert!(values.is_sorted() && values[0] == 1 && values[10_000] == 7);
    // Parts of parts, also none.
    let chunks = all.split(7)[6].chunks(1000);
    assert_eq!(chunks.iter().map(Array::len).collect::<Vec<_>>(), [1000, 429]);
    pool.apply(clear::call(chunks[1].clone(), chunks[1].split(1000)[0].clone())).unwrap();
    assert_eq!(all.to_vec().iter().filter(|value| **value == 0).count(), 429);
    assert_eq!(all.get(10_000), 0);
}

#[task]
fn clear(part: Array<u64>, none: Array<u64>) {
    assert!(none.is_empty() && none.to_vec().is_empty());
    part.fill(0);
}

#[task]
fn mirror(pixels: Array<Pixel>, bytes: Array<u8>, wide: Array<[u64; 3]>, counter: Atomic<i8>) {
    let mut copied = pixels.to_vec();
    copied.reverse();
    pixels.store(0, &copied);
    bytes.set(1, bytes.get(0) + 1);
    wide.set(1, wide.get(0).map(|word| word + 1));
    counter.fetch_sub(100, Relaxed);
}

fn values_of_every_size_are_whole() {
    let pool = builder().processes(1).build().unwrap();
    let pixel = |n: u8| Pixel { red: n, green: n + 1, blue: n + 2 };
    let pixels = Array::from_fn(50, |index| pixel(index as u8)).unwrap();
    let bytes = Array::new(&[1_u8, 0, 9]).unwrap();
    let wide = Array::new(&[[1_u64, 2, 3], [0; 3]]).unwrap();
    let counter = Atomic::new(-20_i8).unwrap();
    pool.apply(mirror::call(pixels.clone(), bytes.clone(), wide.clone(), counter.clone())).unwrap();
    assert_eq!(pixels.to_vec(), (0..50).rev().map(pixel).collect::<Vec<_>>());
    assert_eq!((bytes.to_vec(), wide.get(1), counter.load(Relaxed)), (vec![1, 2, 9], [2, 3, 4], -120));
}

/// Counts half of it before the deaths and half after them.
#[task]
fn count_around(counter: Atomic<u64>, each: Array<u64>, times: u64, deaths: Atomic<u32>) {
    for time in 0..times {
        counter.fetch_add(1, Relaxed);
        each.set(0, time + 1);
        while time == times / 2 && deaths.load(Acquire) < DEATHS {
            std::thread::yield_now();
        }
    }
}

const DEATHS: u32 = 5;

#[task]
fn count_and_die(counter: Atomic<u64>, times: u64) {
    (0..times).for_each(|_| {
        counter.fetch_add(1, Relaxed);
    });
    std::process::abort();
}

fn nothing_is_lost_whoever_dies() {
    let pool = builder().processes(3).build().unwrap();
    let (counter, each) = (Atomic::<u64>::new(0).unwrap(), Array::zeroed(2).unwrap());
    let deaths = Atomic::<u32>::new(0).unwrap();
    let count = |part| count_around::call(counter.clone(), part, 10_000, deaths.clone());
    let counts = each.split(2).into_iter().map(|part| pool.apply_async(count(part))).collect::<Vec<_>>();
    for _ in 0..DEATHS {
        let error = pool.apply(count_and_die::call(counter.clone(), 1_000)).unwrap_err();
        assert!(error.is_worker_lost(), "{error}");
        deaths.fetch_add(1, Release);
    }
    counts.into_iter().for_each(|job| job.get().unwrap());
    assert_eq!((counter.load(Relaxed), each.to_vec()), (25_000, vec![10_000; 2]));
}

fn a_sandbox_may_write_what_it_was_given() {
    let pool = builder().processes(1).sandbox(Sandbox::strict()).build().unwrap();
    let (counter, each) = (Atomic::<u64>::new(5).unwrap(), Array::zeroed(1).unwrap());
    let none = Atomic::new(DEATHS).unwrap();
    pool.apply(count_around::call(counter.clone(), each.clone(), 3, none)).unwrap();
    assert_eq!((counter.load(Relaxed), each.get(0)), (8, 3));
}

#[task]
fn hold(numbers: Array<u32>, total: Atomic<u32>, here: &Path, release: &Path) {
    count(here);
    await_given(release);
    total.fetch_add(numbers.get(0), Relaxed);
}

// It counts what the whole process holds.
fn the_last_holder_frees_it() {
    let pool = builder().processes(2).build().unwrap();
    let signals = Signals::new();
    let (here, release) = (signals.path("here"), signals.path("release"));
    assert_eq!(held_here(), (0, 0));
    let (numbers, total) = (Array::new(&[3_u32]).unwrap(), Atomic::<u32>::new(0).unwrap());
    let call = || hold::call(numbers.clone(), total.clone(), &here, &release);
    let jobs = [(); 2].map(|()| pool.apply_async(call()));
    until("both have them", || signals.counted("here") == 2);
    assert_eq!(held_here(), (2, 2));
    assert!(pids(&pool).into_iter().all(|pid| held(pid) == Some((2, 2))));
    drop(numbers);
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::kill(pids(&pool)[0] as i32, libc::SIGKILL) }, 0);
    until("one has died", || jobs.iter().any(|job| job.is_ready()));
    assert_eq!(held_here(), (2, 2));
    signals.give("release");
    assert_eq!(jobs.into_iter().filter_map(|job| job.get().ok()).count(), 1);
    assert_eq!(total.load(Relaxed), 3);
    until("one is freed", || held_here() == (1, 1));
    drop(total);
    until("both are freed", || held_here() == (0, 0) && pids(&pool).into_iter().all(|pid| held(pid) == Some((0, 0))));
}

/// Writes two values in turn until it is told to end.
#[task]
fn alternate(small: Array<u8>, pair: Array<u16>, word: Array<[u8; 4]>, double: Array<f64>, over: Atomic<u8>) {
    let mut all = false;
    while over.load(Acquire) == 0 {
        all = !all;
        small.set(0, if all { u8::MAX } else { 0 });
        pair.set(1, if all { u16::MAX } else { 0 });
        word.set(2, if all { [u8::MAX; 4] } else { [0; 4] });
        double.set(3, if all { f64::from_bits(u64::MAX) } else { 0.0 });
        over.fetch_add(0, Release);
    }
}

fn small_values_are_never_torn() {
    let pool = builder().processes(1).build().unwrap();
    let (small, pair) = (Array::zeroed(4).unwrap(), Array::zeroed(4).unwrap());
    let (word, double) = (Array::zeroed(4).unwrap(), Array::zeroed(4).unwrap());
    let over = Atomic::<u8>::new(0).unwrap();
    let job =
        pool.apply_async(alternate::call(small.clone(), pair.clone(), word.clone(), double.clone(), over.clone()));
    let mut changes = 0;
    let mut before = 0;
    // Until enough of what was written was seen.
    while changes < 1000 {
        assert!([0, u8::MAX].contains(&small.get(0)) && [0, u16::MAX].contains(&pair.get(1)));
        assert!([[0; 4], [u8::MAX; 4]].contains(&word.get(2)));
        let bits = double.get(3).to_bits();
        assert!([0, u64::MAX].contains(&bits), "{bits:x}");
        changes += u32::from(std::mem::replace(&mut before, bits) != bits);
    }
    over.store(1, Release);
    job.get().unwrap();
}

fn said_by(work: impl FnOnce()) -> String {
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_err();
    panicked.downcast_ref::<String>().cloned().unwrap_or_else(|| panicked.downcast_ref::<&str>().unwrap().to_string())
}

#[test]
fn what_is_out_of_range_says_so() {
    let _turn = crate::support::turn();
    let array = Array::new(&[1_u32, 2, 3]).unwrap();
    let part = array.split(2)[1].clone();
    assert_eq!(part.to_vec(), [2, 3]);
    assert!(said_by(|| drop(Box::new(part.get(2)))).contains("index 2 is out of range for an `Array` of 2 values"));
    assert!(said_by(|| part.store(1, &[0; 2])).contains("range 1..3 is out of range"));
    assert!(said_by(|| part.load(usize::MAX, &mut [0; 2])).contains("out of range"));
    assert!(said_by(|| drop(array.split(0))).contains("into no parts"));
    assert!(said_by(|| drop(array.chunks(0))).contains("no values"));
    assert_eq!(array.to_vec(), [1, 2, 3]);
    // What has no size takes no place.
    let nothing = Array::<[u8; 0]>::zeroed(0).unwrap();
    assert_eq!((nothing.to_vec(), nothing.split(2).len(), nothing.chunks(1).len()), (vec![], 2, 0));
    assert!(Array::<()>::zeroed(3).unwrap_err().to_string().contains("zero-sized"));
}

#[task]
fn make() -> Array<u8> {
    Array::zeroed(1).unwrap()
}

#[task]
fn give_back(counter: Atomic<u8>) -> Atomic<u8> {
    counter
}

fn a_result_may_have_one() {
    let pool = builder().processes(1).build().unwrap();
    let made = pool.apply(make::call()).unwrap();
    made.set(0, 4);
    assert_eq!(made.to_vec(), [4]);
    let counter = Atomic::new(1_u8).unwrap();
    let back = pool.apply(give_back::call(counter.clone())).unwrap();
    back.store(5, Relaxed);
    assert_eq!(counter.load(Relaxed), 5);
}
