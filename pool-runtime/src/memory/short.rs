//! Encodings of up to fifteen bytes, which fit in two registers.
//!
//! Most small tasks take a number or two: to encode those needs no buffer, cannot fail, and runs no code of the user.

use std::ops::Deref;

/// At most fifteen bytes of an encoding.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShortBytes(
    /// The bytes in their order in memory; the last one is the length.
    [u64; 2],
);

impl ShortBytes {
    pub(crate) const MOST: usize = 15;

    #[doc(hidden)]
    pub const NONE: Self = Self([0; 2]);

    #[inline]
    pub(crate) fn new(bits: u128, length: usize) -> Self {
        let bits = bits | (length as u128) << 120;
        Self([(bits as u64).to_le(), ((bits >> 64) as u64).to_le()])
    }

    #[inline]
    fn bits(&self) -> u128 {
        u128::from(u64::from_le(self.0[0])) | u128::from(u64::from_le(self.0[1])) << 64
    }

    #[inline]
    pub(crate) fn length(&self) -> usize {
        (u64::from_le(self.0[1]) >> 56) as usize
    }

    /// The bytes, if there are eight.
    #[inline]
    pub(crate) fn word(&self) -> Option<[u8; 8]> {
        (self.length() == 8).then(|| self.0[0].to_ne_bytes())
    }

    /// None if there are too many bytes.
    #[inline]
    pub(crate) fn copy(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > Self::MOST {
            return None;
        }
        let mut all = [0; 16];
        all[..bytes.len()].copy_from_slice(bytes);
        Some(Self::new(u128::from_le_bytes(all), bytes.len()))
    }

    /// These bytes, followed by those of `next`. None if there are too many.
    #[doc(hidden)]
    #[inline]
    pub fn and(self, next: Option<Self>) -> Option<Self> {
        let next = next?;
        let length = self.length() + next.length();
        let bits = |short: Self| short.bits() & (u128::MAX >> 8);
        (length <= Self::MOST).then(|| Self::new(bits(self) | bits(next) << (8 * self.length()), length))
    }
}

impl Deref for ShortBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &bytemuck::bytes_of(&self.0)[..self.length()]
    }
}
