//! [`Value`]: one value in shared memory, which is whole at any time.

use crate::error::Result;
use crate::objects::Plain;
use crate::objects::committed::{Committed, in_new_memory};
use crate::objects::reference;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// One value in shared memory, which everybody who has it may read and change at any time.
///
/// It is an argument like any other; a clone, and what a task gets, are the same value. Whatever its size, it is always
/// read whole, and [`update`](Self::update) changes it as if at once: nobody else changes it meanwhile, and a process that
/// ends in the middle has not changed it. For integers, [`Atomic`](crate::Atomic) is faster.
///
/// ```no_run
/// use pool_runtime::{Pool, Result, Value, pool_main, task};
///
/// #[task]
/// fn measure(range: &Value<[f64; 2]>, number: f64) {
///     range.update(|[least, most]| {
///         *least = least.min(number);
///         *most = most.max(number);
///     });
/// }
///
/// pool_main!(run);
///
/// fn run() -> Result<()> {
///     let range = Value::new([f64::INFINITY, f64::NEG_INFINITY])?;
///     let pool = Pool::new(2)?;
///     pool.map(|number| measure::call(&range, number), [2.5, -1.0, 8.0])?;
///     assert_eq!(range.get(), [-1.0, 8.0]);
///     Ok(())
/// }
/// ```
///
/// It is freed as an [`Array`](crate::Array) is.
pub struct Value<T> {
    committed: Committed<T>,
}

impl<T: Plain> Value<T> {
    /// A new value.
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files: each `Value` is two.
    pub fn new(value: T) -> Result<Self> {
        in_new_memory(value).map(|committed| Self { committed })
    }

    /// The value. It waits for nobody, unless it is changed again and again meanwhile.
    pub fn get(&self) -> T {
        self.committed.get()
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        self.update(|old| *old = value);
    }

    /// Replaces the value, and returns what it was.
    pub fn replace(&self, value: T) -> T {
        self.update(|old| std::mem::replace(old, value))
    }

    /// Has `change` change the value, and returns what it returns. Others who change it wait meanwhile, and who read it
    /// find the old one.
    ///
    /// ```
    /// let total = pool_runtime::Value::new(40_u128)?;
    /// assert_eq!(total.update(|total| { *total += 2; *total }), 42);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `change` does; then the value is not changed. In a process that was forked without `exec`, if there are no more
    /// file locks. If `change` changes the same value itself, it waits for ever.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        self.committed.change(change)
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self { committed: self.committed.clone() }
    }
}

/// Shows the value.
impl<T: Plain + fmt::Debug> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Value").field(&self.get()).finish()
    }
}

/// Only where handles travel: writes which memory it is, not the value.
impl<T: Plain> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        reference::send::<T, S>("Value", self.committed.region(), serializer)
    }
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de, T: Plain> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let region = reference::receive::<T, D>("Value", deserializer)?;
        Committed::found(&region).map(|committed| Self { committed }).map_err(de::Error::custom)
    }
}
