//! Values to bytes and back: the only module that knows the encoding.
//!
//! Parameters and results that are *plain data* (`Vec<f64>`, `&[u8]`, `[u32; 9]`, long strings) are copied in bulk,
//! aligned so that a slice can be borrowed from the payload; large ones go into the [`arena`], and the payload has only
//! the segment's number. Everything else goes through serde. A [`Probe`] decides which at compile time.
//!
//! | serde's model | bytes |
//! |---|---|
//! | integers, floats, `bool`, `char` | fixed width, little endian |
//! | strings, bytes | length, bytes; can be borrowed when decoded |
//! | option | 0, or 1 and the value |
//! | unit, unit struct, newtype struct, tuple | nothing; the value; the elements |
//! | sequence, map | count, elements |
//! | struct, tuple struct | count of fields, fields in order, no names |
//! | enum | index of the variant, hash of its name, then as the struct, tuple or value in it |
//!
//! Lengths, counts and indices are LEB128. Other formats of this kind (bincode, postcard) decode a *wrong value* where
//! `Serialize` and `Deserialize` of a type disagree: `skip_serializing_if`, `skip_serializing`, `#[serde(skip)]` on a
//! variant. The counts and the hashes of names turn that into an error, which is why the format is our own.
//!
//! This module must never trust the bytes: whatever they are, decoding ends in a value or an error, takes no more steps
//! and memory than the bytes justify, and recurses to a bounded depth, on no more of the stack than is left. `room.rs`
//! watches the stack.

mod bounded;
mod decode;
mod encode;
#[cfg(feature = "json")]
mod guarded;
#[cfg(feature = "json")]
mod json;
mod probe;
mod room;
mod scalars;
mod variants;

pub use bounded::Unbounded;
#[cfg(feature = "json")]
pub use json::Json;
pub use probe::*;

use crate::memory::{ALIGN, Block, Hold, arena, cache};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::{self, Write as _};

/// How deeply sequences, maps, structs and variants may be nested in a value: more could overflow the stack.
pub const MAX_DEPTH: u32 = 256;

/// Values whose size in memory is above this are large, in bytes.
const LARGE: usize = 256;

/// Why a value could not be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(String);

pub(crate) type Coded<T> = Result<T, CodecError>;
type Name = &'static str;
type Names = &'static [Name];

impl CodecError {
    #[inline]
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// For the expansion of a constructor: it cannot fail, or there is no error.
    #[doc(hidden)]
    pub fn unexpected_refusal() -> Self {
        Self::new("the server says that a constructor failed, but sent no reason")
    }

    fn truncated() -> Self {
        Self::new("the bytes end before the value does")
    }

    fn no_memory(length: usize) -> Self {
        Self::new(format!("there is no memory for {length} bytes"))
    }

    /// `expected` is what it was that asked.
    #[cold]
    fn asks_what_comes<T: ?Sized>(expected: &Self) -> Self {
        Self::new(format!(
            "`{}` cannot be read: it asks what comes next, expecting {expected}, and an encoding without names cannot tell. \
             {JSON}",
            std::any::type_name::<T>()
        ))
    }

    /// What a type of the user's says. It may repeat what it has read, so it is cut.
    #[cold]
    fn said(reason: impl fmt::Display) -> Self {
        let mut text = Cut::new(LONGEST_TEXT);
        // If it is cut, or its own `Display` fails, the beginning is better than nothing.
        let _ = write!(text, "{reason}");
        Self(text.text)
    }

    fn too_many_elements() -> Self {
        Self::new("a type wrote more elements than it announced: its `Serialize` implementation is wrong")
    }

    #[cold]
    fn not_all_read(count: usize, left: usize) -> Self {
        Self::new(format!(
            "{count} fields or elements were written and only {} are read: do `Serialize` and `Deserialize` of the type agree \
             (`skip_deserializing`)?",
            count - left
        ))
    }

    /// Of so many bytes. `name` and `size` are those of the type that came last.
    #[cold]
    fn too_much_memory(length: usize, most: usize, size: usize, name: Name) -> Self {
        let mut cut = Cut::new(LONGEST_NAME);
        // An error says that it is cut.
        let _ = cut.write_str(name);
        Self::new(format!(
            "the value would take more memory than its {length} bytes justify ({most} bytes): the latest part is a `{}` of {size} \
             bytes; what is large in memory and small when it is empty, such as an `Option` of a large array, belongs into a `Box`",
            cut.text
        ))
    }

    #[cold]
    fn too_deep() -> Self {
        Self::new(format!("the value is nested more than {MAX_DEPTH} deep"))
    }
}

/// The longest text of a type of the user's that is kept, in bytes.
const LONGEST_TEXT: usize = 1 << 14;

/// A tree of the standard library has room for so many in its first node.
const NODE: usize = 11;

/// The longest name of a type that is told.
const LONGEST_NAME: usize = 200;

/// A text that is cut off where it becomes too long, without room for the rest of it.
struct Cut {
    text: String,
    most: usize,
}

impl Cut {
    fn new(most: usize) -> Self {
        Self { text: String::new(), most }
    }
}

impl fmt::Write for Cut {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let kept = part.floor_char_boundary(self.most.saturating_sub(self.text.len()));
        self.text.push_str(&part[..kept]);
        if kept == part.len() {
            return Ok(());
        }
        self.text.push_str(" …");
        Err(fmt::Error)
    }
}

/// What does not work, and the way out.
const JSON: &str = "`serde_json::Value`, `rust_decimal::Decimal` and types with `#[serde(untagged)]`, \
                    `#[serde(tag = …)]` or `#[serde(flatten)]` travel inside of `pool_runtime::Json` (its feature `json`), \
                    as JSON; or pass a string, or a type of your own without these attributes";

/// A bit in the length of plain data: the bytes are in a segment of the arena, whose number follows.
const ELSEWHERE: u64 = 1 << 63;

/// Collects the encoded values of one payload.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// The last value's bytes, if they were not copied.
    tail: Option<Block>,
}

impl Writer {
    #[inline]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Uses the buffer that was [recycled](cache::recycle), if there is one.
    #[inline]
    pub(crate) fn recycled() -> Self {
        Self { bytes: cache::take_recycled(), tail: None }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        if let Some(tail) = self.tail.take() {
            cache::keep(tail);
        }
    }

    /// What was written, in two parts.
    #[inline]
    pub(crate) fn parts(&self) -> (&[u8], Option<&Block>) {
        (&self.bytes, self.tail.as_ref())
    }

    #[inline]
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        if let Some(tail) = self.tail.take() {
            self.bytes.extend_from_slice(tail.bytes());
        }
        self.bytes
    }

    #[inline]
    pub(crate) fn value<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Coded<()> {
        encode::encode(value, &mut self.bytes)
    }

    /// Copies plain data: its length in bytes, then the bytes, aligned.
    #[inline]
    pub(crate) fn bulk<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> Coded<()> {
        if size_of::<T>() == 0 && !values.is_empty() {
            return Err(CodecError::new("elements of a zero-sized type cannot be counted in bytes"));
        }
        let bytes: &[u8] = bytemuck::cast_slice(values);
        if bytes.len() >= arena::LARGE
            && let Some(segment) = arena::deposit(bytes, self.bytes.len() + size_of::<u64>())
        {
            self.bytes.extend_from_slice(&(bytes.len() as u64 | ELSEWHERE).to_le_bytes());
            self.bytes.extend_from_slice(&segment.id().to_le_bytes());
            return Ok(());
        }
        self.bytes.reserve(size_of::<u64>() + ALIGN + bytes.len());
        crate::os::prefer_huge_pages(self.bytes.spare_capacity_mut());
        self.bulk_head(bytes.len());
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// As [`bulk`](Self::bulk), for the last value: a large vector is not copied.
    #[inline]
    pub(crate) fn last_bulk<T: bytemuck::NoUninit>(&mut self, values: Vec<T>) -> Coded<()> {
        if size_of_val(values.as_slice()) < arena::LARGE {
            return self.bulk(&values);
        }
        self.bulk_head(size_of_val(values.as_slice()));
        self.tail = cache::block_of(values);
        Ok(())
    }

    fn bulk_head(&mut self, length: usize) {
        let padding = (self.bytes.len() + size_of::<u64>()).wrapping_neg() % ALIGN;
        self.bytes.extend_from_slice(&(length as u64).to_le_bytes());
        self.bytes.resize(self.bytes.len() + padding, 0);
    }

    /// Writes a string; a long one as plain data.
    pub(crate) fn text(&mut self, text: &str) -> Coded<()> {
        let long = text.len() >= arena::LARGE;
        self.bytes.push(long.into());
        if long { self.bulk(text.as_bytes()) } else { self.value(text) }
    }

    /// As [`text`](Self::text), for the last value: a long string is not copied.
    pub(crate) fn last_text(&mut self, text: String) -> Coded<()> {
        if text.len() < arena::LARGE {
            return self.text(&text);
        }
        self.bytes.push(true.into());
        self.last_bulk(text.into_bytes())
    }
}

/// Reads the encoded values of one payload, in the order in which they were written.
#[derive(Clone, Debug)]
pub struct Reader<'de> {
    payload: &'de [u8],
    position: usize,
    /// Holds the segments that the payload refers to. None: it must not refer to any.
    hold: Option<&'de Hold>,
    /// The last value's bytes, if they are not in the payload.
    tail: Option<&'de RefCell<Option<Block>>>,
}

impl<'de> Reader<'de> {
    #[inline]
    pub(crate) fn new(payload: &'de [u8]) -> Self {
        Self { payload, position: 0, hold: None, tail: None }
    }

    /// For arguments, which may refer to shared memory.
    #[inline]
    pub(crate) fn of_arguments(payload: &'de [u8], hold: &'de Hold) -> Self {
        Self { hold: Some(hold), ..Self::new(payload) }
    }

    /// For a result whose last value's bytes are in a block.
    pub(crate) fn of_split(before: &'de [u8], tail: &'de RefCell<Option<Block>>) -> Self {
        Self { tail: Some(tail), ..Self::new(before) }
    }

    #[inline]
    fn rest(&self) -> &'de [u8] {
        &self.payload[self.position..]
    }

    #[inline]
    pub(crate) fn value<T: serde::Deserialize<'de>>(&mut self) -> Coded<T> {
        let (value, left) = decode::decode(self.rest())?;
        self.position = self.payload.len() - left;
        Ok(value)
    }

    /// The block, if the next value's bytes are in it.
    #[inline]
    pub(crate) fn tail(&mut self) -> Option<Block> {
        self.tail.and_then(|tail| self.take_tail(tail))
    }

    #[cold]
    fn take_tail(&mut self, tail: &RefCell<Option<Block>>) -> Option<Block> {
        let length = self.rest().first_chunk().map(|length| u64::from_le_bytes(*length));
        let start = self.bulk_start();
        let fits = |block: &mut Block| start == self.payload.len() && length == Some(block.bytes().len() as u64);
        let block = tail.borrow_mut().take_if(fits)?;
        self.position = start;
        Some(block)
    }

    /// Where plain data starts whose length comes next.
    #[inline]
    fn bulk_start(&self) -> usize {
        (self.position + size_of::<u64>()).next_multiple_of(ALIGN)
    }

    /// The bytes of plain data, borrowed from the payload or from shared memory.
    #[inline]
    pub(crate) fn bulk(&mut self) -> Coded<&'de [u8]> {
        let (length, rest) = self.rest().split_first_chunk().ok_or_else(CodecError::truncated)?;
        let length = u64::from_le_bytes(*length);
        if length & ELSEWHERE != 0 {
            let id = rest.first_chunk().ok_or_else(CodecError::truncated)?;
            self.position += 2 * size_of::<u64>();
            return self.elsewhere(u64::from_le_bytes(*id), length & !ELSEWHERE);
        }
        let start = self.bulk_start();
        let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
        let bytes = end.and_then(|end| self.payload.get(start..end)).ok_or_else(CodecError::truncated)?;
        self.position = start + bytes.len();
        Ok(bytes)
    }

    #[cold]
    fn elsewhere(&self, id: u64, length: u64) -> Coded<&'de [u8]> {
        let hold = self.hold.ok_or_else(|| CodecError::new("only arguments can refer to shared memory"))?;
        let length = usize::try_from(length).map_err(|_| CodecError::truncated())?;
        hold.find(id, length).map_err(|why| CodecError::new(format!("shared memory: {why}")))
    }

    /// A string, borrowed if it can be.
    pub(crate) fn text(&mut self) -> Coded<Cow<'de, str>> {
        let (long, _) = self.rest().split_first().ok_or_else(CodecError::truncated)?;
        self.position += 1;
        if *long == 0 {
            return self.value().map(Cow::Borrowed);
        }
        let text = match self.tail() {
            Some(block) => {
                let bytes = block.into_elements().or_else(|block| copied(block.bytes()))?;
                String::from_utf8(bytes).map(Cow::Owned).map_err(|error| error.utf8_error())
            }
            None => std::str::from_utf8(self.bulk()?).map(Cow::Borrowed),
        };
        text.map_err(|error| CodecError::new(format!("a string is not UTF-8: {error}")))
    }

    /// Checks that all bytes were read: if some are left, the two sides disagree about a type.
    #[inline]
    pub fn finish(&self) -> Coded<()> {
        let behind = |tail: &RefCell<Option<Block>>| tail.borrow().as_ref().map_or(0, |block| block.bytes().len());
        match self.rest().len() + self.tail.map_or(0, behind) {
            0 => Ok(()),
            left => Err(CodecError::new(format!(
                "{left} bytes are left over: what was written is not what is read (do `Serialize` and `Deserialize` \
                 of the type agree?)"
            ))),
        }
    }
}
