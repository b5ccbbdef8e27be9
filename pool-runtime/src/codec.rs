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

mod arena;
mod decode;
mod encode;
mod probe;

pub(crate) use arena::{Hold, doom, may_keep, pool_began, pool_ended, trim};
pub use probe::*;

use std::{cell::Cell, fmt};

/// How deeply sequences, maps, structs and variants may be nested in a value.
///
/// A value nested more deeply is refused rather than overflowing the stack of whoever encodes or decodes it.
pub const MAX_DEPTH: u32 = 256;

/// Bulk data starts at multiples of this many bytes from the start of a payload.
pub const ALIGN: usize = 16;

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

/// FNV-1a: tells the variants of an enum apart on the wire.
pub(crate) const fn name_hash(name: &str) -> u32 {
    let bytes = name.as_bytes();
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash
}

/// In the length of plain data: the bytes lie in a segment, whose number follows.
const ELSEWHERE: u64 = 1 << 63;

/// Collects the encoded values of one payload.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

thread_local! {
    /// Memory for the next call that is encoded on this thread: to allocate it each time would take longer than to encode
    /// a small call.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// More is not kept.
const MOST_SPARE: usize = 1 << 12;

/// Keeps the memory of what a [`Writer`] wrote for the next one on this thread.
#[inline]
pub(crate) fn recycle(mut bytes: Vec<u8>) {
    if bytes.capacity() <= MOST_SPARE {
        bytes.clear();
        // A thread that ends needs none.
        let _ = SPARE.try_with(|spare| spare.set(bytes));
    }
}

impl Writer {
    #[inline]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Uses the memory that was [recycled](recycle), if some was.
    #[inline]
    pub(crate) fn with_spare() -> Self {
        Self { bytes: SPARE.try_with(Cell::take).unwrap_or_default() }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Forgets what was written: the next values are another payload.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
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
        let padding = (self.bytes.len() + size_of::<u64>()).wrapping_neg() % ALIGN;
        self.bytes.reserve(size_of::<u64>() + padding + bytes.len());
        crate::os::prefer_huge_pages(self.bytes.spare_capacity_mut());
        self.bytes.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.bytes.resize(self.bytes.len() + padding, 0);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl Writer {
    /// Copies text; a long one as plain data.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CodecError> {
        let long = text.len() >= arena::LARGE;
        self.bytes.push(long.into());
        if long { self.bulk(text.as_bytes()) } else { self.value(text) }
    }
}

/// Reads the encoded values of one payload, in the order in which they were written.
#[derive(Clone, Debug)]
pub struct Reader<'de> {
    payload: &'de [u8],
    position: usize,
    /// Keeps what is not in the payload itself, where that is allowed.
    hold: Option<&'de Hold>,
}

impl<'de> Reader<'de> {
    #[inline]
    pub(crate) fn new(payload: &'de [u8]) -> Self {
        Self { payload, position: 0, hold: None }
    }

    /// For arguments, which may speak of memory that was passed to this process.
    #[inline]
    pub(crate) fn of_arguments(payload: &'de [u8], hold: &'de Hold) -> Self {
        Self { payload, position: 0, hold: Some(hold) }
    }

    /// Decodes a value through serde; it may borrow from the payload.
    #[inline]
    pub(crate) fn value<T: serde::Deserialize<'de>>(&mut self) -> Result<T, CodecError> {
        let rest = &self.payload[self.position..];
        let (value, left) = decode::decode(rest)?;
        self.position = self.payload.len() - left;
        Ok(value)
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
    pub(crate) fn text(&mut self) -> Result<&'de str, CodecError> {
        let (long, _) = self.payload[self.position..].split_first().ok_or_else(CodecError::truncated)?;
        self.position += 1;
        if *long == 0 {
            return self.value();
        }
        let bytes = self.bulk()?;
        std::str::from_utf8(bytes).map_err(|error| CodecError::new(format!("a string is not UTF-8: {error}")))
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
        match self.payload.len() - self.position {
            0 => Ok(()),
            left => Err(CodecError::new(format!(
                "{left} bytes are left over: what was written is not what is read (do `Serialize` and `Deserialize` \
                 of the type agree?)"
            ))),
        }
    }
}
