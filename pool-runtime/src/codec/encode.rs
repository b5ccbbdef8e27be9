//! The serde serializer: see the table in [`super`] for the format.

use crate::codec::{CodecError, Coded, MAX_DEPTH, Name};
use crate::hash::name_hash;
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
    fn length(&mut self, mut length: usize) {
        while length >= 0x80 {
            self.out.push(length as u8 | 0x80);
            length >>= 7;
        }
        self.out.push(length as u8);
    }

    fn variant(&mut self, index: u32, name: &str) {
        self.length(index as usize);
        self.out.extend_from_slice(&name_hash(name).to_le_bytes());
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
        Self::new(reason.to_string())
    }
}

macro_rules! fixed_width {
    ($($method:ident($type:ty)),* $(,)?) => {$(
        #[inline]
        fn $method(self, value: $type) -> Coded<()> {
            self.out.extend_from_slice(&value.to_le_bytes());
            Ok(())
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

    fixed_width! {
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64), serialize_i128(i128),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64), serialize_u128(u128),
        serialize_f32(f32), serialize_f64(f64),
    }

    fn serialize_bool(self, value: bool) -> Coded<()> {
        self.out.push(value.into());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Coded<()> {
        self.serialize_u32(value.into())
    }

    fn serialize_str(self, value: &str) -> Coded<()> {
        self.serialize_bytes(value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Coded<()> {
        self.length(value.len());
        self.out.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(self) -> Coded<()> {
        self.serialize_bool(false)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Coded<()> {
        self.out.push(1);
        self.inner(value)
    }

    fn serialize_unit(self) -> Coded<()> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: Name) -> Coded<()> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: Name, index: u32, variant: Name) -> Coded<()> {
        self.variant(index, variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: Name, value: &T) -> Coded<()> {
        self.inner(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: Name,
        index: u32,
        variant: Name,
        value: &T,
    ) -> Coded<()> {
        self.variant(index, variant);
        self.inner(value)
    }

    fn serialize_seq(self, length: Option<usize>) -> Coded<Elements<'e, 'o>> {
        let length = length.ok_or_else(|| {
            CodecError::new(
                "the type does not say how many elements it has, which an encoding without names needs: \
                 `#[serde(flatten)]` does not work in arguments and results",
            )
        })?;
        self.length(length);
        Elements::new(self, length)
    }

    fn serialize_tuple(self, length: usize) -> Coded<Elements<'e, 'o>> {
        Elements::new(self, length)
    }

    fn serialize_tuple_struct(self, _: Name, length: usize) -> Coded<Elements<'e, 'o>> {
        self.length(length);
        Elements::new(self, length)
    }

    fn serialize_tuple_variant(self, name: Name, index: u32, variant: Name, length: usize) -> Coded<Elements<'e, 'o>> {
        self.variant(index, variant);
        self.serialize_tuple_struct(name, length)
    }

    fn serialize_map(self, length: Option<usize>) -> Coded<Elements<'e, 'o>> {
        self.serialize_seq(length)
    }

    fn serialize_struct(self, name: Name, length: usize) -> Coded<Elements<'e, 'o>> {
        self.serialize_tuple_struct(name, length)
    }

    fn serialize_struct_variant(self, name: Name, index: u32, variant: Name, length: usize) -> Coded<Elements<'e, 'o>> {
        self.serialize_tuple_variant(name, index, variant, length)
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
        self.missing = self.missing.checked_sub(1).ok_or_else(|| {
            CodecError::new("a type wrote more elements than it announced: its `Serialize` implementation is wrong")
        })?;
        value.serialize(&mut *self.encoder)
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
    ($($trait:ident::$method:ident($($field:ty)?)),* $(,)?) => {$(
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
}

impl ser::SerializeMap for Elements<'_, '_> {
    type Ok = ();
    type Error = CodecError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Coded<()> {
        self.element(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Coded<()> {
        value.serialize(&mut *self.encoder)
    }

    fn end(self) -> Coded<()> {
        Elements::end(self)
    }
}
