//! Another format's deserializer, on no more of the stack than is left: see [`StackRoom`].
//!
//! Such a format bounds how deeply values may be nested, but does not look at the stack. So everything that it hands out is
//! wrapped, down to the seeds of elements, and values that have others in them are announced to the room.
//!
//! The room counts only what the format does not: options and newtypes between one pair of brackets and the next. A type
//! that consists of nothing else would be read without end.
//!
//! What is large in memory is counted, too, as it may have hardly any bytes.

use crate::codec::room::StackRoom;
use crate::codec::{Cut, LARGE, LONGEST_NAME, NODE};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use std::any::type_name;
use std::cell::Cell;
use std::fmt::{self, Write as _};

thread_local! {
    /// How much memory what is large in another format may take.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Has another format read, whose large parts may take so many bytes of memory. Returns how many are left, too.
pub(super) fn within<R>(left: usize, read: impl FnOnce() -> R) -> (R, usize) {
    /// Also if a type panics while it is read.
    struct Outside(usize);

    impl Drop for Outside {
        fn drop(&mut self) {
            LEFT.set(self.0);
        }
    }

    let _outside = Outside(LEFT.replace(left));
    let value = read();
    (value, LEFT.get())
}

/// Counts a part that is large in memory.
fn take_memory<E: Error>(size: usize, name: &str) -> Result<(), E> {
    let left = LEFT.get().checked_sub(size).ok_or_else(|| {
        let mut cut = Cut::new(LONGEST_NAME);
        // An error says that it is cut.
        let _ = cut.write_str(name);
        E::custom(format!(
            "it would take more memory than its bytes justify: the latest part is a `{}` of {size} bytes; what is large in \
             memory and small when it is empty belongs into a `Box`",
            cut.text
        ))
    })?;
    LEFT.set(left);
    Ok(())
}

/// Counts the first node of a collection that may be a tree.
fn weigh_node<R, E: Error>() -> Result<(), E> {
    let size = NODE * size_of::<R>();
    if size > LARGE { take_memory(size, type_name::<R>()) } else { Ok(()) }
}

/// Any of serde's parts, and the room in which all of them are.
pub(super) struct Guarded<'r, P> {
    part: P,
    room: &'r Cell<StackRoom>,
    /// Of elements or entries, none has been read yet.
    is_first: bool,
}

impl<'r, P> Guarded<'r, P> {
    pub(super) fn new(part: P, room: &'r Cell<StackRoom>) -> Self {
        Self { part, room, is_first: true }
    }

    /// Another part in the same room.
    fn with<Q>(&self, part: Q) -> Guarded<'r, Q> {
        Guarded::new(part, self.room)
    }

    /// Has a value read whose brackets the format counts.
    fn bracketed<R, E: Error>(self, read: impl FnOnce(P) -> Result<R, E>) -> Result<R, E> {
        let cell = self.room;
        let mut room = cell.get();
        let depth = room.count_anew();
        cell.set(room);
        let value = self.nested(read);
        room = cell.get();
        room.count_on(depth);
        cell.set(room);
        value
    }

    /// Has a value read that has others in it.
    fn nested<R, E: Error>(self, read: impl FnOnce(P) -> Result<R, E>) -> Result<R, E> {
        let mut room = self.room.get();
        let outer = room.enter::<R>().map_err(E::custom)?;
        self.room.set(room);
        let value = read(self.part);
        // What was learnt in there stays known.
        let mut room = self.room.get();
        room.leave(outer);
        self.room.set(room);
        value
    }
}

macro_rules! deserialize {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            // It may be read from hardly any bytes.
            if size_of::<V::Value>() > LARGE {
                take_memory(size_of::<V::Value>(), type_name::<V::Value>())?;
            }
            let visitor = self.with(visitor);
            self.part.$method($($argument,)* visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Guarded<'_, D> {
    type Error = D::Error;

    deserialize! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(length: usize);
        deserialize_tuple_struct(name: &'static str, length: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn is_human_readable(&self) -> bool {
        self.part.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident: $type:ty;)*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.part.$method(value)
        }
    )*};
}

macro_rules! visit_nested {
    ($($method:ident: $trait:ident, $how:ident;)*) => {$(
        fn $method<P: $trait<'de>>(self, part: P) -> Result<V::Value, P::Error> {
            let part = self.with(part);
            self.$how(|visitor| visitor.$method(part))
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Guarded<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.part.expecting(f)
    }

    visit! {
        visit_bool: bool;
        visit_i8: i8;
        visit_i16: i16;
        visit_i32: i32;
        visit_i64: i64;
        visit_i128: i128;
        visit_u8: u8;
        visit_u16: u16;
        visit_u32: u32;
        visit_u64: u64;
        visit_u128: u128;
        visit_f32: f32;
        visit_f64: f64;
        visit_char: char;
        visit_str: &str;
        visit_borrowed_str: &'de str;
        visit_string: String;
        visit_bytes: &[u8];
        visit_borrowed_bytes: &'de [u8];
        visit_byte_buf: Vec<u8>;
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.part.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.part.visit_unit()
    }

    visit_nested! {
        visit_some: Deserializer, nested;
        visit_newtype_struct: Deserializer, nested;
        visit_seq: SeqAccess, bracketed;
        visit_map: MapAccess, bracketed;
        visit_enum: EnumAccess, bracketed;
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Guarded<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.part.deserialize(deserializer)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Guarded<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        if std::mem::take(&mut self.is_first) {
            weigh_node::<S::Value, _>()?;
        }
        let seed = self.with(seed);
        self.part.next_element_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.part.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Guarded<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        if self.is_first {
            weigh_node::<S::Value, _>()?;
        }
        let seed = self.with(seed);
        self.part.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        if std::mem::take(&mut self.is_first) {
            weigh_node::<S::Value, _>()?;
        }
        let seed = self.with(seed);
        self.part.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.part.size_hint()
    }
}

impl<'r, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Guarded<'r, A> {
    type Error = A::Error;
    type Variant = Guarded<'r, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let Self { part, room, .. } = self;
        let (value, variant) = part.variant_seed(Guarded::new(seed, room))?;
        Ok((value, Guarded::new(variant, room)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Guarded<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.part.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.with(seed);
        self.part.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.part.tuple_variant(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.part.struct_variant(fields, visitor)
    }
}
