//! A short wait without sleeping, which learns whether it pays.
//!
//! A wake-up takes 30 to 100 µs and a system call on either side; what is waited for often comes within one. Spinning for
//! as long as a wake-up takes, and then sleeping, costs at most twice as much as the better choice. It is a loss if
//! another thread wants this processor, or if the peer regularly takes longer. The first shows as a gap between two reads
//! of the clock, and stops all spinning for a while; the second as spins that end for nothing, each of which halves the
//! next one, down to none. A short sleep restores the full length.

use std::time::{Duration, Instant};

/// About what a wake-up takes.
const LONGEST: Duration = Duration::from_micros(80);
const SHORTEST: Duration = Duration::from_micros(6);
/// A sleep of this length, the wake-up included, would have been avoided by spinning.
const SHORT_SLEEP: Duration = Duration::from_micros(160);
/// A longer gap between two reads of the clock is a time slice of another thread: interrupts take less.
const GAP: Duration = Duration::from_micros(300);
/// How long not to spin after another thread was found to want the processor.
const CROWDED: Duration = Duration::from_millis(2);
/// How many looks at the memory come between two reads of the clock.
const LOOKS: u32 = 40;

pub(crate) struct Spin {
    limit: Duration,
    crowded_until: Option<Instant>,
}

impl Spin {
    pub(crate) const fn new() -> Self {
        Self { limit: LONGEST, crowded_until: None }
    }

    /// Waits until `ready`; returns false when it is better to sleep.
    pub(crate) fn wait(&mut self, ready: impl FnMut() -> bool) -> bool {
        self.wait_unless(|| false, ready)
    }

    /// As [`wait`](Self::wait), but for the first few looks only if this is `useless`.
    pub(crate) fn wait_unless(&mut self, useless: impl FnOnce() -> bool, mut ready: impl FnMut() -> bool) -> bool {
        if ready() {
            return true;
        }
        if self.limit.is_zero() {
            return false;
        }
        let mut looks = || {
            (0..LOOKS).any(|_| {
                std::hint::spin_loop();
                ready()
            })
        };
        // Before the clock is read, which takes longer than what is about to come.
        let found = looks() || (!useless() && self.wait_by_clock(looks));
        if found {
            self.limit = LONGEST;
        }
        found
    }

    fn wait_by_clock(&mut self, mut looks: impl FnMut() -> bool) -> bool {
        let began = Instant::now();
        if self.crowded_until.is_some_and(|until| began < until) {
            return false;
        }
        let mut last = began;
        while !looks() {
            let now = Instant::now();
            if now - last > GAP {
                self.crowded_until = Some(now + CROWDED);
                return false;
            }
            if now - began > self.limit {
                self.limit = if self.limit > SHORTEST { self.limit / 2 } else { Duration::ZERO };
                return false;
            }
            last = now;
        }
        true
    }

    /// Learns from a sleep that took so long.
    pub(crate) fn slept(&mut self, time: Duration) {
        if time < SHORT_SLEEP {
            // At once: if both sides spun too briefly, each would always find the other asleep.
            self.limit = LONGEST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_for_nothing_is_given_up_and_learned_again() {
        let mut spin = Spin::new();
        let mut spins = 0;
        while !spin.limit.is_zero() {
            spin.crowded_until = None;
            assert!(!spin.wait(|| false));
            spins += 1;
            assert!(spins < 1000, "it goes on for ever");
        }
        spin.slept(Duration::from_millis(10));
        assert!(spin.limit.is_zero(), "a long sleep was right");
        spin.slept(Duration::from_micros(40));
        assert_eq!(spin.limit, LONGEST);
        let mut looks = 0;
        assert!(spin.wait(|| {
            looks += 1;
            looks == 10
        }));
        assert_eq!(spin.limit, LONGEST);
    }
}
