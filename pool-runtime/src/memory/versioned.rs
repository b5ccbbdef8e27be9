//! A value in shared memory that is whole at every instruction: two copies, and a version that says which one counts.
//!
//! ```text
//!   writer (one at a time)                        reader
//!   fence (release)                               version v (acquire)
//!   the copy of v + 1 …                           the copy of v …
//!   version = v + 1 (release)                     fence (acquire)
//!                                                 version v still: it has read the value
//! ```
//!
//! Versions take the copies in turn: the one of `v` is not written again before version `v + 1` is there. So a writer that
//! ends before the last store has changed nothing. A reader that has read any part of version `v + 2` finds, by the two
//! fences, at least version `v + 1`, and reads again. Loom checks this in the tests.

use std::sync::atomic::Ordering;

/// Where the copies and the version are. Loom has its own.
pub(crate) trait Versioned {
    type Value;

    fn version(&self, ordering: Ordering) -> u64;
    fn set_version(&self, version: u64, ordering: Ordering);
    /// Reads a copy, 0 or 1, with relaxed loads: others may write it meanwhile.
    fn copy_out(&self, copy: usize) -> Self::Value;
    /// Writes a copy with relaxed stores.
    fn copy_in(&self, copy: usize, value: Self::Value);
    fn fence(ordering: Ordering);
}

/// The value, for who alone may change it.
#[inline]
pub(crate) fn current<V: Versioned>(versioned: &V) -> V::Value {
    versioned.copy_out((versioned.version(Ordering::Acquire) & 1) as usize)
}

/// Replaces the value, for who alone may. Up to the last instruction, it is the old one.
#[inline]
pub(crate) fn commit<V: Versioned>(versioned: &V, value: V::Value) {
    let next = versioned.version(Ordering::Relaxed).wrapping_add(1);
    V::fence(Ordering::Release);
    versioned.copy_in((next & 1) as usize, value);
    versioned.set_version(next, Ordering::Release);
}

/// The value, while others may change it. None: they have done so again and again.
pub(crate) fn snapshot<V: Versioned>(versioned: &V) -> Option<V::Value> {
    (0..TRIES).find_map(|_| try_snapshot(versioned))
}

/// Enough to come between those who change a value, however many they are; not for who only wants to keep others busy.
const TRIES: u32 = 1000;

/// None: it was changed meanwhile.
fn try_snapshot<V: Versioned>(versioned: &V) -> Option<V::Value> {
    let version = versioned.version(Ordering::Acquire);
    let value = versioned.copy_out((version & 1) as usize);
    V::fence(Ordering::Acquire);
    (versioned.version(Ordering::Relaxed) == version).then_some(value)
}

/// Run by `RUSTFLAGS="--cfg loom" cargo test -p pool-runtime --lib --release loom`.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, fence};
    use loom::thread;

    /// Two words that belong together.
    #[derive(Default)]
    struct Pair {
        version: AtomicU64,
        copies: [[AtomicU64; 2]; 2],
    }

    impl Versioned for Pair {
        type Value = [u64; 2];

        fn version(&self, ordering: Ordering) -> u64 {
            self.version.load(ordering)
        }

        fn set_version(&self, version: u64, ordering: Ordering) {
            self.version.store(version, ordering);
        }

        fn copy_out(&self, copy: usize) -> [u64; 2] {
            [0, 1].map(|word: usize| self.copies[copy][word].load(Ordering::Relaxed))
        }

        fn copy_in(&self, copy: usize, value: [u64; 2]) {
            self.copies[copy].iter().zip(value).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
        }

        fn fence(ordering: Ordering) {
            fence(ordering);
        }
    }

    /// What is read is whole, however far the writer has come, or ends.
    fn reads_are_whole(reads: u32, commits: u64) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let pair = Arc::new(Pair::default());
            let theirs = pair.clone();
            let writer = thread::spawn(move || {
                for value in 1..=commits {
                    commit(&*theirs, [value; 2]);
                }
            });
            let mut last = 0;
            for _ in 0..reads {
                if let Some(value) = try_snapshot(&*pair) {
                    assert!(value[0] == value[1] && value[0] >= last, "{value:?} after {last}");
                    last = value[0];
                }
            }
            writer.join().unwrap();
            assert_eq!((snapshot(&*pair), current(&*pair)), (Some([commits; 2]), [commits; 2]));
        });
    }

    #[test]
    fn loom_what_is_read_is_whole() {
        reads_are_whole(1, 2);
        reads_are_whole(1, 3);
    }

    #[test]
    fn loom_what_is_read_is_never_older_than_before() {
        reads_are_whole(2, 2);
    }
}
