//! Sleeping until something has changed in shared memory, at no cost for who changes it while nobody sleeps.
//!
//! ```text
//!   bit 0       SLEEPERS: somebody may sleep
//!   the rest    counts the wake-ups
//!
//!   who waits                                  who has changed something
//!   set SLEEPERS, as an exchange               fence
//!   fence                                      SLEEPERS? clear it, count, wake one or all
//!   look once more
//!   sleep while the word is this one
//! ```
//!
//! By the two fences, either the one who waits sees the change when it looks once more, or the other one sees the mark. Who
//! has slept sets the mark again before it looks, as others may still sleep; and it [passes the wake-up on](wake) if there
//! is something left for them, as several changes may have woken it alone.
//!
//! Nobody sleeps for longer than a nap without looking: who was to wake others may have ended before it did. Loom checks in
//! the tests that no wake-up is lost otherwise.

use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

const SLEEPERS: u32 = 1;

pub(crate) const FIRST_NAP: Duration = Duration::from_millis(5);
pub(crate) const LONGEST_NAP: Duration = Duration::from_millis(320);

/// What waiting needs of a word. Loom has its own.
pub(crate) trait ParkingWord {
    fn load(&self) -> u32;
    fn set(&self, bits: u32) -> u32;
    fn exchange(&self, from: u32, to: u32) -> bool;
    fn fence();
}

macro_rules! implement_parking_word {
    ($word:ty, $fence:path) => {
        impl ParkingWord for $word {
            #[inline]
            fn load(&self) -> u32 {
                <$word>::load(self, Ordering::Relaxed)
            }

            fn set(&self, bits: u32) -> u32 {
                self.fetch_or(bits, Ordering::AcqRel)
            }

            fn exchange(&self, from: u32, to: u32) -> bool {
                self.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            }

            #[inline]
            fn fence() {
                $fence(Ordering::SeqCst);
            }
        }
    };
}

implement_parking_word!(AtomicU32, fence);

/// How to sleep, and how to wake.
pub(crate) trait Futex<W> {
    /// Sleeps while the word has this value, at most for a nap. Returns false if that is over.
    fn sleep(&self, word: &W, value: u32, nap: Duration) -> bool;
    fn wake(&self, word: &W, most: u32);
}

/// Whether somebody may sleep, as far as that is known without a fence.
#[inline]
pub(crate) fn has_sleepers<W: ParkingWord>(word: &W) -> bool {
    word.load() & SLEEPERS != 0
}

/// Something has changed: wakes so many of those who wait for it.
#[inline]
pub(crate) fn wake<W: ParkingWord>(word: &W, most: u32, futex: &impl Futex<W>) {
    W::fence();
    wake_others(word, most, futex);
}

/// As [`wake`], of others who wait for the same, after a [`wake`]: that has the fence.
#[inline]
pub(crate) fn wake_others<W: ParkingWord>(word: &W, most: u32, futex: &impl Futex<W>) {
    if word.load() & SLEEPERS != 0 {
        wake_marked(word, most, futex);
    }
}

#[cold]
fn wake_marked<W: ParkingWord>(word: &W, most: u32, futex: &impl Futex<W>) {
    loop {
        let found = word.load();
        if found & SLEEPERS == 0 {
            return;
        }
        if word.exchange(found, (found & !SLEEPERS).wrapping_add(2)) {
            return futex.wake(word, most);
        }
    }
}

/// Says that somebody may sleep: whoever has done so looks once more before it sleeps.
pub(crate) fn announce<W: ParkingWord>(word: &W) {
    word.set(SLEEPERS);
    W::fence();
}

/// Asks again, after what had told that there may be something was taken off, and there was nothing. All who wait are
/// told of what has come in between: what told them of it may be what was taken off.
pub(crate) fn announce_again<W: ParkingWord>(word: &W, is_ready: impl FnOnce() -> bool, futex: &impl Futex<W>) {
    announce(word);
    if is_ready() {
        wake(word, u32::MAX, futex);
    }
}

/// One who waits for something.
#[derive(Debug)]
pub(crate) struct Waiter {
    deadline: Option<Instant>,
    nap: Duration,
    /// Whether it has slept, and may have been woken for more than it takes.
    pub(crate) has_slept: bool,
}

impl Waiter {
    pub(crate) fn new(deadline: Option<Instant>) -> Self {
        Self { deadline, nap: FIRST_NAP, has_slept: false }
    }

    /// Waits until `ready`. Returns false if it is not, at the deadline.
    pub(crate) fn wait<W: ParkingWord>(
        &mut self,
        word: &W,
        futex: &impl Futex<W>,
        mut ready: impl FnMut() -> bool,
    ) -> bool {
        while !ready() {
            let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            let seen = word.set(SLEEPERS) | SLEEPERS;
            W::fence();
            if ready() {
                break;
            }
            futex.sleep(word, seen, left.map_or(self.nap, |left| left.min(self.nap)));
            // Who has woken this one has cleared the mark, and others may still sleep.
            word.set(SLEEPERS);
            W::fence();
            self.nap = LONGEST_NAP.min(2 * self.nap);
            self.has_slept = true;
        }
        true
    }
}

/// Run by `RUSTFLAGS="--cfg loom" cargo test -p pool-runtime --lib --release loom`.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::atomic::{AtomicU32 as Word, fence as loom_fence};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    implement_parking_word!(Word, loom_fence);

    /// Items that are only counted, a word to wait on, and a futex: naps have no end.
    #[derive(Default)]
    struct Items {
        word: Word,
        count: Word,
        asleep: Mutex<()>,
        woken: Condvar,
    }

    impl Futex<Word> for Items {
        fn sleep(&self, word: &Word, value: u32, _: Duration) -> bool {
            let asleep = self.asleep.lock().unwrap();
            if Word::load(word, Ordering::Relaxed) == value {
                drop(self.woken.wait(asleep).unwrap());
            }
            true
        }

        fn wake(&self, _: &Word, most: u32) {
            let _asleep = self.asleep.lock().unwrap();
            (0..most).for_each(|_| self.woken.notify_one());
        }
    }

    impl Items {
        fn put(&self) {
            self.count.fetch_add(1, Ordering::Release);
            wake(&self.word, 1, self);
        }

        fn take(&self) {
            let mut waiter = Waiter::new(None);
            loop {
                assert!(waiter.wait(&self.word, self, || Word::load(&self.count, Ordering::Relaxed) > 0));
                let found = Word::load(&self.count, Ordering::Relaxed);
                if found > 0
                    && self.count.compare_exchange(found, found - 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
                {
                    if waiter.has_slept && found > 1 {
                        wake(&self.word, 1, self);
                    }
                    return;
                }
            }
        }
    }

    fn put_and_take(takers: usize) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let items = Arc::new(Items::default());
            let threads: Vec<_> = (0..takers)
                .map(|_| {
                    let items = items.clone();
                    thread::spawn(move || items.take())
                })
                .collect();
            (0..takers).for_each(|_| items.put());
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    /// Items that nobody takes, and a socket beside the memory, whose packets tell of them until somebody takes them off.
    #[derive(Default)]
    struct Polled {
        items: Items,
        polls: Word,
        packets: Mutex<u32>,
        sent: Condvar,
    }

    impl Futex<Word> for Polled {
        fn sleep(&self, _: &Word, _: u32, _: Duration) -> bool {
            let mut packets = self.packets.lock().unwrap();
            while *packets == 0 {
                packets = self.sent.wait(packets).unwrap();
            }
            true
        }

        fn wake(&self, _: &Word, _: u32) {
            *self.packets.lock().unwrap() += 1;
            self.sent.notify_all();
        }
    }

    impl Polled {
        fn has_items(&self) -> bool {
            Word::load(&self.items.count, Ordering::Relaxed) > 0
        }

        fn put(&self) {
            self.items.put();
            wake_others(&self.polls, u32::MAX, self);
        }

        /// As `wait` does: with what it is told by left for others, unless there is nothing.
        fn poll(&self) {
            loop {
                announce(&self.polls);
                if self.has_items() {
                    return;
                }
                self.sleep(&self.polls, 0, FIRST_NAP);
                if self.has_items() {
                    return;
                }
                *self.packets.lock().unwrap() = 0;
                announce_again(&self.polls, || self.has_items(), self);
            }
        }
    }

    fn put_and_poll(pollers: usize, packets_before: u32) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let polled = Arc::new(Polled { packets: Mutex::new(packets_before), ..Polled::default() });
            let threads: Vec<_> = (0..pollers)
                .map(|_| {
                    let polled = polled.clone();
                    thread::spawn(move || polled.poll())
                })
                .collect();
            polled.put();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn loom_who_polls_is_told() {
        put_and_poll(1, 0);
    }

    #[test]
    fn loom_all_who_poll_are_told() {
        put_and_poll(2, 0);
    }

    #[test]
    fn loom_who_takes_off_an_old_packet_is_told_of_what_comes() {
        put_and_poll(1, 1);
        put_and_poll(2, 1);
    }

    #[test]
    fn loom_who_waits_is_woken() {
        put_and_take(1);
    }

    #[test]
    fn loom_who_is_woken_for_several_passes_it_on() {
        put_and_take(2);
    }
}
