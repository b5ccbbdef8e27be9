//! The status page: one page of memory that a worker shares with its parent.
//!
//! It answers, after any kind of death, what messages cannot: which call had started, and how far it was. It is also
//! where the two agree, without a message, on which calls that are already on their way may still start.
//!
//! ```text
//!   claim  = generation (high 32 bits) | number of the latest call that was started (low 32 bits)
//!   stage  = what the worker does with that call
//!   words  = what the worker said before it died: the panic that ended it
//! ```
//!
//! A worker starts call `n` of generation `g` by moving the claim from `(g, m)` to `(g, n)`. The parent takes back what
//! has not started by moving `(g, m)` to `(g + 1, m)`: a worker that still holds calls of generation `g` cannot start
//! them any more. Both moves are a compare-and-swap of one word, so there is nothing in between.
//!
//! The page is a sealed memfd: it cannot shrink below the parent's feet. The parent never trusts what it reads.

use super::mapping::{Mapping, PAGE, check_size, sealed_memory};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

const SIZE: usize = PAGE;
/// How many bytes of words there is room for.
pub(crate) const WORDS: usize = SIZE - 64;

#[repr(C, align(64))]
struct Layout {
    claim: AtomicU64,
    stage: AtomicU32,
    words: AtomicU32,
    reserved: [AtomicU64; 6],
    text: [AtomicU8; WORDS],
}

const _: () = assert!(size_of::<Layout>() == SIZE);

/// The page, mapped into this process.
#[derive(Debug)]
pub(crate) struct StatusPage {
    mapping: Mapping,
    /// In the parent until the worker is started.
    fd: Option<OwnedFd>,
}

impl StatusPage {
    /// A new page, for the parent.
    pub(crate) fn new() -> io::Result<Self> {
        let fd = sealed_memory(c"pool-status", SIZE)?;
        Ok(Self { mapping: Mapping::new(fd.as_fd(), 0, SIZE)?, fd: Some(fd) })
    }

    /// Maps a page that was passed to this process.
    pub(crate) fn map(fd: OwnedFd) -> io::Result<Self> {
        check_size(&fd, SIZE)?;
        Ok(Self { mapping: Mapping::new(fd.as_fd(), 0, SIZE)?, fd: None })
    }

    /// To be passed on; None once it was.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// The page was passed on: its descriptor is not needed any more.
    pub(crate) fn close_fd(&mut self) {
        self.fd = None;
    }

    #[inline]
    fn layout(&self) -> &Layout {
        // SAFETY: the mapping is as large as the layout, page-aligned, zeroed at first, and lives as long as `self`.
        // The other process may write at any time, which atomics allow.
        unsafe { self.mapping.start().cast().as_ref() }
    }

    /// The worker's side: may call `number` of `generation` start? If so, it has.
    #[inline]
    pub(crate) fn claim(&self, generation: u32, number: u32) -> bool {
        let claim = &self.layout().claim;
        let before = claim.load(Ordering::Acquire);
        (before >> 32) as u32 == generation
            && claim.compare_exchange(before, pack(generation, number), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The worker's side, when a claim has failed: has the parent taken the generation back? If not, somebody has written
    /// over the page. `latest` is the latest call that was started.
    pub(crate) fn is_taken_back(&self, generation: u32, latest: u32) -> bool {
        let claim = self.layout().claim.load(Ordering::Acquire);
        claim as u32 == latest && ((claim >> 32) as u32).wrapping_sub(generation).cast_signed() > 0
    }

    /// The parent's side: nothing of this generation starts from now on. Returns the latest call that has.
    ///
    /// None if the worker keeps changing the page, as no worker in its right mind does.
    pub(crate) fn take_back(&self, generation: u32) -> Option<u32> {
        let claim = &self.layout().claim;
        let mut before = claim.load(Ordering::Acquire);
        // The worker moves the claim once for each call it starts, and it cannot start calls without end: but a worker
        // gone mad can write without end, hence the bound.
        for _ in 0..1000 {
            let after = pack(generation.wrapping_add(1), before as u32);
            match claim.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(before as u32),
                Err(now) => before = now,
            }
        }
        None
    }

    /// The latest call that was started.
    pub(crate) fn claimed(&self) -> u32 {
        self.layout().claim.load(Ordering::Acquire) as u32
    }

    /// A call begins: nothing has been said of it.
    #[inline]
    pub(crate) fn begin(&self, stage: u32) {
        let layout = self.layout();
        layout.words.store(0, Ordering::Release);
        layout.stage.store(stage, Ordering::Release);
    }

    #[inline]
    pub(crate) fn set_stage(&self, stage: u32) {
        self.layout().stage.store(stage, Ordering::Release);
    }

    pub(crate) fn stage(&self) -> u32 {
        self.layout().stage.load(Ordering::Acquire)
    }

    /// Leaves words for the parent to find after a death; too long ones are not left.
    pub(crate) fn leave_words(&self, words: &[u8]) {
        let layout = self.layout();
        if words.len() > WORDS {
            return self.clear_words();
        }
        for (to, from) in layout.text.iter().zip(words) {
            to.store(*from, Ordering::Relaxed);
        }
        layout.words.store(words.len() as u32, Ordering::Release);
    }

    /// Takes the words back: the death did not happen.
    #[inline]
    pub(crate) fn clear_words(&self) {
        self.layout().words.store(0, Ordering::Release);
    }

    /// What the worker said before it died.
    pub(crate) fn words(&self) -> Vec<u8> {
        let layout = self.layout();
        let length = (layout.words.load(Ordering::Acquire) as usize).min(WORDS);
        layout.text[..length].iter().map(|byte| byte.load(Ordering::Relaxed)).collect()
    }
}

fn pack(generation: u32, number: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_taken_back_cannot_start() {
        let page = StatusPage::new().unwrap();
        assert!(page.claim(0, 1));
        assert_eq!(page.take_back(0), Some(1));
        assert!(!page.claim(0, 2));
        assert!(page.is_taken_back(0, 1));
        assert!(page.claim(1, 3));
        assert_eq!(page.claimed(), 3);
        assert!(!page.is_taken_back(2, 3) && !page.is_taken_back(0, 2), "nobody did");
    }

    #[test]
    fn every_call_is_started_or_taken_back_and_never_both() {
        let page = StatusPage::new().unwrap();
        for round in 0..200 {
            let first = round * 100;
            let generation = page.layout().claim.load(Ordering::Acquire) >> 32;
            let generation = generation as u32;
            let (started, latest) = std::thread::scope(|scope| {
                let worker =
                    scope.spawn(|| (first + 1..=first + 100).take_while(|n| page.claim(generation, *n)).last());
                std::thread::yield_now();
                (page.take_back(generation), worker.join().unwrap())
            });
            if let Some(latest) = latest {
                assert_eq!(started, Some(latest));
            }
        }
    }

    #[test]
    fn words_survive_their_writer() {
        let page = StatusPage::new().unwrap();
        let other = StatusPage::map(page.fd().unwrap().try_clone_to_owned().unwrap()).unwrap();
        other.leave_words(b"out of memory");
        drop(other);
        assert_eq!(page.words(), b"out of memory");
        page.leave_words(&[0; SIZE]);
        assert_eq!(page.words(), b"");
    }
}
