//! On which processors the two sides run.
//!
//! The scheduler tends to wake a process on the processor of the one that wakes it. Spinning is useless there: the other
//! side cannot run before this one sleeps. So each side publishes its processor, and sleeps at once if the other runs
//! there too. That is best for occasional calls, as an idle processor takes long to wake up. For frequent calls, two
//! processors are much faster, but the scheduler sees two processes that hardly run: so the worker moves away itself.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The processor on which a side runs. Zero at first: unknown.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Processor(AtomicU32);

impl Processor {
    #[inline]
    pub(super) fn set(&self, cpu: u32) {
        let known = cpu.wrapping_add(1);
        // A load keeps the cache line shared, where a store would not.
        if self.0.load(Ordering::Relaxed) != known {
            self.0.store(known, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn is(&self, cpu: u32) -> bool {
        self.0.load(Ordering::Relaxed) == cpu.wrapping_add(1)
    }
}

/// The longest of the short sleeps that show frequent calls.
const PAUSE: Duration = Duration::from_micros(200);
/// How many short sleeps in a row show frequent calls.
const LIVELY: u32 = 16;
/// How long the worker stays after it has moved, as the scheduler may have a reason to move it back.
const PATIENCE: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(crate) struct Talk {
    short_sleeps: u32,
    moved: Option<Instant>,
}

impl Talk {
    pub(crate) const fn new() -> Self {
        Self { short_sleeps: 0, moved: None }
    }

    /// Whether a thread is to move away, after it has slept for so long and woken up `beside` the other side or not.
    pub(crate) fn is_to_move(&mut self, beside: bool, slept: Duration) -> bool {
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
