//! [`Shared`]: values in shared memory, which calls pass without a copy. It is a view of a [`Region`], which travels by
//! its number.

use crate::error::{Error, Result};
use crate::memory::View;
use crate::memory::referred::{find, found};
use crate::memory::region::{Region, register};
use crate::objects::reference::out_of_place;
use crate::os::{self, Draft, Memory};
use bytemuck::{AnyBitPattern, NoUninit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::ops::Deref;
use std::sync::Arc;
use std::{fmt, io};

pub use content::{Shareable, ToShared};

/// Types that can be in shared memory: plain data, whose bytes mean the same in every process.
///
/// Implemented for numbers, arrays of numbers, and every type that derives `bytemuck`'s `NoUninit` and `AnyBitPattern`.
///
/// ```
/// use bytemuck::{AnyBitPattern, NoUninit};
/// use pool_runtime::Shared;
///
/// #[derive(Clone, Copy, NoUninit, AnyBitPattern)]
/// #[repr(C)]
/// struct Point {
///     x: f32,
///     y: f32,
/// }
///
/// let points = Shared::new(&[Point { x: 1.0, y: 2.0 }])?;
/// assert_eq!(points[0].y, 2.0);
/// # Ok::<(), pool_runtime::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot lie in shared memory",
    label = "this type is not plain data",
    note = "only the bytes of a value are shared, so there can be no pointers, no padding and no invalid values in \
            them: derive `bytemuck::NoUninit` and `bytemuck::AnyBitPattern` for the type, or send it as an ordinary \
            argument"
)]
pub trait Plain: NoUninit + AnyBitPattern {}
// Reports the trait itself, once, instead of those of bytemuck that are missing.
#[diagnostic::do_not_recommend]
impl<T: NoUninit + AnyBitPattern> Plain for T {}

/// An immutable slice or string in shared memory: made once, and passed to any number of calls without a copy.
///
/// Use it as any other argument, by itself or inside of one; in the task it is a slice. Whatever its length, a call with
/// it costs no more than one with a few numbers. A clone refers to the same memory. (A `Shared<str>` is read once by
/// each process that receives it, for each call, to see that it is UTF-8.)
///
/// The memory is freed when no clone of it is left, no call that was submitted with it, and no task that has kept it. It
/// has no name, so it is freed even if processes are killed. Until then it is an open file in each process that has it.
///
/// ```
/// use pool_runtime::Shared;
///
/// let primes: Shared<[u32]> = Shared::new(vec![2, 3, 5, 7])?;
/// assert_eq!(primes.len(), 4);
/// assert_eq!(primes.iter().sum::<u32>(), 17);
///
/// let squares = Shared::from_fn(1000, |index| (index * index) as f64)?;
/// assert_eq!(squares[3], 9.0);
///
/// let text: Shared<str> = Shared::new("to be or not to be")?;
/// assert_eq!(text.split(' ').count(), 6);
/// # Ok::<(), pool_runtime::Error>(())
/// ```
///
/// A task may return one: who gets it maps the same memory. From a worker in a sandbox come only those that it was given. It
/// is an error to serialize one for anything but another process of this program.
pub struct Shared<T: Shareable + ?Sized> {
    view: View<T, Region>,
}

impl<T: Shareable + ?Sized> Shared<T> {
    /// Copies values into new shared memory: those of a slice, a vector, an array or a boxed slice, or the bytes of a
    /// string. It takes as long as a clone of them.
    ///
    /// ```
    /// # use pool_runtime::Shared;
    /// let rows = vec![1.0, 2.0, 3.0];
    /// assert_eq!(Shared::new(&rows[1..])?.len(), 2);
    /// assert_eq!(Shared::new(&rows)?.len(), 3);
    /// assert_eq!(Shared::new(rows)?.len(), 3);
    /// assert_eq!(Shared::new(String::from("text"))?.len(), 4);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// There is not enough memory, or the process has too many open files: each `Shared` is one.
    pub fn new(values: impl ToShared<Content = T>) -> Result<Self> {
        values.to_shared()
    }
}

impl<T> Shared<[T]> {
    /// Makes `length` values in new shared memory: `make` returns the one of each index.
    ///
    /// ```
    /// # use pool_runtime::Shared;
    /// let halves = Shared::from_fn(3, |index| index as f32 / 2.0)?;
    /// assert_eq!(*halves, [0.0, 0.5, 1.0]);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// If `make` does.
    pub fn from_fn(length: usize, mut make: impl FnMut(usize) -> T) -> Result<Self>
    where
        T: Plain,
    {
        Self::make(length, |bytes| {
            // Parts of 64 KiB stay in the processor's cache: to copy one costs less than to fill new pages in place.
            let at_once = ((1 << 16) / size_of::<T>().max(1)).max(1);
            let mut draft = Draft::new(bytes)?;
            let mut part = Vec::with_capacity(at_once.min(length));
            for start in (0..length).step_by(at_once) {
                part.clear();
                part.extend((start..length.min(start.saturating_add(at_once))).map(&mut make));
                draft.append(bytemuck::cast_slice(&part))?;
            }
            draft.seal()
        })
    }

    /// Makes `length` values in new shared memory: `fill` is called with a slice of zeros, to be filled in place.
    ///
    /// For values that come in no order; [`from_fn`](Self::from_fn) and [`new`](Self::new) are faster.
    ///
    /// ```
    /// # use pool_runtime::Shared;
    /// let counts = Shared::filled(256, |counts: &mut [u32]| {
    ///     for byte in "to be or not to be".bytes() {
    ///         counts[usize::from(byte)] += 1;
    ///     }
    /// })?;
    /// assert_eq!(counts[usize::from(b'o')], 4);
    /// # Ok::<(), pool_runtime::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// If `fill` does.
    pub fn filled(length: usize, fill: impl FnOnce(&mut [T])) -> Result<Self>
    where
        T: Plain,
    {
        Self::make(length, |size| Memory::create(size, |bytes| fill(bytemuck::cast_slice_mut(bytes))))
    }
}

impl<T: Plain> Shared<[T]> {
    /// `memory` is called with the size of `length` values.
    fn make(length: usize, memory: impl FnOnce(usize) -> io::Result<Memory>) -> Result<Self> {
        let size = bytes_of::<T>(length)?;
        Self::of(register(made(size, memory(size))?)).map_err(Error::invalid)
    }

    fn of(region: Arc<Region>) -> Result<Self, String> {
        let view = View::new(region, |region| bytemuck::try_cast_slice(region.memory().as_bytes()));
        let fail = |error| format!("shared memory does not hold values of `{}`: {error}", std::any::type_name::<T>());
        Ok(Self { view: view.map_err(fail)? })
    }
}

fn made(size: usize, memory: io::Result<Memory>) -> Result<Memory> {
    memory.map_err(|error| Error::os(format!("cannot make {size} bytes of shared memory"), error))
}

/// The size of so many values, if they can be in shared memory.
pub(super) fn bytes_of<T>(length: usize) -> Result<usize> {
    let name = std::any::type_name::<T>();
    if size_of::<T>() == 0 && length > 0 {
        return Err(Error::invalid(format!("`{name}` is a zero-sized type: there is nothing to share")));
    }
    if align_of::<T>() > os::MEMORY_ALIGN {
        return Err(Error::invalid(format!("`{name}` cannot be in shared memory: its alignment is more than a page")));
    }
    let too_much = || Error::os(format!("cannot make shared memory of {length} `{name}`"), io::ErrorKind::OutOfMemory);
    length.checked_mul(size_of::<T>()).ok_or_else(too_much)
}

impl<T: Shareable + ?Sized> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.view
    }
}

impl<T: Shareable + ?Sized> AsRef<T> for Shared<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: Shareable + ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { view: self.view.clone() }
    }
}

/// Shows the type and the length, not the values.
impl<T> fmt::Debug for Shared<[T]> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared<[{}]>({} values)", std::any::type_name::<T>(), self.len())
    }
}

impl<T: Shareable + ?Sized + PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Shareable + ?Sized + Eq> Eq for Shared<T> {}

impl<'s, T> IntoIterator for &'s Shared<[T]> {
    type Item = &'s T;
    type IntoIter = std::slice::Iter<'s, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Plain> TryFrom<&[T]> for Shared<[T]> {
    type Error = Error;

    fn try_from(values: &[T]) -> Result<Self> {
        Self::new(values)
    }
}

impl<T: Plain> TryFrom<Vec<T>> for Shared<[T]> {
    type Error = Error;

    fn try_from(values: Vec<T>) -> Result<Self> {
        Self::new(values)
    }
}

/// Only where handles travel: writes which memory it is, not the values.
impl<T: Plain> Serialize for Shared<[T]> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        send(self.view.holder(), size_of::<T>(), serializer)
    }
}

fn send<S: Serializer>(region: &Arc<Region>, element: usize, serializer: S) -> Result<S::Ok, S::Error> {
    if !found(region) {
        return Err(out_of_place("Shared"));
    }
    (region.id(), region.memory().as_bytes().len() as u64, element as u64).serialize(serializer)
}

/// Only where handles travel: finds the memory that was passed to this process.
impl<'de, T: Plain> Deserialize<'de> for Shared<[T]> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(receive::<T, D>(deserializer)?).map_err(de::Error::custom)
    }
}

/// The memory of elements of type `T`.
fn receive<'de, T, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Region>, D::Error> {
    let (id, length, element) = <(u64, u64, u64)>::deserialize(deserializer)?;
    let (size, name) = (size_of::<T>(), std::any::type_name::<T>());
    if element != size as u64 {
        let why = format!("a `Shared` of elements of {element} bytes is read as one of `{name}`, which has {size}");
        return Err(de::Error::custom(why));
    }
    let region = find(id).map_err(de::Error::custom)?;
    if !region.memory().is_sealed() {
        return Err(de::Error::custom("the memory of a `Shared` is not sealed: it could change"));
    }
    let found = region.memory().as_bytes().len() as u64;
    if found != length {
        let why = format!("the memory of a `Shared` has {found} bytes, and {length} were written");
        return Err(de::Error::custom(why));
    }
    Ok(region)
}

mod content;
#[cfg(test)]
mod tests;
mod text;
