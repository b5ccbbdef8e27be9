//! The serde serializer: see the table in [`super`] for the format.

use crate::codec::{CodecError, Coded, JSON, MAX_DEPTH, Name, scalars};
use crate::hash::name_hash;
use crate::os::prefer_huge_pages;
use serde::ser::{self, Serialize};

/// Appends `value` to `out`. After an error, `out` ends in an incomplete value.
#[inline]
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Coded<()> {
    value.serialize(&mut Encoder { out, depth: 0 })
}

struct Encoder<'o> {
    out: &'o mut Vec<u8>,
    depth: u32,
}

impl Encoder<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Coded<()> {
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn length(&mut self, mut left: usize) -> &mut Self {
        while left >= 0x80 {
            self.out.push(left as u8 | 0x80);
            left >>= 7;
        }
        self.out.push(left as u8);
        self
    }

    fn variant(&mut self, index: u32, name: &str) -> Coded<()> {
        self.length(index as usize).put(&name_hash(name).to_le_bytes())
    }

    /// Writes a value that is inside of another one.
    fn inner<T: Serialize + ?Sized>(&mut self, value: &T) -> Coded<()> {
        self.enter()?;
        let written = value.serialize(&mut *self);
        self.depth -= 1;
        written
    }

    fn enter(&mut self) -> Coded<()> {
        if self.depth == MAX_DEPTH {
            return Err(CodecError::too_deep());
        }
        self.depth += 1;
        Ok(())
    }
}

impl ser::Error for CodecError {
    fn custom<T: std::fmt::Display>(reason: T) -> Self {
        Self::said(reason)
    }
}

/// Methods without type parameters.
macro_rules! methods {
    ($self:ident -> $written:ty: $($method:ident($($argument:tt: $type:ty),*) => $write:expr),* $(,)?) => {$(
        #[inline]
        fn $method($self, $($argument: $type),*) -> $written {
            $write
        }
    )*};
}

impl<'e, 'o> ser::Serializer for &'e mut Encoder<'o> {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = Elements<'e, 'o>;
    type SerializeTuple = Elements<'e, 'o>;
    type SerializeTupleStruct = Elements<'e, 'o>;
    type SerializeTupleVariant = Elements<'e, 'o>;
    type SerializeMap = Elements<'e, 'o>;
    type SerializeStruct = Elements<'e, 'o>;
    type SerializeStructVariant = Elements<'e, 'o>;

    methods! {
        self -> Coded<()>:
        serialize_i8(value: i8) => self.put(&value.to_le_bytes()),
        serialize_i16(value: i16) => self.put(&value.to_le_bytes()),
        serialize_i32(value: i32) => self.put(&value.to_le_bytes()),
        serialize_i64(value: i64) => self.put(&value.to_le_bytes()),
        serialize_i128(value: i128) => self.put(&value.to_le_bytes()),
        serialize_u8(value: u8) => self.put(&value.to_le_bytes()),
        serialize_u16(value: u16) => self.put(&value.to_le_bytes()),
        serialize_u32(value: u32) => self.put(&value.to_le_bytes()),
        serialize_u64(value: u64) => self.put(&value.to_le_bytes()),
        serialize_u128(value: u128) => self.put(&value.to_le_bytes()),
        serialize_f32(value: f32) => self.put(&value.to_le_bytes()),
        serialize_f64(value: f64) => self.put(&value.to_le_bytes()),
        serialize_bool(value: bool) => self.serialize_u8(value.into()),
        serialize_char(value: char) => self.serialize_u32(value.into()),
        serialize_str(value: &str) => self.serialize_bytes(value.as_bytes()),
        serialize_bytes(value: &[u8]) => self.length(value.len()).put(value),
        serialize_none() => self.serialize_bool(false),
        serialize_unit() => Ok(()),
        serialize_unit_struct(_: Name) => Ok(()),
        serialize_unit_variant(_: Name, index: u32, variant: Name) => self.variant(index, variant),
    }
    methods! {
        self -> Coded<Elements<'e, 'o>>:
        serialize_tuple(length: usize) => Elements::new(self, length),
        serialize_tuple_struct(_: Name, length: usize) => Elements::new(self.length(length), length),
        serialize_tuple_variant(name: Name, index: u32, variant: Name, length: usize) => {
            self.variant(index, variant)?;
            self.serialize_tuple_struct(name, length)
        },
        serialize_map(length: Option<usize>) => self.serialize_seq(length),
        serialize_struct(name: Name, length: usize) => self.serialize_tuple_struct(name, length),
        serialize_struct_variant(name: Name, index: u32, variant: Name, length: usize) => {
            self.serialize_tuple_variant(name, index, variant, length)
        },
    }

    fn serialize_seq(self, length: Option<usize>) -> Coded<Elements<'e, 'o>> {
        let length = length.ok_or_else(|| {
            CodecError::new(format!(
                "the type does not say how many elements it has, which an encoding without names needs: {JSON}"
            ))
        })?;
        Elements::new(self.length(length), length)
    }

    /// Sequences of the standard library are written by this. Numbers are copied in one pass, without an encoder between
    /// them: a vector of bytes costs about what it takes to copy it.
    #[inline]
    fn collect_seq<I: IntoIterator<Item: Serialize>>(self, values: I) -> Coded<()> {
        let mut values = values.into_iter();
        let length = match values.size_hint() {
            (least, Some(most)) if least == most => Some(least),
            _ => None,
        };
        let mut elements = self.serialize_seq(length)?;
        let Some(first) = values.next() else { return elements.end() };
        let width = scalars::width_of(&first);
        elements.element(&first)?;
        match width {
            1 => elements.scalars::<1, _>(values)?,
            2 => elements.scalars::<2, _>(values)?,
            4 => elements.scalars::<4, _>(values)?,
            8 => elements.scalars::<8, _>(values)?,
            _ => values.try_for_each(|value| elements.element(&value))?,
        }
        elements.end()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Coded<()> {
        self.out.push(1);
        self.inner(value)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: Name, value: &T) -> Coded<()> {
        self.inner(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(self, _: Name, index: u32, name: Name, value: &T) -> Coded<()> {
        self.variant(index, name)?;
        self.inner(value)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Writes elements or fields, and checks that there are as many as were announced.
struct Elements<'e, 'o> {
    encoder: &'e mut Encoder<'o>,
    missing: usize,
}

impl<'e, 'o> Elements<'e, 'o> {
    fn new(encoder: &'e mut Encoder<'o>, length: usize) -> Coded<Self> {
        encoder.enter()?;
        Ok(Self { encoder, missing: length })
    }

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Coded<()> {
        self.missing = self.missing.checked_sub(1).ok_or_else(CodecError::too_many_elements)?;
        value.serialize(&mut *self.encoder)
    }

    /// Writes the other elements of a sequence whose first one is a number of `N` bytes. So are they all, unless their
    /// type is a strange one.
    #[inline]
    fn scalars<const N: usize, V: Serialize>(&mut self, mut values: impl Iterator<Item = V>) -> Coded<()> {
        let mut strange = Vec::new();
        let begin = self.encoder.out.len();
        let out = &mut *self.encoder.out;
        let mut read = 0;
        let mut bytes_of = |value: V| {
            read += 1;
            value.serialize(scalars::Scalar::<N>).unwrap_or_else(|_| {
                strange.push((read - 1, value));
                [0; N]
            })
        };
        // Of a size that a type of the user's has announced.
        let length = self.missing.checked_mul(N).filter(|length| out.try_reserve(*length).is_ok());
        let length = length.ok_or_else(|| CodecError::no_memory(self.missing.saturating_mul(N)))?;
        prefer_huge_pages(out.spare_capacity_mut());
        if N == 1 {
            out.extend(values.by_ref().map(|value| bytes_of(value)[0]));
        } else {
            out.resize(begin + length, 0);
            let places = out[begin..].chunks_exact_mut(N);
            places.zip(values.by_ref()).for_each(|(place, value)| place.copy_from_slice(&bytes_of(value)));
            read += values.count();
        }
        if read > self.missing {
            return Err(CodecError::too_many_elements());
        }
        self.missing -= read;
        if strange.is_empty() { Ok(()) } else { self.rewrite::<N, _>(begin, strange) }
    }

    /// Writes those elements again that are no numbers of `N` bytes, in their places.
    #[cold]
    fn rewrite<const N: usize, V: Serialize>(&mut self, begin: usize, strange: Vec<(usize, V)>) -> Coded<()> {
        let numbers = self.encoder.out.split_off(begin);
        let mut written = 0;
        for (index, value) in strange {
            self.encoder.put(&numbers[written..index * N])?;
            value.serialize(&mut *self.encoder)?;
            written = (index + 1) * N;
        }
        self.encoder.put(&numbers[written..])
    }

    fn end(self) -> Coded<()> {
        if self.missing > 0 {
            return Err(CodecError::new(
                "a type wrote fewer elements than it announced: its `Serialize` implementation is wrong",
            ));
        }
        self.encoder.depth -= 1;
        Ok(())
    }
}

macro_rules! elements {
    ($($trait:ident::$method:ident($($field:ty)?) $({ $($more:tt)* })?),* $(,)?) => {$(
        impl ser::$trait for Elements<'_, '_> {
            type Ok = ();
            type Error = CodecError;
            fn $method<T: Serialize + ?Sized>(&mut self, $(_: $field,)? value: &T) -> Coded<()> {
                self.element(value)
            }
            $(fn skip_field(&mut self, field: $field) -> Coded<()> {
                Err(CodecError::new(format!(
                    "field `{field}` is left out by `#[serde(skip_serializing_if = …)]`, which an encoding without \
                     field names cannot carry: remove the attribute"
                )))
            })?
            $($($more)*)?
            fn end(self) -> Coded<()> {
                Elements::end(self)
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element(),
    SerializeTuple::serialize_element(),
    SerializeTupleStruct::serialize_field(),
    SerializeTupleVariant::serialize_field(),
    SerializeStruct::serialize_field(Name),
    SerializeStructVariant::serialize_field(Name),
    SerializeMap::serialize_key() {
        fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Coded<()> {
            value.serialize(&mut *self.encoder)
        }
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Reader, Writer};
    use std::collections::{BTreeSet, VecDeque};

    /// Through a serializer's own sequence, element by element.
    struct OneByOne<'v, T>(&'v [T]);

    impl<T: Serialize> Serialize for OneByOne<'_, T> {
        fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut elements = serializer.serialize_seq(Some(self.0.len()))?;
            self.0.iter().try_for_each(|value| ser::SerializeSeq::serialize_element(&mut elements, value))?;
            ser::SerializeSeq::end(elements)
        }
    }

    fn bytes_of<T: Serialize + ?Sized>(value: &T) -> Coded<Vec<u8>> {
        let mut writer = Writer::new();
        writer.value(value)?;
        Ok(writer.into_bytes())
    }

    #[test]
    fn numbers_in_one_pass_are_as_one_by_one() {
        macro_rules! check {
            ($($values:expr => $type:ty),* $(,)?) => {$(
                for length in [0, 1, 2, 7, 300] {
                    let values: Vec<$type> = (0..length).map($values).collect();
                    let bytes = bytes_of(&values).unwrap();
                    assert_eq!(bytes, bytes_of(&OneByOne(&values)).unwrap());
                    assert_eq!(bytes, bytes_of(&VecDeque::from(values.clone())).unwrap());
                    let inside = (3_u8, &values[..], "behind");
                    let read: (u8, Vec<$type>, String) = Reader::new(&bytes_of(&inside).unwrap()).value().unwrap();
                    assert_eq!((read.0, &read.1[..], &read.2[..]), inside);
                }
            )*};
        }
        check! {
            |n| n as u8 => u8, |n| -n as i8 => i8, |n| n % 3 == 0 => bool, |n| n as u16 * 99 => u16, |n| -n as i16 => i16,
            |n| n as u32 * 999 => u32, |n| -n => i32, |n| n as f32 / 3.0 => f32, |n| char::from(n as u8) => char,
            |n| n as u64 * 999 => u64, |n| -i64::from(n) => i64, |n| f64::from(n) / 3.0 => f64, |n| n as usize => usize,
            |n| n as u128 => u128, |_| () => (), |n| n.to_string() => String, |n| (n % 2 == 0).then_some(n) => Option<i32>,
            |n| vec![n as u8; n as usize % 5] => Vec<u8>,
        }
        let set: BTreeSet<u16> = (0..50).collect();
        assert_eq!(bytes_of(&set), bytes_of(&OneByOne(&(0..50).collect::<Vec<u16>>())));
    }

    /// Its elements are numbers of one width, of another, or none, as they like.
    #[derive(Clone, Debug, PartialEq)]
    enum Strange {
        Byte(u8),
        Number(u32),
        Text(String),
        Fails,
    }

    impl Serialize for Strange {
        fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Byte(byte) => serializer.serialize_u8(*byte),
                Self::Number(number) => serializer.serialize_u32(*number),
                Self::Text(text) => serializer.serialize_str(text),
                Self::Fails => Err(ser::Error::custom("it fails")),
            }
        }
    }

    #[test]
    fn elements_that_are_not_alike_keep_their_order() {
        let [byte, number, text] = [Strange::Byte(7), Strange::Number(1 << 30), Strange::Text("some text".into())];
        for first in [&byte, &number, &text] {
            for seed in 0..81 {
                let rest = [1, 3, 9, 27].map(|by| [&byte, &number, &text][seed / by % 3].clone());
                let values: Vec<Strange> = std::iter::once(first.clone()).chain(rest).collect();
                assert_eq!(bytes_of(&values), bytes_of(&OneByOne(&values)), "{values:?}");
            }
            let fails = vec![first.clone(), byte.clone(), Strange::Fails, number.clone()];
            assert!(bytes_of(&fails).unwrap_err().to_string().contains("it fails"));
        }
    }

    /// Says that it has more elements than it has, or fewer.
    struct Liar<T>(T, usize, usize);

    impl<T: Serialize> Serialize for Liar<T> {
        fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            struct Lies<I>(I, usize);
            impl<I: Iterator> Iterator for Lies<I> {
                type Item = I::Item;
                fn next(&mut self) -> Option<I::Item> {
                    self.0.next()
                }
                fn size_hint(&self) -> (usize, Option<usize>) {
                    (self.1, Some(self.1))
                }
            }
            serializer.collect_seq(Lies(std::iter::repeat_n(&self.0, self.1), self.2))
        }
    }

    #[test]
    fn a_wrong_number_of_elements_is_an_error() {
        for (has, says) in [(3, 4), (4, 3), (1, 0), (0, 1), (9, usize::MAX), (2, usize::MAX / 4)] {
            for (fails, least) in [
                (bytes_of(&Liar(7_u8, has, says)), 1),
                (bytes_of(&Liar(7_u16, has, says)), 2),
                (bytes_of(&Liar(7_u64, has, says)), 8),
                (bytes_of(&Liar("text", has, says)), 5),
            ] {
                assert!(fails.is_err(), "{has} elements of {least} bytes, and it says {says}");
            }
        }
    }

    #[test]
    fn bytes_that_say_so_are_copied() {
        struct Bytes(Vec<u8>);
        impl Serialize for Bytes {
            fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        let bytes: Vec<u8> = (0..=255).collect();
        // So a type may go over to them, and read what was written before.
        assert_eq!(bytes_of(&Bytes(bytes.clone())), bytes_of(&bytes));
    }
}
