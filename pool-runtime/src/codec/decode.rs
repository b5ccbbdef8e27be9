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
    let mut decoder = Decoder { bytes, depth: 0, announced: 0 };
    let value = T::deserialize(&mut decoder)?;
    Ok((value, decoder.bytes.len()))
}

struct Decoder<'de> {
    bytes: &'de [u8],
    depth: u32,
    /// The sum of the announced lengths of the sequences and maps that are being read, each inside the one before.
    announced: usize,
}

impl<'de> Decoder<'de> {
    #[inline]
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

    /// As [`elements`](Self::elements), of a sequence or a map that says how many it has. Elements may take no bytes at all,
    /// but then their number is limited: a corrupt one must not cause an endless loop.
    fn counted<R>(&mut self, strict: bool, visit: impl FnOnce(&mut ElementDecoder<'_, 'de>) -> Coded<R>) -> Coded<R> {
        const EMPTY_ELEMENTS: usize = 1 << 20;
        match self.length()? {
            count if count <= self.bytes.len().max(EMPTY_ELEMENTS) => self.elements(count, strict, visit),
            _ => Err(CodecError::truncated()),
        }
    }

    /// Has `count` elements read, and checks that all of them were.
    fn elements<R>(
        &mut self,
        count: usize,
        strict: bool,
        visit: impl FnOnce(&mut ElementDecoder<'_, 'de>) -> Coded<R>,
    ) -> Coded<R> {
        let around = self.announced;
        self.announced = around.saturating_add(count);
        let value = self.nested(|decoder| {
            let mut elements = ElementDecoder { decoder, left: count, around, strict };
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
        deserialize_seq() => self.counted(false, |elements| visitor.visit_seq(elements)),
        deserialize_tuple(count: usize) => self.elements(count, false, |elements| visitor.visit_seq(elements)),
        deserialize_tuple_struct(_: Name, _: usize) => self.counted(true, |elements| visitor.visit_seq(elements)),
        deserialize_map() => self.counted(false, |entries| visitor.visit_map(entries)),
        deserialize_struct(_: Name, _: Names) => self.counted(true, |elements| visitor.visit_seq(elements)),
    }
    serde::forward_to_deserialize_any! { identifier ignored_any }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Coded<V::Value> {
        Err(CodecError::new(
            "the type asks what comes next, which an encoding without names cannot tell: `#[serde(untagged)]`, \
             `#[serde(tag = …)]` and `#[serde(flatten)]` do not work in arguments and results",
        ))
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

struct ElementDecoder<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    left: usize,
    /// [`Decoder::announced`] outside of these.
    around: usize,
    /// To ask for more than was written is an error: a default would be a wrong value.
    strict: bool,
}

impl<'de> de::SeqAccess<'de> for &mut ElementDecoder<'_, 'de> {
    type Error = CodecError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Coded<Option<T::Value>> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                seed.deserialize(&mut *self.decoder).map(Some)
            }
            None if self.strict => Err(CodecError::new(
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
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Coded<V::Value> {
        seed.deserialize(&mut *self.decoder)
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
        tuple_variant(_: usize) => self.decoder.counted(true, |elements| visitor.visit_seq(elements)),
        struct_variant(_: Names) => self.decoder.counted(true, |elements| visitor.visit_seq(elements)),
    }
}
