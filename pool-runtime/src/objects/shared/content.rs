//! What can be copied into a [`Shared`], and what is then in it.

use crate::error::Result;
use crate::objects::shared::{Plain, Shared};
use crate::os::Memory;
use std::borrow::Cow;
use std::sync::Arc;

/// What a [`Shared`] is of: a slice, or a string.
///
/// ```
/// use pool_runtime::Shared;
///
/// let numbers: Shared<[u32]> = Shared::new(vec![1, 2])?;
/// let text: Shared<str> = Shared::new("one, two")?;
/// # Ok::<(), pool_runtime::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "a `Shared` is of a slice or of a string, not of `{Self}`",
    label = "neither a slice nor `str`",
    note = "write `Shared<[T]>` for what is in a `Vec<T>`, an array or a boxed slice, and `Shared<str>` for what is in a \
            `String`: `Shared::new` takes each of them"
)]
pub trait Shareable {}

impl<T> Shareable for [T] {}
impl Shareable for str {}

/// What [`Shared::new`] takes: slices, vectors, arrays and boxed slices of [`Plain`] data, and strings, by value or by
/// reference.
///
/// Implement it for a type of your own that keeps such values:
///
/// ```
/// use pool_runtime::{Result, Shared, ToShared};
///
/// struct Matrix {
///     cells: Vec<f64>,
/// }
///
/// impl ToShared for Matrix {
///     type Content = [f64];
///
///     fn to_shared(&self) -> Result<Shared<[f64]>> {
///         self.cells.to_shared()
///     }
/// }
///
/// assert_eq!(Shared::new(&Matrix { cells: vec![0.0; 9] })?.len(), 9);
/// # Ok::<(), pool_runtime::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be copied into a `Shared`",
    label = "neither a slice nor a string",
    note = "`Shared::new` takes slices, vectors, arrays and boxed slices of plain data, and strings"
)]
pub trait ToShared {
    /// What is in the shared memory: `[T]` or `str`.
    type Content: Shareable + ?Sized;

    /// Copies the values into new shared memory.
    ///
    /// # Errors
    ///
    /// As [`Shared::new`].
    fn to_shared(&self) -> Result<Shared<Self::Content>>;
}

impl<T: Plain> ToShared for [T] {
    type Content = Self;

    fn to_shared(&self) -> Result<Shared<Self>> {
        Shared::make(self.len(), |_| Memory::copy(bytemuck::cast_slice(self)))
    }
}

impl<T: Plain, const N: usize> ToShared for [T; N] {
    type Content = [T];

    fn to_shared(&self) -> Result<Shared<[T]>> {
        self.as_slice().to_shared()
    }
}

impl<T: Plain> ToShared for Vec<T> {
    type Content = [T];

    fn to_shared(&self) -> Result<Shared<[T]>> {
        self.as_slice().to_shared()
    }
}

impl ToShared for String {
    type Content = str;

    fn to_shared(&self) -> Result<Shared<str>> {
        self.as_str().to_shared()
    }
}

macro_rules! as_what_it_refers_to {
    ($($reference:ty),*) => {$(
        impl<V: ToShared + ?Sized> ToShared for $reference {
            type Content = V::Content;

            fn to_shared(&self) -> Result<Shared<V::Content>> {
                V::to_shared(self)
            }
        }
    )*};
}

as_what_it_refers_to! { &V, &mut V, Box<V>, Arc<V> }

impl<V: ToShared + ToOwned + ?Sized> ToShared for Cow<'_, V> {
    type Content = V::Content;

    fn to_shared(&self) -> Result<Shared<V::Content>> {
        V::to_shared(self)
    }
}
