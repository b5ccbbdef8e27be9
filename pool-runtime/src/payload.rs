//! The bytes of one call's arguments or of its result. A small one needs no memory of its own.

use std::ops::Deref;

/// So that it is no larger than a vector.
const INLINE: usize = 15;

#[derive(Clone)]
pub(crate) enum Payload {
    Inline { length: u8, bytes: [u8; INLINE] },
    Heap(Vec<u8>),
}

impl Payload {
    #[inline]
    pub(crate) fn copy(bytes: &[u8]) -> Self {
        if bytes.len() > INLINE {
            return Self::Heap(bytes.to_vec());
        }
        let mut inline = [0; INLINE];
        inline[..bytes.len()].copy_from_slice(bytes);
        Self::Inline { length: bytes.len() as u8, bytes: inline }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::copy(&[])
    }
}

impl From<Vec<u8>> for Payload {
    /// A small one is copied, and its vector kept for the next call that is encoded here.
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() > INLINE {
            return Self::Heap(bytes);
        }
        let payload = Self::copy(&bytes);
        crate::codec::recycle(bytes);
        payload
    }
}

impl Deref for Payload {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Self::Heap(bytes) => bytes,
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
