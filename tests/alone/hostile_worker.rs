//! Whatever a worker does to what it shares with its parent, it harms its own calls only: every other call has its right
//! value, nobody waits longer than a time limit and a grace, and the parent neither dies, panics nor grows.
//!
//! `POOL_HOSTILE_SECONDS` says for how long (in `cargo test`, two or three), `POOL_HOSTILE_SEED` repeats the rounds from
//! that seed, `POOL_HOSTILE_ACTS` chooses among the names of `support/hostile.rs`, separated by commas.

#[path = "../support/mod.rs"]
mod support;

use pool_runtime::{Error, Job, Pool, Process, RestartPolicy, Result, Sandbox, Shared, Transport, pool_main, task};
use std::{
    collections::HashSet,
    io::Write as _,
    path::Path,
    sync::{
        Once,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use support::{
    Numbers, Signals, builder, children, descriptors, hostile, in_turn, is_alive, memory, over, threads, transport,
    until,
};

pool_main!();

/// How long a mad call may take, what it may be killed later than that, and what a loaded machine adds.
const LIMIT: Duration = Duration::from_millis(300);
const GRACE: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(8);
/// Far more than an honest call takes.
const HONEST_LIMIT: Duration = Duration::from_secs(8);
const SEATS: usize = 3;
const MAD_CALLS: u64 = 6;
/// How often a call is tried whose workers die as if it had not begun.
const TRIES: u32 = 5;
/// By how much the parent may grow for good, and at most, whatever it is sent.
const GROWTH: usize = 64 << 20;
const PEAK_GROWTH: usize = 48 << 20;

#[test]
fn over_rings() {
    in_turn(Transport::Ring, || storm(false));
}

#[test]
fn over_rings_in_a_sandbox() {
    in_turn(Transport::Ring, || storm(true));
}

#[test]
fn over_channels() {
    in_turn(Transport::Channel, || storm(false));
}

#[test]
fn over_channels_in_a_sandbox() {
    in_turn(Transport::Channel, || storm(true));
}

// ---- tasks ----

/// Which process has run what: two numbers at once, in a file that processes append to.
fn note(log: &Path, number: u32) {
    let note = [number.to_ne_bytes(), std::process::id().to_ne_bytes()].concat();
    // Opened each time: the process may have lost the descriptors that it had.
    let file = std::fs::File::options().append(true).create(true).open(log);
    file.and_then(|mut file| file.write_all(&note)).expect("a note");
}

fn notes(log: &Path) -> Vec<(u32, u32)> {
    let notes = std::fs::read(log).unwrap_or_default();
    let (notes, []) = notes.as_chunks::<8>() else { panic!("a note that is not whole") };
    let number = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
    notes.iter().map(|note| (number(&note[..4]), number(&note[4..]))).collect()
}

/// Does what its seed says.
#[task]
fn mad(log: &Path, seed: u64, acts: &str) -> u64 {
    note(log, seed as u32);
    hostile::go_mad(seed, &acts.split(',').collect::<Vec<_>>());
    seed
}

fn sum(id: u32, bytes: &[u8], shared: &[u64]) -> u64 {
    let bytes = bytes.iter().fold(u64::from(id), |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    shared.iter().fold(bytes, |sum, word| sum.wrapping_add(*word))
}

#[task]
fn honest(log: &Path, id: u32, bytes: &[u8], shared: Option<Shared<[u64]>>) -> (u32, u64, Vec<u8>) {
    let sum = sum(id, bytes, shared.as_deref().unwrap_or_default());
    let back = bytes.iter().map(|byte| !byte).collect();
    note(log, id);
    (id, sum, back)
}

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

// ---- honest calls, whose values are known ----

fn bytes_of(id: u32) -> Vec<u8> {
    // Now and then one that is large, or too large for a ring.
    let length = if id.is_multiple_of(61) {
        600_000
    } else if id.is_multiple_of(13) {
        20_000
    } else {
        id % 50
    };
    (0..length).map(|n| (n ^ id) as u8).collect()
}

fn is_right(id: u32, shared: &Shared<[u64]>, (same, value, back): &(u32, u64, Vec<u8>)) -> bool {
    let bytes = bytes_of(id);
    let shared = if is_shared(id) { &shared[..] } else { &[] };
    *same == id && *value == sum(id, &bytes, shared) && bytes.iter().map(|byte| !byte).eq(back.iter().copied())
}

fn is_shared(id: u32) -> bool {
    id.is_multiple_of(7)
}

type Honest = Job<(u32, u64, Vec<u8>)>;

fn submit(pool: &Pool, log: &Path, id: u32, shared: &Shared<[u64]>) -> Honest {
    let shared = is_shared(id).then(|| shared.clone());
    pool.apply_async(honest::call(log, id, &bytes_of(id), shared).timeout(HONEST_LIMIT))
}

// ---- rounds ----

/// Panics of this process, on whatever thread.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
    });
}

fn from_environment<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
}

#[derive(Default)]
struct Counts {
    rounds: u64,
    mad: usize,
    lost: usize,
    honest: usize,
    /// Of the honest ones, those that a mad worker had: lost with it, or answered by it.
    spoiled: usize,
}

fn storm(confined: bool) {
    count_panics();
    // What a worker leaves behind becomes a child of this process, which sees to its end.
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    let seconds: Option<f64> = from_environment("POOL_HOSTILE_SECONDS");
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_nanos() as u64;
    let first: u64 = from_environment("POOL_HOSTILE_SEED").unwrap_or_else(|| clock() % 1_000_000_000);
    let all = || hostile::ACTS.iter().map(|(name, _)| *name).filter(|name| !hostile::KNOWN.contains(name));
    let acts = std::env::var("POOL_HOSTILE_ACTS").unwrap_or_else(|_| all().collect::<Vec<_>>().join(","));
    // Past what captures output: it is to be seen if this process dies, too.
    let say = |text: String| drop(std::io::stderr().write_all(text.as_bytes()));
    let what = format!("{:?}{}", transport(), if confined { ", in a sandbox" } else { "" });
    say(format!("hostile workers: {what}: POOL_HOSTILE_SEED={first}\n"));

    // One for each of the tests above.
    let until_when = Instant::now() + Duration::from_secs_f64(seconds.unwrap_or(2.0) / 4.0);
    let friends = builder().processes(2).name("friends").build().expect("a pool");
    let (mut total, mut before) = (Counts::default(), None);
    let first_peak = peak_memory();
    while total.rounds < 2 || Instant::now() < until_when {
        let seed = first + total.rounds;
        if seconds.is_some() {
            say(format!("hostile workers: {what}: round POOL_HOSTILE_SEED={seed}\n"));
        }
        let counts = round(seed, confined, &acts, &friends);
        total.rounds += 1;
        total.mad += counts.mad;
        total.lost += counts.lost;
        total.honest += counts.honest;
        total.spoiled += counts.spoiled;
        nothing_is_left(&friends, seed);
        let has = (descriptors().len(), threads(), memory(std::process::id()));
        let (fds, running, bytes) = *before.get_or_insert(has);
        let most = peak_memory();
        assert!(most <= first_peak + PEAK_GROWTH, "seed {seed}: up to {most} bytes of memory, {first_peak} before");
        // A few that the library has once, when they are first needed.
        assert!(has.0 <= fds + 8, "seed {seed}: {} descriptors, {fds} before: {:?}", has.0, descriptors());
        assert!(has.1 <= running + 4, "seed {seed}: {} threads, {running} before", has.1);
        assert!(has.2 <= bytes + GROWTH, "seed {seed}: {} bytes of memory, {bytes} before", has.2);
    }
    say(format!(
        "hostile workers: {what}: {} rounds from POOL_HOSTILE_SEED={first}, {} mad calls ({} failed), {} honest calls \
         ({} with a mad worker), {} MiB more memory at most\n",
        total.rounds,
        total.mad,
        total.lost,
        total.honest,
        total.spoiled,
        (peak_memory() - first_peak) >> 20
    ));
    friends.close();
    friends.join().expect("they end");
}

/// The most memory that this process has had.
fn peak_memory() -> usize {
    let mut used = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the kernel fills it in.
    let used = unsafe {
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, used.as_mut_ptr()), 0);
        used.assume_init()
    };
    used.ru_maxrss as usize * 1024
}

/// Waits until there are no processes but those of the pool that lives on.
fn nothing_is_left(friends: &Pool, seed: u64) {
    until(&format!("seed {seed}: no process is left"), || {
        let friends = support::pids(friends);
        let left: Vec<_> = children().into_iter().filter(|pid| !friends.contains(pid)).collect();
        for pid in &left {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim_end() == hostile::LEFT_BEHIND {
                // SAFETY: the process is none of the library's; its status is of no interest.
                unsafe { libc::waitpid(*pid as i32, std::ptr::null_mut(), libc::WNOHANG) };
            }
        }
        left.is_empty()
    });
}

fn round(seed: u64, confined: bool, acts: &str, friends: &Pool) -> Counts {
    let panics = PANICS.load(Ordering::SeqCst);
    let transport = transport();
    let over_now = &AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let (done, is_done) = mpsc::channel();
        let friendly = scope.spawn(move || {
            let mut calls = 0;
            while !over_now.load(Ordering::Relaxed) {
                let sum = friends.apply(add::call(calls, 1).timeout(HONEST_LIMIT));
                assert_eq!(sum.expect("nothing is wrong with that pool"), calls + 1, "seed {seed}");
                let sums = friends.map(|n| add::call(n, calls), 0..50).expect("nothing is wrong with that pool");
                assert!(sums.into_iter().eq(calls..calls + 50), "seed {seed}");
                calls += 1;
            }
            calls as usize * 51
        });
        let works = scope.spawn(move || {
            let counts = over(transport, || mad_round(seed, confined, acts));
            let _ = done.send(());
            counts
        });
        // All that may be waited for in a round, one after the other.
        let bound = (TRIES * 2 + 4) * (LIMIT + GRACE) + 4 * SLACK + HONEST_LIMIT;
        if matches!(is_done.recv_timeout(bound), Err(mpsc::RecvTimeoutError::Timeout)) {
            give_up(seed, &format!("it hangs for {bound:?}"));
        }
        over_now.store(true, Ordering::Relaxed);
        let mut counts = works.join().unwrap_or_else(|_| panic!("seed {seed}"));
        counts.honest += friendly.join().unwrap_or_else(|_| panic!("seed {seed}"));
        counts
    });
    assert_eq!(PANICS.load(Ordering::SeqCst), panics, "seed {seed}: a thread has panicked");
    counts
}

/// Says what hangs, and ends: threads that hang cannot be waited for.
fn give_up(seed: u64, what: &str) -> ! {
    let mut says = format!("hostile workers: POOL_HOSTILE_SEED={seed}: {what}\n");
    for task in std::fs::read_dir("/proc/self/task").expect("/proc").flatten() {
        let [name, waits] = ["comm", "wchan"]
            .map(|file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default().trim_end().to_owned());
        says += &format!("  thread {name}: {waits}\n");
    }
    drop(std::io::stderr().write_all(says.as_bytes()));
    std::process::exit(101);
}

/// What a mad call of this seed is about to do.
fn planned(seed: u64, acts: &str) -> Vec<&'static str> {
    hostile::plan(seed, &acts.split(',').collect::<Vec<_>>())
}

fn mad_round(seed: u64, confined: bool, acts: &str) -> Counts {
    let mut numbers = Numbers::from(seed);
    let files = Signals::new();
    let (mad_log, honest_log) = (files.path("mad"), files.path("honest"));
    // A worker that runs one call is not mad before it, and there is no call after it.
    let one_each = numbers.below(2) == 0;
    let restarts = RestartPolicy::default().intensity(1_000).backoff(Duration::ZERO, Duration::from_millis(10));
    let mut pool = builder().processes(SEATS).restarts(restarts);
    if one_each {
        pool = pool.max_tasks_per_child(1);
    }
    let sandbox = Sandbox::strict().read("/proc").write(mad_log.parent().expect("a directory"));
    if confined {
        pool = pool.sandbox(sandbox.clone());
    }
    let pool = pool.build().expect("a pool");
    let shared = Shared::new(&(0..1_000).collect::<Vec<u64>>()).expect("shared memory");

    let seeds: Vec<u64> = (0..MAD_CALLS).map(|_| numbers.next() >> 32).collect();
    let began = Instant::now();
    let (mut mad_jobs, mut honest_jobs, mut id) = (Vec::new(), Vec::new(), 0);
    for mad_seed in &seeds {
        for _ in 0..numbers.below(10) {
            honest_jobs.push((id, submit(&pool, &honest_log, id, &shared)));
            id += 1;
        }
        let call = mad::call(&mad_log, *mad_seed, acts).timeout(LIMIT);
        mad_jobs.push((*mad_seed, pool.apply_async(call)));
        if numbers.below(3) == 0 {
            std::thread::sleep(Duration::from_millis(numbers.below(5) as u64));
        }
    }
    let process_seed = numbers.next() >> 32;
    let process = (numbers.below(3) == 0).then(|| {
        let process = Process::new(mad::call(&mad_log, process_seed, acts).timeout(LIMIT));
        let process = if confined { process.sandbox(sandbox) } else { process };
        process.start()
    });

    // A mad call waits for those before it at its seat, at worst.
    let all = (MAD_CALLS as usize).div_ceil(SEATS) as u32;
    let by = began + TRIES * all * (LIMIT + GRACE) + SLACK;
    let abruptly = numbers.below(4) == 0;
    if abruptly {
        std::thread::sleep(Duration::from_millis(numbers.below(100) as u64));
        pool.terminate();
    } else if numbers.below(3) == 0 {
        // Nobody waits for anything meanwhile.
        std::thread::sleep(LIMIT);
    }
    let mut counts = Counts { mad: mad_jobs.len(), honest: honest_jobs.len(), ..Counts::default() };
    for (mad_seed, mut job) in mad_jobs {
        let outcome = job.get_timeout(by.saturating_duration_since(Instant::now()));
        if outcome.as_ref().is_err_and(Error::is_pending) {
            let pids: Vec<_> = notes(&mad_log).into_iter().filter(|(it, _)| *it == mad_seed as u32).collect();
            give_up(seed, &format!("a mad call hangs: {:?} in {pids:?}", planned(mad_seed, acts)));
        }
        counts.lost += usize::from(outcome.is_err());
    }
    if let Some(process) = process {
        counts.mad += 1;
        match process.and_then(|process| process.join_timeout(LIMIT + GRACE + SLACK)) {
            Ok(None) => give_up(seed, &format!("a mad process hangs: {:?}", planned(process_seed, acts))),
            Ok(Some(_)) => {}
            Err(_) => counts.lost += 1,
        }
    }
    let by = Instant::now() + HONEST_LIMIT + GRACE + SLACK;
    let mut outcomes = Vec::new();
    for (id, mut job) in honest_jobs {
        let outcome = job.get_timeout(by.saturating_duration_since(Instant::now()));
        if outcome.as_ref().is_err_and(Error::is_pending) {
            let plans: Vec<_> = seeds.iter().map(|mad_seed| planned(*mad_seed, acts)).collect();
            give_up(seed, &format!("the honest call {id} hangs, beside {plans:?}"));
        }
        outcomes.push((id, outcome));
    }
    end(pool, if abruptly { 1 + numbers.below(3) } else { numbers.below(4) }, seed, &seeds, acts);

    let mad_pids: HashSet<u32> = notes(&mad_log).into_iter().map(|(_, pid)| pid).collect();
    let runs = notes(&honest_log);
    for (id, outcome) in &outcomes {
        if outcome.as_ref().is_ok_and(|value| is_right(*id, &shared, value)) {
            continue;
        }
        // Unless the pool was terminated.
        if abruptly && outcome.is_err() {
            continue;
        }
        counts.spoiled += 1;
        let ran_in: Vec<_> = runs.iter().filter(|(it, _)| it == id).map(|(_, pid)| *pid).collect();
        let what = || {
            let plans: Vec<_> = seeds.iter().map(|mad_seed| planned(*mad_seed, acts)).collect();
            let outcome = outcome.as_ref().map(|(same, sum, back)| (same, sum, back.len()));
            format!(
                "seed {seed}: the honest call {id} has run in {ran_in:?}, the mad are {mad_pids:?}: {outcome:?}, \
                     beside {plans:?}"
            )
        };
        assert!(ran_in.iter().all(|pid| mad_pids.contains(pid)), "{}", what());
        // A mad worker can answer what it was sent, and a worker that runs one call is sent no other.
        let Err(error) = outcome else {
            assert!(!one_each, "{}", what());
            continue;
        };
        let pid = error.dossier().map(|dossier| dossier.pid());
        assert!(pid.is_none_or(|pid| mad_pids.contains(&pid)), "{}", what());
        assert!(!one_each || error.is_worker_lost() || error.is_timeout(), "{}", what());
    }
    for pid in mad_pids {
        until(&format!("seed {seed}: the mad worker {pid} has ended"), || !is_alive(pid));
    }
    counts
}

/// Ends a pool in one of the ways there are, within a bound.
fn end(pool: Pool, way: usize, seed: u64, seeds: &[u64], acts: &str) {
    let (done, is_done) = mpsc::channel();
    let ends = std::thread::spawn(move || -> Result<()> {
        let result = match way {
            0 => {
                pool.close();
                pool.join()
            }
            1 => {
                pool.terminate();
                pool.join()
            }
            2 => {
                pool.terminate();
                drop(pool);
                Ok(())
            }
            _ => {
                drop(pool);
                Ok(())
            }
        };
        let _ = done.send(());
        result
    });
    if matches!(is_done.recv_timeout(GRACE + SLACK), Err(mpsc::RecvTimeoutError::Timeout)) {
        let plans: Vec<_> = seeds.iter().map(|mad_seed| planned(*mad_seed, acts)).collect();
        give_up(seed, &format!("the end of the pool hangs, in the way {way}, after {plans:?}"));
    }
    ends.join().expect("no panic").expect("the pool ends");
}
