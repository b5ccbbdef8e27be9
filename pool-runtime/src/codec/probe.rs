//! Picks the way a type travels, at compile time, without specialization.
//!
//! `#[task]` writes `(&&&&&Probe::<T>::new()).encode(…)`. Method look-up tries the receiver type with the most
//! references first, so an implementation for more references wins over one for fewer, and implementations whose
//! bounds the type does not meet are passed over. The ranks, highest first:
//!
//! | rank | types | way |
//! |---|---|---|
//! | 4 | slices, vectors and arrays of plain data; `String` | bulk copy |
//! | 3 | `str` | serde, lent in place |
//! | 2 | anything `Serialize + DeserializeOwned`, and slices of those | serde |
//! | 1 | unsized types with such an owned form (`Path`) | serde, lent from the owned form |
//! | 0 | anything else | refused, by the bound of `check` |

use crate::codec::{CodecError, Reader, Writer};
use crate::memory::cache;
use crate::os;
use bytemuck::{AnyBitPattern, NoUninit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::{Borrow, Cow};
use std::marker::PhantomData;

/// Stands for the type `T` while its way is looked up.
#[derive(Debug)]
pub struct Probe<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> Probe<T> {
    /// The probe of `T`.
    #[expect(clippy::new_without_default, reason = "made by the macro alone")]
    #[inline]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// What can be a parameter of a task: any type that is `Serialize` and `DeserializeOwned`, or a borrow of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a task",
    label = "this type cannot be sent to another process",
    note = "arguments travel to the worker as bytes: derive `serde::Serialize` and `serde::Deserialize` for the type, \
            and for every type in it"
)]
pub trait Argument {}
// Reports the trait itself, once, instead of each of serde's traits that is missing.
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Argument for T {}

/// What a task can return: any type that is `Serialize` and `DeserializeOwned`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a task",
    label = "this type cannot be sent back from another process",
    note = "results travel back as bytes: derive `serde::Serialize` and `serde::Deserialize` for the type, and for \
            every type in it"
)]
pub trait Returned {}
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Returned for T {}

/// A number, or what is encoded as one.
pub trait Scalar: Copy {
    /// How many bytes it is encoded as.
    const LENGTH: usize;
    /// The bytes, the first one lowest.
    fn bits(self) -> u128;
}

macro_rules! scalars {
    ($($type:ty: $length:literal, $value:pat => $bits:expr),* $(,)?) => {$(
        impl Scalar for $type {
            const LENGTH: usize = $length;
            #[inline]
            fn bits(self) -> u128 {
                let $value = self;
                u128::from($bits)
            }
        }
    )*};
}

scalars! {
    (): 0, () => 0_u8, bool: 1, is => u8::from(is), char: 4, c => u32::from(c),
    u8: 1, n => n, u16: 2, n => n, u32: 4, n => n, u64: 8, n => n, usize: 8, n => n as u64,
    i8: 1, n => n.cast_unsigned(), i16: 2, n => n.cast_unsigned(), i32: 4, n => n.cast_unsigned(),
    i64: 8, n => n.cast_unsigned(), isize: 8, n => (n as i64).cast_unsigned(),
    f32: 4, n => n.to_bits(), f64: 8, n => n.to_bits(),
}

/// A slice of plain data that is read where it lies, or copied where it lies unaligned.
#[derive(Debug)]
pub enum LentSlice<'de, T> {
    /// In the payload itself.
    InPlace(&'de [T]),
    /// A copy.
    Copied(Vec<T>),
}

impl<T> Borrow<[T]> for LentSlice<'_, T> {
    fn borrow(&self) -> &[T] {
        match self {
            Self::InPlace(slice) => slice,
            Self::Copied(vec) => vec,
        }
    }
}

fn copied<T: AnyBitPattern>(bytes: &[u8]) -> Result<Vec<T>, CodecError> {
    let size = size_of::<T>();
    if size == 0 || !bytes.len().is_multiple_of(size) {
        return match bytes {
            [] => Ok(Vec::new()),
            _ => Err(CodecError::new(format!(
                "{} bytes are no whole number of `{}`",
                bytes.len(),
                std::any::type_name::<T>()
            ))),
        };
    }
    let count = bytes.len() / size;
    let mut values = cache::take(count).unwrap_or_else(|| {
        let mut values = Vec::with_capacity(count);
        os::prefer_huge_pages(values.spare_capacity_mut());
        values
    });
    match bytemuck::try_cast_slice(bytes) {
        Ok(aligned) => values.extend_from_slice(aligned),
        Err(_) => values.extend(bytes.chunks_exact(size).map(bytemuck::pod_read_unaligned::<T>)),
    }
    Ok(values)
}

/// Rank 4.
pub mod rank4 {
    use super::*;

    /// Bulk copies of slices.
    pub trait BulkSlice<T> {
        /// Passes: the type can travel.
        fn check(&self) {}
        /// Appends the elements.
        fn encode(&self, values: &[T], writer: &mut Writer) -> Result<(), CodecError>;
        /// The elements, where they lie if they are aligned.
        fn lend<'de>(&self, reader: &mut Reader<'de>) -> Result<LentSlice<'de, T>, CodecError>;
    }

    impl<T: NoUninit + AnyBitPattern> BulkSlice<T> for &&&&Probe<[T]> {
        #[inline]
        fn encode(&self, values: &[T], writer: &mut Writer) -> Result<(), CodecError> {
            writer.bulk(values)
        }
        #[inline]
        fn lend<'de>(&self, reader: &mut Reader<'de>) -> Result<LentSlice<'de, T>, CodecError> {
            let bytes = reader.bulk()?;
            match bytemuck::try_cast_slice(bytes) {
                Ok(values) => Ok(LentSlice::InPlace(values)),
                Err(_) => copied(bytes).map(LentSlice::Copied),
            }
        }
    }

    /// Bulk copies of values.
    pub trait BulkValue<T> {
        /// Passes: the type can travel.
        fn check(&self) {}
        /// Passes: the type can travel.
        fn check_returned(&self) {}
        /// Appends the value.
        fn encode(&self, value: &T, writer: &mut Writer) -> Result<(), CodecError>;
        /// Appends the value, after which nothing is appended.
        #[inline]
        fn encode_last(&self, value: T, writer: &mut Writer) -> Result<(), CodecError> {
            self.encode(&value, writer)
        }
        /// The value was encoded, and is not needed any more.
        #[inline]
        fn done(&self, _value: T) {}
        /// Reads the value.
        fn decode(&self, reader: &mut Reader<'_>) -> Result<T, CodecError>;
        /// Reads the value, to be lent.
        #[inline]
        fn lend(&self, reader: &mut Reader<'_>) -> Result<T, CodecError> {
            self.decode(reader)
        }
    }

    impl<T: NoUninit + AnyBitPattern> BulkValue<Vec<T>> for &&&&Probe<Vec<T>> {
        #[inline]
        fn encode(&self, value: &Vec<T>, writer: &mut Writer) -> Result<(), CodecError> {
            writer.bulk(value)
        }
        #[inline]
        fn encode_last(&self, value: Vec<T>, writer: &mut Writer) -> Result<(), CodecError> {
            writer.last_bulk(value)
        }
        #[inline]
        fn done(&self, value: Vec<T>) {
            cache::done(value);
        }
        #[inline]
        fn decode(&self, reader: &mut Reader<'_>) -> Result<Vec<T>, CodecError> {
            match reader.tail() {
                Some(block) => block.into_elements().or_else(|block| copied(block.bytes())),
                None => copied(reader.bulk()?),
            }
        }
    }

    impl BulkValue<String> for &&&&Probe<String> {
        #[inline]
        fn encode(&self, value: &String, writer: &mut Writer) -> Result<(), CodecError> {
            writer.text(value)
        }
        #[inline]
        fn encode_last(&self, value: String, writer: &mut Writer) -> Result<(), CodecError> {
            writer.last_text(value)
        }
        #[inline]
        fn done(&self, value: String) {
            cache::done(value.into_bytes());
        }
        #[inline]
        fn decode(&self, reader: &mut Reader<'_>) -> Result<String, CodecError> {
            let text = match reader.text()? {
                Cow::Owned(text) => return Ok(text),
                Cow::Borrowed(text) => text,
            };
            let mut owned =
                cache::take(text.len()).and_then(|memory| String::from_utf8(memory).ok()).unwrap_or_default();
            owned.push_str(text);
            Ok(owned)
        }
    }

    impl<T: NoUninit + AnyBitPattern, const N: usize> BulkValue<[T; N]> for &&&&Probe<[T; N]> {
        #[inline]
        fn encode(&self, value: &[T; N], writer: &mut Writer) -> Result<(), CodecError> {
            writer.bulk(value)
        }
        #[inline]
        fn decode(&self, reader: &mut Reader<'_>) -> Result<[T; N], CodecError> {
            let values: Vec<T> = copied(reader.bulk()?)?;
            let found = values.len();
            values.try_into().map_err(|_| CodecError::new(format!("an array of {N} elements was written with {found}")))
        }
    }
}

/// Rank 3.
pub mod rank3 {
    use super::*;

    /// Strings, lent in place.
    pub trait Text {
        /// Passes: the type can travel.
        fn check(&self) {}
        /// Appends the string.
        fn encode(&self, value: &str, writer: &mut Writer) -> Result<(), CodecError>;
        /// The string where it lies.
        fn lend<'de>(&self, reader: &mut Reader<'de>) -> Result<Cow<'de, str>, CodecError>;
    }

    impl Text for &&&Probe<str> {
        #[inline]
        fn encode(&self, value: &str, writer: &mut Writer) -> Result<(), CodecError> {
            writer.text(value)
        }
        #[inline]
        fn lend<'de>(&self, reader: &mut Reader<'de>) -> Result<Cow<'de, str>, CodecError> {
            reader.text()
        }
    }
}

/// Rank 2.
pub mod rank2 {
    use super::*;

    /// Values through serde.
    pub trait Value<T> {
        /// Passes: the type can travel.
        fn check(&self) {}
        /// Passes: the type can travel.
        fn check_returned(&self) {}
        /// Appends the value.
        fn encode(&self, value: &T, writer: &mut Writer) -> Result<(), CodecError>;
        /// Appends the value, after which nothing is appended.
        #[inline]
        fn encode_last(&self, value: T, writer: &mut Writer) -> Result<(), CodecError> {
            self.encode(&value, writer)
        }
        /// The value was encoded, and is not needed any more.
        #[inline]
        fn done(&self, _value: T) {}
        /// Reads the value.
        fn decode(&self, reader: &mut Reader<'_>) -> Result<T, CodecError>;
        /// Reads the value, to be lent.
        #[inline]
        fn lend(&self, reader: &mut Reader<'_>) -> Result<T, CodecError> {
            self.decode(reader)
        }
    }

    impl<T: Serialize + DeserializeOwned> Value<T> for &&Probe<T> {
        #[inline]
        fn encode(&self, value: &T, writer: &mut Writer) -> Result<(), CodecError> {
            writer.value(value)
        }
        #[inline]
        fn decode(&self, reader: &mut Reader<'_>) -> Result<T, CodecError> {
            reader.value()
        }
    }

    /// Slices through serde, lent from a vector.
    pub trait ValueSlice<T> {
        /// Passes: the type can travel.
        fn check(&self) {}
        /// Appends the elements.
        fn encode(&self, values: &[T], writer: &mut Writer) -> Result<(), CodecError>;
        /// Reads the elements.
        fn lend(&self, reader: &mut Reader<'_>) -> Result<Vec<T>, CodecError>;
    }

    impl<T: Serialize + DeserializeOwned> ValueSlice<T> for &&Probe<[T]> {
        #[inline]
        fn encode(&self, values: &[T], writer: &mut Writer) -> Result<(), CodecError> {
            writer.value(values)
        }
        #[inline]
        fn lend(&self, reader: &mut Reader<'_>) -> Result<Vec<T>, CodecError> {
            reader.value()
        }
    }
}

/// Rank 1.
pub mod rank1 {
    use super::*;

    /// Unsized values that are lent from their owned form.
    pub trait Owned<T: ?Sized> {
        /// The owned form.
        type Held: Borrow<T>;
        /// Passes: the type can travel.
        fn check(&self) {}
        /// Appends the value.
        fn encode(&self, value: &T, writer: &mut Writer) -> Result<(), CodecError>;
        /// Reads the owned form.
        fn lend(&self, reader: &mut Reader<'_>) -> Result<Self::Held, CodecError>;
    }

    impl<T: ?Sized + Serialize + ToOwned<Owned: DeserializeOwned>> Owned<T> for &Probe<T> {
        type Held = T::Owned;
        #[inline]
        fn encode(&self, value: &T, writer: &mut Writer) -> Result<(), CodecError> {
            writer.value(value)
        }
        #[inline]
        fn lend(&self, reader: &mut Reader<'_>) -> Result<T::Owned, CodecError> {
            reader.value()
        }
    }
}

/// Rank 0.
pub mod rank0 {
    use super::*;

    /// The end of the look-up: a type that cannot travel is refused by a bound, with a sentence.
    pub trait Refused<T: ?Sized> {
        /// Does not compile.
        fn check(&self)
        where
            T: Argument,
        {
        }
        /// Does not compile.
        fn check_returned(&self)
        where
            T: Returned,
        {
        }
        /// Never called, as `check` stands beside it.
        #[inline]
        fn encode(&self, _: &T, _: &mut Writer) -> Result<(), CodecError> {
            Err(CodecError::new("the type cannot travel"))
        }
        /// Never called, as `check` stands beside it.
        #[inline]
        fn encode_last(&self, _: T, _: &mut Writer) -> Result<(), CodecError>
        where
            T: Sized,
        {
            Err(CodecError::new("the type cannot travel"))
        }
        /// Never called, as `check` stands beside it.
        #[inline]
        fn done(&self, _: T)
        where
            T: Sized,
        {
        }
        /// Never called, as `check` stands beside it.
        #[inline]
        fn decode(&self, _: &mut Reader<'_>) -> Result<T, CodecError>
        where
            T: Sized,
        {
            Err(CodecError::new("the type cannot travel"))
        }
        /// Never called, as `check` stands beside it.
        #[inline]
        fn lend(&self, _: &mut Reader<'_>) -> Result<Box<T>, CodecError> {
            Err(CodecError::new("the type cannot travel"))
        }
    }

    impl<T: ?Sized> Refused<T> for Probe<T> {}
}
