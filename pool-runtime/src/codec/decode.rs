//! The serde deserializer: see the table in [`super`] for the format.
//!
//! The bytes are not trusted: a length is compared with what is left before memory is reserved, no more fields are read
//! than were written, and [`StackRoom`] bounds the depth. What takes no bytes is counted, for a number of three bytes could
//! otherwise ask for any number of steps; and so is the memory of what is large, though it has hardly any bytes.

use crate::codec::room::StackRoom;
use crate::codec::variants::variant;
use crate::codec::{CodecError, Coded, LARGE, NODE, Name, Names};
#[cfg(feature = "json")]
use crate::codec::{guarded, json};
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use std::any::type_name;

/// Reads one value from the start of `bytes`. Returns how many bytes follow it, too.
#[inline]
pub(super) fn decode<'de, T: de::Deserialize<'de>>(bytes: &'de [u8]) -> Coded<(T, usize)> {
    let mut decoder = Decoder {
        bytes,
        length: bytes.len(),
        room: StackRoom::new(),
        announced: 0,
        nothings: 0,
        large: 0,
        asked: false,
    };
    match T::deserialize(&mut decoder) {
        Ok(value) => Ok((value, decoder.bytes.len())),
        Err(error) if decoder.asked => Err(CodecError::asks_what_comes::<T>(&error)),
        Err(error) => Err(error),
    }
}

struct Decoder<'de> {
    bytes: &'de [u8],
    /// How many bytes there were.
    length: usize,
    room: StackRoom,
    /// The sum of the announced lengths of the sequences and maps that are being read, each inside the one before.
    announced: usize,
    /// How many elements took no bytes, in the whole value.
    nothings: usize,
    /// The sum of the sizes in memory of what is large, or took no bytes.
    large: usize,
    /// A type has asked what comes next.
    asked: bool,
}

/// The most elements without bytes in a sequence: no byte speaks for them, and a corrupt number must not cause an endless
/// loop.
const MOST_EMPTY: usize = 1 << 20;

/// How much in a value may take no bytes: so much in any, and so much more for each of its bytes. Elements of sequences count,
/// and those of tuples and arrays.
const MOST_NOTHINGS: usize = 4 * MOST_EMPTY;
const NOTHINGS_PER_BYTE: usize = 16;

/// How much memory large values may take in all: so much in any, and so much more for each of the bytes.
const MOST_LARGE: usize = 256 << 20;
const LARGE_PER_BYTE: usize = LARGE;

/// Asked for only where an error tells it.
type TypeName = fn() -> &'static str;

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

    /// Has a value read that may have others of its own type in it.
    fn nested<R>(&mut self, read: impl FnOnce(&mut Self) -> Coded<R>) -> Coded<R> {
        self.weigh::<R>()?;
        let outer = self.room.enter::<R>()?;
        let value = read(self);
        self.room.leave(outer);
        value
    }

    /// Has a value read that has as many others in it as its type says.
    #[inline]
    fn fixed<R>(&mut self, read: impl FnOnce(&mut Self) -> Coded<R>) -> Coded<R> {
        self.weigh::<R>()?;
        self.room.pass::<R>()?;
        let value = read(self);
        self.room.pass_back();
        value
    }

    /// Counts a value of this type, if it is large.
    #[inline(always)]
    fn weigh<R>(&mut self) -> Coded<()> {
        if size_of::<R>() > LARGE { self.take_memory(size_of::<R>(), type_name::<R>) } else { Ok(()) }
    }

    fn most_large(&self) -> usize {
        self.length.saturating_mul(LARGE_PER_BYTE).saturating_add(MOST_LARGE)
    }

    /// Counts the first node of a collection that may be a tree, of which these are the first keys, values or elements.
    #[inline(always)]
    fn weigh_node<R>(&mut self) -> Coded<()> {
        let size = NODE * size_of::<R>();
        if size > LARGE { self.take_memory(size, type_name::<R>) } else { Ok(()) }
    }

    fn take_memory(&mut self, size: usize, name: TypeName) -> Coded<()> {
        self.large = self.large.saturating_add(size);
        let most = self.most_large();
        if self.large <= most { Ok(()) } else { Err(CodecError::too_much_memory(self.length, most, size, name())) }
    }

    #[cold]
    fn judge_nothings(&self) -> Coded<()> {
        let most = self.length.saturating_mul(NOTHINGS_PER_BYTE).saturating_add(MOST_NOTHINGS);
        if self.nothings <= most {
            return Ok(());
        }
        Err(CodecError::new(format!(
            "the value has too many elements that take no bytes, such as `()`: more than {most}, with those of tuples and arrays in them",
        )))
    }

    /// As [`elements`](Self::elements), of a struct or a variant.
    fn fields<R>(&mut self, visit: impl FnOnce(&mut ElementDecoder<'_, 'de>) -> Coded<R>) -> Coded<R> {
        let count = self.count()?;
        self.fixed(|decoder| decoder.elements(count, ElementKind::Fields, visit))
    }

    /// As [`elements`](Self::elements), of a sequence or a map that says how many it has. Elements may take no bytes at
    /// all, but then their number is limited.
    fn counted<R>(&mut self, visit: impl FnOnce(&mut ElementDecoder<'_, 'de>) -> Coded<R>) -> Coded<R> {
        let count = self.count()?;
        self.nested(|decoder| decoder.elements(count, ElementKind::Elements, visit))
    }

    fn count(&mut self) -> Coded<usize> {
        match self.length()? {
            count if count <= self.bytes.len().max(MOST_EMPTY) => Ok(count),
            count => Err(CodecError::new(format!(
                "{count} elements were announced, and {} bytes follow (at most {MOST_EMPTY} elements may take no bytes, \
                 such as `()`)",
                self.bytes.len()
            ))),
        }
    }

    /// An element or an entry was read that began when so many bytes were left.
    #[inline(always)]
    fn read_since<R>(&mut self, left: usize) -> Coded<()> {
        match size_of::<R>() {
            _ if self.bytes.len() != left => Ok(()),
            0 => self.count_nothing(),
            size => self.read_nothing(size, type_name::<R>),
        }
    }

    #[inline(always)]
    fn count_nothing(&mut self) -> Coded<()> {
        self.nothings += 1;
        if self.nothings <= MOST_NOTHINGS { Ok(()) } else { self.judge_nothings() }
    }

    #[cold]
    fn read_nothing(&mut self, size: usize, name: TypeName) -> Coded<()> {
        self.count_nothing()?;
        self.take_memory(size, name)
    }

    /// Has `count` elements read, and checks that all of them were.
    #[inline]
    fn elements<R>(
        &mut self,
        count: usize,
        kind: ElementKind,
        visit: impl FnOnce(&mut ElementDecoder<'_, 'de>) -> Coded<R>,
    ) -> Coded<R> {
        let around = self.announced;
        self.announced = around.saturating_add(count);
        let mut elements = ElementDecoder { decoder: self, left: count, around, kind, entry: 0, is_first: true };
        let value = visit(&mut elements)?;
        let left = elements.left;
        self.announced = around;
        if left == 0 { Ok(value) } else { Err(CodecError::not_all_read(count, left)) }
    }
}

impl de::Error for CodecError {
    fn custom<T: std::fmt::Display>(reason: T) -> Self {
        Self::said(reason)
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
            false => {
                self.weigh::<V::Value>()?;
                visitor.visit_none()
            }
            true => self.nested(|decoder| visitor.visit_some(decoder)),
        },
        deserialize_newtype_struct(name: Name) => {
            #[cfg(feature = "json")]
            if name == json::NAME {
                return self.fixed(|decoder| {
                    let left = decoder.most_large().saturating_sub(decoder.large);
                    let (value, then) = guarded::within(left, || visitor.visit_newtype_struct(&mut *decoder));
                    decoder.large = decoder.large.saturating_add(left - then);
                    value
                });
            }
            let _ = name;
            self.fixed(|decoder| visitor.visit_newtype_struct(decoder))
        },
        deserialize_seq() => self.counted(|elements| visitor.visit_seq(elements)),
        deserialize_tuple(count: usize) => self.fixed(|decoder| {
            decoder.elements(count, ElementKind::Tuple, |elements| visitor.visit_seq(elements))
        }),
        deserialize_tuple_struct(_: Name, _: usize) => self.fields(|elements| visitor.visit_seq(elements)),
        deserialize_map() => self.counted(|entries| visitor.visit_map(entries)),
        deserialize_struct(_: Name, _: Names) => self.fields(|elements| visitor.visit_seq(elements)),
    }
    serde::forward_to_deserialize_any! { identifier ignored_any }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Coded<V::Value> {
        self.asked = true;
        Err(CodecError::new((&visitor as &dyn de::Expected).to_string()))
    }

    fn deserialize_enum<V: Visitor<'de>>(self, name: Name, variants: Names, visitor: V) -> Coded<V::Value> {
        let index = self.length()?;
        let hash = u32::from_le_bytes(self.array()?);
        let variant = variant(index, hash, variants).ok_or_else(|| {
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
    /// None has been read yet.
    is_first: bool,
}

impl<'de> de::SeqAccess<'de> for &mut ElementDecoder<'_, 'de> {
    type Error = CodecError;

    #[inline(always)]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Coded<Option<T::Value>> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                let before = self.decoder.bytes.len();
                if self.kind == ElementKind::Elements && std::mem::take(&mut self.is_first) {
                    self.decoder.weigh_node::<T::Value>()?;
                }
                let value = seed.deserialize(&mut *self.decoder)?;
                if self.kind != ElementKind::Fields {
                    self.decoder.read_since::<T::Value>(before)?;
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
        if self.is_first {
            self.decoder.weigh_node::<K::Value>()?;
        }
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Coded<V::Value> {
        if std::mem::take(&mut self.is_first) {
            self.decoder.weigh_node::<V::Value>()?;
        }
        let value = seed.deserialize(&mut *self.decoder)?;
        self.decoder.read_since::<V::Value>(self.entry)?;
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
        tuple_variant(_: usize) => self.decoder.fields(|elements| visitor.visit_seq(elements)),
        struct_variant(_: Names) => self.decoder.fields(|elements| visitor.visit_seq(elements)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Reader, Writer};
    use crate::hash::name_hash;
    use serde::{Deserialize, Serialize};
    use std::cell::Cell;
    use std::cmp::Reverse;
    use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
    use std::ffi::CString;
    use std::marker::PhantomData;
    use std::net::IpAddr;
    use std::num::{NonZero, Wrapping};
    use std::ops::Bound;
    use std::path::PathBuf;
    use std::time::{Duration, Instant, SystemTime};

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

    fn too_many<T>(read: &Coded<T>) -> bool {
        read.as_ref().is_err_and(|error| error.to_string().contains("that take no bytes"))
    }

    /// Each tree has a node with room for eleven entries.
    #[test]
    fn many_trees_of_one_entry_are_counted() {
        type Part = Option<[u64; 31]>;
        let count = 400_000;
        let map = lengths([count].into_iter().chain(std::iter::repeat_n([1, 0], count).flatten()));
        let refused = "more memory than its";
        let error = read::<Vec<BTreeMap<(), Part>>>(&map).unwrap_err().to_string();
        assert!(error.contains(refused), "{error}");
        let error = read::<Vec<BTreeSet<Part>>>(&map).unwrap_err().to_string();
        assert!(error.contains(refused), "{error}");
        let mut writer = Writer::new();
        let full: Vec<BTreeMap<u8, Part>> = vec![BTreeMap::from([(1, Some([9; 31]))]); 2000];
        writer.value(&full).unwrap();
        assert_eq!(read(&writer.into_bytes()), Ok(full));
    }

    /// A few KiB must not cost the reader seconds, however they are nested.
    #[test]
    fn elements_without_bytes_are_counted_for_the_whole_value() {
        let began = Instant::now();
        let sequences = |inner: usize| lengths([9000].into_iter().chain(std::iter::repeat_n(inner, 9000)));
        // As many in each as are allowed in all, and as many as there are bytes.
        for inner in [1 << 20, 1 << 12, 1001] {
            let bytes = sequences(inner);
            assert!(too_many(&read::<Vec<Vec<Unit>>>(&bytes)), "{inner}");
            assert!(too_many(&read::<Vec<Vec<()>>>(&bytes)), "{inner}");
            assert!(too_many(&read::<Vec<BTreeMap<(), Unit>>>(&bytes)), "{inner}");
            assert!(too_many(&read::<Vec<Vec<((), [Unit; 3])>>>(&bytes)), "{inner}");
        }
        let optional = lengths([2000].into_iter().chain((0..2000).flat_map(|_| [1, 1 << 20])));
        assert!(read::<Vec<Option<Vec<Option<PhantomData<u8>>>>>>(&optional).is_err());
        assert!(read::<Vec<Option<Vec<()>>>>(&optional).is_err());
        // Even where nothing is optimized, and much else runs; without a limit they take an hour.
        assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped<T>(T);

    /// What elements consist of counts too: three bytes announce a million of them.
    #[test]
    fn what_takes_no_bytes_is_counted_at_every_depth() {
        let began = Instant::now();
        let million = lengths([1 << 20]);
        macro_rules! refused {
            ($($type:ty),* $(,)?) => {$(
                assert!(too_many(&read::<$type>(&million)), "{}", std::any::type_name::<$type>());
            )*};
        }
        type Square<T> = [[T; 32]; 32];
        refused! {
            Vec<Square<[Unit; 32]>>, Vec<Square<()>>, BTreeMap<(), Square<Unit>>, BTreeMap<Square<()>, Unit>,
            Box<[Square<PhantomData<u8>>]>, VecDeque<Square<Wrapped<()>>>, LinkedList<[Wrapped<Wrapped<()>>; 32]>,
            BinaryHeap<[((), ()); 32]>, BTreeSet<((), Square<()>)>, HashSet<Square<()>>, HashMap<[(); 32], [(); 32]>,
            Vec<Square<[Unit; 0]>>, Vec<Box<Square<Box<()>>>>, Vec<Wrapped<Square<Cell<()>>>>,
            Vec<Wrapping<Wrapped<Reverse<[(); 32]>>>>,
        }
        // Where there are a few bytes, many parts without bytes do not count as theirs.
        #[derive(Debug, Serialize, Deserialize)]
        struct Much {
            much: Square<[Unit; 32]>,
        }
        let much = lengths([9000].into_iter().chain(std::iter::repeat_n(1, 9000)));
        assert!(too_many(&read::<Vec<Much>>(&much)));
        assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    }

    #[test]
    fn a_million_elements_without_bytes_are_read() {
        let (deep, one) = (lengths([1, 1, 1, 1 << 20]), lengths([1 << 20]));
        assert!(read::<Vec<Vec<Vec<Vec<()>>>>>(&deep).is_ok_and(|all| all[0][0][0].len() == 1 << 20));
        assert_eq!(read::<Vec<()>>(&one), Ok(vec![(); 1 << 20]));
        assert_eq!(read::<Vec<Unit>>(&one), Ok(vec![Unit; 1 << 20]));
        assert_eq!(read::<Vec<((), PhantomData<u8>)>>(&one).map(|all| all.len()), Ok(1 << 20));
        assert_eq!(read::<Vec<Wrapped<Wrapped<()>>>>(&one).map(|all| all.len()), Ok(1 << 20));
        assert!(read::<Vec<()>>(&lengths([(1 << 20) + 1])).is_err());
    }

    /// Where elements have bytes, these speak for what is in them without bytes.
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

    /// A byte that says "none" must not take kilobytes, again and again.
    #[test]
    fn large_values_without_bytes_take_bounded_memory() {
        type Large = [[u64; 32]; 32];
        #[derive(Default, Deserialize)]
        #[serde(from = "()")]
        struct Conjured(#[expect(dead_code, reason = "it only has a size")] Large2);
        struct Large2(#[expect(dead_code, reason = "it only has a size")] [u8; 4096]);
        impl Default for Large2 {
            fn default() -> Self {
                Self([1; 4096])
            }
        }
        impl From<()> for Conjured {
            fn from((): ()) -> Self {
                Self::default()
            }
        }
        #[derive(Deserialize)]
        #[expect(clippy::large_enum_variant, reason = "that is what this is about")]
        enum Either {
            Small,
            #[expect(dead_code, reason = "it only has a size")]
            Large(Large),
        }
        let too_large = |error: &CodecError| error.to_string().contains("belongs into a `Box`");
        let nones = [lengths([1 << 17]), vec![0; 1 << 17]].concat();
        assert!(read::<Vec<Option<Large>>>(&nones).is_err_and(|error| too_large(&error)));
        assert!(read::<Vec<Box<Option<Large>>>>(&nones).is_err_and(|error| too_large(&error)));
        assert!(read::<Vec<Conjured>>(&lengths([1 << 17])).is_err_and(|error| too_large(&error)));
        let small = [&[0][..], &name_hash("Small").to_le_bytes()].concat();
        let smalls = [lengths([1 << 17]), small.repeat(1 << 17)].concat();
        assert!(read::<Vec<Either>>(&smalls).is_err_and(|error| too_large(&error)));
        assert!(matches!(read::<Either>(&small), Ok(Either::Small)));
        let told = read::<Vec<Option<Large>>>(&nones).unwrap_err().to_string();
        let size = size_of::<Option<Large>>();
        assert!(told.contains(&format!("a `{}` of {size} bytes", type_name::<Option<Large>>())), "{told}");
        // What is not that large, and what has its bytes.
        assert!(read::<Vec<Option<[u64; 31]>>>(&nones).is_ok_and(|all| all.len() == 1 << 17));
        assert!(read::<Vec<Option<Box<Large>>>>(&nones).is_ok_and(|all| all.len() == 1 << 17));
        let full = [lengths([1 << 9]), [&[1][..], &[7; size_of::<Large>()]].concat().repeat(1 << 9)].concat();
        assert!(read::<Vec<Option<Large>>>(&full).is_ok_and(|all| all.len() == 1 << 9));
    }

    /// What is out of range in a type of the standard library is an error, not a panic.
    #[test]
    fn strange_values_of_the_standard_library_are_refused() {
        let ones = [0xff; 64];
        let two_fields = [&[2][..], &ones].concat();
        assert!(read::<Duration>(&two_fields).is_err());
        assert!(read::<SystemTime>(&two_fields).is_err());
        assert!(read::<char>(&ones).is_err() && read::<bool>(&ones).is_err() && read::<String>(&ones).is_err());
        assert!(read::<NonZero<u128>>(&[0; 16]).is_err());
        assert!(read::<CString>(&[2, 0, 0]).is_err());
        assert!(read::<PathBuf>(&[1, 0xff]).is_err());
        assert!(read::<Vec<IpAddr>>(&[&[1][..], &ones].concat()).is_err());
        assert!(read::<Bound<u8>>(&ones).is_err());
        assert!(read::<f64>(&ones).is_ok_and(f64::is_nan));
        // Keys that come twice are one.
        assert_eq!(read::<BTreeMap<u8, u8>>(&[2, 1, 7, 1, 8]), Ok(BTreeMap::from([(1, 8)])));
    }

    /// An error that repeats what was read is no longer than it helps.
    #[test]
    fn what_a_type_says_is_cut() {
        #[derive(Debug)]
        struct Never;
        impl<'de> Deserialize<'de> for Never {
            fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Err(de::Error::invalid_value(de::Unexpected::Str(&text), &"something else"))
            }
        }
        let text = "\u{1}é".repeat(1 << 20);
        let mut writer = Writer::new();
        writer.value(&text).unwrap();
        let told = read::<Never>(&writer.into_bytes()).unwrap_err().to_string();
        assert!(told.starts_with("invalid value: string") && told.ends_with(" …"), "{}", &told[..100]);
        assert!(told.len() < 20_000, "{}", told.len());
        assert!(read::<Never>(b"\x01x").unwrap_err().to_string().ends_with("expected something else"));
    }
}
