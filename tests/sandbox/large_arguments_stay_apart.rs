//! Large arguments of calls that other workers run are not in memory that a confined worker has or has had.

use crate::support::{builder, directory, over_every_transport, pool};
use pool_runtime::{Pool, Process, Sandbox, Shared, task};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

over_every_transport! {
    a_confined_worker_sees_no_argument_of_another_pool,
    a_confined_worker_sees_no_argument_of_a_call_that_another_runs,
    several_large_arguments_arrive_in_every_kind_of_call,
    many_calls_that_wait_hold_few_descriptors,
}

const LENGTH: usize = 1 << 20;

/// Bytes that occur nowhere by chance, and are made where they are looked for.
fn secret(key: u64) -> Vec<u8> {
    (0..4_u64).flat_map(|n| (key + n).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect()
}

fn secrets(key: u64, length: usize) -> Vec<u8> {
    secret(key).into_iter().cycle().take(length).collect()
}

/// How often the secret occurs in what this process shares with others, and how much it looked at.
fn occurrences(key: u64) -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    let memory = std::fs::File::open("/proc/self/mem").expect("/proc");
    let (mut found, mut seen) = (0, 0);
    for line in maps.lines().filter(|line| line.contains("/memfd:") && line.contains(" r")) {
        let (from, rest) = line.split_once('-').expect("an address");
        let to = rest.split_once(' ').expect("an address").0;
        let [from, to] = [from, to].map(|hex| usize::from_str_radix(hex, 16).expect("an address"));
        // What belongs to a call that was taken back may be unmapped by now.
        let mut bytes = vec![0; to - from];
        if memory.read_exact_at(&mut bytes, from as u64).is_err() {
            continue;
        }
        found += bytes.windows(32).step_by(8).filter(|window| *window == secret(key)).count();
        seen += bytes.len();
    }
    (found, seen)
}

#[task]
fn look_for(key: u64, beside: &[u8]) -> (usize, usize) {
    let (found, seen) = occurrences(key);
    (found, seen + beside.len())
}

#[task]
fn length(bytes: &[u8]) -> usize {
    bytes.len()
}

#[task]
fn lengths(one: &[u8], two: Vec<f64>, three: &str, four: u8) -> (usize, usize, usize, u8) {
    (one.len(), two.iter().filter(|number| **number == 0.5).count(), three.trim_matches('é').len(), four)
}

fn confined() -> Sandbox {
    // It can read its own maps.
    Sandbox::none().network(false)
}

fn a_confined_worker_sees_no_argument_of_another_pool() {
    let (plain, sandboxed) = (pool(1), builder().processes(1).sandbox(confined()).build().unwrap());
    // In memory that is free, and still has it.
    let give = |key: u64| assert_eq!(plain.apply(length::call(&secrets(key, LENGTH))).unwrap(), LENGTH);
    give(1 << 20);
    // The same memory would be used for these, which are shorter.
    let look = |key: u64, beside: &[u8]| {
        let (found, seen) = sandboxed.apply(look_for::call(key, beside)).unwrap();
        assert!(seen > 0, "it has no such memory");
        found
    };
    let own = secrets(2 << 20, LENGTH / 2);
    assert!(look(2 << 20, &own) > 0, "it does see its own");
    assert_eq!(look(1 << 20, &own), 0, "what was there before");
    // What it has mapped is not used for another one's later.
    give(3 << 20);
    let job = plain.apply_async(length::call(&secrets(4 << 20, LENGTH)));
    assert_eq!(look(3 << 20, &[]), 0, "what came later");
    assert_eq!(look(4 << 20, &[]), 0, "what came later");
    assert_eq!(job.get().unwrap(), LENGTH);
    let process = Process::new(look_for::call(4 << 20, &own)).sandbox(confined()).start().unwrap();
    assert_eq!(process.join().unwrap().0, 0, "in a process");
}

/// Returns once the other call runs beside this one, which is in another worker.
#[task]
fn meet(me: u64, other: u64, dir: &Path) {
    std::fs::write(dir.join(me.to_string()), "").expect("a file");
    let give_up = Instant::now() + Duration::from_secs(30);
    while !dir.join(other.to_string()).exists() {
        assert!(Instant::now() < give_up, "the other call does not run beside this one");
        std::thread::yield_now();
    }
}

#[task]
fn look_beside(me: u64, other: u64, dir: &Path, argument: &[u8], shared: Shared<[u8]>) -> [usize; 3] {
    meet(me, other, dir);
    assert_eq!((argument.len(), shared.len()), (LENGTH, LENGTH / 2));
    [me, other, other + 100].map(|key| occurrences(key << 20).0)
}

/// Of two calls that are submitted together, in a pool of two workers: what each sees of the other's arguments.
fn seen_beside(chunk: Option<usize>) -> [[usize; 2]; 2] {
    let sandboxed = builder().processes(2).sandbox(confined()).build().unwrap();
    let arguments = [5, 6].map(|key| secrets(key << 20, LENGTH));
    let shared = [5, 6].map(|key| Shared::new(&secrets((key + 100) << 20, LENGTH / 2)).unwrap());
    let keys = |n: usize| (5 + n as u64, 6 - n as u64);
    // Both workers are there, and idle.
    let dir = directory();
    sandboxed.map(|n| meet::call(keys(n).0, keys(n).1, dir.path()), 0..2).unwrap();
    let dir = directory();
    let call = |n: usize| look_beside::call(keys(n).0, keys(n).1, dir.path(), &arguments[n], shared[n].clone());
    let seen: Vec<_> = match chunk {
        None => sandboxed.map(call, 0..2).unwrap(),
        Some(calls) => sandboxed.imap(call, 0..2).chunk_size(calls).map(Result::unwrap).collect(),
    };
    assert!(seen.iter().all(|seen| seen[0] > 0), "each does see its own: {seen:?}");
    [0, 1].map(|n| [seen[n][1], seen[n][2]])
}

fn a_confined_worker_sees_no_argument_of_a_call_that_another_runs() {
    for chunk in [None, Some(2)] {
        // On a busy machine, both may be sent to one worker first, and one of them be taken back: then it was sent to both.
        let mut seen = Vec::new();
        while seen.last() != Some(&[[0, 0]; 2]) {
            assert!(seen.len() < 20, "{chunk:?}: {seen:?}");
            seen.push(seen_beside(chunk));
        }
    }
}

fn several_large_arguments_arrive_in_every_kind_of_call() {
    let sandboxed = builder().processes(2).sandbox(Sandbox::strict()).build().unwrap();
    let (one, two, three) = (vec![1; LENGTH], vec![0.5; LENGTH / 4], "é".repeat(LENGTH / 2));
    let three = format!("{three}{}{three}", "x".repeat(77));
    let call = |four| lengths::call(&one, two.clone(), &three, four);
    let expected = |four| (LENGTH, LENGTH / 4, 77, four);
    assert_eq!(sandboxed.apply(call(1)).unwrap(), expected(1));
    assert_eq!(sandboxed.apply_async(call(2)).get().unwrap(), expected(2));
    assert_eq!(sandboxed.map(call, 0..8).unwrap(), (0..8).map(expected).collect::<Vec<_>>());
    let results: Vec<_> = sandboxed.imap(call, 0..8).map(Result::unwrap).collect();
    assert_eq!(results, (0..8).map(expected).collect::<Vec<_>>());
    let process = Process::new(call(3)).sandbox(Sandbox::strict()).start().unwrap();
    assert_eq!(process.join().unwrap(), expected(3));
}

#[task(initializer)]
fn keep(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

#[task]
#[expect(clippy::ptr_arg, reason = "it is the type of the state")]
fn kept(#[state] bytes: &Vec<u8>, add: &[u8]) -> usize {
    bytes.len() + add.len()
}

/// A copy is a descriptor: there must not be one for each call that waits.
fn many_calls_that_wait_hold_few_descriptors() {
    let sandboxed: Pool =
        builder().processes(1).sandbox(Sandbox::strict()).initializer(keep::call(vec![7; LENGTH])).build().unwrap();
    let bytes = vec![3; LENGTH / 2];
    let before = crate::support::descriptors().len();
    let jobs: Vec<_> = (0..200).map(|_| sandboxed.apply_async(kept::call(&bytes))).collect();
    let meanwhile = crate::support::descriptors().len();
    assert!(jobs.into_iter().all(|job| job.get().unwrap() == LENGTH + LENGTH / 2));
    // Other tests of this program have some, too.
    assert!(meanwhile < before + 150, "{before}, then {meanwhile}");
}
