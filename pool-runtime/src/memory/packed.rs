//! Several payloads in one buffer.
//!
//! A payload of at least [`LARGE`] bytes starts at a multiple of [`ALIGN`], so that plain data can be borrowed from it;
//! smaller ones have no padding. If all have one length, their ends are not stored.

use crate::memory::{ALIGN, ShortBytes};
use std::ops::Range;

/// From this length on, a payload is aligned.
const LARGE: usize = 32;

/// A buffer of payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packed {
    bytes: Vec<u8>,
    count: u32,
    /// The length of each, while they all have one.
    every: u32,
    /// Where each ends, once their lengths differ.
    ends: Vec<u32>,
}

#[derive(Debug)]
pub(crate) struct PackedSlice<'p> {
    /// The length of each, if they all have one.
    pub(crate) every: Option<u32>,
    /// Where each ends, if not.
    pub(crate) ends: &'p [u32],
    /// Where the first one starts, on the scale of the ends.
    pub(crate) base: u32,
    /// How many bytes lie before the first one, for the alignment: zeros are sent in place of those, as they belong to
    /// another call.
    pub(crate) skipped: usize,
    /// The bytes of all, and no others.
    pub(crate) bytes: &'p [u8],
}

impl<'p> PackedSlice<'p> {
    /// One payload, whose length is that of `bytes`.
    pub(crate) fn single(bytes: &'p [u8]) -> Self {
        Self { every: Some(bytes.len().min(u32::MAX as usize - 1) as u32), ends: &[], base: 0, skipped: 0, bytes }
    }
}

#[inline]
fn stride(length: usize) -> usize {
    if length < LARGE { length } else { length.next_multiple_of(ALIGN) }
}

/// Where a payload starts that ends at `end`, behind one that ended at `before`.
#[inline]
fn start(before: usize, end: usize) -> usize {
    // Corrupt numbers must not overflow.
    let aligned = before.checked_next_multiple_of(ALIGN).unwrap_or(before);
    if end.saturating_sub(aligned) >= LARGE { aligned } else { before }
}

/// Where a slice of the buffer starts whose first payload starts at `base`: a multiple, to keep the alignment.
fn origin(base: usize) -> usize {
    base / ALIGN * ALIGN
}

impl Packed {
    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn push(&mut self, payload: &[u8]) {
        let length = payload.len();
        if self.count == 0 {
            self.every = length.min(u32::MAX as usize - 1) as u32;
        } else if self.ends.is_empty() && length != self.every as usize {
            self.differ();
        }
        if length >= LARGE {
            self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
        }
        self.bytes.extend_from_slice(payload);
        self.count += 1;
        if !self.ends.is_empty() {
            self.ends.push(self.bytes.len() as u32);
        }
    }

    #[inline]
    pub(crate) fn push_short(&mut self, payload: &ShortBytes) {
        match payload.word() {
            // The most frequent case: all payloads have eight bytes.
            Some(word) if self.every == 8 && self.ends.is_empty() && self.count > 0 => {
                self.bytes.extend_from_slice(&word);
                self.count += 1;
            }
            _ => self.push(payload),
        }
    }

    #[cold]
    fn differ(&mut self) {
        let (every, stride) = (self.every as usize, stride(self.every as usize));
        self.ends = (0..self.count as usize).map(|index| (index * stride + every) as u32).collect();
    }

    fn place(&self, range: Range<u32>) -> Range<usize> {
        let (first, last) = (range.start as usize, range.end as usize);
        if range.is_empty() {
            return 0..0;
        }
        if self.ends.is_empty() {
            let stride = stride(self.every as usize);
            let end = if self.count == 1 { self.bytes.len() } else { (last - 1) * stride + self.every as usize };
            return first * stride..end;
        }
        let before = if first == 0 { 0 } else { self.ends[first - 1] as usize };
        start(before, self.ends[first] as usize)..self.ends[last - 1] as usize
    }

    /// How many bytes some of them take in a frame.
    pub(crate) fn size_of(&self, range: Range<u32>) -> usize {
        let ends = if self.ends.is_empty() { 0 } else { 4 * range.len() };
        self.place(range).len() + ends
    }

    #[cfg(test)]
    fn get(&self, index: u32) -> &[u8] {
        &self.bytes[self.place(index..index + 1)]
    }

    pub(crate) fn part(&self, range: Range<u32>) -> PackedSlice<'_> {
        let place = self.place(range.clone());
        let every = self.ends.is_empty().then_some(self.every);
        let ends = if every.is_some() { &[] } else { &self.ends[range.start as usize..range.end as usize] };
        let skipped = if every.is_some() { 0 } else { place.start - origin(place.start) };
        PackedSlice { every, ends, base: place.start as u32, skipped, bytes: &self.bytes[place] }
    }
}

/// Iterates over the payloads of a buffer that another process wrote.
#[derive(Clone, Debug)]
pub(crate) struct Slices<'p> {
    bytes: &'p [u8],
    left: u32,
    at: usize,
    /// The length of each, if they all have one.
    every: Option<usize>,
    /// Where each ends that is left, if not, and what that counts from.
    ends: &'p [u8],
    origin: usize,
}

impl<'p> Slices<'p> {
    /// None if the numbers contradict each other.
    pub(crate) fn new(count: u32, every: Option<u32>, ends: &'p [u8], base: u32, bytes: &'p [u8]) -> Option<Self> {
        let (base, origin) = (base as usize, origin(base as usize));
        let slices = Self { bytes, left: count, at: base - origin, every: None, ends, origin };
        match every {
            // A single one may be longer than `every` can say.
            Some(_) if count == 1 => Some(Self { every: Some(bytes.len()), at: 0, ..slices }),
            Some(every) => {
                let (every, count) = (every as usize, count as usize);
                let whole = count.checked_sub(1)?.checked_mul(stride(every))?.checked_add(every)?;
                (whole == bytes.len()).then_some(Self { every: Some(every), at: 0, ..slices })
            }
            None => (ends.len() == 4 * count as usize).then_some(slices),
        }
    }
}

impl<'p> Iterator for Slices<'p> {
    type Item = &'p [u8];

    /// A payload with corrupt ends is empty.
    #[inline]
    fn next(&mut self) -> Option<&'p [u8]> {
        self.left = self.left.checked_sub(1)?;
        let start = self.at;
        if let Some(every) = self.every {
            self.at = start.saturating_add(stride(every));
            return Some(self.bytes.get(start..start.saturating_add(every)).unwrap_or_default());
        }
        let (end, later) = self.ends.split_first_chunk()?;
        let end = (u32::from_le_bytes(*end) as usize).wrapping_sub(self.origin);
        (self.ends, self.at) = (later, end);
        let start = if end < start { end } else { self::start(start, end) };
        Some(self.bytes.get(start..end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_found_again() {
        for lengths in [vec![8; 5], vec![40; 5], vec![0; 3], vec![8, 8, 40, 0, 31, 32, 33, 8], vec![50, 1]] {
            let payloads: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(index, length)| vec![index as u8 + 1; *length]).collect();
            let mut packed = Packed::default();
            payloads.iter().for_each(|payload| packed.push(payload));
            for (index, payload) in payloads.iter().enumerate() {
                assert_eq!(packed.get(index as u32), payload);
            }
            for first in 0..payloads.len() {
                for last in first + 1..=payloads.len() {
                    let part = packed.part(first as u32..last as u32);
                    let ends = bytemuck::cast_slice(part.ends);
                    let bytes = [&vec![0; part.skipped], part.bytes].concat();
                    let slices = Slices::new((last - first) as u32, part.every, ends, part.base, &bytes).unwrap();
                    assert!(slices.eq(payloads[first..last].iter().map(|payload| &payload[..])));
                }
            }
        }
    }

    #[test]
    fn large_ones_are_aligned_also_behind_small_ones() {
        let mut packed = Packed::default();
        for payload in [&[1; 3][..], &[2; 32], &[3; 5], &[4; 100]] {
            packed.push(payload);
        }
        let origin = packed.bytes.as_ptr() as usize;
        for index in [1, 3] {
            assert_eq!((packed.get(index).as_ptr() as usize - origin) % ALIGN, 0);
        }
    }
}
