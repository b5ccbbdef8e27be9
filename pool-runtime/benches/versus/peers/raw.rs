//! The limits: two processes and a piece of memory that both see, with nothing in between.
//!
//! - The *ring* spins: a queue in each direction, with one writer and one reader. Neither side makes a system call.
//! - The *futex* sleeps: whoever waits does so in the kernel, and is woken for each message.
//!
//! Where the two sides run decides the most. The two sides of the ring have a processor each: on a single one, each would
//! wait for the scheduler to take the other away. Those of the futex can be placed either way.
//!
//! A message is 8 bytes. The other process is this program, started again with a variable of its own.

use crate::Result;
use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
    process::{Pid, Signal, set_parent_process_death_signal},
    thread::{CpuSet, futex, sched_getaffinity, sched_setaffinity},
};
use std::{
    fs::File,
    io,
    ops::Deref,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::{Child, Command},
    ptr::NonNull,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::{Duration, Instant},
};

/// The variable that makes a process the other side: what it is to do, a colon, and the file with the memory.
const MARK: &str = "VERSUS_RAW_PEER";
/// The message that lets the other side sleep until the bell rings.
const REST: u64 = u64::MAX;
const SLOTS: usize = 4096;

/// On a cache line of its own, or better two, as processors fetch them in pairs.
#[repr(C, align(128))]
struct Apart<T>(T);

/// One direction.
#[repr(C)]
struct Lane {
    written: Apart<AtomicU64>,
    read: Apart<AtomicU64>,
    bell: Apart<AtomicU32>,
    /// What is handed over with the bell.
    letter: AtomicU64,
    slots: [AtomicU64; SLOTS],
}

impl Lane {
    /// False if the queue is full.
    fn try_push(&self, message: u64) -> bool {
        let at = self.written.0.load(Relaxed);
        if at - self.read.0.load(Acquire) == SLOTS as u64 {
            return false;
        }
        self.slots[at as usize % SLOTS].store(message, Relaxed);
        self.written.0.store(at + 1, Release);
        true
    }

    fn try_pop(&self) -> Option<u64> {
        let at = self.read.0.load(Relaxed);
        if self.written.0.load(Acquire) == at {
            return None;
        }
        let message = self.slots[at as usize % SLOTS].load(Relaxed);
        self.read.0.store(at + 1, Release);
        Some(message)
    }

    fn push(&self, message: u64) {
        spin(|| self.try_push(message).then_some(()));
    }

    fn pop(&self) -> u64 {
        spin(|| self.try_pop())
    }

    /// Puts a message where the other side sleeps, and wakes it.
    fn ring(&self, message: u64) {
        self.letter.store(message, Relaxed);
        self.bell.0.fetch_add(1, Release);
        futex::wake(&self.bell.0, futex::Flags::empty(), 1).expect("a futex");
    }

    /// Sleeps until the bell has been rung since `heard`.
    fn await_ring(&self, heard: &mut u32) -> u64 {
        while self.bell.0.load(Acquire) == *heard {
            match futex::wait(&self.bell.0, futex::Flags::empty(), *heard, None) {
                Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => panic!("a futex: {error}"),
            }
        }
        *heard = heard.wrapping_add(1);
        self.letter.load(Relaxed)
    }
}

fn spin<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        for _ in 0..10_000 {
            if let Some(value) = attempt() {
                return value;
            }
            std::hint::spin_loop();
        }
        // Both sides may be on one processor, where one waits for the other in vain.
        std::thread::yield_now();
    }
}

#[repr(C)]
struct Both {
    there: Lane,
    back: Lane,
}

/// The memory, mapped.
struct Shared(NonNull<Both>);

impl Shared {
    fn map(file: impl AsFd) -> io::Result<Self> {
        let (flags, rights) = (MapFlags::SHARED, ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
        let address = unsafe { mmap(std::ptr::null_mut(), size_of::<Both>(), rights, flags, file, 0) }?;
        NonNull::new(address.cast()).map(Self).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

impl Deref for Shared {
    type Target = Both;

    fn deref(&self) -> &Both {
        // SAFETY: it is mapped for as long as `self` is there, in full, aligned to a page; it consists of atomics, for
        // which all bytes are valid, whoever writes them.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever borrowed from it borrowed `self`.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), size_of::<Both>()) };
    }
}

/// What the other side does, if this process is it; then it does not return. First thing in `main`.
pub fn serve_if_asked() {
    let Ok(mark) = std::env::var(MARK) else { return };
    // It spins: it must not outlive whom it serves.
    set_parent_process_death_signal(Some(Signal::KILL)).expect("a signal");
    let (kind, path) = mark.split_once(':').expect("a mark");
    let file = File::options().read(true).write(true).open(path).expect("the file");
    let shared = Shared::map(file).expect("the memory");
    let (there, back) = (&shared.there, &shared.back);
    let mut heard = 0;
    loop {
        if kind == "futex" {
            let message = there.await_ring(&mut heard);
            back.ring(message + 1);
            continue;
        }
        match there.pop() {
            REST => drop(there.await_ring(&mut heard)),
            message => back.push(message + 1),
        }
    }
}

/// Where the two sides run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// On two processors, if there are two.
    Apart,
    /// Where the scheduler puts them.
    Any,
}

/// While it is there, this thread stays on one processor.
struct Pinned(Option<CpuSet>);

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            sched_setaffinity(None, before).expect("the affinity as it was");
        }
    }
}

struct Peer {
    shared: Shared,
    child: Child,
    /// The processor for us; none if the scheduler decides.
    our_place: Option<CpuSet>,
    _file: OwnedFd,
}

impl Peer {
    fn start(kind: &str, placement: Placement) -> Result<Self> {
        let file = memfd_create("versus", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, size_of::<Both>() as u64)?;
        let shared = Shared::map(&file)?;
        let path = format!("{kind}:/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let child = Command::new(std::env::current_exe()?).env(MARK, path).spawn()?;
        let usable = sched_getaffinity(None)?;
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| usable.is_set(*cpu)).collect();
        let mut our_place = None;
        if let (Placement::Apart, [first, second, ..]) = (placement, &usable[..]) {
            let (mut ours, mut theirs) = (CpuSet::new(), CpuSet::new());
            ours.set(*first);
            theirs.set(*second);
            sched_setaffinity(Pid::from_raw(child.id() as i32), &theirs)?;
            our_place = Some(ours);
        }
        Ok(Self { shared, child, our_place, _file: file })
    }

    fn pinned(&self) -> Result<Pinned> {
        let Some(place) = &self.our_place else { return Ok(Pinned(None)) };
        let before = sched_getaffinity(None)?;
        sched_setaffinity(None, place)?;
        Ok(Pinned(Some(before)))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A peer that spins while it is asked, and rests between.
pub struct Ring(Peer);

impl Ring {
    pub fn start() -> Result<Self> {
        let peer = Peer::start("ring", Placement::Apart)?;
        peer.shared.there.push(REST);
        Ok(Self(peer))
    }

    /// One message after another, each answered before the next.
    pub fn round_trips(&self, times: u64) -> Result<Duration> {
        self.awake(|there, back| {
            for n in 0..times {
                there.push(n);
                assert_eq!(back.pop(), n + 1);
            }
        })
    }

    /// As many messages under way as there is room for.
    pub fn burst(&self, times: u64) -> Result<Duration> {
        self.awake(|there, back| {
            let (mut sent, mut received) = (0, 0);
            while received < times {
                while sent < times && there.try_push(sent) {
                    sent += 1;
                }
                while let Some(answer) = back.try_pop() {
                    received += 1;
                    assert_eq!(answer, received);
                }
            }
        })
    }

    fn awake(&self, talk: impl FnOnce(&Lane, &Lane)) -> Result<Duration> {
        let _pinned = self.0.pinned()?;
        let Both { there, back } = &*self.0.shared;
        there.ring(0);
        // Its answer says that it is awake.
        there.push(0);
        back.pop();
        let begun = Instant::now();
        talk(there, back);
        let time = begun.elapsed();
        there.push(REST);
        Ok(time)
    }
}

/// A peer that sleeps until it is asked, as do we until it has answered.
pub struct Futex {
    peer: Peer,
    heard: u32,
}

impl Futex {
    pub fn start(placement: Placement) -> Result<Self> {
        Ok(Self { peer: Peer::start("futex", placement)?, heard: 0 })
    }

    fn round_trip(&mut self, message: u64) {
        self.peer.shared.there.ring(message);
        assert_eq!(self.peer.shared.back.await_ring(&mut self.heard), message + 1);
    }

    pub fn round_trips(&mut self, times: u64) -> Result<Duration> {
        let _pinned = self.peer.pinned()?;
        let begun = Instant::now();
        (0..times).for_each(|n| self.round_trip(n));
        Ok(begun.elapsed())
    }

    /// One round trip, to get there, and one that is measured, after both sides have slept.
    pub fn round_trip_after(&mut self, rest: Duration) -> Result<Duration> {
        let _pinned = self.peer.pinned()?;
        self.round_trip(1);
        std::thread::sleep(rest);
        let begun = Instant::now();
        self.round_trip(2);
        Ok(begun.elapsed())
    }
}
