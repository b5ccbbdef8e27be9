//! [`Atomic`]: an atomic integer in shared memory.

use crate::error::{Error, Result};
use crate::memory::View;
use crate::memory::region::Region;
use crate::objects::Plain;
use crate::objects::written::Written;
use crate::os::Word;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::ops::Deref;
use std::sync::atomic;

/// Integers that have a type in [`std::sync::atomic`]: those of up to 64 bits.
///
/// It is implemented for `u8` to `u64`, `i8` to `i64`, `usize` and `isize`, and cannot be for other types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an atomic integer",
    note = "an `Atomic` is one of `u8` to `u64`, `i8` to `i64`, `usize` and `isize`; an `Array` has values of other types"
)]
pub trait AtomicInteger: Plain + private::HasAtomic {
    /// Its type in [`std::sync::atomic`].
    type Atomic: Word + fmt::Debug;
}

mod private {
    pub trait HasAtomic {}
}

macro_rules! integers {
    ($($integer:ty: $atomic:ident),*) => {$(
        impl private::HasAtomic for $integer {}
        impl AtomicInteger for $integer {
            type Atomic = atomic::$atomic;
        }
    )*};
}

integers!(u8: AtomicU8, u16: AtomicU16, u32: AtomicU32, u64: AtomicU64, usize: AtomicUsize);
integers!(i8: AtomicI8, i16: AtomicI16, i32: AtomicI32, i64: AtomicI64, isize: AtomicIsize);

/// An atomic integer in shared memory, which everybody who has it may change.
///
/// It dereferences to the type of [`std::sync::atomic`], which has its methods: `Atomic<u64>` to
/// [`AtomicU64`](std::sync::atomic::AtomicU64). It is an argument like any other; a clone, and what a task gets, are the
/// same integer. What a process changed stays, however it ends.
///
/// ```no_run
/// use pool_runtime::{Atomic, Pool, Result, pool_main, task};
/// use std::sync::atomic::Ordering::Relaxed;
///
/// #[task]
/// fn count_zeros(numbers: Vec<u8>, zeros: Atomic<u64>) {
///     zeros.fetch_add(numbers.iter().filter(|number| **number == 0).count() as u64, Relaxed);
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let zeros = Atomic::new(0_u64)?;
///     let pool = Pool::new(2)?;
///     pool.map(|numbers| count_zeros::call(numbers, zeros.clone()), [vec![0, 1, 0], vec![2, 0]])?;
///     assert_eq!(zeros.load(Relaxed), 3);
///     Ok(())
/// }
/// ```
///
/// It is freed as an [`Array`](crate::Array) is. To count many things, one `Array` with a part for each worker costs less
/// than many of these: each is an open file.
pub struct Atomic<T: AtomicInteger> {
    integer: View<T::Atomic, Region>,
    memory: Written<T>,
}

impl<T: AtomicInteger> Atomic<T> {
    /// A new integer.
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files: each `Atomic` is one.
    pub fn new(value: T) -> Result<Self> {
        let memory = Written::new(1)?;
        memory.store(0, &[value]);
        Self::of(memory).map_err(Error::invalid)
    }

    fn of(memory: Written<T>) -> Result<Self, String> {
        let integer = View::new(memory.region().clone(), |region| region.memory().words().first().ok_or(NO_ROOM))?;
        Ok(Self { integer, memory })
    }
}

impl<T: AtomicInteger> Deref for Atomic<T> {
    type Target = T::Atomic;

    #[inline]
    fn deref(&self) -> &T::Atomic {
        &self.integer
    }
}

impl<T: AtomicInteger> Clone for Atomic<T> {
    fn clone(&self) -> Self {
        Self { integer: self.integer.clone(), memory: self.memory.clone() }
    }
}

/// Shows the value.
impl<T: AtomicInteger> fmt::Debug for Atomic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Atomic({:?})", **self)
    }
}

const NO_ROOM: &str = "the memory of an `Atomic` has no room for an integer";

/// Only where handles travel: writes which memory it is, not the value.
impl<T: AtomicInteger> Serialize for Atomic<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.memory.send("Atomic", serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de, T: AtomicInteger> Deserialize<'de> for Atomic<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Written::receive("Atomic", deserializer).and_then(|memory| Self::of(memory).map_err(de::Error::custom))
    }
}
