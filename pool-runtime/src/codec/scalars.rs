//! Numbers as they are written, without an encoder: see [`Elements::scalars`](super::encode::Elements::scalars).

use crate::codec::Name;
use serde::ser::{self, Impossible, Serialize};
use std::fmt::Display;

/// What is no number, or has another width.
#[derive(Debug)]
pub(super) struct NoScalar;

impl Display for NoScalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it is no number")
    }
}

impl std::error::Error for NoScalar {}

impl ser::Error for NoScalar {
    #[inline]
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// How many bytes a number takes; 0 if it is none. For a number, the compiler knows.
#[inline]
pub(super) fn width_of<T: Serialize>(value: &T) -> usize {
    value.serialize(Width).unwrap_or(0)
}

/// Returns the number's bytes, if it has so many.
#[derive(Clone, Copy)]
pub(super) struct Scalar<const N: usize>;

#[derive(Clone, Copy)]
struct Width;

trait Take: Sized {
    type Taken;
    fn take<const M: usize>(self, bytes: [u8; M]) -> Result<Self::Taken, NoScalar>;
}

impl<const N: usize> Take for Scalar<N> {
    type Taken = [u8; N];
    #[inline(always)]
    fn take<const M: usize>(self, bytes: [u8; M]) -> Result<[u8; N], NoScalar> {
        bytes.as_slice().try_into().map_err(|_| NoScalar)
    }
}

impl Take for Width {
    type Taken = usize;
    #[inline(always)]
    fn take<const M: usize>(self, _: [u8; M]) -> Result<usize, NoScalar> {
        Ok(M)
    }
}

macro_rules! taken {
    ($($method:ident: $type:ty),* $(,)?) => {$(
        #[inline(always)]
        fn $method(self, value: $type) -> Result<Self::Ok, NoScalar> {
            self.take(value.to_le_bytes())
        }
    )*};
}

macro_rules! refused {
    ($($method:ident $(<$generic:ident>)? ($($argument:ty),*) -> $written:ty;)*) => {$(
        #[inline(always)]
        fn $method $(<$generic: Serialize + ?Sized>)? (self, $(_: $argument),*) -> Result<$written, NoScalar> {
            Err(NoScalar)
        }
    )*};
}

type Never<T> = Impossible<T, NoScalar>;

macro_rules! serializer {
    ($([$($generics:tt)*] $name:ty, $taken:ty;)*) => {$(
        impl<$($generics)*> ser::Serializer for $name {
            type Ok = $taken;
            type Error = NoScalar;
            type SerializeSeq = Never<$taken>;
            type SerializeTuple = Never<$taken>;
            type SerializeTupleStruct = Never<$taken>;
            type SerializeTupleVariant = Never<$taken>;
            type SerializeMap = Never<$taken>;
            type SerializeStruct = Never<$taken>;
            type SerializeStructVariant = Never<$taken>;

            taken! {
                serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
                serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
                serialize_f32: f32, serialize_f64: f64,
            }

            #[inline(always)]
            fn serialize_bool(self, value: bool) -> Result<$taken, NoScalar> {
                self.take([value.into()])
            }

            #[inline(always)]
            fn serialize_char(self, value: char) -> Result<$taken, NoScalar> {
                self.take(u32::from(value).to_le_bytes())
            }

            refused! {
                serialize_str(&str) -> $taken;
                serialize_bytes(&[u8]) -> $taken;
                serialize_none() -> $taken;
                serialize_some<T>(&T) -> $taken;
                serialize_unit() -> $taken;
                serialize_unit_struct(Name) -> $taken;
                serialize_unit_variant(Name, u32, Name) -> $taken;
                serialize_newtype_struct<T>(Name, &T) -> $taken;
                serialize_newtype_variant<T>(Name, u32, Name, &T) -> $taken;
                serialize_seq(Option<usize>) -> Never<$taken>;
                serialize_tuple(usize) -> Never<$taken>;
                serialize_tuple_struct(Name, usize) -> Never<$taken>;
                serialize_tuple_variant(Name, u32, Name, usize) -> Never<$taken>;
                serialize_map(Option<usize>) -> Never<$taken>;
                serialize_struct(Name, usize) -> Never<$taken>;
                serialize_struct_variant(Name, u32, Name, usize) -> Never<$taken>;
            }

            fn collect_str<T: Display + ?Sized>(self, _: &T) -> Result<$taken, NoScalar> {
                Err(NoScalar)
            }

            #[inline(always)]
            fn is_human_readable(&self) -> bool {
                false
            }
        }
    )*};
}

serializer! {
    [const N: usize] Scalar<N>, [u8; N];
    [] Width, usize;
}
