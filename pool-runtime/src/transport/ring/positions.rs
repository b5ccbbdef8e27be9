//! How far a ring is written and read, and who sleeps: all that its two sides say to each other beside the bytes.
//!
//! ```text
//!   writer                                             reader
//!   bytes …                                            while written == read:
//!   written = … (release)                                  swap mark into sleeps
//!   read sleeps, as an exchange                            if written == read still (acquire): sleep on the bell
//!   if it is a mark: take it back, ring the bell
//! ```
//!
//! Both sides *exchange* `sleeps`, and exchanges of one word have an order: if the writer's comes first, the reader's
//! sees all that the writer did before, `written` included; if it comes second, it finds the mark. So no wake-up is
//! lost. The same holds for a writer that waits for room, with `read` and `starved`. Loom checks it in the tests, for
//! interleavings with a bounded number of preemptions; [`may_wake`](Writing::may_wake) and [`LAZY`] are not in its
//! model.
//!
//! Positions only grow: they count bytes since the ring was made, and their place in memory is the position modulo the
//! ring's capacity. Each side keeps its own in private memory and believes the other's only as far as it makes sense: a
//! ring is never fuller than its capacity, and never emptier than empty.

#[cfg(all(test, loom))]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(all(test, loom)))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Apart from all other words, so that writing it does not slow down access to them: two cache lines, as processors
/// fetch them in pairs.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Apart<T>(pub(super) T);

/// The shared words of one ring. All zero at first.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Positions {
    /// Written by the writer.
    written: Apart<AtomicU64>,
    /// Written by the reader.
    read: Apart<AtomicU64>,
    /// Set by a reader that goes to sleep, taken back by the side that wakes it. Not 0 says how to wake it.
    sleeps: Apart<AtomicU32>,
    /// Set by a writer that waits for room, taken back by the side that makes some.
    starved: Apart<AtomicU32>,
}

/// The other side says something that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// In a mark: wake me only when nothing more will come for a while, or much has.
pub(crate) const LAZY: u32 = 1 << 31;

/// The writer's own account.
#[derive(Debug, Default)]
pub(crate) struct Writing {
    written: u64,
    /// How far the reader was when the writer last looked.
    read: u64,
}

impl Writing {
    /// Where the next byte goes, counted since the ring was made.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.written
    }

    /// How many bytes can be written now; looks at the reader only if less than `wanted` was known of.
    #[inline]
    pub(crate) fn room(&mut self, ring: &Positions, capacity: u64, wanted: u64) -> Result<u64, Corrupt> {
        if capacity - (self.written - self.read) < wanted {
            let read = ring.read.0.load(Ordering::Acquire);
            if read < self.read || read > self.written {
                return Err(Corrupt);
            }
            self.read = read;
        }
        Ok(capacity - (self.written - self.read))
    }

    /// Was so much room known of, the last time that the writer looked?
    #[inline(always)]
    pub(crate) fn has_room(&self, capacity: u64, wanted: u64) -> bool {
        capacity - (self.written - self.read) >= wanted
    }

    /// Shows `length` more bytes to the reader. There was room for them, and they are there.
    #[inline]
    pub(crate) fn publish(&mut self, ring: &Positions, length: u64) {
        self.written += length;
        ring.written.0.store(self.written, Ordering::Release);
    }

    /// The mark of a reader that has to be woken after something was published, or 0. `pause` says that nothing more
    /// will come for a while.
    pub(crate) fn to_wake(&self, ring: &Positions, pause: bool) -> u32 {
        let mark = ring.sleeps.0.fetch_or(0, Ordering::AcqRel);
        if mark == 0 || (mark & LAZY != 0 && !pause) {
            return 0;
        }
        ring.sleeps.0.swap(0, Ordering::AcqRel)
    }

    /// As [`to_wake`](Self::to_wake), with a mere look: may miss a reader that goes to sleep just now, which another
    /// look has to find.
    #[inline]
    pub(crate) fn may_wake(&self, ring: &Positions) -> u32 {
        match ring.sleeps.0.load(Ordering::Relaxed) {
            0 => 0,
            mark if mark & LAZY != 0 => 0,
            _ => ring.sleeps.0.swap(0, Ordering::AcqRel),
        }
    }

    /// Wants to be woken when there is more room than now. Look once more before sleeping.
    pub(crate) fn starve(&self, ring: &Positions) {
        ring.starved.0.swap(1, Ordering::AcqRel);
    }
}

/// The reader's own account.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    read: u64,
    /// How far the writer was when the reader last looked.
    written: u64,
}

impl Reading {
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.read
    }

    /// How many bytes can be read; looks at the writer only if there is nothing left of what was known of.
    pub(crate) fn available(&mut self, ring: &Positions, capacity: u64) -> Result<u64, Corrupt> {
        if self.written == self.read { self.look(ring, capacity) } else { Ok(self.written - self.read) }
    }

    /// How many bytes can be read.
    pub(crate) fn look(&mut self, ring: &Positions, capacity: u64) -> Result<u64, Corrupt> {
        let written = ring.written.0.load(Ordering::Acquire);
        if written < self.written || written - self.read > capacity {
            return Err(Corrupt);
        }
        self.written = written;
        Ok(written - self.read)
    }

    /// Gives the room of `length` bytes back. Nothing looks at them any more.
    pub(crate) fn release(&mut self, ring: &Positions, length: u64) {
        self.read += length;
        ring.read.0.store(self.read, Ordering::Release);
    }

    /// Is there a writer to be woken, after something was released?
    pub(crate) fn is_starved(&self, ring: &Positions) -> bool {
        ring.starved.0.fetch_or(0, Ordering::AcqRel) != 0 && ring.starved.0.swap(0, Ordering::AcqRel) != 0
    }
}

impl Positions {
    /// The reader wants to be woken, as the mark says, when there is something to read. Look once more before sleeping.
    pub(crate) fn sleep(&self, mark: u32) {
        self.sleeps.0.swap(mark, Ordering::AcqRel);
    }

    /// The reader is awake, and need not be woken. An exchange too: a plain store behind the writer's would hide it
    /// from the reader's next one.
    pub(crate) fn wake(&self) {
        self.sleeps.0.swap(0, Ordering::AcqRel);
    }

    /// Does the reader sleep, or is it about to?
    #[inline]
    pub(crate) fn reader_sleeps(&self) -> bool {
        self.sleeps.0.load(Ordering::Relaxed) != 0
    }

    /// Is there something to read? For those who do not read it: the shared words are taken as they are.
    pub(crate) fn has_unread(&self) -> bool {
        self.written.0.load(Ordering::Acquire) != self.read.0.load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_not_believed() {
        let ring = Positions::default();
        let (mut writing, mut reading) = (Writing::default(), Reading::default());
        writing.publish(&ring, 10);
        assert_eq!(reading.look(&ring, 16), Ok(10));
        reading.release(&ring, 4);
        assert_eq!(writing.room(&ring, 16, 16), Ok(10));
        ring.read.0.store(11, Ordering::Relaxed);
        assert_eq!(writing.room(&ring, 16, 16), Err(Corrupt), "more was read than written");
        ring.read.0.store(3, Ordering::Relaxed);
        assert_eq!(writing.room(&ring, 16, 16), Err(Corrupt), "less was read than before");
        ring.written.0.store(21, Ordering::Relaxed);
        assert_eq!(reading.look(&ring, 16), Err(Corrupt), "more was written than fits");
        ring.written.0.store(9, Ordering::Relaxed);
        assert_eq!(reading.look(&ring, 16), Err(Corrupt), "less was written than before");
    }

    #[test]
    fn a_lazy_reader_is_woken_at_a_pause() {
        let ring = Positions::default();
        let mut writing = Writing::default();
        ring.sleep(2 | LAZY);
        writing.publish(&ring, 1);
        assert_eq!((writing.may_wake(&ring), writing.to_wake(&ring, false)), (0, 0));
        assert_eq!(writing.to_wake(&ring, true), 2 | LAZY);
        assert_eq!(writing.to_wake(&ring, true), 0, "once is enough");
        ring.sleep(1);
        assert_eq!(writing.may_wake(&ring), 1);
    }
}

/// Run by `RUSTFLAGS="--cfg loom" cargo test -p pool-runtime --lib --release loom`.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::{cell::UnsafeCell, sync::Arc, sync::Condvar, sync::Mutex, thread};

    const CAPACITY: u64 = 2;
    const PREEMPTIONS: usize = 3;

    /// A futex, as far as the protocol needs one: who sleeps on a count that has moved on does not sleep.
    #[derive(Default)]
    struct Bell {
        count: Mutex<u32>,
        rung: Condvar,
    }

    impl Bell {
        fn seen(&self) -> u32 {
            *self.count.lock().unwrap()
        }

        fn ring(&self) {
            *self.count.lock().unwrap() += 1;
            self.rung.notify_all();
        }

        fn wait(&self, seen: u32) {
            let mut count = self.count.lock().unwrap();
            while *count == seen {
                count = self.rung.wait(count).unwrap();
            }
        }
    }

    struct Ring {
        positions: Positions,
        cells: [UnsafeCell<u64>; CAPACITY as usize],
        reader: Bell,
        writer: Bell,
    }

    /// Sends `messages` numbers through a ring of two cells; both sides sleep whenever they can. Loom fails on a lost
    /// wake-up, as a deadlock, and on a cell that is read and written at the same time.
    fn send_and_receive(messages: u64) {
        let mut model = loom::model::Builder::new();
        // Without a bound, a ring that is full keeps it busy for longer than five minutes.
        model.preemption_bound = Some(PREEMPTIONS);
        model.check(move || {
            let ring = Arc::new(Ring {
                positions: Positions::default(),
                cells: Default::default(),
                reader: Bell::default(),
                writer: Bell::default(),
            });
            let theirs = ring.clone();
            let writer = thread::spawn(move || {
                let ring = theirs;
                let mut writing = Writing::default();
                for message in 0..messages {
                    while writing.room(&ring.positions, CAPACITY, 1).unwrap() == 0 {
                        let seen = ring.writer.seen();
                        writing.starve(&ring.positions);
                        if writing.room(&ring.positions, CAPACITY, 1).unwrap() == 0 {
                            ring.writer.wait(seen);
                        }
                    }
                    ring.cells[(writing.position() % CAPACITY) as usize].with_mut(|cell| unsafe { *cell = message });
                    writing.publish(&ring.positions, 1);
                    if writing.to_wake(&ring.positions, false) != 0 {
                        ring.reader.ring();
                    }
                }
            });
            let mut reading = Reading::default();
            for message in 0..messages {
                while reading.available(&ring.positions, CAPACITY).unwrap() == 0 {
                    let seen = ring.reader.seen();
                    ring.positions.sleep(1);
                    if reading.look(&ring.positions, CAPACITY).unwrap() == 0 {
                        ring.reader.wait(seen);
                    }
                    ring.positions.wake();
                }
                let found = ring.cells[(reading.position() % CAPACITY) as usize].with(|cell| unsafe { *cell });
                assert_eq!(found, message);
                reading.release(&ring.positions, 1);
                if reading.is_starved(&ring.positions) {
                    ring.writer.ring();
                }
            }
            writer.join().unwrap();
        });
    }

    #[test]
    fn loom_no_wake_up_is_lost() {
        send_and_receive(2);
    }

    #[test]
    fn loom_no_wake_up_is_lost_when_the_ring_is_full() {
        send_and_receive(3);
    }
}
