//! A piece of memory that two processes see: a queue and a bell in each direction.

use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    thread::futex,
};
use std::{
    io,
    ops::Deref,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

const SLOTS: usize = 4096;

/// On a cache line of its own, or better two, as processors fetch them in pairs.
#[repr(C, align(128))]
struct Apart<T>(T);

/// One direction.
#[repr(C)]
pub struct Lane {
    written: Apart<AtomicU64>,
    read: Apart<AtomicU64>,
    bell: Apart<AtomicU32>,
    /// What is handed over with the bell.
    letter: AtomicU64,
    slots: [AtomicU64; SLOTS],
}

impl Lane {
    /// False if the queue is full.
    pub fn try_push(&self, message: u64) -> bool {
        let at = self.written.0.load(Relaxed);
        if at - self.read.0.load(Acquire) == SLOTS as u64 {
            return false;
        }
        self.slots[at as usize % SLOTS].store(message, Relaxed);
        self.written.0.store(at + 1, Release);
        true
    }

    pub fn try_pop(&self) -> Option<u64> {
        let at = self.read.0.load(Relaxed);
        if self.written.0.load(Acquire) == at {
            return None;
        }
        let message = self.slots[at as usize % SLOTS].load(Relaxed);
        self.read.0.store(at + 1, Release);
        Some(message)
    }

    pub fn push(&self, message: u64) {
        spin(|| self.try_push(message).then_some(()));
    }

    pub fn pop(&self) -> u64 {
        spin(|| self.try_pop())
    }

    /// Puts a message where the other side sleeps, and wakes it.
    pub fn ring(&self, message: u64) {
        self.letter.store(message, Relaxed);
        self.bell.0.fetch_add(1, Release);
        futex::wake(&self.bell.0, futex::Flags::empty(), 1).expect("a futex");
    }

    /// Sleeps until the bell has been rung since `heard`.
    pub fn await_ring(&self, heard: &mut u32) -> u64 {
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

/// Both directions.
#[repr(C)]
pub struct Both {
    pub there: Lane,
    pub back: Lane,
}

/// The memory, mapped.
pub struct Shared(NonNull<Both>);

impl Shared {
    pub fn map(file: impl AsFd) -> io::Result<Self> {
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
