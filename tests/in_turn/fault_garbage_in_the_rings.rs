//! Over rings, a worker that writes garbage into the memory that it shares with its parent is replaced, or has harmed
//! nobody; nothing is allocated on its say, and no job waits for ever.

use crate::support::{Numbers, PATIENCE, memory, pids, until};
use pool_runtime::{Error, Pool, Transport, task};
use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::Duration,
};

/// What the memory of the rings consists of: a page of positions; from here on the bytes of calls, then those of reports.
const PAGE: usize = 4096;
const BYTES: usize = 1 << 16;
const RING: usize = 1 << 18;
/// Where on the page the worker says how far it has written its reports.
const REPORTS_WRITTEN: usize = 512;

/// Where a byte of shared memory is mapped into this process.
fn mapped(memory: &str, offset: usize) -> *mut u8 {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    let name = format!("/memfd:{memory} ");
    let lines = maps.lines().filter(|line| line.contains(&name));
    let found = lines.filter_map(|line| {
        let (from, rest) = line.split_once('-')?;
        let (to, rest) = rest.split_once(' ')?;
        let begins = rest.split(' ').nth(1)?;
        let [from, to, begins] = [from, to, begins].map(|hex| usize::from_str_radix(hex, 16).expect("a number"));
        (begins..begins + (to - from)).contains(&offset).then(|| (from + (offset - begins)) as *mut u8)
    });
    { found }.next().expect("this worker has such memory")
}

fn write_shared(memory: &str, offset: usize, bytes: &[u8]) {
    let start = mapped(memory, offset);
    for (n, byte) in bytes.iter().enumerate() {
        // SAFETY: the mapping goes on for as many bytes, and all that others make of it is atomic, or copied.
        unsafe { AtomicU8::from_ptr(start.add(n)) }.store(*byte, Ordering::Relaxed);
    }
}

/// Writes over what it shares; then works on, or never returns.
#[task]
fn scribble(memory: &str, offset: usize, bytes: &[u8], then_returns: bool) {
    write_shared(memory, offset, bytes);
    go_on(then_returns);
}

/// Not at once, so that the parent may find out what the worker would put right.
fn go_on(returns: bool) {
    std::thread::sleep(Duration::from_millis(2));
    if !returns {
        loop {
            std::thread::park();
        }
    }
}

/// Writes garbage where the next report goes, and says that so many bytes are there; then works on, or never returns.
#[task]
fn publish(garbage: &[u8], length: u64, then_returns: bool) {
    // SAFETY: the page is mapped, and the word aligned.
    let written = unsafe { AtomicU64::from_ptr(mapped("pool-rings", REPORTS_WRITTEN).cast()) };
    let before = written.load(Ordering::Acquire);
    let at = before as usize % RING;
    for (n, byte) in garbage.iter().take(RING).enumerate() {
        write_shared("pool-rings", BYTES + RING + (at + n) % RING, &[*byte]);
    }
    written.store(before.wrapping_add(length), Ordering::Release);
    go_on(then_returns);
}

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).transport(Transport::Ring).build().unwrap()
}

/// Waits for what becomes of the calls of a worker gone mad, and checks that the pool goes on.
fn outlasts<T: Send>(pool: &Pool, what: &str, call: impl pool_runtime::TaskCall<Output = T>) -> Result<T, Error> {
    let mut job = pool.apply_async(call);
    let beside = pool.apply_async(add::call(1, 2));
    let outcome = job.get_timeout(PATIENCE);
    assert!(!outcome.as_ref().is_err_and(Error::is_timeout), "{what}: the job hangs");
    assert!(beside.wait(PATIENCE), "{what}: the job behind it hangs");
    // Which calls were its own and had begun, nobody but the worker can say.
    let works = || {
        let mut job = pool.apply_async(add::call(20, 22));
        match job.get_timeout(PATIENCE) {
            Ok(sum) => assert_eq!(sum, 42, "{what}"),
            Err(error) => assert!(error.is_worker_lost(), "{what}: {error}"),
        }
        job.is_successful() == Some(true)
    };
    assert!((0..3).any(|_| works()), "{what}: the pool does not go on");
    outcome
}

/// As [`outlasts`], where the nonsense is found out: the worker is replaced.
fn is_replaced<T: Send>(pool: &Pool, what: &str, call: impl pool_runtime::TaskCall<Output = T>) {
    until("there is a worker", || pids(pool).len() == 1);
    let before = pids(pool);
    // Its report may have come before.
    if let Err(error) = outlasts(pool, what, call) {
        assert!(error.is_worker_lost(), "{what}: {error}");
    }
    assert_ne!(pids(pool), before, "{what}");
}

/// A report: of which call, of which kind, and how much it says to follow.
fn report(number: u32, kind: u32, length: u32) -> Vec<u8> {
    [number, kind << 28 | length].iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A report of a value that ends in plain data.
fn bulk(number: u32, length: u64, before: u32, align: u32) -> Vec<u8> {
    [report(number, 3, LONG), length.to_le_bytes().into(), before.to_le_bytes().into(), align.to_le_bytes().into()]
        .concat()
}

const LONG: u32 = (1 << 28) - 1;

#[test]
fn positions_that_cannot_be() {
    let _turn = crate::support::turn();
    let pool = pool(1);
    for factor in [1, RING as u64 + 8, u64::MAX / 600] {
        let words: Vec<u8> = (0..PAGE as u64 / 8).flat_map(|n| (n * factor + 1).to_ne_bytes()).collect();
        let what = format!("positions with the factor {factor}");
        is_replaced(&pool, &what, scribble::call("pool-rings", 0, &words, false));
        outlasts(&pool, &what, scribble::call("pool-rings", 0, &words, true)).ok();
    }
    for byte in [0, 1, 0x7f, 0x80, 0xff] {
        // Where all are the same, nothing seems to have come; what it goes on to say may put it right.
        outlasts(&pool, &format!("{byte:#x}"), scribble::call("pool-rings", 0, &[byte; PAGE], true)).ok();
    }
}

#[test]
fn reports_that_cannot_be() {
    let _turn = crate::support::turn();
    let pool = pool(1);
    let terabyte = || [report(1 << 30, 0, LONG), (1_u64 << 40).to_le_bytes().to_vec()].concat();
    let garbage = [
        // Of calls that never were.
        report(0xffff, 0, 0),
        [report(0xffff, 1, 4), vec![0; 8]].concat(),
        // Of as many as there are numbers.
        [report(u32::MAX, 0, 0), report(0, 0, 0), report(1, 0, 0)].concat(),
        // Of no kind.
        report(1, 4, 0),
        vec![0xff; 64],
        // Of plain data: of no length, aligned as nothing is, behind more than there is, of nobody.
        report(1, 3, 0),
        bulk(1, 1 << 20, 16, 3),
        bulk(1, 1 << 20, 16, 1 << 31),
        bulk(1, 8, 16, 1),
        bulk(1 << 30, 1 << 40, 16, 1),
        // Of more bytes than there are.
        [report(1, 0, LONG), u64::MAX.to_le_bytes().to_vec()].concat(),
        terabyte(),
        report(1 << 30, 0, LONG - 1),
        // Of a time without end, and one that is cut off.
        [report(1 << 30, 2, LONG), u64::MAX.to_le_bytes().to_vec()].concat(),
        [report(u32::MAX, 2, 0)].concat(),
    ];
    for bytes in garbage {
        let what = format!("{bytes:?}");
        is_replaced(&pool, &what, publish::call(&bytes, bytes.len() as u64, false));
        outlasts(&pool, &what, publish::call(&bytes, bytes.len() as u64, true)).ok();
    }
    for length in [RING as u64 + 8, 1 << 40, u64::MAX / 2] {
        is_replaced(&pool, "a length", publish::call(&[0xff; 8], length, false));
    }
}

#[test]
fn messages_beside_the_rings() {
    let _turn = crate::support::turn();
    let pool = pool(1);
    for bytes in [vec![1], vec![0; 16], vec![0xff; 100]] {
        is_replaced(&pool, "a message", send_everywhere::call(&bytes));
    }
}

/// Sends garbage into all the sockets that carry packets.
#[task]
fn send_everywhere(bytes: &[u8]) {
    for (fd, _) in crate::support::descriptors() {
        // SAFETY: the bytes are ours; what is no socket is refused.
        unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    }
    loop {
        std::thread::park();
    }
}

const ROUNDS: u32 = 300;

#[test]
fn garbage_of_every_kind() {
    let _turn = crate::support::turn();
    let pool = pool(2);
    pool.map(|n| add::call(n, 1), 0..100).unwrap();
    let (mut numbers, before) = (Numbers::from(18), memory(std::process::id()));
    let mut found_out = 0;
    for round in 0..ROUNDS {
        let kind = numbers.below(8);
        let what = format!("round {round}, garbage of kind {kind}");
        let word = numbers.word().to_ne_bytes();
        let outcome = match kind {
            0 => {
                let at = numbers.below(PAGE / 8) * 8;
                let garbage = numbers.bytes(PAGE - at);
                outlasts(&pool, &what, scribble::call("pool-rings", at, &garbage, true))
            }
            // The words in use are few, and each is in a place of its own.
            1 => outlasts(&pool, &what, scribble::call("pool-rings", numbers.below(9) * 128, &word, true)),
            2 => {
                let garbage = numbers.bytes(RING);
                outlasts(&pool, &what, scribble::call("pool-rings", BYTES + RING, &garbage, true))
            }
            3 => {
                let garbage = numbers.bytes(256);
                outlasts(&pool, &what, publish::call(&garbage, numbers.below(32) as u64 * 8, true))
            }
            // Reports that might be: of small numbers, of known kinds, of some length.
            4 | 5 => {
                let reports = (0..1 + numbers.below(10)).map(|_| {
                    let [number, kind, length] = [1 << 12, 4, 64].map(|bound| numbers.below(bound) as u32);
                    [report(number, kind, length), numbers.bytes(length.next_multiple_of(8) as usize)].concat()
                });
                let garbage = reports.collect::<Vec<_>>().concat();
                outlasts(&pool, &what, publish::call(&garbage, garbage.len() as u64, true))
            }
            6 => {
                let at = numbers.below(8) * 8;
                let garbage = numbers.bytes(PAGE - at);
                outlasts(&pool, &what, scribble::call("pool-status", at, &garbage, true))
            }
            _ => outlasts(&pool, &what, scribble::call("pool-bells", numbers.below(2) * 128, &word, true)),
        };
        found_out += u32::from(outcome.is_err());
    }
    assert!(found_out > 3, "{found_out} of {ROUNDS}: this is no garbage");
    until("both workers are there", || pids(&pool).len() == 2);
    assert_eq!(pool.map(|n| add::call(n, 1), 0..100).unwrap(), (1..=100).collect::<Vec<_>>());
    let grown = memory(std::process::id()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more");
    pool.close();
    pool.join().unwrap();
}
