//! The serde deserializer: see the table in [`super`] for the format.
//!
//! The bytes are not trusted: a length is compared with what is left before memory is reserved, the depth is bounded,
//! and no more fields are read than were written.

use crate::codec::{CodecError, Coded, MAX_DEPTH, Name, Names};
use crate::hash::name_hash;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

/// Reads one value from the start of `bytes`. Returns how many bytes follow it, too.
#[inline]
pub(super) fn decode<'de, T: de::Deserialize<'de>>(bytes: &'de [u8]) -> Coded<(T, usize)> {
    let mut decoder = Decoder { bytes, depth: 0, announced: 0, empty_elements: 0, asked: false };
    match T::deserialize(&mut decoder) {
        Ok(value) => Ok((value, decoder.bytes.len())),
        Err(error) if decoder.asked => Err(CodecError::asks_what_comes::<T>(&error)),
        Err(error) => Err(error),
    }
}

struct Decoder<'de> {
    bytes: &'de [u8],
    depth: u32,
    /// The sum of the announced lengths of the sequences and maps that are being read, each inside the one before.
    announced: usize,
    /// How many elements of sequences and maps took no bytes, in the whole value.
    empty_elements: usize,
    /// A type has asked what comes next.
    asked: bool,
}

/// The most elements without bytes in a value: no byte speaks for them, and a corrupt number must not cause an endless
/// loop.
const MOST_EMPTY: usize = 1 << 20;

impl<'de> Decoder<'de> {
    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Coded<[u8; N]> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or_else(CodecError::truncated)?;
        self.bytes = rest;
        Ok(*array)
    }

    fn length(&mut self) -> Coded<usize> {
        let mut length = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                break;
            }
            length |= bits << shift;
            if byte < 0x80 {
                return usize::try_from(length).map_err(|_| CodecError::new("a length is out of range"));
            }
        }
        Err(CodecError::new("a length is out of range"))
    }

    fn slice(&mut self) -> Coded<&'de [u8]> {
        let length = self.length()?;
        let (slice, rest) = self.bytes.split_at_checked(length).ok_or_else(CodecError::truncated)?;
        self.bytes = rest;
        Ok(slice)
    }

    fn text(&mut self) -> Coded<&'de str> {
        std::str::from_utf8(self.slice()?).map_err(|error| CodecError::new(format!("a string is not UTF-8: {error}")))
    }

    fn flag(&mut self) -> Coded<bool> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(CodecError::new(format!("{other} is neither true nor false"))),
        }
    }

    fn character(&mut self) -> Coded<char> {
        let code = u32::from_le_bytes(self.array()?);
        char::from_u32(code).ok_or_else(|| CodecError::new(format!("{code:#x} is not a character")))
    }

    fn nested<R>(&mut self, read: impl FnOnce(&mut Self) -> Coded<R>) -> Coded<R> {
        if self.depth == MAX_DEPTH {
            return Err(CodecError::too_deep());
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// As [`elements`](Self::elements), of a sequence or a map that says how many it has. Elements may take no bytes at
    /// all, but then their number is limited.
    fn counted<R>(
        &mut self,
        kind: ElementKind,
        visit: impl FnOnce(&mut ElementDecoder<'_, 'de>) -> Coded<R>,
    ) -> Coded<R> {
        match self.length()? {
            count if count <= self.bytes.len().max(MOST_EMPTY) => self.elements(count, kind, visit),
            count => Err(CodecError::new(format!(
                "{count} elements were announced, and {} bytes follow (at most {MOST_EMPTY} elements may take no bytes, \
                 such as `()`)",
                self.bytes.len()
            ))),
        }
    }

    /// An element or an entry was read that began when so many bytes were left.
    #[inline(always)]
    fn read_since(&mut self, left: usize) -> Coded<()> {
        if self.bytes.len() != left { Ok(()) } else { self.read_nothing() }
    }

    #[cold]
    fn read_nothing(&mut self) -> Coded<()> {
        self.empty_elements += 1;
        if self.empty_elements <= MOST_EMPTY { Ok(()) } else { Err(CodecError::empty_elements(MOST_EMPTY)) }
    }

    /// Has `count` elements read, and checks that all of them were.
    fn elements<R>(
        &mut self,
        count: usize,
        kind: ElementKind,
        visit: impl FnOnce(&mut ElementDecoder<'_, 'de>) -> Coded<R>,
    ) -> Coded<R> {
        let around = self.announced;
        self.announced = around.saturating_add(count);
        let value = self.nested(|decoder| {
            let mut elements = ElementDecoder { decoder, left: count, around, kind, entry: 0 };
            let value = visit(&mut elements)?;
            match elements.left {
                0 => Ok(value),
                left => Err(CodecError::new(format!(
                    "{count} fields or elements were written and only {} are read: do `Serialize` and `Deserialize` of \
                     the type agree (`skip_deserializing`)?",
                    count - left
                ))),
            }
        });
        self.announced = around;
        value
    }
}

impl de::Error for CodecError {
    fn custom<T: std::fmt::Display>(reason: T) -> Self {
        Self::new(reason.to_string())
    }
}

/// Methods that have a visitor given what is read.
macro_rules! methods {
    ($self:ident, $visitor:ident: $($method:ident($($argument:tt: $type:ty),*) => $read:expr),* $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>($self, $($argument: $type,)* $visitor: V) -> Coded<V::Value> {
            $read
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = CodecError;

    methods! {
        self, visitor:
        deserialize_i8() => visitor.visit_i8(i8::from_le_bytes(self.array()?)),
        deserialize_i16() => visitor.visit_i16(i16::from_le_bytes(self.array()?)),
        deserialize_i32() => visitor.visit_i32(i32::from_le_bytes(self.array()?)),
        deserialize_i64() => visitor.visit_i64(i64::from_le_bytes(self.array()?)),
        deserialize_i128() => visitor.visit_i128(i128::from_le_bytes(self.array()?)),
        deserialize_u8() => visitor.visit_u8(u8::from_le_bytes(self.array()?)),
        deserialize_u16() => visitor.visit_u16(u16::from_le_bytes(self.array()?)),
        deserialize_u32() => visitor.visit_u32(u32::from_le_bytes(self.array()?)),
        deserialize_u64() => visitor.visit_u64(u64::from_le_bytes(self.array()?)),
        deserialize_u128() => visitor.visit_u128(u128::from_le_bytes(self.array()?)),
        deserialize_f32() => visitor.visit_f32(f32::from_le_bytes(self.array()?)),
        deserialize_f64() => visitor.visit_f64(f64::from_le_bytes(self.array()?)),
        deserialize_bool() => visitor.visit_bool(self.flag()?),
        deserialize_char() => visitor.visit_char(self.character()?),
        deserialize_str() => visitor.visit_borrowed_str(self.text()?),
        deserialize_string() => visitor.visit_borrowed_str(self.text()?),
        deserialize_bytes() => visitor.visit_borrowed_bytes(self.slice()?),
        deserialize_byte_buf() => visitor.visit_borrowed_bytes(self.slice()?),
        deserialize_unit() => visitor.visit_unit(),
        deserialize_unit_struct(_: Name) => visitor.visit_unit(),
        deserialize_option() => match self.flag()? {
            false => visitor.visit_none(),
            true => self.nested(|decoder| visitor.visit_some(decoder)),
        },
        deserialize_newtype_struct(_: Name) => self.nested(|decoder| visitor.visit_newtype_struct(decoder)),
        deserialize_seq() => self.counted(ElementKind::Elements, |elements| visitor.visit_seq(elements)),
        deserialize_tuple(count: usize) => self.elements(count, ElementKind::Tuple, |elements| visitor.visit_seq(elements)),
        deserialize_tuple_struct(_: Name, _: usize) => self.counted(ElementKind::Fields, |elements| visitor.visit_seq(elements)),
        deserialize_map() => self.counted(ElementKind::Elements, |entries| visitor.visit_map(entries)),
        deserialize_struct(_: Name, _: Names) => self.counted(ElementKind::Fields, |elements| visitor.visit_seq(elements)),
    }
    serde::forward_to_deserialize_any! { identifier ignored_any }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Coded<V::Value> {
        self.asked = true;
        Err(CodecError::new((&visitor as &dyn de::Expected).to_string()))
    }

    fn deserialize_enum<V: Visitor<'de>>(self, name: Name, variants: Names, visitor: V) -> Coded<V::Value> {
        let index = self.length()?;
        let hash = u32::from_le_bytes(self.array()?);
        // The index is only a hint: `#[serde(skip)]` on a variant shifts it on one side, `alias` on the other.
        let is_named = |variant: &&&str| name_hash(variant) == hash;
        let hinted = variants.get(index).filter(is_named);
        let variant = hinted.or_else(|| variants.iter().find(is_named)).ok_or_else(|| {
            CodecError::new(format!("variant {index} of enum `{name}` is written but cannot be read back"))
        })?;
        self.nested(|decoder| visitor.visit_enum(Variant { decoder, variant }))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// What is read element by element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ElementKind {
    /// As many as the bytes say: a sequence or a map.
    Elements,
    /// As many as the type has.
    Tuple,
    /// To ask for more than were written is an error: a default would be a wrong value.
    Fields,
}

struct ElementDecoder<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    left: usize,
    /// [`Decoder::announced`] outside of these.
    around: usize,
    kind: ElementKind,
    /// How many bytes were left when the latest entry of a map began.
    entry: usize,
}

impl<'de> de::SeqAccess<'de> for &mut ElementDecoder<'_, 'de> {
    type Error = CodecError;

    #[inline(always)]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Coded<Option<T::Value>> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                let before = self.decoder.bytes.len();
                let value = seed.deserialize(&mut *self.decoder)?;
                if self.kind == ElementKind::Elements {
                    self.decoder.read_since(before)?;
                }
                Ok(Some(value))
            }
            None if self.kind == ElementKind::Fields => Err(CodecError::new(
                "fewer fields were written than are read: do `Serialize` and `Deserialize` of the type agree \
                 (`skip_serializing`)?",
            )),
            None => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        // No more than the bytes can hold, together with the elements of the sequences around this one: otherwise each
        // of many nested sequences could reserve room for as many elements as there are bytes.
        Some(self.left.min(self.decoder.bytes.len().saturating_sub(self.around)))
    }
}

impl<'de> de::MapAccess<'de> for &mut ElementDecoder<'_, 'de> {
    type Error = CodecError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Coded<Option<K::Value>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        (self.left, self.entry) = (left, self.decoder.bytes.len());
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Coded<V::Value> {
        let value = seed.deserialize(&mut *self.decoder)?;
        self.decoder.read_since(self.entry)?;
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        de::SeqAccess::size_hint(self)
    }
}

struct Variant<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    variant: Name,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = CodecError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Coded<(V::Value, Self)> {
        let name: de::value::StrDeserializer<'_, CodecError> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = CodecError;

    fn unit_variant(self) -> Coded<()> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Coded<T::Value> {
        seed.deserialize(self.decoder)
    }

    methods! {
        self, visitor:
        tuple_variant(_: usize) => self.decoder.counted(ElementKind::Fields, |elements| visitor.visit_seq(elements)),
        struct_variant(_: Names) => self.decoder.counted(ElementKind::Fields, |elements| visitor.visit_seq(elements)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Reader, Writer};
    use serde::{Deserialize, Serialize};
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Unit;

    fn read<T: de::DeserializeOwned>(bytes: &[u8]) -> Coded<T> {
        Reader::new(bytes).value()
    }

    fn lengths(lengths: impl IntoIterator<Item = usize>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for mut left in lengths {
            while left >= 0x80 {
                bytes.push(left as u8 | 0x80);
                left >>= 7;
            }
            bytes.push(left as u8);
        }
        bytes
    }

    /// A few KiB must not cost the reader seconds, however they are nested.
    #[test]
    fn elements_without_bytes_are_counted_for_the_whole_value() {
        let began = Instant::now();
        let sequences = |inner: usize| lengths([2000].into_iter().chain(std::iter::repeat_n(inner, 2000)));
        // As many in each as are allowed in all, and as many as there are bytes.
        for inner in [1 << 20, 1 << 12, 1001] {
            let bytes = sequences(inner);
            let too_many = |error: CodecError| error.to_string().contains("that take no bytes");
            assert!(read::<Vec<Vec<Unit>>>(&bytes).is_err_and(too_many), "{inner}");
            assert!(read::<Vec<Vec<()>>>(&bytes).is_err_and(too_many), "{inner}");
            assert!(read::<Vec<BTreeMap<(), Unit>>>(&bytes).is_err_and(too_many), "{inner}");
            assert!(read::<Vec<Vec<((), [Unit; 3])>>>(&bytes).is_err_and(too_many), "{inner}");
        }
        let optional = lengths([2000].into_iter().chain((0..2000).flat_map(|_| [1, 1 << 20])));
        assert!(read::<Vec<Option<Vec<Option<std::marker::PhantomData<u8>>>>>>(&optional).is_err());
        assert!(read::<Vec<Option<Vec<()>>>>(&optional).is_err());
        let (deep, one) = (lengths([1, 1, 1, 1 << 20]), lengths([1 << 20]));
        assert!(read::<Vec<Vec<Vec<Vec<()>>>>>(&deep).is_ok_and(|all| all[0][0][0].len() == 1 << 20));
        assert!(read::<Vec<()>>(&one).is_ok() && read::<Vec<()>>(&lengths([(1 << 20) + 1])).is_err());
        // Even where nothing is optimized, and much else runs; two thousand times as many take an hour.
        assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    }

    /// Fields without bytes are as many as the type says: they are not what a number in the bytes could make endless.
    #[test]
    fn fields_without_bytes_do_not_count() {
        let values: Vec<(u8, (), Unit, [(); 3])> = vec![(7, (), Unit, [(); 3]); 1 << 20]
            .into_iter()
            .chain(std::iter::repeat_with(|| (8, (), Unit, [(); 3])).take(9))
            .collect();
        let mut writer = Writer::new();
        writer.value(&values).unwrap();
        assert!(read::<Vec<(u8, (), Unit, [(); 3])>>(&writer.into_bytes()).unwrap() == values);
    }
}
