//! The bytes of one call's arguments or of its result. A small one needs no memory of its own.

use crate::{
    memory::{Few, arena::may_keep, cache},
    sync::lock,
};
use std::{
    ops::{Deref, Range},
    sync::Mutex,
    time::{Duration, Instant},
};

pub(crate) enum Payload {
    Few(Few),
    Heap(Vec<u8>),
    Part(Box<Part>),
}

/// A part of some bytes. Their memory is used again for the next large result that comes in a stream: new memory costs
/// several times as much as to write it. (Vectors that users see have their memory from `codec/spare.rs`.)
pub(crate) struct Part {
    bytes: Vec<u8>,
    range: Range<usize>,
}

impl Drop for Part {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut spare = lock(&SPARE);
        let is_larger = spare.as_ref().is_none_or(|(spare, _)| spare.capacity() <= bytes.capacity());
        if may_keep() && is_larger && (LEAST_SPARE..=MOST_SPARE).contains(&bytes.capacity()) {
            let unneeded = spare.replace((bytes, Instant::now()));
            drop(spare);
            drop(unneeded);
        }
    }
}

/// Less is not worth to be kept.
const LEAST_SPARE: usize = 1 << 19;
/// More is not kept.
const MOST_SPARE: usize = 1 << 27;
/// Nor for longer.
const UNUSED: Duration = Duration::from_secs(10);

static SPARE: Mutex<Option<(Vec<u8>, Instant)>> = Mutex::new(None);

/// Nothing is kept any more.
pub(crate) fn drop_spare() {
    let unneeded = lock(&SPARE).take();
    drop(unneeded);
}

/// Memory for a large result of this size.
pub(crate) fn take_spare(size: usize) -> Option<Vec<u8>> {
    let (mut bytes, _) = lock(&SPARE).take_if(|(bytes, _)| bytes.capacity() >= size)?;
    bytes.clear();
    Some(bytes)
}

/// Gives memory back that was not used for a while. Says whether there is more.
pub(crate) fn trim() -> bool {
    let mut spare = lock(&SPARE);
    let unused = spare.take_if(|(_, since)| since.elapsed() > UNUSED);
    let more = spare.is_some();
    drop(spare);
    drop(unused);
    more
}

impl Payload {
    /// A part of some bytes, all of which it keeps.
    pub(crate) fn part(bytes: Vec<u8>, range: Range<usize>) -> Self {
        Self::Part(Box::new(Part { bytes, range }))
    }

    #[inline]
    pub(crate) fn copy(bytes: &[u8]) -> Self {
        Few::copy(bytes).map_or_else(|| Self::Heap(bytes.to_vec()), Self::Few)
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Few(Few::NONE)
    }
}

impl From<Vec<u8>> for Payload {
    /// A small one is copied, and its vector kept for the next call that is encoded here.
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        match Few::copy(&bytes) {
            Some(few) => {
                cache::recycle(bytes);
                Self::Few(few)
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
            Self::Few(few) => few,
            Self::Heap(bytes) => bytes,
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
            assert_eq!(*Payload::copy(&bytes), *bytes);
            assert_eq!(*Payload::from(bytes.clone()), *bytes);
        }
    }
}
