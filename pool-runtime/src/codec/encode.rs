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
        Self::new(reason.to_string())
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
            CodecError::new(
                "the type does not say how many elements it has, which an encoding without names needs: \
                 `#[serde(flatten)]` does not work in arguments and results",
            )
        })?;
        Elements::new(self.length(length), length)
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
