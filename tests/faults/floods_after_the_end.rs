//! Children that a task has forked go on writing into what their worker shared with its parent, when the worker has ended:
//! nobody reads that for ever.

use crate::support::{Signals, builder, hostile, is_alive, over, pool, returns, signal};
use pool_runtime::{Process, Transport, task};
use std::{
    io::Read,
    os::fd::{AsRawFd, RawFd},
    path::Path,
    ptr,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

/// Longer than any test waits, in seconds.
const LONG: u32 = 600;

/// So many that some of them run at any time.
const CHILDREN: usize = 4;

/// Forks children that do this for ever, and says who they are. Returns when they are at it.
fn leave_behind(children: &Path, does: impl Fn()) {
    let mut pids = String::new();
    let (mut begun, begins) = std::io::pipe().unwrap();
    for _ in 0..CHILDREN {
        // SAFETY: the child calls nothing but what may be called after a fork in a process of several threads.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: no memory is involved.
            unsafe {
                libc::signal(libc::SIGALRM, libc::SIG_DFL);
                libc::alarm(LONG);
            }
            does();
            // SAFETY: the byte is ours.
            unsafe { libc::write(begins.as_raw_fd(), c"!".as_ptr().cast(), 1) };
            loop {
                does();
            }
        }
        pids.push_str(&format!("{pid}\n"));
    }
    std::fs::write(children, pids).unwrap();
    begun.read_exact(&mut [0; CHILDREN]).unwrap();
}

/// The children of a test, which live until the test has seen that nobody waits for them.
struct LeftBehind(Signals);

impl LeftBehind {
    fn new() -> Self {
        Self(Signals::new())
    }
}

impl Drop for LeftBehind {
    fn drop(&mut self) {
        let pids = std::fs::read_to_string(self.0.path("children")).unwrap_or_default();
        for pid in pids.lines().map(|pid| pid.parse().unwrap()) {
            assert!(is_alive(pid) || std::thread::panicking(), "it went on all the time");
            signal(pid, libc::SIGKILL);
        }
    }
}

// ---- into a ring ----

/// Where the words of the rings lie, and how long a ring is.
const WRITTEN: usize = 512;
const READ: usize = 640;
const RING: usize = 1 << 18;
const TIME: u32 = 2;

/// Where the words and the reports are mapped, in this process and in what it forks.
fn rings() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains("/memfd:pool-rings")) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (start, end) = fields[0].split_once('-').unwrap();
        let hex = |number| usize::from_str_radix(number, 16).unwrap();
        let (start, end, offset) = (hex(start), hex(end), hex(fields[2]));
        // SAFETY: what is mapped stays as it is.
        assert_eq!(unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_DOFORK) }, 0);
        all.push((offset, start));
    }
    all.sort_unstable();
    (all[0].1, all.iter().rfind(|(offset, _)| *offset > 1 << 16).unwrap().1)
}

fn word(at: usize) -> &'static AtomicU64 {
    // SAFETY: it is mapped as long as this process lives, and all that others make of it is atomic.
    unsafe { AtomicU64::from_ptr(at as *mut u64) }
}

/// Says that the whole ring is full of records, again and again.
fn fill(words: usize, reports: usize, record: [u64; 2]) {
    let (written, read) = (word(words + WRITTEN), word(words + READ));
    let begin = written.load(SeqCst);
    for at in (0..RING).step_by(16) {
        for (n, half) in record.iter().enumerate() {
            let at = (begin as usize + at + 8 * n) % RING;
            // SAFETY: as above.
            unsafe { ptr::write_volatile((reports + at) as *mut u64, *half) };
        }
    }
    loop {
        let whole = (read.load(SeqCst) + RING as u64 - begin) / 16 * 16;
        written.fetch_max(begin + whole, SeqCst);
    }
}

extern "C" fn tell(_: i32) {
    TOLD.get().unwrap().store(1, SeqCst);
}

/// A word that this process shares with its children.
static TOLD: std::sync::OnceLock<&'static AtomicU64> = std::sync::OnceLock::new();

/// Its children fill the ring from the time on when the worker is asked to end, which it does not do.
#[task]
fn fill_when_asked(children: &Path) {
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: new memory.
    let told = unsafe { libc::mmap(ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, shared, -1, 0) };
    let told = TOLD.get_or_init(|| word(told as usize));
    // SAFETY: the handler only stores a number.
    unsafe { libc::signal(libc::SIGTERM, tell as extern "C" fn(i32) as usize) };
    let (words, reports) = rings();
    let record: Vec<_> = [hostile::record(1, TIME, 8), 1_000_u64.to_le_bytes().into()].concat();
    let record = [0, 8].map(|at| u64::from_ne_bytes(record[at..at + 8].try_into().unwrap()));
    leave_behind(children, || {
        if told.load(SeqCst) == 1 {
            fill(words, reports, record);
        }
    });
    loop {
        std::thread::park();
    }
}

#[test]
fn a_ring_that_is_filled_for_ever_holds_nobody() {
    over(Transport::Ring, || {
        let left = LeftBehind::new();
        let pool = builder().processes(1).terminate_grace(Duration::from_millis(300)).build().unwrap();
        let children = left.0.path("children");
        let late = returns("a call that takes too long", move || {
            pool.apply(fill_when_asked::call(&children).timeout(Duration::from_millis(200))).unwrap_err()
        });
        assert!(late.is_timeout(), "{late}");
    });
}

// ---- into a socket ----

fn packet_sockets() -> Vec<RawFd> {
    let is_socket = |fd: &RawFd| {
        let (mut kind, mut size) = (0, size_of::<i32>() as libc::socklen_t);
        let at = (&raw mut kind).cast();
        // SAFETY: the kernel writes an integer where one is.
        let known = unsafe { libc::getsockopt(*fd, libc::SOL_SOCKET, libc::SO_TYPE, at, &raw mut size) } == 0;
        known && kind == libc::SOCK_SEQPACKET
    };
    (0..1024).filter(is_socket).collect()
}

/// Its children send reports of nothing as fast as they can, and it ends at once.
#[task]
fn send_for_ever(children: &Path) {
    let frame = [[16, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat();
    let packet = hostile::fragment(&frame, frame.len() as u64);
    let sockets = packet_sockets();
    leave_behind(children, || sockets.iter().for_each(|socket| hostile::send(*socket, &packet)));
    std::process::abort();
}

#[task]
fn double(n: u32) -> u32 {
    2 * n
}

#[test]
fn a_process_whose_socket_is_filled_for_ever_is_joined() {
    let left = LeftBehind::new();
    let process = Process::new(send_for_ever::call(&left.0.path("children"))).start().unwrap();
    let (error, code) = returns("join", move || (process.join().unwrap_err(), process.exit_code()));
    assert_eq!(code, Some(-libc::SIGABRT), "{error}");
}

#[test]
fn a_worker_whose_socket_is_filled_for_ever_is_replaced() {
    over(Transport::Channel, || {
        let (left, pool) = (LeftBehind::new(), pool(1));
        let children = left.0.path("children");
        let calls = move || (pool.apply(send_for_ever::call(&children)), pool.apply(double::call(21)));
        let (lost, doubled) = returns("two calls", calls);
        assert!(lost.unwrap_err().is_worker_lost());
        assert_eq!(doubled.unwrap(), 42);
    });
}
