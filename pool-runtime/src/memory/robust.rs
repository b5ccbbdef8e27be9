//! A lock in one word of shared memory, which no process that ends can keep.
//!
//! ```text
//!   bits  0 … 23   the number of the process that has it, 0 if none has
//!             29   POISONED: somebody has ended, or panicked, who had it
//!             30   SLEEPERS: somebody may sleep until it is free
//!             31   STARVED: somebody has slept twice in vain: who has not slept waits behind those who have
//!
//!   free ──acquire──▶ number ──release──▶ free, and one sleeper is woken
//!                        └─ its process has ended; a waiter sees that, and replaces the number by its own
//! ```
//!
//! A process writes its number by the exchange that takes the lock, and takes it out by the one that gives it back. So at
//! each instruction either the number is in the word, and whoever waits finds out that its process has ended; or the lock
//! is free. Nobody sleeps for longer than a nap without looking again, as who was to wake others may have ended too.
//!
//! Who sleeps sets SLEEPERS first. Who gives the lock back clears it and wakes one, who sets it again as it takes the
//! lock, as others may still sleep. So while anybody sleeps, the bit is set, or one that will set it is awake.
//!
//! It is fair in this: who was woken twice and came too late each time lets the next release have no taker but those who
//! sleep, in the order in which they went to sleep.
//!
//! What the lock guards is read after `acquire`, whose exchange acquires, and written before `release`, whose exchange
//! releases. Loom checks in the tests that no wake-up is lost and that what is guarded is seen.

use super::parking::Futex;
use super::presence::LAST_NUMBER;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const POISONED: u32 = 1 << 29;
const SLEEPERS: u32 = 1 << 30;
const STARVED: u32 = 1 << 31;
const OWNER: u32 = LAST_NUMBER;

/// How often the word is looked at before sleeping: about as long as somebody has the lock who only copies a value.
const SPINS: u32 = if cfg!(all(test, loom)) { 0 } else { 200 };

const FIRST_NAP: Duration = Duration::from_millis(5);
const LONGEST_NAP: Duration = Duration::from_millis(80);

/// What the lock needs of a word. Loom has its own.
pub(crate) trait LockWord {
    /// Relaxed.
    fn load(&self) -> u32;
    /// Replaces the value, if it is `from`; returns whether it was.
    fn exchange(&self, from: u32, to: u32, ordering: Ordering) -> bool;
    /// Clears all bits but these, and returns what was there.
    fn keep(&self, bits: u32, ordering: Ordering) -> u32;
    /// Relaxed.
    fn set(&self, bits: u32);
}

macro_rules! implement_lock_word {
    ($word:ty) => {
        impl LockWord for $word {
            #[inline]
            fn load(&self) -> u32 {
                <$word>::load(self, Ordering::Relaxed)
            }

            #[inline]
            fn exchange(&self, from: u32, to: u32, ordering: Ordering) -> bool {
                self.compare_exchange(from, to, ordering, Ordering::Relaxed).is_ok()
            }

            #[inline]
            fn keep(&self, bits: u32, ordering: Ordering) -> u32 {
                self.fetch_and(bits, ordering)
            }

            fn set(&self, bits: u32) {
                self.fetch_or(bits, Ordering::Relaxed);
            }
        }
    };
}

implement_lock_word!(AtomicU32);

/// What surrounds the word: who lives, and how to sleep.
pub(crate) trait Around<W>: Futex<W> {
    /// Whether the process with this number has certainly ended.
    fn has_ended(&self, number: u32) -> bool;
}

/// How a lock was when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Taken {
    /// Somebody has ended or panicked who had it, since it was last [cleared](clear_poison).
    pub(crate) is_poisoned: bool,
}

impl Taken {
    fn found(word: u32) -> Self {
        Self { is_poisoned: word & POISONED != 0 }
    }
}

/// Takes the lock for the process `me`, however many of its threads want it. None: somebody has it at the deadline.
#[inline]
pub(crate) fn acquire<W: LockWord>(
    word: &W,
    me: u32,
    deadline: Option<Instant>,
    around: &impl Around<W>,
) -> Option<Taken> {
    acquire_before(word, me, || deadline, around)
}

/// As [`acquire`]; the deadline is only asked for if somebody else has the lock.
#[inline]
pub(crate) fn acquire_before<W: LockWord>(
    word: &W,
    me: u32,
    deadline: impl FnOnce() -> Option<Instant>,
    around: &impl Around<W>,
) -> Option<Taken> {
    let found = word.load();
    if found & (OWNER | STARVED) == 0 && word.exchange(found, found | me, Ordering::Acquire) {
        return Some(Taken::found(found));
    }
    wait(word, me, deadline(), around)
}

/// Takes the lock if nobody has it who lives.
pub(crate) fn try_acquire<W: LockWord>(word: &W, me: u32, around: &impl Around<W>) -> Option<Taken> {
    loop {
        let found = word.load();
        let left = inherited(found, me, around);
        if found & OWNER != 0 && left.is_none() {
            return None;
        }
        let found_free = left.unwrap_or(found);
        if word.exchange(found, found_free | me, Ordering::Acquire) {
            return Some(Taken::found(found_free));
        }
    }
}

/// The word as it is to be taken from a process that has ended; None if it has not, or is this one.
fn inherited<W>(found: u32, me: u32, around: &impl Around<W>) -> Option<u32> {
    let owner = found & OWNER;
    (owner != 0 && owner != me && around.has_ended(owner)).then_some(found & !OWNER | POISONED | SLEEPERS)
}

#[cold]
fn wait<W: LockWord>(word: &W, me: u32, deadline: Option<Instant>, around: &impl Around<W>) -> Option<Taken> {
    let (mut slept, mut spins, mut nap) = (0_u32, SPINS, FIRST_NAP);
    loop {
        let found = word.load();
        if found & OWNER == 0 && (slept > 0 || found & STARVED == 0) {
            // Who has slept does not know whether others still do, and is not starved any more.
            let kept = if slept > 0 { found & !STARVED | SLEEPERS } else { found };
            if word.exchange(found, kept | me, Ordering::Acquire) {
                return Some(Taken::found(found));
            }
            continue;
        }
        if spins > 0 && found & STARVED == 0 {
            spins -= 1;
            std::hint::spin_loop();
            continue;
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return give_up(word, me, slept > 1, around);
        }
        let marked = found | SLEEPERS | if slept > 1 { STARVED } else { 0 };
        if marked != found && !word.exchange(found, marked, Ordering::Relaxed) {
            continue;
        }
        if !around.sleep(word, marked, left.map_or(nap, |left| left.min(nap))) {
            let found = word.load();
            if let Some(left) = inherited(found, me, around)
                && word.exchange(found, left | me, Ordering::Acquire)
            {
                return Some(Taken::found(left));
            }
            nap = LONGEST_NAP.min(2 * nap);
        }
        slept = slept.saturating_add(1);
        spins = SPINS;
    }
}

/// The time is over: takes the lock if it can be had all the same. Somebody else is woken, as this one may have been woken
/// in the place of another.
fn give_up<W: LockWord>(word: &W, me: u32, starved: bool, around: &impl Around<W>) -> Option<Taken> {
    let taken = try_acquire(word, me, around);
    if taken.is_none() {
        if starved {
            word.keep(!STARVED, Ordering::Relaxed);
        }
        if word.load() & OWNER == 0 {
            around.wake(word, 1);
        }
    }
    taken
}

/// Gives the lock back. Returns false, and does nothing, if `me` does not have it.
#[inline]
pub(crate) fn release<W: LockWord>(word: &W, me: u32, around: &impl Around<W>) -> bool {
    if word.load() & OWNER != me {
        return false;
    }
    if word.keep(POISONED | STARVED, Ordering::Release) & SLEEPERS != 0 {
        around.wake(word, 1);
    }
    true
}

/// Lets all who take the lock from now on know that something has happened to who had it.
pub(crate) fn poison<W: LockWord>(word: &W) {
    word.set(POISONED);
}

pub(crate) fn clear_poison<W: LockWord>(word: &W) {
    word.keep(!POISONED, Ordering::Relaxed);
}

pub(crate) fn is_poisoned<W: LockWord>(word: &W) -> bool {
    word.load() & POISONED != 0
}

/// The number of the process that has it.
pub(crate) fn owner<W: LockWord>(word: &W) -> Option<u32> {
    Some(word.load() & OWNER).filter(|owner| *owner != 0)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    /// Processes that the test says have ended.
    #[derive(Default)]
    struct Ended(AtomicU32);

    impl Around<AtomicU32> for Ended {
        fn has_ended(&self, number: u32) -> bool {
            self.0.load(Ordering::Acquire) & 1 << number != 0
        }
    }

    impl Futex<AtomicU32> for Ended {
        fn sleep(&self, word: &AtomicU32, value: u32, nap: Duration) -> bool {
            os::sleep_while(word, value, Some(nap))
        }

        fn wake(&self, word: &AtomicU32, most: u32) {
            os::wake_sleepers(word, most);
        }
    }

    const CLEAN: Taken = Taken { is_poisoned: false };
    const POISON: Taken = Taken { is_poisoned: true };

    #[test]
    fn one_at_a_time_has_it() {
        let (word, counted, around) = (AtomicU32::new(0), AtomicU64::new(0), Ended::default());
        thread::scope(|scope| {
            for me in 1..=4 {
                let (word, counted, around) = (&word, &counted, &around);
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        assert_eq!(acquire(word, me, None, around), Some(CLEAN));
                        counted.store(counted.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                        assert!(release(word, me, around));
                    }
                });
            }
        });
        assert_eq!(counted.into_inner(), 80_000);
        assert!(!release(&word, 1, &around), "nobody has it");
        assert_eq!(owner(&word), None);
    }

    #[test]
    fn who_comes_after_the_dead_is_told() {
        let (word, around) = (AtomicU32::new(0), Ended::default());
        assert_eq!(acquire(&word, 1, None, &around), Some(CLEAN));
        assert_eq!(try_acquire(&word, 2, &around), None);
        assert_eq!(acquire(&word, 2, Some(Instant::now()), &around), None);
        assert!(!release(&word, 2, &around) && owner(&word) == Some(1));
        around.0.store(1 << 1, Ordering::Release);
        assert_eq!(try_acquire(&word, 2, &around), Some(POISON));
        around.0.store(1 << 1 | 1 << 2, Ordering::Release);
        // By one that waits, and by all later ones, until it is cleared.
        assert_eq!(acquire(&word, 3, None, &around), Some(POISON));
        assert!(release(&word, 3, &around) && is_poisoned(&word));
        assert_eq!(acquire(&word, 4, None, &around), Some(POISON));
        clear_poison(&word);
        assert!(owner(&word) == Some(4) && release(&word, 4, &around));
        assert_eq!(acquire(&word, 4, None, &around), Some(CLEAN));
        poison(&word);
        assert!(release(&word, 4, &around));
        assert_eq!(try_acquire(&word, 1, &around), Some(POISON));
    }

    #[test]
    fn who_sleeps_has_it_in_the_end_though_another_takes_it_again_and_again() {
        let (word, around, done) = (AtomicU32::new(0), Ended::default(), AtomicU32::new(0));
        thread::scope(|scope| {
            for me in 1..=2 {
                let (word, around, done) = (&word, &around, &done);
                scope.spawn(move || {
                    while done.load(Ordering::Relaxed) < 3 {
                        let _ = acquire(word, me, None, around);
                        (0..2000).for_each(|_| std::hint::spin_loop());
                        release(word, me, around);
                    }
                });
            }
            for me in 3..=5 {
                let (word, around, done) = (&word, &around, &done);
                scope.spawn(move || {
                    let _ = acquire(word, me, None, around);
                    done.fetch_add(1, Ordering::Relaxed);
                    release(word, me, around);
                });
            }
        });
    }

    #[test]
    fn whoever_is_starved_and_gone_keeps_nobody_waiting() {
        let (word, around) = (AtomicU32::new(STARVED | SLEEPERS), Ended::default());
        assert_eq!(acquire(&word, 1, None, &around), Some(CLEAN));
        assert!(release(&word, 1, &around));
        word.store(STARVED, Ordering::Relaxed);
        assert_eq!(acquire(&word, 1, Some(Instant::now()), &around), Some(CLEAN), "it is free");
    }
}

/// Run by `RUSTFLAGS="--cfg loom" cargo test -p pool-runtime --lib --release loom`.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::atomic::AtomicU32 as Word;
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    implement_lock_word!(Word);

    /// A word, what it guards, and a futex: who sleeps on a value that has changed does not sleep.
    #[derive(Default)]
    struct Model {
        word: Word,
        guarded: Word,
        /// How many naps have been cut short, and which processes have ended.
        futex: Mutex<()>,
        woken: Condvar,
        ended: Word,
    }

    impl Around<Word> for Model {
        fn has_ended(&self, number: u32) -> bool {
            self.ended.load(Ordering::Acquire) & 1 << number != 0
        }
    }

    impl Futex<Word> for Model {
        fn sleep(&self, word: &Word, value: u32, _: Duration) -> bool {
            let asleep = self.futex.lock().unwrap();
            if Word::load(word, Ordering::Relaxed) == value && self.ended.load(Ordering::Acquire) == 0 {
                drop(self.woken.wait(asleep).unwrap());
            } else {
                drop(asleep);
            }
            if self.ended.load(Ordering::Acquire) == 0 {
                return true;
            }
            // The nap of who is still there when a process has ended is over at some time.
            thread::yield_now();
            false
        }

        fn wake(&self, _: &Word, most: u32) {
            let _asleep = self.futex.lock().unwrap();
            (0..most).for_each(|_| self.woken.notify_one());
        }
    }

    impl Model {
        fn increment(&self, me: u32) {
            let _ = acquire(&self.word, me, None, self).unwrap();
            self.guarded.store(Word::load(&self.guarded, Ordering::Relaxed) + 1, Ordering::Relaxed);
            assert!(release(&self.word, me, self));
        }

        /// The process ends where it is.
        fn end(&self, me: u32) {
            let _asleep = self.futex.lock().unwrap();
            self.ended.fetch_or(1 << me, Ordering::Release);
            self.woken.notify_all();
        }
    }

    fn check(bound: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = bound;
        builder.check(model);
    }

    #[test]
    fn loom_what_a_lock_guards_is_seen_and_no_wake_up_is_lost() {
        check(Some(3), || {
            let model = Arc::new(Model::default());
            let others: Vec<_> = (1..=2)
                .map(|me| {
                    let model = model.clone();
                    thread::spawn(move || model.increment(me))
                })
                .collect();
            model.increment(3);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(Word::load(&model.guarded, Ordering::Relaxed), 3);
        });
    }

    #[test]
    fn loom_who_ends_with_a_lock_or_waiting_for_it_keeps_nobody() {
        check(Some(3), || {
            let model = Arc::new(Model::default());
            let theirs = model.clone();
            let ends = thread::spawn(move || {
                let _ = acquire(&theirs.word, 1, None, &*theirs).unwrap();
                theirs.end(1);
            });
            let theirs = model.clone();
            let other = thread::spawn(move || theirs.increment(2));
            model.increment(3);
            other.join().unwrap();
            ends.join().unwrap();
            assert_eq!(Word::load(&model.guarded, Ordering::Relaxed), 2);
        });
    }
}
