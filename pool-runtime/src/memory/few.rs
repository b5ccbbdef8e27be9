//! Encodings of a few bytes, which fit in two registers.
//!
//! Most calls of small tasks have a number or two for arguments. What those are encoded as is known when the program is
//! compiled: no memory is needed for it, nothing can fail, and no code of the user's runs.

use std::ops::Deref;

/// At most fifteen bytes of an encoding.
#[derive(Clone, Copy, Debug, Default)]
pub struct Few(
    /// The bytes, in the order in which they lie in memory; the last one says how many there are.
    [u64; 2],
);

impl Few {
    /// How many bytes there may be.
    pub(crate) const MOST: usize = 15;

    /// No bytes.
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

    /// If there are eight bytes, as a word.
    #[inline]
    pub(crate) fn word(&self) -> Option<[u8; 8]> {
        (self.length() == 8).then(|| self.0[0].to_ne_bytes())
    }

    /// These bytes. None if they are too many.
    #[inline]
    pub(crate) fn copy(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > Self::MOST {
            return None;
        }
        let mut all = [0; 16];
        all[..bytes.len()].copy_from_slice(bytes);
        Some(Self::new(u128::from_le_bytes(all), bytes.len()))
    }

    /// These and those behind them. None if there are too many.
    #[doc(hidden)]
    #[inline]
    pub fn and(self, next: Option<Self>) -> Option<Self> {
        let next = next?;
        let length = self.length() + next.length();
        let bits = |few: Self| few.bits() & (u128::MAX >> 8);
        (length <= Self::MOST).then(|| Self::new(bits(self) | bits(next) << (8 * self.length()), length))
    }
}

impl Deref for Few {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &bytemuck::bytes_of(&self.0)[..self.length()]
    }
}
