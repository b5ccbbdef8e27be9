//! [`Array`]: values in shared memory that every process that has it may write.

use crate::error::{Error, Result};
use crate::objects::Plain;
use crate::objects::written::Written;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// A fixed number of values in shared memory, which everybody who has it may read and write at any time.
///
/// It is an argument like any other; a clone, and what a task gets, refer to the same memory. What one process writes
/// another one sees. Values are copied in and out: nobody can borrow what others may change.
///
/// Nothing here waits: two that write the same value at a time leave one of theirs. A value of one, two, four or eight
/// bytes is always whole; one of another size can be read half old and half new, unless its writer is known to have
/// written it, for example as its task has returned. Give each writer a [part](Self::split) of its own, or count with
/// an [`Atomic`](crate::Atomic).
///
/// ```no_run
/// use pool_runtime::{Array, Pool, Result, pool_main, task};
///
/// #[task]
/// fn square_all(numbers: Array<u64>) {
///     for index in 0..numbers.len() {
///         numbers.set(index, numbers.get(index).pow(2));
///     }
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let numbers = Array::from_fn(1000, |index| index as u64)?;
///     let pool = Pool::new(4)?;
///     pool.map(square_all::call, numbers.split(4))?;
///     assert_eq!(numbers.get(999), 998_001);
///     Ok(())
/// }
/// ```
///
/// The memory is freed when no clone or part of it is left, no call that was submitted with it, and no task that has kept
/// it, however their processes end. Until then it is an open file in each process that has it.
pub struct Array<T> {
    all: Written<T>,
    /// The first of the values that belong to this part, and their number.
    start: usize,
    length: usize,
}

/// So many values are made at a time.
const AT_ONCE: usize = 1 << 12;

impl<T: Plain> Array<T> {
    /// As many values, all of whose bytes are zero.
    ///
    /// ```
    /// let sums = pool_runtime::Array::<f64>::zeroed(100)?;
    /// assert_eq!(sums.get(99), 0.0);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files: each `Array` is one.
    pub fn zeroed(length: usize) -> Result<Self> {
        Ok(Self { all: Written::new(length)?, start: 0, length })
    }

    /// Copies values into new shared memory.
    ///
    /// # Errors
    ///
    /// As [`zeroed`](Self::zeroed).
    pub fn new(values: &[T]) -> Result<Self> {
        Ok(Self { all: Written::copy(values)?, start: 0, length: values.len() })
    }

    /// Makes as many values: `make` returns the one of each index.
    ///
    /// # Errors
    ///
    /// As [`zeroed`](Self::zeroed).
    ///
    /// # Panics
    ///
    /// If `make` does.
    pub fn from_fn(length: usize, mut make: impl FnMut(usize) -> T) -> Result<Self> {
        let array = Self::zeroed(length)?;
        let mut part = Vec::with_capacity(AT_ONCE.min(length));
        for start in (0..length).step_by(AT_ONCE) {
            part.clear();
            part.extend((start..length.min(start + AT_ONCE)).map(&mut make));
            array.store(start, &part);
        }
        Ok(array)
    }

    /// The value at an index.
    ///
    /// # Panics
    ///
    /// If the array is not as long.
    #[track_caller]
    pub fn get(&self, index: usize) -> T {
        let mut value = [T::zeroed()];
        self.load(index, &mut value);
        value[0]
    }

    /// Replaces the value at an index.
    ///
    /// # Panics
    ///
    /// If the array is not as long.
    #[track_caller]
    pub fn set(&self, index: usize, value: T) {
        self.store(index, &[value]);
    }

    /// Copies values out of the array, from an index on.
    ///
    /// # Panics
    ///
    /// If the array has not as many from there on.
    #[track_caller]
    pub fn load(&self, from: usize, values: &mut [T]) {
        self.check(from, values.len());
        self.all.load(self.start + from, values);
    }

    /// Copies values into the array, from an index on.
    ///
    /// ```
    /// let array = pool_runtime::Array::<u8>::zeroed(6)?;
    /// array.store(2, b"abc");
    /// assert_eq!(array.to_vec(), *b"\0\0abc\0");
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the array has not as many from there on.
    #[track_caller]
    pub fn store(&self, from: usize, values: &[T]) {
        self.check(from, values.len());
        self.all.store(self.start + from, values);
    }

    /// Sets all values to one.
    pub fn fill(&self, value: T) {
        let part = vec![value; AT_ONCE.min(self.length)];
        for start in (0..self.length).step_by(AT_ONCE) {
            self.store(start, &part[..AT_ONCE.min(self.length - start)]);
        }
    }

    /// A copy of all values.
    pub fn to_vec(&self) -> Vec<T> {
        let mut values = vec![T::zeroed(); self.length];
        self.load(0, &mut values);
        values
    }

    #[track_caller]
    fn check(&self, from: usize, count: usize) {
        let (length, end) = (self.length, from.saturating_add(count));
        match count {
            1 => assert!(from < length, "index {from} is out of range for an `Array` of {length} values"),
            _ => assert!(end <= length, "range {from}..{end} is out of range for an `Array` of {length} values"),
        }
    }
}

impl<T> Array<T> {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// As many parts, which are as equal in length as can be and have no value in common: one for each worker. Each is an
    /// array of its own over the same memory, whose first index is 0.
    ///
    /// ```
    /// let array = pool_runtime::Array::new(&[1_u8, 2, 3, 4, 5])?;
    /// let parts = array.split(2);
    /// assert_eq!((parts[0].to_vec(), parts[1].to_vec()), (vec![1, 2], vec![3, 4, 5]));
    /// parts[1].set(0, 9);
    /// assert_eq!(array.get(2), 9);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `parts` is 0.
    #[track_caller]
    pub fn split(&self, parts: usize) -> Vec<Self> {
        assert!(parts > 0, "an `Array` cannot be split into no parts");
        let at = |part: usize| (part as u128 * self.length as u128 / parts as u128) as usize;
        (0..parts).map(|part| self.part(at(part), at(part + 1))).collect()
    }

    /// Parts of `length` values each; the last one may be shorter.
    ///
    /// # Panics
    ///
    /// If `length` is 0.
    #[track_caller]
    pub fn chunks(&self, length: usize) -> Vec<Self> {
        assert!(length > 0, "the parts of an `Array` cannot have no values");
        let starts = (0..self.length).step_by(length);
        starts.map(|start| self.part(start, self.length.min(start.saturating_add(length)))).collect()
    }

    fn part(&self, from: usize, to: usize) -> Self {
        Self { all: self.all.clone(), start: self.start + from, length: to - from }
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        self.part(0, self.length)
    }
}

/// Shows the type and the length, not the values.
impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array<{}>({} values)", std::any::type_name::<T>(), self.length)
    }
}

impl<T: Plain> TryFrom<&[T]> for Array<T> {
    type Error = Error;

    fn try_from(values: &[T]) -> Result<Self> {
        Self::new(values)
    }
}

/// The memory of an array, of which it is a part.
struct Whole<T>(Written<T>);

impl<T> Serialize for Whole<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.send("Array", serializer)
    }
}

impl<'de, T> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Written::receive("Array", deserializer).map(Self)
    }
}

/// Only where handles travel: writes which memory it is, not the values.
impl<T: Plain> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (Whole(self.all.clone()), self.start as u64, self.length as u64).serialize(serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de, T: Plain> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Whole(all), start, length) = <(Whole<T>, u64, u64)>::deserialize(deserializer)?;
        let whole = all.length() as u64;
        if start.checked_add(length).is_none_or(|end| end > whole) {
            let why = format!("{length} values from {start} on of an `Array` that has {whole}");
            return Err(de::Error::custom(why));
        }
        Ok(Self { all, start: start as usize, length: length as usize })
    }
}
