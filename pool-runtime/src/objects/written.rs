//! What [`Array`](super::Array) and [`Atomic`](super::Atomic) are made of: a handle of memory that everybody who has it
//! may write.
//!
//! Another process may write at any time, so nothing here is ever borrowed as a value: values are copied in and out, by
//! atomic words as large as the values' size allows. What is not larger than a word is never torn.

use crate::error::{Error, Result};
use crate::memory::region::{Region, register};
use crate::objects::shared::bytes_of;
use crate::objects::{Plain, reference};
use crate::os::Memory;
use serde::{Deserializer, Serializer};
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Room for values of a type in memory that may be written.
pub(super) struct Written<T> {
    region: Arc<Region>,
    values: PhantomData<fn() -> T>,
}

impl<T> Clone for Written<T> {
    fn clone(&self) -> Self {
        Self { region: self.region.clone(), values: PhantomData }
    }
}

impl<T> Written<T> {
    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    /// How many values there is room for.
    pub(super) fn length(&self) -> usize {
        self.region.memory().length() / size_of::<T>().max(1)
    }
}

/// Runs some code with the largest words of which each value is a whole number: `$word`, of `$size` bytes.
macro_rules! by_words_of {
    ($value:ty, |$word:ident, $size:ident| $code:expr) => {
        match 1_usize << size_of::<$value>().trailing_zeros().min(3) {
            1 => by_words_of!(AtomicU8, 1, $word, $size, $code),
            2 => by_words_of!(AtomicU16, 2, $word, $size, $code),
            4 => by_words_of!(AtomicU32, 4, $word, $size, $code),
            _ => by_words_of!(AtomicU64, 8, $word, $size, $code),
        }
    };
    ($atomic:ty, $bytes:literal, $word:ident, $size:ident, $code:expr) => {{
        type $word = $atomic;
        const $size: usize = $bytes;
        $code
    }};
}

impl<T: Plain> Written<T> {
    /// Room for so many values, all zero.
    pub(super) fn new(length: usize) -> Result<Self> {
        let size = bytes_of::<T>(length)?;
        Self::of(size, Memory::writable(size))
    }

    /// Memory with these values.
    pub(super) fn copy(values: &[T]) -> Result<Self> {
        Self::of(bytes_of::<T>(values.len())?, Memory::writable_copy(bytemuck::cast_slice(values)))
    }

    fn of(size: usize, memory: io::Result<Memory>) -> Result<Self> {
        let memory = memory.map_err(|error| Error::os(format!("cannot make {size} bytes of shared memory"), error))?;
        Ok(Self { region: register(memory), values: PhantomData })
    }

    /// Copies values out of it, from one index on.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub(super) fn load(&self, from: usize, values: &mut [T]) {
        load(&self.region, from * size_of::<T>(), values);
    }

    /// Copies values into it, from one index on.
    ///
    /// # Panics
    ///
    /// If there is no room for so many.
    pub(super) fn store(&self, from: usize, values: &[T]) {
        store(&self.region, from * size_of::<T>(), values);
    }
}

/// Copies values out of writable memory, from one byte on: a multiple of eight, or of the size of a value.
///
/// # Panics
///
/// If there are not so many.
#[inline]
pub(super) fn load<T: Plain>(region: &Region, start: usize, values: &mut [T]) {
    let size = size_of_val(values);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
    by_words_of!(T, |W, SIZE| {
        let words = &region.memory().words::<W>()[start / SIZE..][..size / SIZE];
        for (bytes, word) in bytes.chunks_exact_mut(SIZE).zip(words) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
    });
}

/// Copies values into writable memory, as [`load`] out of it.
///
/// # Panics
///
/// If there is no room for so many.
#[inline]
pub(super) fn store<T: Plain>(region: &Region, start: usize, values: &[T]) {
    let size = size_of_val(values);
    let bytes: &[u8] = bytemuck::cast_slice(values);
    by_words_of!(T, |W, SIZE| {
        let words = &region.memory().words::<W>()[start / SIZE..][..size / SIZE];
        for (bytes, word) in bytes.as_chunks::<SIZE>().0.iter().zip(words) {
            word.store(from_bytes(*bytes), Ordering::Relaxed);
        }
    });
}

/// An integer of these bytes.
fn from_bytes<N: bytemuck::Pod, const SIZE: usize>(bytes: [u8; SIZE]) -> N {
    bytemuck::pod_read_unaligned(&bytes)
}

impl<T> Written<T> {
    /// As what of the given name it is sent.
    pub(super) fn send<S: Serializer>(&self, what: &str, serializer: S) -> Result<S::Ok, S::Error> {
        reference::send::<T, S>(what, &self.region, serializer)
    }

    pub(super) fn receive<'de, D: Deserializer<'de>>(what: &str, deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { region: reference::receive::<T, D>(what, deserializer)?, values: PhantomData })
    }
}
