//! The shared words of a ring: how far it is written and read, and which side sleeps.
//!
//! ```text
//!   writer                                             reader
//!   bytes …                                            while written == read:
//!   written = … (release)                                  swap mark into sleeps
//!   read sleeps, as an exchange                            if written == read still (acquire): sleep on the bell
//!   if it is a mark: take it back, ring the bell
//! ```
//!
//! Both sides *exchange* `sleeps`, and exchanges of one word are ordered. If the writer's comes first, the reader's sees
//! all that the writer did before, `written` included; if it comes second, it finds the mark. So no wake-up is lost. The
//! same holds for a writer that waits for room, with `read` and `starved`.
//!
//! A writer may put the exchange off: [`may_wake`](Writing::may_wake) only loads the mark, and a [`LAZY`] one is left
//! alone until the writer pauses. No wake-up is lost as long as the writer exchanges before it pauses, or waits for
//! room. Loom checks all of this in the tests, for interleavings with a bounded number of preemptions.
//!
//! Positions only grow: they count bytes since the ring was made, and their place in memory is the position modulo the
//! ring's capacity. Each side keeps its own in private memory, and checks the other's: a ring is never fuller than its
//! capacity, and no position moves backwards.

#[cfg(all(test, loom))]
use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(not(all(test, loom)))]
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Padded to two cache lines, as processors fetch them in pairs, so that writing it does not slow down access to others.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Apart<T>(pub(super) T);

/// The shared words of one ring, all zero at first.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Positions {
    written: Apart<AtomicU64>,
    read: Apart<AtomicU64>,
    /// The mark of a reader that goes to sleep, cleared by the side that wakes it. 0 is none.
    sleeps: Apart<AtomicU32>,
    /// Set by a writer that waits for room, cleared by the side that makes some.
    starved: Apart<AtomicU32>,
}

/// The other side has written an impossible position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Corrupt;

/// In a mark: the reader is to be woken only when nothing more will come for a while, or much has.
pub(crate) const LAZY: u32 = 1 << 31;

/// The writer's own position.
#[derive(Debug, Default)]
pub(crate) struct Writing<const CAPACITY: usize> {
    written: u64,
    /// How far the reader was when the writer last looked.
    read: u64,
}

impl<const CAPACITY: usize> Writing<CAPACITY> {
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.written
    }

    /// How much room there was when the writer last looked at the reader.
    #[inline(always)]
    pub(crate) fn known_room(&self) -> usize {
        CAPACITY - (self.written - self.read) as usize
    }

    /// How far the reader was when the writer last looked.
    pub(crate) fn known_read(&self) -> u64 {
        self.read
    }

    /// How many bytes can be written now; looks at the reader only if less than `wanted` was known of.
    #[inline]
    pub(crate) fn room(&mut self, ring: &Positions, wanted: usize) -> Result<usize, Corrupt> {
        if self.known_room() < wanted {
            let read = ring.read.0.load(Ordering::Acquire);
            if read < self.read || read > self.written {
                return Err(Corrupt);
            }
            self.read = read;
        }
        Ok(self.known_room())
    }

    /// Shows `length` more bytes to the reader, which have been written where there was room.
    #[inline]
    pub(crate) fn publish(&mut self, ring: &Positions, length: usize) {
        self.written += length as u64;
        ring.written.0.store(self.written, Ordering::Release);
    }

    /// The mark of a reader that has to be woken, or 0. `pause` says that nothing more will be published for a while.
    pub(crate) fn to_wake(&self, ring: &Positions, pause: bool) -> u32 {
        let mark = ring.sleeps.0.fetch_or(0, Ordering::AcqRel);
        if mark == 0 || (mark & LAZY != 0 && !pause) {
            return 0;
        }
        ring.sleeps.0.swap(0, Ordering::AcqRel)
    }

    /// As [`to_wake`](Self::to_wake) without a pause, with a mere load: it can miss a reader that is going to sleep, so
    /// [`to_wake`](Self::to_wake) is to follow.
    #[inline]
    pub(crate) fn may_wake(&self, ring: &Positions) -> u32 {
        match ring.sleeps.0.load(Ordering::Relaxed) {
            0 => 0,
            mark if mark & LAZY != 0 => 0,
            _ => ring.sleeps.0.swap(0, Ordering::AcqRel),
        }
    }

    /// Has the writer woken when there is more room than now. Look once more before sleeping.
    pub(crate) fn starve(&self, ring: &Positions) {
        ring.starved.0.swap(1, Ordering::AcqRel);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Reading<const CAPACITY: usize> {
    read: u64,
    /// How far the writer was when the reader last looked.
    written: u64,
}

impl<const CAPACITY: usize> Reading<CAPACITY> {
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.read
    }

    /// How many bytes can be read; looks at the writer only if none were known of.
    pub(crate) fn available(&mut self, ring: &Positions) -> Result<usize, Corrupt> {
        if self.written == self.read { self.look(ring) } else { Ok((self.written - self.read) as usize) }
    }

    pub(crate) fn look(&mut self, ring: &Positions) -> Result<usize, Corrupt> {
        let written = ring.written.0.load(Ordering::Acquire);
        if written < self.written || written - self.read > CAPACITY as u64 {
            return Err(Corrupt);
        }
        self.written = written;
        Ok((written - self.read) as usize)
    }

    /// Makes the room of `length` bytes free again, which nothing reads any more. Returns whether a writer has to be
    /// woken.
    pub(crate) fn release(&mut self, ring: &Positions, length: usize) -> bool {
        self.read += length as u64;
        ring.read.0.store(self.read, Ordering::Release);
        ring.starved.0.fetch_or(0, Ordering::AcqRel) != 0 && ring.starved.0.swap(0, Ordering::AcqRel) != 0
    }
}

impl Positions {
    /// Has the reader woken by this mark when there is something to read. Look once more before sleeping.
    pub(crate) fn sleep(&self, mark: u32) {
        self.sleeps.0.swap(mark, Ordering::AcqRel);
    }

    /// The reader is awake. An exchange too: a plain store after the writer's exchange would hide that from the reader's
    /// next one.
    pub(crate) fn wake(&self) {
        self.sleeps.0.swap(0, Ordering::AcqRel);
    }

    /// Whether the reader sleeps, or is about to.
    #[inline]
    pub(crate) fn reader_sleeps(&self) -> bool {
        self.sleeps.0.load(Ordering::Relaxed) != 0
    }

    /// Whether there is something to read for a reader that has read so far, for threads that do not read it: the shared
    /// word is not checked.
    pub(crate) fn has_unread(&self, read: u64) -> bool {
        self.written.0.load(Ordering::Acquire) != read
    }

    /// Whether the reader has read on since it was so far, as it says.
    pub(crate) fn has_read_on(&self, read: u64) -> bool {
        self.read.0.load(Ordering::Acquire) != read
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_not_believed() {
        let ring = Positions::default();
        let (mut writing, mut reading) = (Writing::<16>::default(), Reading::<16>::default());
        writing.publish(&ring, 10);
        assert_eq!(reading.look(&ring), Ok(10));
        reading.release(&ring, 4);
        assert_eq!(writing.room(&ring, 16), Ok(10));
        ring.read.0.store(11, Ordering::Relaxed);
        assert_eq!(writing.room(&ring, 16), Err(Corrupt), "more was read than written");
        ring.read.0.store(3, Ordering::Relaxed);
        assert_eq!(writing.room(&ring, 16), Err(Corrupt), "less was read than before");
        ring.written.0.store(21, Ordering::Relaxed);
        assert_eq!(reading.look(&ring), Err(Corrupt), "more was written than fits");
        ring.written.0.store(9, Ordering::Relaxed);
        assert_eq!(reading.look(&ring), Err(Corrupt), "less was written than before");
    }

    #[test]
    fn a_lazy_reader_is_woken_at_a_pause() {
        let ring = Positions::default();
        let mut writing = Writing::<16>::default();
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

    const CAPACITY: usize = 2;
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
        cells: [UnsafeCell<u64>; CAPACITY],
        reader: Bell,
        writer: Bell,
    }

    /// What the writer does after a message to wake the reader.
    #[derive(Clone, Copy)]
    enum Waking {
        /// Only looks: [`Writing::may_wake`].
        Look,
        /// [`Writing::to_wake`], at a pause or not.
        Exchange { pause: bool },
    }

    const LOOK: Waking = Waking::Look;
    const EXCHANGE: Waking = Waking::Exchange { pause: false };
    const PAUSE: Waking = Waking::Exchange { pause: true };

    const EAGER: u32 = 1;

    /// Sends a number for each waking through a ring of two cells; both sides sleep whenever they can, the reader with
    /// these marks in turn. Loom fails on a lost wake-up, as a deadlock, and on a cell that is read and written at the
    /// same time.
    fn send_and_receive(wakings: &'static [Waking], marks: &'static [u32]) {
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
                let wake = |writing: &Writing<CAPACITY>, waking| {
                    let mark = match waking {
                        Waking::Look => writing.may_wake(&ring.positions),
                        Waking::Exchange { pause } => writing.to_wake(&ring.positions, pause),
                    };
                    if mark != 0 {
                        ring.reader.ring();
                    }
                };
                for (message, waking) in (0..).zip(wakings) {
                    while writing.room(&ring.positions, 1).unwrap() == 0 {
                        // The reader may not have been woken for any of the messages in the ring.
                        if marks.iter().any(|mark| mark & LAZY != 0) {
                            wake(&writing, PAUSE);
                        }
                        let seen = ring.writer.seen();
                        writing.starve(&ring.positions);
                        if writing.room(&ring.positions, 1).unwrap() == 0 {
                            ring.writer.wait(seen);
                        }
                    }
                    ring.cells[writing.position() as usize % CAPACITY].with_mut(|cell| unsafe { *cell = message });
                    writing.publish(&ring.positions, 1);
                    wake(&writing, *waking);
                }
            });
            let mut reading = Reading::<CAPACITY>::default();
            let mut marks = marks.iter().cycle();
            for message in 0..wakings.len() as u64 {
                while reading.available(&ring.positions).unwrap() == 0 {
                    let seen = ring.reader.seen();
                    ring.positions.sleep(*marks.next().unwrap());
                    if reading.look(&ring.positions).unwrap() == 0 {
                        ring.reader.wait(seen);
                    }
                    ring.positions.wake();
                }
                let found = ring.cells[reading.position() as usize % CAPACITY].with(|cell| unsafe { *cell });
                assert_eq!(found, message);
                if reading.release(&ring.positions, 1) {
                    ring.writer.ring();
                }
            }
            writer.join().unwrap();
        });
    }

    #[test]
    fn loom_no_wake_up_is_lost() {
        send_and_receive(&[EXCHANGE; 2], &[EAGER]);
    }

    #[test]
    fn loom_no_wake_up_is_lost_when_the_ring_is_full() {
        send_and_receive(&[EXCHANGE; 3], &[EAGER]);
    }

    #[test]
    fn loom_an_eager_reader_that_a_look_misses_is_woken_by_the_next_exchange() {
        send_and_receive(&[LOOK, EXCHANGE], &[EAGER]);
    }

    #[test]
    fn loom_a_lazy_reader_is_woken_at_the_pause() {
        send_and_receive(&[LOOK, PAUSE], &[EAGER | LAZY]);
        send_and_receive(&[EXCHANGE, PAUSE], &[EAGER | LAZY]);
    }

    #[test]
    fn loom_no_wake_up_is_lost_between_lazy_and_eager_marks() {
        for marks in [&[EAGER, EAGER | LAZY], &[EAGER | LAZY, EAGER]] {
            send_and_receive(&[LOOK, PAUSE], marks);
            send_and_receive(&[EXCHANGE, PAUSE], marks);
        }
    }

    #[test]
    fn loom_a_lazy_reader_is_woken_when_the_ring_is_full() {
        send_and_receive(&[LOOK, LOOK, PAUSE], &[EAGER | LAZY]);
        send_and_receive(&[LOOK, LOOK, PAUSE], &[EAGER | LAZY, EAGER]);
    }
}
