//! The bytes of one call's arguments or of its result. A small one needs no allocation.

use crate::memory::{Block, Region, Regions, ShortBytes, cache};
use std::ops::{Deref, Range};
use std::sync::Arc;

pub(crate) enum Payload {
    Short(ShortBytes),
    Heap(Vec<u8>),
    Part(Box<PayloadPart>),
    Attached(Box<Attached>),
}

/// Bytes that refer to regions, which are held as long as the bytes are.
pub(crate) struct Attached {
    bytes: Vec<u8>,
    regions: Regions,
}

/// A value that ends in much plain data, which was read into a block.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) before: Vec<u8>,
    pub(crate) data: Block,
}

/// These bytes, one after the other. None: there is no memory for them, as another process chose how many they are.
pub(crate) fn joined(parts: &[&[u8]]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    all.try_reserve_exact(parts.iter().map(|part| part.len()).sum()).ok()?;
    parts.iter().for_each(|part| all.extend_from_slice(part));
    Some(all)
}

pub(crate) struct PayloadPart {
    bytes: Vec<u8>,
    range: Range<usize>,
}

impl Drop for PayloadPart {
    fn drop(&mut self) {
        cache::done(std::mem::take(&mut self.bytes));
    }
}

impl Payload {
    /// A part of a buffer, all of which it keeps.
    pub(crate) fn part(bytes: Vec<u8>, range: Range<usize>) -> Self {
        Self::Part(Box::new(PayloadPart { bytes, range }))
    }

    pub(crate) fn attached(bytes: Vec<u8>, regions: Regions) -> Self {
        Self::Attached(Box::new(Attached { bytes, regions }))
    }

    /// The regions to which the bytes refer.
    pub(crate) fn regions(&self) -> &[Arc<Region>] {
        if let Self::Attached(attached) = self { &attached.regions } else { &[] }
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Heap(bytes) => bytes,
            other => other.to_vec(),
        }
    }

    /// None: there is no memory for them.
    #[inline]
    pub(crate) fn copy(bytes: &[u8]) -> Option<Self> {
        ShortBytes::copy(bytes).map(Self::Short).or_else(|| joined(&[bytes]).map(Self::Heap))
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Short(ShortBytes::NONE)
    }
}

impl From<Vec<u8>> for Payload {
    /// A small one is copied, and its vector recycled.
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        match ShortBytes::copy(&bytes) {
            Some(short) => {
                cache::recycle(bytes);
                Self::Short(short)
            }
            None => Self::Heap(bytes),
        }
    }
}

impl Deref for Payload {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(short) => short,
            Self::Heap(bytes) => bytes,
            Self::Attached(attached) => &attached.bytes,
            Self::Part(part) => part.bytes.get(part.range.clone()).unwrap_or_default(),
        }
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_no_larger_than_a_vector() {
        assert_eq!(size_of::<Payload>(), size_of::<Vec<u8>>());
        for length in 0..100 {
            let bytes: Vec<u8> = (0..length).collect();
            assert_eq!(*Payload::copy(&bytes).unwrap(), *bytes);
            assert_eq!(*Payload::from(bytes.clone()), *bytes);
        }
    }
}
