//! A worker that does anything to what it shares with its parent: its rings, its status page, its bells, its sockets,
//! and its own life.
//!
//! [`ACTS`] is the table of what it can do, each in a random way. None of them reaches for the parent by its pid, nor
//! for its files: that is for the sandbox to deny, and for other tests.

use super::{Numbers, send_descriptors};
use std::{
    os::fd::RawFd,
    ptr,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

type Act = fn(&mut Numbers, &Reach);

/// What can be done, by names.
pub const ACTS: &[(&str, Act)] = &[
    ("positions", positions),
    ("contents", contents),
    ("records", records),
    ("answers", answers),
    ("times", times),
    ("flood", flood),
    ("drip", drip),
    ("page words", page_words),
    ("page bytes", page_bytes),
    ("claim less", claim_less),
    ("started later", started_later),
    ("notes", notes),
    ("bells", bells),
    ("futexes", futexes),
    ("requeue", requeue),
    ("holes", holes),
    ("packets", packets),
    ("fragments", fragments),
    ("long packet", long_packet),
    ("crumbs", crumbs),
    ("handles", handles),
    ("fill", fill),
    ("shutdown", shutdown),
    ("dup2", dup2),
    ("close", close),
    ("close all", close_all),
    ("unmap", unmap),
    ("stop", stop),
    ("stop later", stop_later),
    ("exit", exit),
    ("abort", abort),
    ("crash", crash),
    ("fork", fork),
    ("fork and exit", fork_and_exit),
    ("spin", spin),
    ("ignore signals", ignore_signals),
    ("exit handler", exit_handler),
    ("thread", thread),
];

/// What is known to do harm: it is left out unless it is chosen by its name.
pub const KNOWN: &[&str] = &[];

/// What a call of this seed does. `only` are the names that may be chosen.
pub fn plan(seed: u64, only: &[&str]) -> Vec<&'static str> {
    let mut numbers = Numbers::from(seed);
    let all: Vec<_> = ACTS.iter().map(|(name, _)| *name).filter(|name| only.contains(name)).collect();
    (0..1 + numbers.below(3)).map(|_| numbers.one_of(&all)).collect()
}

/// Does what is planned for this seed. Does not always return.
pub fn go_mad(seed: u64, only: &[&str]) {
    let (mut numbers, reach) = (Numbers::from(!seed), Reach::new());
    for name in plan(seed, only) {
        let (_, act) = ACTS.iter().find(|(known, _)| *known == name).expect("an act");
        act(&mut numbers, &reach);
        if numbers.below(2) == 0 {
            // So that the parent finds out what the worker would put right.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The name of processes that a worker has left behind, and for how long they live.
pub const LEFT_BEHIND: &str = "mad-child";
const LEFT_FOR_SECONDS: u32 = 2;

// ---- what there is ----

/// Where the words of the rings lie in their memory.
const REPORTS_WRITTEN: usize = 512;
const CAPACITY: usize = 1 << 18;

/// A record: of which call, of which kind, and how much it says to follow.
pub fn record(number: u32, kind: u32, length: u32) -> Vec<u8> {
    [number, kind << 28 | length].iter().flat_map(|word| word.to_le_bytes()).collect()
}

const LONG: u32 = (1 << 28) - 1;
const TIME: u32 = 2;

/// Memory that is shared with the parent, as mapped here.
#[derive(Clone)]
struct Memory {
    name: String,
    /// Where in the memory's file it begins.
    offset: usize,
    start: usize,
    length: usize,
}

impl Memory {
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.length);
        // SAFETY: it is mapped as long as nothing unmaps it, which is then a crash as others are; all that others make
        // of it is atomic, or copied.
        unsafe { AtomicU64::from_ptr((self.start + at) as *mut u64) }
    }

    fn half_word(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.length);
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr((self.start + at) as *mut u32) }
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        for (n, byte) in bytes.iter().enumerate() {
            // SAFETY: as above.
            unsafe { AtomicU8::from_ptr((self.start + (at + n) % self.length) as *mut u8) }.store(*byte, SeqCst);
        }
    }

    /// As [`write`](Self::write), for many bytes at once.
    fn fill(&self, at: usize, bytes: &[u8]) {
        let first = bytes.len().min(self.length - at);
        for (to, from) in [(at, &bytes[..first]), (0, &bytes[first..])] {
            // SAFETY: it is mapped, and as long; this program reads none of it.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), (self.start + to) as *mut u8, from.len()) };
        }
    }
}

/// All that a worker has in common with its parent.
pub struct Reach {
    memory: Vec<Memory>,
    sockets: Vec<RawFd>,
}

impl Reach {
    fn new() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("a sandbox that allows to read /proc");
        let hex = |number| usize::from_str_radix(number, 16).expect("a number");
        let memory = maps.lines().filter_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let mut fields = rest.split_whitespace();
            let (rights, offset, name) = (fields.next()?, hex(fields.next()?), fields.nth(2)?);
            let (start, end) = (hex(start), hex(end));
            let name = name.strip_prefix("/memfd:").filter(|_| rights.starts_with("rw"))?.to_owned();
            Some(Memory { name, offset, start, length: end - start })
        });
        let is_socket = |fd: &RawFd| {
            let (mut kind, mut size) = (0, size_of::<i32>() as libc::socklen_t);
            let kind = (&raw mut kind).cast();
            // SAFETY: the kernel writes an integer where one is.
            unsafe { libc::getsockopt(*fd, libc::SOL_SOCKET, libc::SO_TYPE, kind, &raw mut size) == 0 }
        };
        Self { memory: memory.collect(), sockets: (0..1024).filter(is_socket).collect() }
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Memory> {
        self.memory.iter().filter(move |memory| memory.name == name)
    }

    fn page(&self) -> Option<&Memory> {
        self.of("pool-status").next()
    }

    /// The words of the rings.
    fn control(&self) -> Option<&Memory> {
        self.of("pool-rings").min_by_key(|memory| memory.offset)
    }

    /// The bytes of what is reported.
    fn reports(&self) -> Option<&Memory> {
        self.of("pool-rings").max_by_key(|memory| memory.offset)
    }

    fn any(&self, numbers: &mut Numbers) -> Option<&Memory> {
        (!self.memory.is_empty()).then(|| &self.memory[numbers.below(self.memory.len())])
    }

    fn socket(&self, numbers: &mut Numbers) -> Option<RawFd> {
        (!self.sockets.is_empty()).then(|| numbers.one_of(&self.sockets))
    }

    /// Appends bytes to what was reported, and says that so many came.
    fn report(&self, bytes: &[u8], length: u64) {
        let (Some(control), Some(reports)) = (self.control(), self.reports()) else {
            // Behind a channel: as a frame of records, whose head is an alignment of zeros after its tag.
            let frame = [vec![16, 0, 0, 0, 0, 0, 0, 0], vec![0; 8], bytes.to_vec()].concat();
            return self.sockets.iter().for_each(|socket| send(*socket, &fragment(&frame, frame.len() as u64)));
        };
        let written = control.word(REPORTS_WRITTEN);
        let before = written.load(SeqCst);
        if bytes.len() <= CAPACITY {
            reports.fill(before as usize % CAPACITY, bytes);
        }
        written.store(before.wrapping_add(length), SeqCst);
    }

    /// The number of this call, as the page has it.
    fn number(&self) -> u32 {
        self.page().map_or(1, |page| page.word(0).load(SeqCst) as u32)
    }
}

pub fn send(socket: RawFd, bytes: &[u8]) {
    // SAFETY: the bytes are ours.
    unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
}

/// A packet of ipc-channel's with a part of a frame of `total` bytes.
pub fn fragment(part: &[u8], total: u64) -> Vec<u8> {
    fragment_before(total.wrapping_sub(part.len() as u64), part, total)
}

/// The same of one before which others came, so that so much is `left` behind it.
fn fragment_before(left: u64, part: &[u8], total: u64) -> Vec<u8> {
    let mark = u64::from_le_bytes(*b"\xf3pool\r\n\x01");
    let inner = 32 + part.len() as u64;
    let words = [inner + 16, inner, mark, left, total, 0];
    [words.iter().flat_map(|word| word.to_ne_bytes()).collect(), part.to_vec()].concat()
}

// ---- the rings ----

fn positions(numbers: &mut Numbers, reach: &Reach) {
    let Some(control) = reach.control() else { return };
    for _ in 0..1 + numbers.below(4) {
        let (at, word) = (numbers.below(10) * 128, numbers.word());
        let before = control.word(at).load(SeqCst);
        let word = if numbers.below(2) == 0 { word } else { before.wrapping_add(numbers.word()) };
        control.word(at).store(word, SeqCst);
    }
}

fn contents(numbers: &mut Numbers, reach: &Reach) {
    let rings: Vec<_> = reach.of("pool-rings").collect();
    let Some(ring) = rings.get(numbers.below(rings.len().max(1))) else { return };
    let (at, length) = (numbers.below(ring.length), numbers.below(CAPACITY));
    ring.write(at, &numbers.bytes(length));
}

/// Of calls that never were, of others, of no kind, of no length.
fn records(numbers: &mut Numbers, reach: &Reach) {
    let mut all = Vec::new();
    for _ in 0..1 + numbers.below(10) {
        let (number, kind, length) = (numbers.word() as u32, numbers.below(5) as u32, numbers.below(64) as u32);
        all.extend(record(number, kind, if numbers.below(9) == 0 { LONG } else { length }));
        let payload = numbers.bytes(length.next_multiple_of(8) as usize);
        all.extend(payload);
    }
    let length = if numbers.below(4) == 0 { numbers.word() } else { all.len() as u64 };
    reach.report(&all, length);
}

/// Of this call and those around it: early, twice, with any value.
fn answers(numbers: &mut Numbers, reach: &Reach) {
    let number = reach.number();
    for _ in 0..1 + numbers.below(3) {
        let about = number.wrapping_add(numbers.below(5) as u32).wrapping_sub(1);
        let mut answer = record(if numbers.below(2) == 0 { number } else { about }, 0, 8);
        answer.extend(numbers.bytes(8));
        reach.report(&answer, answer.len() as u64);
    }
    if numbers.below(3) == 0 {
        spin(numbers, reach);
    }
}

/// Times that calls took, and no calls, for as long as there is room and beyond.
fn times(numbers: &mut Numbers, reach: &Reach) {
    let until = Instant::now() + Duration::from_millis(50 + numbers.below(3_000) as u64);
    let one = [record(1, TIME, 8), 1_000_u64.to_le_bytes().into()].concat();
    let many = one.repeat(1_000);
    while Instant::now() < until {
        if let (Some(control), Some(_)) = (reach.control(), reach.reports()) {
            let unread = control.word(REPORTS_WRITTEN).load(SeqCst).wrapping_sub(control.word(640).load(SeqCst));
            if unread as usize + many.len() > CAPACITY {
                continue;
            }
        }
        reach.report(&many, many.len() as u64);
    }
}

/// A value without end: it says how long it is, and goes on.
fn flood(numbers: &mut Numbers, reach: &Reach) {
    let length: u64 = numbers.one_of(&[1 << 24, 1 << 29, 1 << 30, 1 << 32, 1 << 40, u64::MAX >> 1]);
    reach.report(&[record(reach.number(), 0, LONG), length.to_le_bytes().into()].concat(), 16);
    let (part, until) = (vec![0x5a; 1 << 15], Instant::now() + Duration::from_millis(300));
    while Instant::now() < until {
        if let Some(control) = reach.control() {
            let unread = control.word(REPORTS_WRITTEN).load(SeqCst).wrapping_sub(control.word(640).load(SeqCst));
            if unread as usize + part.len() > CAPACITY {
                continue;
            }
        }
        reach.report(&part, part.len() as u64);
    }
}

/// The beginning of a record, and long nothing.
fn drip(numbers: &mut Numbers, reach: &Reach) {
    let value = [record(reach.number(), 0, 64), vec![7; 64]].concat();
    for part in value.chunks(8).take(1 + numbers.below(8)) {
        reach.report(part, 8);
        std::thread::sleep(Duration::from_millis(1 + numbers.below(40) as u64));
    }
}

// ---- the status page ----

fn page_words(numbers: &mut Numbers, reach: &Reach) {
    let Some(page) = reach.page() else { return };
    for _ in 0..1 + numbers.below(4) {
        let (word, more) = (page.word(numbers.below(8) * 8), numbers.word());
        let near = [u64::MAX, 1, 1 << 32, u64::MAX << 32, more];
        let before = word.load(SeqCst);
        word.store(if numbers.below(2) == 0 { more } else { before.wrapping_add(numbers.one_of(&near)) }, SeqCst);
    }
}

fn page_bytes(numbers: &mut Numbers, reach: &Reach) {
    let Some(page) = reach.page() else { return };
    let (at, length) = (numbers.below(page.length), numbers.below(page.length));
    page.write(at, &numbers.bytes(length));
}

/// As if this call had not started, and then a long time of nothing, or of using memory.
fn claim_less(numbers: &mut Numbers, reach: &Reach) {
    if let Some(page) = reach.page() {
        page.word(0).fetch_sub(1, SeqCst);
        if numbers.below(2) == 0 {
            page.half_word(32).store(0, SeqCst);
        }
    }
    spin(numbers, reach);
}

/// As if this call had always just started.
fn started_later(numbers: &mut Numbers, reach: &Reach) {
    loop {
        if let Some(page) = reach.page() {
            for at in [40, 48] {
                page.word(at).store(now(), SeqCst);
            }
        }
        std::thread::sleep(Duration::from_millis(1 + numbers.below(20) as u64));
    }
}

fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes a time where one is.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A death that is not what it says: words and a crash are noted, and something else is done.
fn notes(numbers: &mut Numbers, reach: &Reach) {
    if let Some(page) = reach.page() {
        page.half_word(36).store(numbers.word() as u32, SeqCst);
        let length = numbers.below(2_000);
        page.write(64, &numbers.bytes(length));
        for at in page.length / 8 - 64..page.length / 8 {
            page.word(at * 8).store(numbers.word(), SeqCst);
        }
    }
    numbers.one_of(&[exit as Act, abort, crash])(numbers, reach);
}

// ---- bells and other words that are slept on ----

fn bells(numbers: &mut Numbers, reach: &Reach) {
    let pages: Vec<_> = reach.of("pool-bells").collect();
    let Some(page) = pages.get(numbers.below(pages.len().max(1))) else { return };
    for _ in 0..1 + numbers.below(50) {
        let word = page.half_word(numbers.below(5) * 128 + numbers.below(2) * 4);
        word.store(numbers.word() as u32, SeqCst);
    }
}

/// Who sleeps on these words is woken, or put to sleep on another.
fn futexes(numbers: &mut Numbers, reach: &Reach) {
    let until = Instant::now() + Duration::from_millis(1 + numbers.below(400) as u64);
    let pages: Vec<_> = reach.of("pool-bells").collect();
    while Instant::now() < until {
        let memory = if numbers.below(2) == 0 { pages.first().copied() } else { None };
        let (Some(memory), Some(other)) = (memory.or(reach.any(numbers)), reach.any(numbers)) else { return };
        let place = |numbers: &mut Numbers, memory: &Memory| {
            let at = numbers.below(10) * 128 + numbers.below(2) * 4;
            memory.half_word(at.min(memory.length - 4)).as_ptr()
        };
        let (word, target) = (place(numbers, memory), place(numbers, other));
        let expected = u64::from(memory.half_word(word as usize - memory.start).load(SeqCst));
        let nap = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let (most, none) = (i32::MAX as u64, ptr::null::<libc::timespec>());
        // SAFETY: the words are mapped, and the nap lives as long as the call.
        unsafe {
            match numbers.below(4) {
                0 => libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, most, none, target, 0),
                1 => libc::syscall(libc::SYS_futex, word, libc::FUTEX_REQUEUE, 0_u64, most, target, 0),
                2 => libc::syscall(libc::SYS_futex, word, libc::FUTEX_CMP_REQUEUE, 1_u64, most, target, expected),
                _ => libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAIT, expected, &raw const nap, target, 0),
            }
        };
    }
}

/// Who sleeps on a bell sleeps from then on on a word that nobody knows.
fn requeue(numbers: &mut Numbers, reach: &Reach) {
    static NOWHERE: AtomicU32 = AtomicU32::new(0);
    let until = Instant::now() + Duration::from_millis(1 + numbers.below(400) as u64);
    while Instant::now() < until {
        for page in reach.of("pool-bells") {
            for at in (0..page.length / 4).map(|word| word * 4) {
                let (word, nowhere) = (page.half_word(at).as_ptr(), NOWHERE.as_ptr());
                // SAFETY: both words are mapped.
                unsafe {
                    libc::syscall(libc::SYS_futex, word, libc::FUTEX_REQUEUE, 0_u64, i32::MAX as u64, nowhere, 0)
                };
            }
        }
    }
}

/// Memory that is shared becomes zeros again.
fn holes(numbers: &mut Numbers, reach: &Reach) {
    let Some(memory) = reach.any(numbers) else { return };
    // SAFETY: the memory stays mapped.
    unsafe { libc::madvise(memory.start as *mut _, memory.length, libc::MADV_REMOVE) };
}

/// Memory that this process has shared is not mapped any more: the next access is a crash.
fn unmap(numbers: &mut Numbers, reach: &Reach) {
    let Some(memory) = reach.any(numbers) else { return };
    // SAFETY: whoever uses it crashes, which is what is wanted.
    unsafe { libc::munmap(memory.start as *mut _, memory.length) };
}

// ---- sockets ----

fn packets(numbers: &mut Numbers, reach: &Reach) {
    for _ in 0..1 + numbers.below(20) {
        let Some(socket) = reach.socket(numbers) else { return };
        let length = numbers.one_of(&[0, 1, 8, 16, 24, 100, 5_000]);
        send(socket, &numbers.bytes(length));
    }
}

/// Packets that are sound, with frames that are not, or not whole, or not all of them.
fn fragments(numbers: &mut Numbers, reach: &Reach) {
    for _ in 0..1 + numbers.below(6) {
        let Some(socket) = reach.socket(numbers) else { return };
        let tag = numbers.below(32) as u8;
        let length = numbers.below(200);
        let part = [vec![tag], vec![0; 7], numbers.bytes(length)].concat();
        let total = match numbers.below(3) {
            0 => part.len() as u64,
            1 => part.len() as u64 + 1 + numbers.below(1 << 20) as u64,
            _ => numbers.word(),
        };
        send(socket, &fragment(&part, total));
    }
}

/// One that is sound, but longer than those of ipc-channel, for which more would follow.
fn long_packet(numbers: &mut Numbers, reach: &Reach) {
    let Some(socket) = reach.socket(numbers) else { return };
    let length = numbers.one_of(&[131_024, 131_073, 212_416, 212_433, 212_552, 212_700]);
    let mut part = numbers.bytes(16);
    part.resize(length, 0);
    let more = numbers.one_of(&[0, 1, 1 << 20]);
    send(socket, &fragment(&part, length as u64 + more));
}

/// A long frame in parts of few bytes, as fast as they go in.
fn crumbs(numbers: &mut Numbers, reach: &Reach) {
    let Some(socket) = reach.socket(numbers) else { return };
    let part = vec![16; numbers.one_of(&[1, 7, 4_095, 4_096, 5_000])];
    let total: u64 = numbers.one_of(&[1 << 20, 1 << 30, 1 << 40]);
    let (mut left, until) = (total, Instant::now() + Duration::from_millis(1_500));
    while Instant::now() < until && left > part.len() as u64 {
        left -= part.len() as u64;
        let packet = fragment_before(left, &part, total);
        // SAFETY: the bytes are ours.
        while unsafe {
            libc::send(socket, packet.as_ptr().cast(), packet.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        } < 0
        {
            if std::io::Error::last_os_error().kind() != std::io::ErrorKind::WouldBlock || Instant::now() > until {
                return;
            }
        }
    }
}

/// Descriptors that nobody has asked for.
fn handles(numbers: &mut Numbers, reach: &Reach) {
    let count = numbers.one_of(&[1, 2, 64]);
    let bytes = numbers.bytes(24);
    reach.sockets.iter().for_each(|socket| send_descriptors(*socket, &bytes, count));
}

/// As much as goes in, and again for a while.
fn fill(numbers: &mut Numbers, reach: &Reach) {
    let length = numbers.one_of(&[1, 1 << 10, 1 << 16]);
    let (bytes, until) = (numbers.bytes(length), Instant::now() + Duration::from_millis(50));
    while Instant::now() < until {
        reach.sockets.iter().for_each(|socket| send(*socket, &bytes));
    }
}

fn shutdown(numbers: &mut Numbers, reach: &Reach) {
    let Some(socket) = reach.socket(numbers) else { return };
    // SAFETY: no memory is involved.
    unsafe { libc::shutdown(socket, numbers.below(3) as i32) };
}

/// One of its sockets becomes another one, or the way to nowhere; then it lives on.
fn dup2(numbers: &mut Numbers, reach: &Reach) {
    let mut pair = [0; 2];
    // SAFETY: the kernel writes two descriptors where two are.
    unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, pair.as_mut_ptr()) };
    for socket in &reach.sockets {
        let from = if numbers.below(2) == 0 { pair[0] } else { numbers.one_of(&reach.sockets) };
        // SAFETY: what the library makes of its descriptors then is what is to be seen.
        unsafe { libc::dup2(from, *socket) };
    }
    if numbers.below(2) == 0 {
        spin(numbers, reach);
    }
}

fn close(numbers: &mut Numbers, reach: &Reach) {
    let Some(socket) = reach.socket(numbers) else { return };
    // SAFETY: as above.
    unsafe { libc::close(socket) };
}

fn close_all(_: &mut Numbers, _: &Reach) {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}

// ---- its own life ----

fn stop(_: &mut Numbers, _: &Reach) {
    // SAFETY: no memory is involved.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// Once it may be idle.
fn stop_later(numbers: &mut Numbers, _: &Reach) {
    let nap = Duration::from_millis(numbers.below(20) as u64);
    std::thread::spawn(move || {
        std::thread::sleep(nap);
        // SAFETY: no memory is involved.
        unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
    });
}

fn exit(numbers: &mut Numbers, _: &Reach) {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(numbers.below(4) as i32) };
}

fn abort(_: &mut Numbers, _: &Reach) {
    std::process::abort();
}

fn crash(numbers: &mut Numbers, _: &Reach) {
    let signal = numbers.one_of(&[libc::SIGKILL, libc::SIGSEGV, libc::SIGTERM, libc::SIGBUS]);
    // SAFETY: no memory is involved.
    unsafe { libc::raise(signal) };
}

/// Another process has all that this one has shared, and outlives it for a while.
fn fork(_: &mut Numbers, _: &Reach) {
    // SAFETY: the child calls nothing but what may be called after a fork in a process of several threads.
    unsafe {
        if libc::fork() == 0 {
            libc::prctl(libc::PR_SET_NAME, c"mad-child".as_ptr());
            // Whatever this process was told to ignore or hold back: it ends.
            libc::signal(libc::SIGALRM, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
            libc::alarm(LEFT_FOR_SECONDS);
            loop {
                libc::pause();
            }
        }
    }
}

fn fork_and_exit(numbers: &mut Numbers, reach: &Reach) {
    fork(numbers, reach);
    exit(numbers, reach);
}

fn spin(numbers: &mut Numbers, _: &Reach) {
    let busy = numbers.below(4) == 0;
    loop {
        if busy {
            std::hint::spin_loop();
        } else {
            std::thread::park();
        }
    }
}

/// Of all signals, only those remain that cannot be ignored.
fn ignore_signals(_: &mut Numbers, _: &Reach) {
    for signal in 1..32 {
        // SAFETY: ignoring a signal runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Whenever it ends by itself, it does not.
fn exit_handler(_: &mut Numbers, _: &Reach) {
    extern "C" fn wait() {
        loop {
            std::thread::park();
        }
    }
    // SAFETY: the function is there as long as the program.
    unsafe { libc::atexit(wait) };
}

/// A thread that goes on with what ends, while this one returns and the worker runs others' calls.
fn thread(numbers: &mut Numbers, _: &Reach) {
    const ENDING: &[Act] = &[
        positions, contents, records, page_words, page_bytes, bells, futexes, holes, packets, fragments, fill, handles,
    ];
    let (mut numbers, reach) = (Numbers::from(numbers.next()), Reach::new());
    std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_millis(100);
        while Instant::now() < until {
            numbers.one_of(ENDING)(&mut numbers, &reach);
        }
    });
}
