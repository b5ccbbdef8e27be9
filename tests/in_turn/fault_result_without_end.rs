//! A worker that sends more than its call may return is killed before the parent keeps it; one that fills the ring with
//! reports of times is killed at the first that cannot be.

use crate::support::{Signals, await_given, descriptors, memory, pids, turn};
use pool_runtime::{Job, Pool, PoolBuilder, Process, Sandbox, TaskCall, Transport, task};
use std::{
    os::fd::RawFd,
    path::Path,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How the memory of the rings is laid out: positions, from here on the bytes of calls, then those of reports.
const BYTES: usize = 1 << 16;
const RING: usize = 1 << 18;
const REPORTS_WRITTEN: usize = 512;
const REPORTS_READ: usize = 640;

/// What a report has instead of a length that follows in 8 bytes.
const LONG: u32 = (1 << 28) - 1;
/// The result that is announced.
const ENDLESS: u64 = 3 << 30;

/// The kinds of reports.
const VALUE: u32 = 0;
const FAILED: u32 = 1;
const TIME: u32 = 2;
const BULK: u32 = 3;

/// The head of a report about the first call of a worker.
fn head(kind: u32, length: u64) -> Vec<u8> {
    let mut head: Vec<u8> = [1, kind << 28 | LONG].iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    head.extend(length.to_le_bytes());
    if kind == BULK {
        head.extend([16_u32, 1].iter().flat_map(|word| word.to_le_bytes()));
    }
    head
}

fn rings(offset: usize) -> *mut u8 {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    let found = maps.lines().filter(|line| line.contains("/memfd:pool-rings ")).find_map(|line| {
        let (from, rest) = line.split_once('-')?;
        let (to, rest) = rest.split_once(' ')?;
        let begins = rest.split(' ').nth(1)?;
        let [from, to, begins] = [from, to, begins].map(|hex| usize::from_str_radix(hex, 16).expect("a number"));
        (begins..begins + (to - from)).contains(&offset).then(|| (from + (offset - begins)) as *mut u8)
    });
    found.expect("this worker has rings")
}

/// Writes these bytes, and then the filling again and again, as fast as they are read.
fn flood_ring(beginning: &[u8], filling: &[u8]) -> ! {
    // SAFETY: the page is mapped, and the words are aligned.
    let [written, read] = [REPORTS_WRITTEN, REPORTS_READ].map(|at| unsafe { AtomicU64::from_ptr(rings(at).cast()) });
    let bytes = rings(BYTES + RING);
    let mut at = written.load(Ordering::Acquire);
    let mut put = |part: &[u8]| {
        while at + part.len() as u64 - read.load(Ordering::Acquire) > RING as u64 {
            std::thread::yield_now();
        }
        for byte in part {
            // SAFETY: the ring is mapped there, and all access to it is a copy, or atomic.
            unsafe { AtomicU8::from_ptr(bytes.add(at as usize % RING)) }.store(*byte, Ordering::Relaxed);
            at += 1;
        }
        written.store(at, Ordering::Release);
    };
    put(beginning);
    loop {
        put(filling);
    }
}

/// Sends a frame that begins so, in packets of ipc-channel's that are full.
fn flood_channel(beginning: &[u8]) -> ! {
    const PACKET: usize = 1 << 17;
    let mark = u64::from_le_bytes(*b"\xf3pool\r\n\x01");
    let total = ENDLESS + 100;
    let fds: Vec<RawFd> = descriptors().into_iter().map(|(fd, _)| fd).filter(|fd| is_channel(*fd)).collect();
    let mut sent = vec![0_u64; fds.len()];
    loop {
        for (fd, sent) in fds.iter().zip(&mut sent) {
            let room = PACKET - 32;
            let left = (total - *sent).saturating_sub(room as u64);
            let mut content = if *sent == 0 { [&[16; 1][..], &[0; 15], beginning].concat() } else { Vec::new() };
            content.resize(room, 0);
            let words = [PACKET as u64 + 16, PACKET as u64, mark, left, total, 0];
            let packet = [words.iter().flat_map(|word| word.to_ne_bytes()).collect(), content].concat();
            // SAFETY: the bytes are ours; the descriptor is open.
            let outcome = unsafe {
                libc::send(*fd, packet.as_ptr().cast(), packet.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            };
            *sent += if outcome > 0 { room as u64 } else { 0 };
        }
        std::thread::yield_now();
    }
}

/// Whether it is a socket that carries packets.
fn is_channel(fd: RawFd) -> bool {
    let (mut kind, mut size) = (0, size_of::<i32>() as libc::socklen_t);
    // SAFETY: the kernel writes an integer where one is.
    let asked = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut size) };
    asked == 0 && kind == libc::SOCK_SEQPACKET
}

fn flood(kind: u32, over_rings: bool) -> ! {
    match over_rings {
        true => flood_ring(&head(kind, ENDLESS), &[0; 4096]),
        false => flood_channel(&head(kind, ENDLESS)),
    }
}

#[task]
fn a_byte(kind: u32, over_rings: bool) -> u8 {
    flood(kind, over_rings)
}

#[task]
fn an_array(kind: u32, over_rings: bool) -> Result<[u64; 4], (bool, Option<char>)> {
    flood(kind, over_rings)
}

#[task]
fn any_text(kind: u32, over_rings: bool) -> String {
    flood(kind, over_rings)
}

/// A result that fits into the ring, and is longer than its type says.
#[task]
fn a_longer_byte() -> u8 {
    let mut record: Vec<u8> = [1, 4096].iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    record.resize(8 + 4096, 0);
    flood_ring(&record, &[]);
}

#[task]
fn times(calls: u32, nanos: u64) -> u8 {
    let mut record: Vec<u8> = [calls, TIME << 28 | 8].iter().flat_map(|word| word.to_le_bytes()).collect();
    record.extend(nanos.to_le_bytes());
    flood_ring(&record, &record.repeat(1024));
}

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

/// Runs a call whose worker lies, and checks what becomes of it.
#[track_caller]
fn is_killed<T: Send>(builder: PoolBuilder, call: impl TaskCall<Output = T>, why: &str) {
    let pool = builder.processes(1).build().unwrap();
    let (before, worker) = (memory(std::process::id()), pids(&pool));
    let began = Instant::now();
    let Err(error) = pool.apply(call) else { panic!("it returned") };
    let text = error.to_string();
    assert!(error.is_worker_lost() && text.contains("and was killed") && text.contains(why), "{text}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}: {text}", began.elapsed());
    assert_eq!(pool.apply(add::call(20, 22)).unwrap(), 42);
    assert_ne!(pids(&pool), worker);
    let grown = memory(std::process::id()).saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more: {text}");
}

fn both(test: impl Fn(PoolBuilder, bool)) {
    let _turn = turn();
    for transport in [Transport::Ring, Transport::Channel] {
        test(Pool::builder().transport(transport), transport == Transport::Ring);
    }
}

#[test]
fn a_type_that_has_a_bound_is_a_limit() {
    both(|builder, rings| is_killed(builder, a_byte::call(VALUE, rings), "whose result has at most 16"));
    both(|builder, rings| is_killed(builder, an_array::call(VALUE, rings), "whose result has at most 61"));
    both(|builder, rings| is_killed(builder, a_byte::call(BULK, rings), "whose result has at most 16"));
    let _turn = turn();
    is_killed(Pool::builder().transport(Transport::Ring), a_longer_byte::call(), "whose result has at most 1");
}

#[test]
fn what_the_user_says_is_a_limit() {
    both(|builder, rings| is_killed(builder.max_result(1 << 20), any_text::call(VALUE, rings), "at most 1048576"));
    both(|builder, rings| is_killed(builder, any_text::call(BULK, rings).max_result(1 << 20), "at most 1048576"));
}

#[test]
fn a_sandbox_is_a_limit() {
    let confined = |builder: PoolBuilder| builder.sandbox(Sandbox::none().open_files(1000));
    both(|builder, rings| is_killed(confined(builder), any_text::call(BULK, rings), "at most 1073741824"));
    let confined = |builder: PoolBuilder| builder.sandbox(Sandbox::none().memory(64 << 20));
    both(|builder, rings| is_killed(confined(builder), any_text::call(VALUE, rings), "at most 67108864"));
}

#[test]
fn a_failure_has_a_limit() {
    both(|builder, rings| is_killed(builder, any_text::call(FAILED, rings), "at most 8388608"));
    both(|builder, rings| is_killed(builder, a_byte::call(FAILED, rings), "at most 8388608"));
    // What the user says of results is for failures too; they have room for a text in any case.
    both(|builder, rings| is_killed(builder.max_result(1 << 20), any_text::call(FAILED, rings), "at most 1048576"));
    both(|builder, rings| is_killed(builder, a_byte::call(FAILED, rings).max_result(1 << 10), "at most 65536"));
}

#[test]
fn a_process_has_the_same_limits() {
    let _turn = turn();
    let before = memory(std::process::id());
    for (call, why) in [
        (any_text::call(VALUE, false).max_result(1 << 20), "at most 1048576"),
        (any_text::call(FAILED, false), "at most 8388608"),
    ] {
        let error = Process::new(call).start().unwrap().join().unwrap_err();
        assert!(error.is_worker_lost() && error.to_string().contains(why), "{error}");
    }
    let error = Process::new(a_byte::call(VALUE, false)).start().unwrap().join().unwrap_err();
    assert!(error.is_worker_lost() && error.to_string().contains("at most 16"), "{error}");
    let grown = memory(std::process::id()).saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
}

/// Answers calls that it has not read, one after the other: each with a byte.
#[task]
fn answer(over_rings: bool, calls: u32, go: &Path) -> u8 {
    await_given(go);
    // SAFETY: the page is mapped, and the word is aligned.
    let written = over_rings.then(|| unsafe { AtomicU64::from_ptr(rings(REPORTS_WRITTEN).cast()) });
    let fds: Vec<RawFd> = descriptors().into_iter().map(|(fd, _)| fd).filter(|fd| is_channel(*fd)).collect();
    for number in 1..=calls {
        let record = [number.to_le_bytes(), 1_u32.to_le_bytes(), [FORGED, 0, 0, 0], [0; 4]].concat();
        if let Some(written) = written {
            let at = written.load(Ordering::Acquire);
            for (byte, at) in record.iter().zip(at..) {
                // SAFETY: the ring is mapped there, and all access to it is a copy, or atomic.
                let place = unsafe { AtomicU8::from_ptr(rings(BYTES + RING).add(at as usize % RING)) };
                place.store(*byte, Ordering::Relaxed);
            }
            written.store(at + record.len() as u64, Ordering::Release);
            // SAFETY: as above.
            let read = unsafe { AtomicU64::from_ptr(rings(REPORTS_READ).cast()) };
            while read.load(Ordering::Acquire) != written.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
        for fd in fds.iter().filter(|_| !over_rings) {
            let frame = [&[16_u8][..], &[0; 15], &record].concat();
            let inner = 32 + frame.len() as u64;
            let mark = u64::from_le_bytes(*b"\xf3pool\r\n\x01");
            let words = [inner + 16, inner, mark, 0, frame.len() as u64, 0];
            let packet = [words.iter().flat_map(|word| word.to_ne_bytes()).collect(), frame].concat();
            // SAFETY: the bytes are ours; the descriptor is open.
            unsafe { libc::send(*fd, packet.as_ptr().cast(), packet.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        }
        // The next call is sent when this answer is there; one that comes too early is a fault.
        std::thread::sleep(Duration::from_millis(3));
    }
    loop {
        std::thread::park();
    }
}

const FORGED: u8 = 5;

#[task]
fn first_byte(bytes: &[u8]) -> u8 {
    bytes[0]
}

/// The worker rings no bell, so somebody has to look.
#[track_caller]
fn look_for(job: &mut Job<u8>) -> pool_runtime::Result<u8> {
    let began = Instant::now();
    loop {
        match job.get_timeout(Duration::from_millis(2)) {
            Err(error) if error.is_pending() => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
            outcome => return outcome,
        }
    }
}

/// What waits for such a worker is the parent's memory.
#[test]
fn a_worker_that_answers_what_it_has_not_read_is_found_out() {
    both(|builder, rings| {
        const CALLS: u32 = 300;
        let pool = builder.processes(1).build().unwrap();
        let signals = Signals::new();
        let mut forger = pool.apply_async(answer::call(rings, CALLS, &signals.path("go")));
        // Too short for the memory of large arguments, and too long for the ring to hold many.
        let bytes = vec![7; 200 << 10];
        let jobs: Vec<_> = (1..CALLS).map(|_| pool.apply_async(first_byte::call(&bytes))).collect();
        signals.give("go");
        assert_eq!(look_for(&mut forger).unwrap(), FORGED);
        let answers: Vec<_> = jobs.into_iter().map(|mut job| look_for(&mut job)).collect();
        let forged = answers.iter().filter(|answer| matches!(answer, Ok(FORGED))).count();
        assert!(forged < 80, "{forged} frames wait");
        assert_eq!(*answers.last().unwrap().as_ref().unwrap(), 7, "the next worker reads them");
    });
}

/// Says that the parent has read nothing of what it has reported, and goes on for a while: nothing is to happen in it, and
/// what its parent uses in it is measured.
#[task]
fn unread() -> u8 {
    // SAFETY: the page is mapped, and the word is aligned.
    unsafe { AtomicU64::from_ptr(rings(REPORTS_READ).cast()) }.store(1 << 40, Ordering::Release);
    std::thread::sleep(Duration::from_secs(1));
    1
}

#[test]
fn nobody_spins_for_a_worker_that_reads_nothing_or_says_that_something_is_unread() {
    let _turn = turn();
    let used = || {
        let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is that of a time.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut used) };
        Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
    };
    let pool = Pool::builder().transport(Transport::Ring).processes(1).build().unwrap();
    let before = used();
    // It may be found to have written nonsense.
    let _ = pool.apply(unread::call());
    let lied = used() - before;
    drop(pool);
    // An answer may come too early, which is found out at once.
    let idle = (0..20).find_map(|_| {
        let (pool, signals) =
            (Pool::builder().transport(Transport::Ring).processes(1).build().unwrap(), Signals::new());
        let mut forger = pool.apply_async(answer::call(true, 4, &signals.path("go")));
        let bytes = vec![7; 200 << 10];
        let mut jobs: Vec<_> = (0..10).map(|_| pool.apply_async(first_byte::call(&bytes))).collect();
        signals.give("go");
        let (first, fourth) = (look_for(&mut forger), look_for(&mut jobs[2]));
        if [first, fourth].iter().any(|answer| !matches!(answer, Ok(FORGED))) {
            return None;
        }
        let before = used();
        // There is no room for it, and never will be.
        let waits = jobs.remove(4).get_timeout(Duration::from_secs(1)).is_err_and(|error| error.is_pending());
        waits.then(|| used() - before)
    });
    let idle = idle.expect("a worker that answers what it has not read");
    assert!(lied < Duration::from_millis(500) && idle < Duration::from_millis(500), "{lied:?} {idle:?} in a second");
}

/// A ring that is kept full must not hold the thread that reads it, whose time-out is over long before.
#[test]
fn times_without_end_are_found_out_at_once() {
    let _turn = turn();
    let rings = || Pool::builder().transport(Transport::Ring);
    for calls in [1, 0, 7, u32::MAX] {
        is_killed(rings(), times::call(calls, 5), "times of more calls than it has run");
    }
}
