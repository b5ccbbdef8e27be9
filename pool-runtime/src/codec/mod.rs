//! Values to bytes and back: the only file that knows the encoding.
//!
//! Two ways lead from a value to bytes. Whole parameters and results made of *plain data* (`Vec<f64>`, `&[u8]`,
//! `[u32; 9]`, long strings) are copied in bulk, aligned so that a lent slice can be read where it lies; large ones go
//! into an [`arena`] of shared memory, and only their number travels. Everything else goes through serde. Which way a
//! type takes is decided at compile time, where the concrete type is known: `#[task]` calls methods on a [`Probe`], and
//! method look-up picks the first implementation that applies.
//!
//! | serde's model | bytes |
//! |---|---|
//! | integers, floats, `bool`, `char` | fixed width, little endian |
//! | strings, bytes | length, bytes; borrowed where they lie when decoded |
//! | option | 0, or 1 and the value |
//! | unit, unit struct, newtype struct, tuple | nothing; the value; the elements |
//! | sequence, map | count, elements |
//! | struct, tuple struct | count of fields, fields in order, no names |
//! | enum | index of the variant, hash of its name, then as the struct, tuple or value in it |
//!
//! Lengths, counts and indices are LEB128. The known formats of this kind (bincode, postcard) decode a *wrong value*
//! where the two directions of a type disagree: `skip_serializing_if`, `skip_serializing`, `#[serde(skip)]` on a
//! variant. Here the counts and the variants' names turn every such disagreement into an error that says so, which is
//! why the format is our own.
//!
//! This module must never trust the bytes: whatever they are, decoding ends in a value or an error, allocates no more
//! than the bytes justify, and recurses to a bounded depth.

mod decode;
mod encode;
mod few;
mod probe;

pub use few::*;
pub use probe::*;

use crate::memory::{ALIGN, Block, Hold, arena, cache};
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;

/// How deeply sequences, maps, structs and variants may be nested in a value.
///
/// A value nested more deeply is refused rather than overflowing the stack of whoever encodes or decodes it.
pub const MAX_DEPTH: u32 = 256;

/// Why a value could not be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError(String);

impl CodecError {
    #[inline]
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    fn truncated() -> Self {
        Self::new("the bytes end before the value does")
    }

    fn too_deep() -> Self {
        Self::new(format!("the value is nested more than {MAX_DEPTH} deep"))
    }

    fn unknown_length() -> Self {
        Self::new(
            "the type does not say how many elements it has, which an encoding without names needs: \
             `#[serde(flatten)]` does not work in arguments and results",
        )
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

/// In the length of plain data: the bytes lie in a segment, whose number follows.
const ELSEWHERE: u64 = 1 << 63;

/// Collects the encoded values of one payload.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// The rest, which was not copied.
    tail: Option<Block>,
}

impl Writer {
    #[inline]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Uses the memory that was [recycled](cache::recycle), if some was.
    #[inline]
    pub(crate) fn with_spare() -> Self {
        Self { bytes: cache::take_recycled(), tail: None }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets what was written: the next values are another payload.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        if self.tail.is_some() {
            self.keep_tail();
        }
    }

    /// What it needs no more is for somebody else.
    #[cold]
    fn keep_tail(&mut self) {
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

    /// Encodes a value through serde.
    #[inline]
    pub(crate) fn value<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        encode::encode(value, &mut self.bytes)
    }

    /// Copies plain data: its length in bytes, then the bytes, aligned.
    #[inline]
    pub(crate) fn bulk<T: bytemuck::NoUninit>(&mut self, values: &[T]) -> Result<(), CodecError> {
        if size_of::<T>() == 0 && !values.is_empty() {
            return Err(CodecError::new("elements of a type without size cannot be counted in bytes"));
        }
        let bytes: &[u8] = bytemuck::cast_slice(values);
        if bytes.len() >= arena::LARGE
            && let Some(segment) = arena::deposit(bytes)
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

    /// As [`bulk`](Self::bulk), of a vector that is not needed any more, as the last value: a large one is not copied.
    #[inline]
    pub(crate) fn last_bulk<T: bytemuck::NoUninit>(&mut self, values: Vec<T>) -> Result<(), CodecError> {
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
}

impl Writer {
    /// Copies text; a long one as plain data.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CodecError> {
        let long = text.len() >= arena::LARGE;
        self.bytes.push(long.into());
        if long { self.bulk(text.as_bytes()) } else { self.value(text) }
    }

    /// As [`text`](Self::text), of a string that is not needed any more, as the last value.
    pub(crate) fn last_text(&mut self, text: String) -> Result<(), CodecError> {
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
    /// Keeps what is not in the payload itself, where that is allowed.
    hold: Option<&'de Hold>,
    /// The plain data behind the payload, if it is somewhere else, until it is taken.
    tail: Option<&'de RefCell<Option<Block>>>,
}

impl<'de> Reader<'de> {
    #[inline]
    pub(crate) fn new(payload: &'de [u8]) -> Self {
        Self { payload, position: 0, hold: None, tail: None }
    }

    /// For arguments, which may speak of memory that was passed to this process.
    #[inline]
    pub(crate) fn of_arguments(payload: &'de [u8], hold: &'de Hold) -> Self {
        Self { payload, position: 0, hold: Some(hold), tail: None }
    }

    /// For a result whose plain data is to be taken over.
    pub(crate) fn of_split(before: &'de [u8], tail: &'de RefCell<Option<Block>>) -> Self {
        Self { payload: before, position: 0, hold: None, tail: Some(tail) }
    }

    /// Decodes a value through serde; it may borrow from the payload.
    #[inline]
    pub(crate) fn value<T: serde::Deserialize<'de>>(&mut self) -> Result<T, CodecError> {
        let rest = &self.payload[self.position..];
        let (value, left) = decode::decode(rest)?;
        self.position = self.payload.len() - left;
        Ok(value)
    }

    /// Plain data that can be taken over as it is.
    #[inline]
    pub(crate) fn tail(&mut self) -> Option<Block> {
        self.tail.and_then(|tail| self.take_tail(tail))
    }

    #[cold]
    fn take_tail(&mut self, tail: &RefCell<Option<Block>>) -> Option<Block> {
        let length = self.payload[self.position..].first_chunk().map(|length| u64::from_le_bytes(*length));
        let start = (self.position + size_of::<u64>()).next_multiple_of(ALIGN);
        let fits = |block: &mut Block| start == self.payload.len() && length == Some(block.bytes().len() as u64);
        let block = tail.borrow_mut().take_if(fits)?;
        self.position = start;
        Some(block)
    }

    /// The bytes of plain data, where they lie.
    #[inline]
    pub(crate) fn bulk(&mut self) -> Result<&'de [u8], CodecError> {
        let rest = &self.payload[self.position..];
        let (length, rest) = rest.split_first_chunk().ok_or_else(CodecError::truncated)?;
        let length = u64::from_le_bytes(*length);
        if length & ELSEWHERE != 0 {
            let id = rest.first_chunk().ok_or_else(CodecError::truncated)?;
            self.position += 2 * size_of::<u64>();
            return self.elsewhere(u64::from_le_bytes(*id), length & !ELSEWHERE);
        }
        let length = usize::try_from(length).map_err(|_| CodecError::truncated())?;
        let start = (self.position + size_of::<u64>()).next_multiple_of(ALIGN);
        let end = start.checked_add(length).ok_or_else(CodecError::truncated)?;
        let bytes = self.payload.get(start..end).ok_or_else(CodecError::truncated)?;
        self.position = end;
        Ok(bytes)
    }

    /// Text, where it lies.
    pub(crate) fn text(&mut self) -> Result<Cow<'de, str>, CodecError> {
        let not_text = |error| CodecError::new(format!("a string is not UTF-8: {error}"));
        let (long, _) = self.payload[self.position..].split_first().ok_or_else(CodecError::truncated)?;
        self.position += 1;
        if *long == 0 {
            return self.value().map(Cow::Borrowed);
        }
        if let Some(block) = self.tail() {
            let bytes = block.into_elements().unwrap_or_else(|block| block.bytes().to_vec());
            return String::from_utf8(bytes).map(Cow::Owned).map_err(|error| not_text(error.utf8_error()));
        }
        let bytes = self.bulk()?;
        std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(not_text)
    }

    #[cold]
    fn elsewhere(&self, id: u64, length: u64) -> Result<&'de [u8], CodecError> {
        let hold =
            self.hold.ok_or_else(|| CodecError::new("the bytes speak of memory that is not theirs to speak of"))?;
        let length = usize::try_from(length).map_err(|_| CodecError::truncated())?;
        hold.find(id, length).map_err(|why| CodecError::new(format!("shared memory: {why}")))
    }

    /// Checks that every byte was read: bytes left over mean that the two sides disagree about a type.
    #[inline]
    pub fn finish(&self) -> Result<(), CodecError> {
        let behind = |tail: &RefCell<Option<Block>>| tail.borrow().as_ref().map_or(0, |block| block.bytes().len());
        match self.payload.len() - self.position + self.tail.map_or(0, behind) {
            0 => Ok(()),
            left => Err(CodecError::new(format!(
                "{left} bytes are left over: what was written is not what is read (do `Serialize` and `Deserialize` \
                 of the type agree?)"
            ))),
        }
    }
}
