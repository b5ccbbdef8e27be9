//! Two that talk to each other on one processor.
//!
//! The scheduler likes to wake a process on the processor of the one that wakes it. While it does, spinning is worse
//! than useless: what one waits for cannot happen before it goes to sleep. So each side says where it runs, and sleeps
//! at once if the other runs there too. That is best for a call now and then, as a processor that sleeps takes long to
//! wake up. In a lively talk, two processors are a good deal faster; and as the scheduler sees two processes that
//! hardly do anything, the worker moves away by itself.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where a side runs. Zero at first: nobody knows.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Processor(AtomicU32);

impl Processor {
    /// The calling thread runs there.
    #[inline]
    pub(super) fn set(&self, cpu: u32) {
        let known = cpu.wrapping_add(1);
        // Reading what others read too costs nothing.
        if self.0.load(Ordering::Relaxed) != known {
            self.0.store(known, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn is(&self, cpu: u32) -> bool {
        self.0.load(Ordering::Relaxed) == cpu.wrapping_add(1)
    }
}

/// A sleep in a lively talk is no longer.
const PAUSE: Duration = Duration::from_micros(200);
/// So many short sleeps one after the other make a lively talk.
const LIVELY: u32 = 16;
/// The scheduler may have its reasons: moving away is not tried again and again.
const PATIENCE: Duration = Duration::from_millis(20);

/// What a worker knows of its talk with its parent.
#[derive(Debug, Default)]
pub(super) struct Talk {
    short_sleeps: u32,
    moved: Option<Instant>,
}

impl Talk {
    /// The worker has slept for so long, and woken up beside its parent, or not. Is it to move away?
    pub(super) fn is_to_move(&mut self, beside: bool, slept: Duration) -> bool {
        if !beside || slept > PAUSE {
            self.short_sleeps = 0;
            return false;
        }
        self.short_sleeps += 1;
        if self.short_sleeps < LIVELY || self.moved.is_some_and(|moved| moved.elapsed() < PATIENCE) {
            return false;
        }
        *self = Self { short_sleeps: 0, moved: Some(Instant::now()) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lively_talk_on_one_processor_makes_the_worker_move_once() {
        let mut talk = Talk::default();
        let short = Duration::from_micros(20);
        let moves = |talk: &mut Talk, beside, slept| (0..LIVELY).filter(|_| talk.is_to_move(beside, slept)).count();
        assert_eq!(moves(&mut talk, false, short), 0);
        assert_eq!(moves(&mut talk, true, 2 * PAUSE), 0);
        assert_eq!(moves(&mut talk, true, short), 1);
        assert_eq!(moves(&mut talk, true, short), 0, "not so soon again");
    }
}
