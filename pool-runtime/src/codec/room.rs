//! What is left of the stack of a thread that reads a value.
//!
//! How deeply values may be nested does not tell how much of the stack they take: that depends on their types, on the
//! user's code, and on how all of it was compiled. So it is measured, wherever a value begins that has others in it:
//!
//! ```text
//!  begin ──── whoever asked ──── outer value ──── value that begins ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┊ margin ┊ end of the stack
//!                                     ◀── step ──▶              ◀── must be there: ──▶
//!                                                                the largest step so far, or the value's size some times
//! ```
//!
//! A recursion repeats what it has already done, so the largest step tells what the next one takes. The size of the value
//! is for types that come for the first time when little is left; the margin for what lies between two such places.

use crate::codec::{CodecError, Coded, LARGE, MAX_DEPTH};
use crate::os;

/// What has to be left for numbers and texts, for what an error takes, and for a large type that comes for the first time:
/// only when its reading has begun is its size known. On small stacks, it is a part of them.
const MARGIN: usize = 128 << 10;
const MARGIN_PART: usize = 4;

/// How many copies of a value its own reading may have on the stack, as serde's derived code moves it.
const COPIES: usize = if cfg!(debug_assertions) { 18 } else { 6 };

/// How deep in a value its reader is, and how far down the stack it may go.
#[derive(Clone, Copy, Debug)]
pub(super) struct StackRoom {
    depth: u32,
    /// The address above which everything has to be: the end of the stack, and the margin. The highest one: nobody has
    /// looked yet.
    floor: usize,
    /// Where the latest value around began of those that were [entered](Self::enter); or else, where the reading began.
    outer: usize,
    /// The largest distance between such a value and one in it.
    step: usize,
}

/// What has to come back when a value ends.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Outer(usize);

impl StackRoom {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { depth: 0, floor: usize::MAX, outer: os::stack_pointer(), step: 0 }
    }

    /// A value of this type begins that may have values of its own type in it: an option, a variant, a sequence, a map.
    #[inline(always)]
    pub(super) fn enter<T>(&mut self) -> Coded<Outer> {
        let here = os::stack_pointer();
        self.step = self.outer.saturating_sub(here).max(self.step);
        self.check::<T>(here)?;
        self.deeper()?;
        Ok(Outer(std::mem::replace(&mut self.outer, here)))
    }

    /// It has been read.
    #[inline(always)]
    pub(super) fn leave(&mut self, outer: Outer) {
        self.outer = outer.0;
        self.depth -= 1;
    }

    /// A value of this type begins that has as many others in it as its type says. There would be no end of those of its own
    /// type if nothing else came between, so a small one can do without a look at the stack.
    #[inline(always)]
    pub(super) fn pass<T>(&mut self) -> Coded<()> {
        if size_of::<T>() > LARGE {
            self.check::<T>(os::stack_pointer())?;
        }
        self.deeper()
    }

    /// It has been read.
    #[inline(always)]
    pub(super) fn pass_back(&mut self) {
        self.depth -= 1;
    }

    /// Has what comes next counted anew, as another format counts the values that it is in. Returns the count until now.
    #[cfg(feature = "json")]
    pub(super) fn count_anew(&mut self) -> u32 {
        std::mem::take(&mut self.depth)
    }

    /// Goes on counting where [`count_anew`](Self::count_anew) has stopped.
    #[cfg(feature = "json")]
    pub(super) fn count_on(&mut self, depth: u32) {
        self.depth = depth;
    }

    #[inline(always)]
    fn deeper(&mut self) -> Coded<()> {
        if self.depth == MAX_DEPTH {
            return Err(CodecError::too_deep());
        }
        self.depth += 1;
        Ok(())
    }

    #[inline(always)]
    fn check<T>(&mut self, here: usize) -> Coded<()> {
        let size = COPIES * size_of::<T>();
        // No address is as low as a value is large.
        let wanted = size.max(self.step);
        if here.wrapping_sub(wanted) < self.floor {
            self.floor = Self::look(here, wanted)?;
        }
        Ok(())
    }

    /// Returns the floor: once in each value, and where it seems that too little is left.
    #[cold]
    fn look(here: usize, wanted: usize) -> Coded<usize> {
        for _ in 0..2 {
            // Else, where it ends is known to whoever has made it.
            let Some(stack) = os::stack() else { return Ok(0) };
            let floor = stack.start.saturating_add(MARGIN.min(stack.len() / MARGIN_PART));
            if here >= floor.saturating_add(wanted) {
                return Ok(floor);
            }
            // Its limit may have been raised.
            os::forget_stack();
        }
        Err(Self::no_stack(here))
    }

    #[cold]
    fn no_stack(here: usize) -> CodecError {
        let (left, whole) = os::stack().map_or((0, 0), |stack| (here.saturating_sub(stack.start), stack.len()));
        CodecError::new(format!(
            "the value is nested so deeply, or so large, that to read it could overflow the stack of this thread, which has \
             {} KiB left of {}: read it on a thread with more (`std::thread::Builder::stack_size`), or put what is large in \
             its type into a `Box`",
            left >> 10,
            whole >> 10
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Reader, Writer};
    use serde::de::{DeserializeOwned, Deserializer};
    use serde::{Deserialize, Serialize};
    use std::cell::Cell;
    use std::collections::BTreeMap;
    use std::hint::black_box;
    use std::thread;

    const KIB: usize = 1 << 10;

    /// 8 KiB.
    type Pad = [[u64; 32]; 32];
    const NO_PAD: [u8; size_of::<Pad>()] = [0; size_of::<Pad>()];

    #[derive(Serialize, Deserialize)]
    struct Node<P> {
        pad: P,
        next: Option<Box<Node<P>>>,
    }

    #[derive(Serialize, Deserialize)]
    struct Branching<P> {
        pad: P,
        next: Vec<Branching<P>>,
    }

    #[derive(Serialize, Deserialize)]
    struct Keyed<P> {
        pad: P,
        next: BTreeMap<u8, Keyed<P>>,
    }

    #[derive(Serialize, Deserialize)]
    enum Variants<P> {
        Last,
        Next(P, Box<Variants<P>>),
    }

    /// Small values, and one that is not.
    #[derive(Serialize, Deserialize)]
    enum Surprise {
        Small(Box<Surprise>),
        Large(Box<Node<Pad>>),
        None,
    }

    /// A small value whose reading takes much of the stack.
    struct Hungry<const SIZE: usize>(Option<Box<Hungry<SIZE>>>);

    impl<'de, const SIZE: usize> Deserialize<'de> for Hungry<SIZE> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let mut frame = [1_u8; SIZE];
            black_box(&mut frame);
            let inner = Deserialize::deserialize(deserializer).map(Self);
            black_box(&mut frame);
            inner
        }
    }

    impl<const SIZE: usize> Drop for Hungry<SIZE> {
        fn drop(&mut self) {
            black_box(&mut self.0);
        }
    }

    /// On a thread with such a stack.
    fn read_on<T: DeserializeOwned>(stack: usize, bytes: &[u8]) -> Coded<()> {
        let read = || Reader::new(bytes).value::<T>().map(drop);
        thread::scope(|scope| {
            thread::Builder::new().stack_size(stack).spawn_scoped(scope, read).unwrap().join().unwrap()
        })
    }

    fn is_refused(read: &Coded<()>) -> bool {
        read.as_ref().is_err_and(|error| error.to_string().contains("could overflow the stack of this thread"))
    }

    /// So many of them, one in the other.
    fn chain(count: usize, outer: &[&[u8]], last: &[&[u8]]) -> Vec<u8> {
        [outer.concat().repeat(count - 1), last.concat()].concat()
    }

    fn nodes(count: usize, pads: usize) -> Vec<u8> {
        let pad = NO_PAD.repeat(pads);
        chain(count, &[&[2], &pad, &[1]], &[&[2], &pad, &[0]])
    }

    fn variant(index: u8, name: &str) -> Vec<u8> {
        [&[index][..], &crate::hash::name_hash(name).to_le_bytes()].concat()
    }

    const STACKS: [usize; 5] = [128 * KIB, 512 * KIB, 2048 * KIB, 8192 * KIB, 1 << 28];

    /// Each would overflow the smaller ones of these stacks, and end the process; the largest is enough.
    #[test]
    fn large_values_in_one_another_do_not_overflow_the_stack() {
        let next = [&variant(1, "Next")[..], &[2], &NO_PAD].concat();
        let variants = [next.repeat(119), variant(0, "Last")].concat();
        let branching = chain(80, &[&[2], &NO_PAD, &[1]], &[&[2], &NO_PAD, &[0]]);
        let keyed = chain(80, &[&[2], &NO_PAD, &[1, 7]], &[&[2], &NO_PAD, &[0]]);
        for stack in STACKS {
            // Not even one of the largest would be read on the smallest stack.
            let larger = if stack > STACKS[0] {
                read_on::<Node<[Pad; 4]>>(stack, &nodes(80, 4))
            } else {
                read_on::<Node<Pad>>(stack, &nodes(20, 1))
            };
            let all = [
                larger,
                read_on::<Node<Pad>>(stack, &nodes(80, 1)),
                read_on::<Branching<Pad>>(stack, &branching),
                read_on::<Keyed<Pad>>(stack, &keyed),
                read_on::<Variants<Pad>>(stack, &variants),
            ];
            for (which, read) in all.iter().enumerate() {
                let right = if stack == STACKS[4] { read.is_ok() } else { read.is_ok() || is_refused(read) };
                assert!(right && (stack > STACKS[1] || read.is_err()), "{which} on {stack}: {read:?}");
            }
        }
    }

    /// With any number of small values before it, which leave just more than the margin, or just less.
    #[test]
    fn a_large_value_at_the_end_of_the_stack_is_refused() {
        let large = [variant(1, "Large"), nodes(2, 1)].concat();
        let mut refused = 0;
        for stack in (256..1024).step_by(16) {
            for count in [1, 20, 60, 120] {
                let bytes = [variant(0, "Small").repeat(count), large.clone()].concat();
                let read = read_on::<Surprise>(stack * KIB, &bytes);
                assert!(read.is_ok() || is_refused(&read), "{count} on {stack}: {read:?}");
                refused += usize::from(read.is_err());
            }
        }
        assert!(refused > 0);
        let none = [variant(0, "Small").repeat(60), variant(2, "None")].concat();
        assert_eq!(read_on::<Surprise>(1024 * KIB, &none), Ok(()));
    }

    #[test]
    fn what_the_users_code_takes_of_the_stack_counts() {
        let deep = chain(200, &[&[1]], &[&[0]]);
        for stack in [256 * KIB, 1024 * KIB, 2048 * KIB] {
            assert!(is_refused(&read_on::<Hungry<{ 16 * KIB }>>(stack, &deep)), "{stack}");
            assert!(is_refused(&read_on::<Hungry<{ 90 * KIB }>>(stack, &deep)), "{stack}");
        }
        assert!(is_refused(&read_on::<Hungry<{ 300 * KIB }>>(1024 * KIB, &deep)));
        assert!(is_refused(&read_on::<Hungry<{ 600 * KIB }>>(1024 * KIB, &deep)));
        assert_eq!(read_on::<Hungry<{ 90 * KIB }>>(256 << 20, &deep), Ok(()));
    }

    #[test]
    fn ordinary_values_are_read_on_small_stacks() {
        type Ordinary = (String, Vec<(u32, Option<String>)>, BTreeMap<String, Vec<f64>>, Result<[u8; 32], Box<u64>>);
        let value: Ordinary = (
            "text".into(),
            vec![(1, None), (2, Some("text".into()))],
            BTreeMap::from([("key".into(), vec![1.5; 9])]),
            Ok([7; 32]),
        );
        let mut writer = Writer::new();
        writer.value(&vec![value; 9]).unwrap();
        assert_eq!(read_on::<Vec<Ordinary>>(64 * KIB, &writer.into_bytes()), Ok(()));
    }

    thread_local! {
        static PLACES: Cell<[usize; 2]> = const { Cell::new([0; 2]) };
    }

    /// Notes where on the stack it is read, as the first or the second of two.
    struct Place<const N: usize>;

    impl<'de, const N: usize> Deserialize<'de> for Place<N> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let mut places = PLACES.get();
            places[N] = os::stack_pointer();
            PLACES.set(places);
            u8::deserialize(deserializer).map(|_| Self)
        }
    }

    /// So that the next test sees the stack of a structure alone, and not that of what is around it.
    #[derive(Deserialize)]
    struct Around<P>(Place<0>, #[expect(dead_code, reason = "as the first")] Box<Inner<P>>);

    #[derive(Deserialize)]
    struct Inner<P> {
        #[expect(dead_code, reason = "it only has a size")]
        pad: P,
        #[expect(dead_code, reason = "it is read only")]
        place: Place<1>,
    }

    #[test]
    fn a_value_has_no_more_copies_on_the_stack_than_are_counted() {
        fn copies<P: DeserializeOwned>() -> f64 {
            let bytes = [&[2, 0, 2][..], &vec![0; size_of::<P>()], &[0]].concat();
            let read = move || {
                Reader::new(&bytes).value::<Around<P>>().map(drop).unwrap();
                PLACES.get()
            };
            let [outer, inner] = thread::Builder::new().stack_size(64 << 20).spawn(read).unwrap().join().unwrap();
            (outer - inner) as f64 / size_of::<P>() as f64
        }
        let copies = [copies::<Pad>(), copies::<[Pad; 4]>(), copies::<[Pad; 16]>()];
        println!("{copies:?} of {COPIES}");
        assert!(copies.iter().all(|copies| *copies < COPIES as f64), "{copies:?}");
    }
}
