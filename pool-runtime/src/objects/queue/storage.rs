//! Where the items of a queue are: one after the other in [sparse](Memory::sparse) memory.
//!
//! ```text
//!   position     0 …            freed      get             put           backed
//!                discarded        │ taken │ item │ item │ …  │ to be written │ not there yet
//!   an item      length in bytes: 8 │ bytes │ zeros up to a multiple of 8
//! ```
//!
//! Positions only grow. Each process maps the part where it writes and the part where it reads, a window at a time. Only
//! who has the lock of its end reads or writes.

use crate::memory::region::Region;
use crate::os::{SPARSE_HEAD, Window};
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// How much is mapped, backed and discarded at a time.
pub(super) const WINDOW: u64 = 1 << 18;

/// Before each item.
const HEADER: u64 = 8;

/// Where an item of this length ends that begins there. None: nowhere, as others have made up the numbers.
pub(super) fn end_of(position: u64, length: u64) -> Option<u64> {
    let end = length.checked_next_multiple_of(8)?.checked_add(HEADER)?.checked_add(position)?;
    (position.is_multiple_of(8) && end <= LAST).then_some(end)
}

/// No position is greater.
const LAST: u64 = 1 << 61;

/// The part of the memory that this process has mapped, at one end of a queue.
#[derive(Debug, Default)]
pub(super) struct MappedPart {
    mapped: Option<(u64, Window)>,
}

impl MappedPart {
    /// The window that has a position.
    fn window(&mut self, region: &Region, position: u64) -> io::Result<&Window> {
        let start = position / WINDOW * WINDOW;
        if self.mapped.as_ref().is_none_or(|(mapped, _)| *mapped != start) {
            self.mapped = None;
            self.mapped = Some((start, region.memory().window(SPARSE_HEAD as u64 + start, WINDOW as usize)?));
        }
        self.mapped.as_ref().map(|(_, window)| window).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Writes an item there. The memory is backed.
    pub(super) fn write(&mut self, region: &Region, position: u64, item: &[u8]) -> io::Result<()> {
        let at = |position: u64| (position % WINDOW / 8) as usize;
        self.window(region, position)?.words::<AtomicU64>()[at(position)].store(item.len() as u64, Ordering::Relaxed);
        let (mut position, mut rest) = (position + HEADER, item);
        while !rest.is_empty() {
            let here = rest.len().min((WINDOW - position % WINDOW) as usize);
            let (part, later) = rest.split_at(here);
            let words = &self.window(region, position)?.words::<AtomicU64>()[at(position)..];
            let (whole, last) = part.as_chunks::<8>();
            for (bytes, word) in whole.iter().zip(words) {
                word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
            }
            if !last.is_empty() {
                let mut bytes = [0; 8];
                bytes[..last.len()].copy_from_slice(last);
                words[whole.len()].store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
            }
            (position, rest) = (position + here as u64, later);
        }
        Ok(())
    }

    /// The length of the item there, and where it ends: at `last` or before. None if that cannot be.
    pub(super) fn item(&mut self, region: &Region, position: u64, last: u64) -> io::Result<Option<(u64, u64)>> {
        if end_of(position, 0).is_none_or(|end| end > last) {
            return Ok(None);
        }
        let words = self.window(region, position)?.words::<AtomicU64>();
        let length = words[(position % WINDOW / 8) as usize].load(Ordering::Relaxed);
        let end = end_of(position, length).filter(|end| *end <= last);
        // To map what is not there would take memory for it.
        let is_there = |length: u64| length <= WINDOW || length <= region.memory().resident();
        Ok(end.filter(|_| is_there(length)).map(|end| (length, end)))
    }

    /// Copies so many bytes of the item there to the end of a vector that has room for them.
    pub(super) fn read(&mut self, region: &Region, position: u64, length: u64, item: &mut Vec<u8>) -> io::Result<()> {
        let (mut position, mut left) = (position + HEADER, length);
        while left > 0 {
            let here = left.min(WINDOW - position % WINDOW);
            let window = self.window(region, position)?;
            let start = (position % WINDOW) as usize;
            let words = &window.words::<AtomicU64>()[start / 8..][..here as usize / 8];
            words.iter().for_each(|word| item.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes()));
            let last = &window.words::<AtomicU8>()[start + 8 * words.len()..][..here as usize % 8];
            item.extend(last.iter().map(|byte| byte.load(Ordering::Relaxed)));
            (position, left) = (position + here, left - here);
        }
        Ok(())
    }
}
