//! Decides at compile time how a type is encoded, without specialization.
//!
//! `#[task]` writes `(&&&&&Probe::<T>::new()).encode(…)`. Method look-up tries the receiver type with the most
//! references first, so an implementation for more references wins over one for fewer, and implementations whose
//! bounds the type does not meet are skipped. The ranks, highest first:
//!
//! | rank | types | encoding |
//! |---|---|---|
//! | 4 | slices, vectors and arrays of plain data; `String` | bulk copy |
//! | 4 | results whose error is `io::Error` | serde, see `error/io_error.rs` |
//! | 3 | `str` | as `String`, borrowed from the payload |
//! | 3 | results whose error is boxed, such as `anyhow::Error` | serde, see `error/raised.rs` |
//! | 2 | anything `Serialize + DeserializeOwned`, and slices of those | serde |
//! | 1 | unsized types with such an owned form (`Path`) | serde, borrowed from the owned form |
//! | 1 | results whose error is any other type | refused, by the bound of `check_returned` |
//! | 0 | anything else | refused, by the bound of `check` |

use crate::codec::{CodecError, Coded, Reader, Writer};
use crate::memory::{ShortBytes, cache};
use crate::os;
use bytemuck::{AnyBitPattern, NoUninit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::{Borrow, Cow};
use std::marker::PhantomData;

/// Stands for the type `T` in method look-up.
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
    message = "`{Self}` cannot be an argument of a task or a managed method",
    label = "this type cannot be sent to another process",
    note = "arguments travel to another process as bytes: derive `serde::Serialize` and `serde::Deserialize` for the type, \
            and for every type in it"
)]
pub trait Argument {}
// Reports the trait itself, once, instead of each of serde's traits that is missing.
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Argument for T {}

/// What a task can return: any type that is `Serialize` and `DeserializeOwned`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a task or a managed method",
    label = "this type cannot be sent back from another process",
    note = "results travel back as bytes: derive `serde::Serialize` and `serde::Deserialize` for the type, and for \
            every type in it",
    note = "for an error of another crate, return a `pool_runtime::Report`: `?` converts any error type; for \
            `anyhow::Error`, boxed errors and texts use `.map_err(Report::new)`"
)]
pub trait Returned {}
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Returned for T {}

/// What can be the error in a result of a task, where the value can travel.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task or a managed method",
    label = "the error of this result cannot be sent back from another process",
    note = "return `Result<_, pool_runtime::Report>`, which has the error's messages, its causes and the place: `?` converts \
            any error type; for `anyhow::Error`, boxed errors and texts use `.map_err(Report::new)`",
    note = "an error of your own can travel as it is: derive `serde::Serialize` and `serde::Deserialize` for it, and for \
            every type in it"
)]
pub trait ReturnedError {}
#[diagnostic::do_not_recommend]
impl<E: Serialize + DeserializeOwned> ReturnedError for E {}

/// What a `Result` is made of, whatever its name: the expansion of a constructor that returns an alias of one asks for its
/// error.
pub trait ResultParts {
    /// The type of the error.
    type Error;
}

impl<T, E> ResultParts for Result<T, E> {
    type Error = E;
}

/// Which values are encoded [inline](ShortBytes): numbers, and what is encoded as one.
pub trait Short<T: ?Sized> {
    /// The encoding of the value. None: it needs a buffer.
    #[inline]
    fn short(&self, _: &T) -> Option<ShortBytes> {
        None
    }
}

impl<T: ?Sized> Short<T> for Probe<T> {}

macro_rules! scalars {
    ($($type:ty: $length:literal, $value:pat => $bits:expr),* $(,)?) => {$(
        impl Short<$type> for &Probe<$type> {
            #[inline]
            fn short(&self, value: &$type) -> Option<ShortBytes> {
                let $value = *value;
                Some(ShortBytes::new(u128::from($bits), $length))
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

/// The elements whose bytes these are, however they lie.
pub(super) fn copied<T: AnyBitPattern>(bytes: &[u8]) -> Coded<Vec<T>> {
    let size = size_of::<T>();
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    if size == 0 || !bytes.len().is_multiple_of(size) {
        let name = std::any::type_name::<T>();
        return Err(CodecError::new(format!("{} bytes are not a whole number of `{name}`", bytes.len())));
    }
    let count = bytes.len() / size;
    let mut values = match cache::take(count) {
        Some(values) => values,
        None => {
            let mut values = Vec::new();
            values.try_reserve_exact(count).map_err(|_| CodecError::no_memory(bytes.len()))?;
            os::prefer_huge_pages(values.spare_capacity_mut());
            values
        }
    };
    match bytemuck::try_cast_slice(bytes) {
        Ok(aligned) => values.extend_from_slice(aligned),
        Err(_) => values.extend(bytes.chunks_exact(size).map(bytemuck::pod_read_unaligned::<T>)),
    }
    Ok(values)
}

/// How values of a type are written and read.
pub trait ByValue<T> {
    /// Compiles if the type can be an argument.
    fn check(&self) {}
    /// Compiles if the type can be a result.
    fn check_returned(&self) {}
    /// Appends the value.
    fn encode(&self, value: &T, writer: &mut Writer) -> Coded<()>;
    /// Appends the last value.
    #[inline]
    fn encode_last(&self, value: T, writer: &mut Writer) -> Coded<()> {
        self.encode(&value, writer)
    }
    /// Drops a value that was encoded; its memory may be kept for reuse.
    #[inline]
    fn done(&self, _value: T) {}
    /// Reads the value.
    fn decode(&self, reader: &mut Reader<'_>) -> Coded<T>;
    /// Reads the value for a parameter that is a reference.
    #[inline]
    fn lend(&self, reader: &mut Reader<'_>) -> Coded<T> {
        self.decode(reader)
    }
}

/// How unsized values are written, and borrowed from what is read.
pub trait Lend<T: ?Sized> {
    /// What is read.
    type Lent<'de>: Borrow<T>;
    /// Compiles if the type can be an argument.
    fn check(&self) {}
    /// Appends the value.
    fn encode(&self, value: &T, writer: &mut Writer) -> Coded<()>;
    /// Reads what the value is borrowed from.
    fn lend<'de>(&self, reader: &mut Reader<'de>) -> Coded<Self::Lent<'de>>;
}

impl<T: NoUninit + AnyBitPattern> Lend<[T]> for &&&&Probe<[T]> {
    type Lent<'de> = Cow<'de, [T]>;
    #[inline]
    fn encode(&self, values: &[T], writer: &mut Writer) -> Coded<()> {
        writer.bulk(values)
    }
    #[inline]
    fn lend<'de>(&self, reader: &mut Reader<'de>) -> Coded<Cow<'de, [T]>> {
        let bytes = reader.bulk()?;
        match bytemuck::try_cast_slice(bytes) {
            Ok(values) => Ok(Cow::Borrowed(values)),
            // They are not aligned for the elements.
            Err(_) => copied(bytes).map(Cow::Owned),
        }
    }
}

impl<T: NoUninit + AnyBitPattern> ByValue<Vec<T>> for &&&&Probe<Vec<T>> {
    #[inline]
    fn encode(&self, value: &Vec<T>, writer: &mut Writer) -> Coded<()> {
        writer.bulk(value)
    }
    #[inline]
    fn encode_last(&self, value: Vec<T>, writer: &mut Writer) -> Coded<()> {
        writer.last_bulk(value)
    }
    #[inline]
    fn done(&self, value: Vec<T>) {
        cache::done(value);
    }
    #[inline]
    fn decode(&self, reader: &mut Reader<'_>) -> Coded<Vec<T>> {
        match reader.tail() {
            Some(block) => block.into_elements().or_else(|block| copied(block.bytes())),
            None => copied(reader.bulk()?),
        }
    }
}

impl ByValue<String> for &&&&Probe<String> {
    #[inline]
    fn encode(&self, value: &String, writer: &mut Writer) -> Coded<()> {
        writer.text(value)
    }
    #[inline]
    fn encode_last(&self, value: String, writer: &mut Writer) -> Coded<()> {
        writer.last_text(value)
    }
    #[inline]
    fn done(&self, value: String) {
        cache::done(value.into_bytes());
    }
    #[inline]
    fn decode(&self, reader: &mut Reader<'_>) -> Coded<String> {
        let text = match reader.text()? {
            Cow::Owned(text) => return Ok(text),
            Cow::Borrowed(text) => text,
        };
        let mut owned = cache::take(text.len()).and_then(|memory| String::from_utf8(memory).ok()).unwrap_or_default();
        owned.try_reserve_exact(text.len()).map_err(|_| CodecError::no_memory(text.len()))?;
        owned.push_str(text);
        Ok(owned)
    }
}

impl<T: NoUninit + AnyBitPattern, const N: usize> ByValue<[T; N]> for &&&&Probe<[T; N]> {
    #[inline]
    fn encode(&self, value: &[T; N], writer: &mut Writer) -> Coded<()> {
        writer.bulk(value)
    }
    #[inline]
    fn decode(&self, reader: &mut Reader<'_>) -> Coded<[T; N]> {
        let values: Vec<T> = copied(reader.bulk()?)?;
        let found = values.len();
        values.try_into().map_err(|_| CodecError::new(format!("an array of {N} elements was written with {found}")))
    }
}

impl Lend<str> for &&&Probe<str> {
    type Lent<'de> = Cow<'de, str>;
    #[inline]
    fn encode(&self, value: &str, writer: &mut Writer) -> Coded<()> {
        writer.text(value)
    }
    #[inline]
    fn lend<'de>(&self, reader: &mut Reader<'de>) -> Coded<Cow<'de, str>> {
        reader.text()
    }
}

impl<T: Serialize + DeserializeOwned> ByValue<T> for &&Probe<T> {
    #[inline]
    fn encode(&self, value: &T, writer: &mut Writer) -> Coded<()> {
        writer.value(value)
    }
    #[inline]
    fn decode(&self, reader: &mut Reader<'_>) -> Coded<T> {
        reader.value()
    }
}

impl<T: Serialize + DeserializeOwned> Lend<[T]> for &&Probe<[T]> {
    type Lent<'de> = Vec<T>;
    #[inline]
    fn encode(&self, values: &[T], writer: &mut Writer) -> Coded<()> {
        writer.value(values)
    }
    #[inline]
    fn lend(&self, reader: &mut Reader<'_>) -> Coded<Vec<T>> {
        reader.value()
    }
}

impl<T: ?Sized + Serialize + ToOwned<Owned: DeserializeOwned>> Lend<T> for &Probe<T> {
    type Lent<'de> = T::Owned;
    #[inline]
    fn encode(&self, value: &T, writer: &mut Writer) -> Coded<()> {
        writer.value(value)
    }
    #[inline]
    fn lend(&self, reader: &mut Reader<'_>) -> Coded<T::Owned> {
        reader.value()
    }
}

/// The ranks that refuse a type.
pub mod rank0 {
    use super::*;

    /// As [`Refused`], of rank 1: the error of a result is to blame.
    #[expect(missing_docs, reason = "the checks do not compile, and the rest is never called")]
    pub trait RefusedError<T, E> {
        fn check(&self)
        where
            Result<T, E>: Argument,
        {
        }
        fn check_returned(&self)
        where
            E: ReturnedError,
        {
        }
        fn encode(&self, _: &Result<T, E>, _: &mut Writer) -> Coded<()> {
            Err(CodecError::new("the type cannot travel"))
        }
        fn encode_last(&self, _: Result<T, E>, _: &mut Writer) -> Coded<()> {
            Err(CodecError::new("the type cannot travel"))
        }
        fn done(&self, _: Result<T, E>) {}
        fn decode(&self, _: &mut Reader<'_>) -> Coded<Result<T, E>> {
            Err(CodecError::new("the type cannot travel"))
        }
        fn lend(&self, _: &mut Reader<'_>) -> Coded<Result<T, E>> {
            Err(CodecError::new("the type cannot travel"))
        }
    }

    impl<T: Serialize + DeserializeOwned, E> RefusedError<T, E> for &Probe<Result<T, E>> {}

    /// The end of the look-up: the bounds of the checks refuse the type.
    #[expect(missing_docs, reason = "the checks do not compile, and the rest is never called")]
    pub trait Refused<T: ?Sized> {
        fn check(&self)
        where
            T: Argument,
        {
        }
        fn check_returned(&self)
        where
            T: Returned,
        {
        }
        fn encode(&self, _: &T, _: &mut Writer) -> Coded<()> {
            Err(CodecError::new("the type cannot travel"))
        }
        fn encode_last<V>(&self, _: V, _: &mut Writer) -> Coded<()> {
            Err(CodecError::new("the type cannot travel"))
        }
        fn done<V>(&self, _: V) {}
        fn decode(&self, _: &mut Reader<'_>) -> Coded<T>
        where
            T: Sized,
        {
            Err(CodecError::new("the type cannot travel"))
        }
        fn lend(&self, _: &mut Reader<'_>) -> Coded<Box<T>> {
            Err(CodecError::new("the type cannot travel"))
        }
    }

    impl<T: ?Sized> Refused<T> for Probe<T> {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_encoded_as_serde_encodes_them() {
        macro_rules! check {
            ($($value:expr => $type:ty),* $(,)?) => {$(
                let value: $type = $value;
                let mut writer = Writer::new();
                writer.value(&value).unwrap();
                let short = (&&Probe::<$type>::new()).short(&value);
                match short {
                    Some(short) => assert_eq!(*short, *writer.into_bytes()),
                    None => assert!(size_of::<$type>() > ShortBytes::MOST),
                }
            )*};
        }
        check! {
            0 => u8, 255 => u8, -1 => i8, 0x1234 => u16, -2 => i16, 0x1234_5678 => u32, i32::MIN => i32, u64::MAX => u64,
            -3 => i64, 7 => usize, -7 => isize, 1.5 => f32, -0.1 => f64, true => bool, false => bool, 'é' => char,
            u128::MAX => u128, -1 => i128, () => (),
        }
    }

    #[test]
    fn what_is_too_long_is_not_short() {
        let short = |length: usize| ShortBytes::copy(&(1..=length as u8).collect::<Vec<_>>());
        for (first, second) in (0..=15).flat_map(|first| (0..=15).map(move |second| (first, second))) {
            let both = short(first).unwrap().and(short(second));
            let expected: Vec<u8> = (1..=first as u8).chain(1..=second as u8).collect();
            assert_eq!(both.as_deref(), (expected.len() <= ShortBytes::MOST).then_some(&*expected));
        }
        assert!(short(16).is_none());
        assert!(Probe::<str>::new().short("text").is_none());
        assert!(Probe::<[u64]>::new().short(&[1]).is_none());
        assert!(Probe::<Vec<u8>>::new().short(&vec![1]).is_none());
    }
}
