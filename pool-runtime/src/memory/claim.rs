//! Which calls have started: a worker claims each before it starts it, and its parent takes back those that have not.
//!
//! ```text
//!   claimed     generation (high 32 bits) | number of the call that is to start (low 32 bits); the worker's
//!   open        generation, with a check: calls of earlier ones do not start any more; the parent's
//!   verdict     generation | number of the latest call that started in those before; the first of the two sets it
//! ```
//!
//! Each side writes its own word and then reads the other's: a worker that finds its generation still open has started
//! the call, and a parent that has closed a generation finds every call that has. If both do so at the same time, the
//! worker may find the generation closed, and the parent a call that is not going to start. The verdict decides, for
//! both: the first who sets it is right. A worker may be late by any number of generations: each verdict repeats the
//! number of the one before, so it is still the latest call that has started.
//!
//! This takes a full memory barrier on both sides. The worker's would cost more than a short call, so the parent, which
//! rarely takes calls back, executes it on both sides where the system can ([`os::remote_barrier`]).

use crate::os;

#[cfg(all(test, loom))]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(all(test, loom)))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The generation and the number of a worker's call, in one word that is written and read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallId(u64);

impl CallId {
    #[inline]
    pub(crate) fn new(generation: u32, number: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(number))
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(crate) fn number(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(crate) fn next(self) -> Self {
        // As one word: a load of both halves after a store of one would have to wait for the store.
        Self(if self.number() == u32::MAX { self.0 & !u64::from(u32::MAX) } else { self.0 + 1 })
    }
}

/// All zero at first.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Claim {
    claimed: AtomicU64,
    verdict: AtomicU64,
    open: AtomicU64,
    /// 1 if the parent can have barriers executed in the worker.
    offered: AtomicU32,
    /// The latest generation that the worker has found open when it claimed a call of an earlier one.
    heard: AtomicU32,
}

impl Claim {
    /// The parent's side, before the worker starts.
    pub(super) fn offer_barriers(&self) {
        self.offered.store(execute_barriers().into(), Ordering::Release);
    }

    /// The worker's side, before its first call: allows the parent's barriers. Returns whether they are executed here.
    pub(super) fn take_barriers(&self) -> bool {
        self.offered.load(Ordering::Acquire) == 1 && os::accept_barriers()
    }

    /// The worker's side: whether this call may start. If so, it has. `before` is the latest that has; `remote` is the
    /// result of [`take_barriers`](Self::take_barriers).
    #[inline]
    pub(super) fn claim(&self, call: CallId, before: u32, remote: bool) -> bool {
        self.claimed.store(call.0, Ordering::Release);
        if remote {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
        self.open.load(Ordering::Acquire) as u32 == call.generation() || self.decide(call, before)
    }

    /// The parent has taken calls back: the verdict says whether this one had started.
    #[cold]
    fn decide(&self, call: CallId, before: u32) -> bool {
        self.heard.store(self.open.load(Ordering::Acquire) as u32, Ordering::Release);
        if self.conclude(call.generation(), before).number() == call.number() {
            return true;
        }
        self.claimed.store(CallId::new(call.generation(), before).0, Ordering::Release);
        false
    }

    /// Sets the verdict on a generation, unless it is set. Returns the last one.
    fn conclude(&self, generation: u32, latest: u32) -> CallId {
        let verdict = CallId(self.verdict.load(Ordering::Acquire));
        if verdict.generation() != generation {
            return verdict;
        }
        let concluded = CallId::new(generation.wrapping_add(1), latest);
        let exchanged = self.verdict.compare_exchange(verdict.0, concluded.0, Ordering::AcqRel, Ordering::Acquire);
        exchanged.map_or_else(CallId, |_| concluded)
    }

    /// Whether this generation is over. False if the word is corrupt.
    pub(super) fn is_over(&self, generation: u32) -> bool {
        let open = self.open.load(Ordering::Acquire);
        open == checked(open as u32) && (open as u32).wrapping_sub(generation).cast_signed() > 0
    }

    /// The parent's side: no more calls of this generation start. Returns the latest that has started.
    ///
    /// None if the words are corrupt, or the barrier failed that the worker relies on.
    pub(super) fn take_back(&self, generation: u32) -> Option<u32> {
        let next = generation.wrapping_add(1);
        self.open.store(checked(next), Ordering::Release);
        if !execute_barriers() && self.offered.load(Ordering::Acquire) != 0 {
            return None;
        }
        let verdict = self.conclude(generation, self.latest());
        (verdict.generation() == next).then(|| verdict.number())
    }

    /// The parent's side: the latest generation that the worker knows, if it had to find out about one.
    pub(super) fn heard(&self) -> u32 {
        self.heard.load(Ordering::Acquire)
    }

    pub(super) fn latest(&self) -> u32 {
        let verdict = CallId(self.verdict.load(Ordering::Acquire));
        let claimed = CallId(self.claimed.load(Ordering::Acquire));
        // If a claim of an earlier generation counts, it is in the verdict.
        if claimed.generation() == verdict.generation() { claimed.number() } else { verdict.number() }
    }
}

/// Executes a memory barrier on this thread and in the workers that [allow it](Claim::take_barriers). Returns whether
/// the system can; if not, workers execute their own.
pub(crate) fn execute_barriers() -> bool {
    fence(Ordering::SeqCst);
    os::remote_barrier()
}

/// A generation with a checksum, so that random writes are detected.
fn checked(generation: u32) -> u64 {
    u64::from(generation.wrapping_mul(0x9e37_79b9)) << 32 | u64::from(generation)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn prepared(remote: bool) -> Claim {
        let claim = Claim::default();
        claim.offer_barriers();
        assert!(!remote || claim.take_barriers());
        claim
    }

    #[test]
    fn a_call_taken_back_cannot_start() {
        for remote in [false, true] {
            let claim = prepared(remote);
            assert!(claim.claim(CallId::new(0, 1), 0, remote));
            assert_eq!(claim.take_back(0), Some(1));
            assert!(!claim.claim(CallId::new(0, 2), 1, remote));
            assert_eq!(claim.latest(), 1);
            assert!(claim.is_over(0) && !claim.is_over(1));
            assert_eq!(claim.heard(), 1, "the worker has noticed");
            assert!(claim.claim(CallId::new(1, 3), 1, remote));
            assert_eq!(claim.latest(), 3);
            assert_eq!(claim.take_back(1), Some(3));
            assert_eq!(claim.take_back(2), Some(3), "nothing has started since");
        }
    }

    /// What a claim does before it looks at the parent's word.
    fn begin(claim: &Claim, call: CallId) {
        claim.claimed.store(call.0, Ordering::Release);
    }

    #[test]
    fn a_worker_that_is_late_by_generations_agrees_all_the_same() {
        let claim = Claim::default();
        assert!(claim.claim(CallId::new(0, 4), 0, false));
        begin(&claim, CallId::new(0, 5));
        assert_eq!([0, 1, 2].map(|generation| claim.take_back(generation)), [Some(5); 3]);
        assert!(claim.decide(CallId::new(0, 5), 4), "the parent has said that it has started");
        assert!(!claim.claim(CallId::new(0, 6), 5, false));
        assert_eq!((claim.latest(), claim.take_back(3)), (5, Some(5)));

        let claim = Claim::default();
        assert!(claim.claim(CallId::new(0, 4), 0, false));
        assert_eq!(claim.take_back(0), Some(4));
        begin(&claim, CallId::new(0, 5));
        assert_eq!((claim.latest(), claim.take_back(1)), (4, Some(4)), "it was taken back before");
        assert!(!claim.decide(CallId::new(0, 5), 4));
        assert!(claim.claim(CallId::new(2, 7), 4, false));
        assert_eq!(claim.take_back(2), Some(7));
    }

    #[test]
    fn words_that_make_no_sense_are_found_out() {
        let claim = Claim::default();
        claim.verdict.store(CallId::new(7, 7).0, Ordering::Relaxed);
        assert_eq!(claim.take_back(0), None);
        let claim = Claim::default();
        for nonsense in [1, 7, u64::MAX, 1 << 32, 0x0101_0101_0101_0101] {
            claim.open.store(nonsense, Ordering::Relaxed);
            assert!(!claim.is_over(0), "{nonsense:#x}");
        }
    }

    #[test]
    fn every_call_is_started_or_taken_back_and_never_both() {
        for remote in [false, true] {
            let claim = prepared(remote);
            let mut latest = 0;
            for generation in 0..2000 {
                let begun = std::sync::Barrier::new(2);
                let (taken, started) = std::thread::scope(|scope| {
                    let (claim, begun) = (&claim, &begun);
                    let worker = scope.spawn(move || {
                        begun.wait();
                        let mut before = latest;
                        for number in latest + 1..=latest + 100 {
                            if !claim.claim(CallId::new(generation, number), before, remote) {
                                break;
                            }
                            before = number;
                        }
                        before
                    });
                    begun.wait();
                    for _ in 0..generation % 64 * 8 {
                        std::hint::spin_loop();
                    }
                    (claim.take_back(generation), worker.join().unwrap())
                });
                assert_eq!(taken, Some(started), "generation {generation}");
                assert_eq!(claim.latest(), started);
                latest = started;
            }
        }
    }
}

/// Run by `RUSTFLAGS="--cfg loom" cargo test -p pool-runtime --lib --release loom`.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{sync::Arc, thread};

    /// With a full barrier on both sides, which is what the parent's amounts to.
    #[test]
    fn loom_both_sides_agree_on_what_has_started() {
        agree(1);
    }

    #[test]
    fn loom_both_sides_agree_when_calls_are_taken_back_again() {
        agree(2);
    }

    fn agree(times: u32) {
        loom::model(move || {
            let claim = Arc::new(Claim::default());
            let theirs = claim.clone();
            let worker = thread::spawn(move || {
                let mut before = 0;
                for number in 1..=2 {
                    if !theirs.claim(CallId::new(0, number), before, false) {
                        break;
                    }
                    before = number;
                }
                before
            });
            let taken: Vec<_> = (0..times).map(|generation| claim.take_back(generation)).collect();
            let started = worker.join().unwrap();
            assert!(taken.iter().all(|taken| *taken == Some(started)), "{taken:?} {started}");
            assert_eq!(claim.latest(), started);
        });
    }
}
