//! The serde deserializer: see the table in [`super`] for the format.
//!
//! Nothing here trusts the bytes. Lengths are compared with what is left before anything is reserved, the nesting is
//! bounded, and fields are handed out only as far as they were written.

use crate::codec::{CodecError, MAX_DEPTH};
use crate::hash::name_hash;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

/// Reads one value from the start of `bytes`, and says how many bytes are left behind it.
#[inline]
pub(super) fn decode<'de, T: de::Deserialize<'de>>(bytes: &'de [u8]) -> Result<(T, usize), CodecError> {
    let mut decoder = Decoder { bytes, depth: 0, announced: 0 };
    let value = T::deserialize(&mut decoder)?;
    Ok((value, decoder.bytes.len()))
}

struct Decoder<'de> {
    bytes: &'de [u8],
    depth: u32,
    /// How many elements the sequences and maps say to have that are being read, each inside of the one before.
    announced: usize,
}

impl<'de> Decoder<'de> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or_else(CodecError::truncated)?;
        self.bytes = rest;
        Ok(*array)
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        self.array().map(|[byte]| byte)
    }

    fn length(&mut self) -> Result<usize, CodecError> {
        let mut length = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
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

    /// The number of elements of a sequence or a map. Elements may take no bytes at all, but then there is a limit: a
    /// damaged length must not keep anybody busy for years.
    fn count(&mut self) -> Result<usize, CodecError> {
        const EMPTY_ELEMENTS: usize = 1 << 20;
        match self.length()? {
            count if count <= self.bytes.len().max(EMPTY_ELEMENTS) => Ok(count),
            _ => Err(CodecError::truncated()),
        }
    }

    fn slice(&mut self) -> Result<&'de [u8], CodecError> {
        let length = self.length()?;
        let (slice, rest) = self.bytes.split_at_checked(length).ok_or_else(CodecError::truncated)?;
        self.bytes = rest;
        Ok(slice)
    }

    fn text(&mut self) -> Result<&'de str, CodecError> {
        std::str::from_utf8(self.slice()?).map_err(|error| CodecError::new(format!("a string is not UTF-8: {error}")))
    }

    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(CodecError::new(format!("{other} is neither true nor false"))),
        }
    }

    fn nested<R>(&mut self, read: impl FnOnce(&mut Self) -> Result<R, CodecError>) -> Result<R, CodecError> {
        if self.depth == MAX_DEPTH {
            return Err(CodecError::too_deep());
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// As [`nested`](Self::nested), of what says to have so many elements; says how many those around it have.
    fn announcing<R>(
        &mut self,
        count: usize,
        read: impl FnOnce(&mut Self, usize) -> Result<R, CodecError>,
    ) -> Result<R, CodecError> {
        let around = self.announced;
        self.announced = around.saturating_add(count);
        let value = self.nested(|decoder| read(decoder, around));
        self.announced = around;
        value
    }

    /// Hands `count` elements to the visitor, and checks that it took them all.
    fn elements<V: Visitor<'de>>(&mut self, count: usize, strict: bool, visitor: V) -> Result<V::Value, CodecError> {
        self.announcing(count, |decoder, around| {
            let mut elements = ElementDecoder { decoder, left: count, around, strict };
            let value = visitor.visit_seq(&mut elements)?;
            match elements.left {
                0 => Ok(value),
                left => Err(CodecError::new(format!(
                    "{count} fields or elements were written and only {} are read: do `Serialize` and `Deserialize` of \
                     the type agree (`skip_deserializing`)?",
                    count - left
                ))),
            }
        })
    }
}

impl de::Error for CodecError {
    fn custom<T: std::fmt::Display>(reason: T) -> Self {
        Self::new(reason.to_string())
    }
}

macro_rules! fixed_width {
    ($($method:ident => $visit:ident($type:ty)),* $(,)?) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
            visitor.$visit(<$type>::from_le_bytes(self.array()?))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = CodecError;

    fixed_width! {
        deserialize_i8 => visit_i8(i8), deserialize_i16 => visit_i16(i16), deserialize_i32 => visit_i32(i32),
        deserialize_i64 => visit_i64(i64), deserialize_i128 => visit_i128(i128),
        deserialize_u8 => visit_u8(u8), deserialize_u16 => visit_u16(u16), deserialize_u32 => visit_u32(u32),
        deserialize_u64 => visit_u64(u64), deserialize_u128 => visit_u128(u128),
        deserialize_f32 => visit_f32(f32), deserialize_f64 => visit_f64(f64),
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, CodecError> {
        Err(CodecError::new(
            "the type asks what comes next, which an encoding without names cannot tell: `#[serde(untagged)]`, \
             `#[serde(tag = …)]` and `#[serde(flatten)]` do not work in arguments and results",
        ))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_bool(self.flag()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        let code = u32::from_le_bytes(self.array()?);
        visitor.visit_char(char::from_u32(code).ok_or_else(|| CodecError::new(format!("{code:#x} is no character")))?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_borrowed_bytes(self.slice()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        match self.flag()? {
            false => visitor.visit_none(),
            true => self.nested(|decoder| visitor.visit_some(decoder)),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, CodecError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, CodecError> {
        self.nested(|decoder| visitor.visit_newtype_struct(decoder))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        let count = self.count()?;
        self.elements(count, false, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, CodecError> {
        self.elements(count, false, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        let count = self.count()?;
        self.elements(count, true, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        let count = self.count()?;
        self.announcing(count, |decoder, around| {
            let mut entries = ElementDecoder { decoder, left: count, around, strict: false };
            let value = visitor.visit_map(&mut entries)?;
            match entries.left {
                0 => Ok(value),
                left => Err(CodecError::new(format!("{left} of {count} entries of a map are not read"))),
            }
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.deserialize_tuple_struct(name, fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        let index = self.length()?;
        let hash = u32::from_le_bytes(self.array()?);
        // The index is only a hint: `#[serde(skip)]` on a variant shifts it on one side, `alias` on the other.
        let hinted = variants.get(index).filter(|variant| name_hash(variant) == hash);
        let variant =
            hinted.or_else(|| variants.iter().find(|variant| name_hash(variant) == hash)).ok_or_else(|| {
                CodecError::new(format!("variant {index} of enum `{name}` is written but cannot be read back"))
            })?;
        self.nested(|decoder| visitor.visit_enum(Variant { decoder, variant }))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CodecError> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence, a struct or a map, as many as were written.
struct ElementDecoder<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    left: usize,
    /// How many elements are announced around these.
    around: usize,
    /// Asking for more than was written is an error: a default would be a wrong value.
    strict: bool,
}

impl<'de> de::SeqAccess<'de> for &mut ElementDecoder<'_, 'de> {
    type Error = CodecError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, CodecError> {
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
        // No element is promised that the bytes cannot hold, unless elements take no bytes. They have to hold those
        // around these too: otherwise each of many nested sequences would be given room for as many as there are bytes.
        Some(self.left.min(self.decoder.bytes.len().saturating_sub(self.around)))
    }
}

impl<'de> de::MapAccess<'de> for &mut ElementDecoder<'_, 'de> {
    type Error = CodecError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, CodecError> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, CodecError> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        de::SeqAccess::size_hint(self)
    }
}

struct Variant<'d, 'de> {
    decoder: &'d mut Decoder<'de>,
    variant: &'static str,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = CodecError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), CodecError> {
        let name: de::value::StrDeserializer<'_, CodecError> = self.variant.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = CodecError;

    fn unit_variant(self) -> Result<(), CodecError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, CodecError> {
        seed.deserialize(self.decoder)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, CodecError> {
        let count = self.decoder.count()?;
        self.decoder.elements(count, true, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CodecError> {
        self.tuple_variant(fields.len(), visitor)
    }
}
