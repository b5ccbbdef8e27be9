//! Where messages are: one after the other in [sparse](crate::os::Memory::sparse) memory.
//!
//! ```text
//!   position     0 …            freed      get             put           backed
//!                discarded        │ taken │ item │ item │ …  │ to be written │ not there yet
//!   an item      length in bytes: 8 │ bytes │ zeros up to a multiple of 8
//!   with handles the same, with the highest bit set; the bytes begin with a count, a tag, and the numbers of regions
//! ```
//!
//! Positions only grow. Each process maps the part where it writes and the part where it reads, a window at a time. Only
//! who has the lock of its end reads or writes.

use crate::memory::region::Region;
use crate::os::{SPARSE_HEAD, Window};
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// How much is mapped, backed and discarded at a time.
pub(in crate::objects) const WINDOW: u64 = 1 << 18;

/// How many words are copied at a time.
const PART: usize = 512;

/// Before each item.
const HEADER: u64 = 8;

/// Where an item of this length ends that begins there. None: nowhere, as others have made up the numbers.
pub(super) fn end_of(position: u64, length: u64) -> Option<u64> {
    let end = length.checked_next_multiple_of(8)?.checked_add(HEADER)?.checked_add(position)?;
    (position.is_multiple_of(8) && end <= LAST).then_some(end)
}

/// No position is greater.
const LAST: u64 = 1 << 61;

/// In the word before an item: it begins with its handles.
const HAS_HANDLES: u64 = 1 << 63;

/// What is to be stored.
#[derive(Clone, Copy)]
pub(super) struct NewItem<'i> {
    /// None, or a count, a tag, and the numbers of regions.
    pub(super) words: &'i [u64],
    pub(super) bytes: &'i [u8],
}

impl NewItem<'_> {
    pub(super) fn length(&self) -> u64 {
        (8 * self.words.len() + self.bytes.len()) as u64
    }
}

/// Where an item is.
pub(super) struct StoredItem {
    start: u64,
    pub(super) length: u64,
    pub(super) end: u64,
    pub(super) has_handles: bool,
}

/// Which word of its window is at a position.
fn index(position: u64) -> usize {
    (position % WINDOW / 8) as usize
}

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

    /// Writes an item there: words that it begins with, if it has handles, and bytes. The memory is backed.
    pub(super) fn write(&mut self, region: &Region, position: u64, item: NewItem<'_>) -> io::Result<()> {
        let mark = if item.words.is_empty() { 0 } else { HAS_HANDLES };
        let header = item.length() | mark;
        let mut position = position;
        for word in std::iter::once(&header).chain(item.words) {
            let words = self.window(region, position)?.words::<AtomicU64>();
            words[index(position)].store(*word, Ordering::Relaxed);
            position += 8;
        }
        let mut rest = item.bytes;
        while !rest.is_empty() {
            let here = rest.len().min((WINDOW - position % WINDOW) as usize);
            let (part, later) = rest.split_at(here);
            let words = &self.window(region, position)?.words::<AtomicU64>()[index(position)..];
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

    /// The item there, which ends at `last` or before. None if that cannot be.
    pub(super) fn item(&mut self, region: &Region, position: u64, last: u64) -> io::Result<Option<StoredItem>> {
        if end_of(position, 0).is_none_or(|end| end > last) {
            return Ok(None);
        }
        let header = self.window(region, position)?.words::<AtomicU64>()[index(position)].load(Ordering::Relaxed);
        let (length, has_handles) = (header & !HAS_HANDLES, header & HAS_HANDLES != 0);
        let end = end_of(position, length).filter(|end| *end <= last);
        // To map what is not there would take memory for it.
        let is_there = |length: u64| length <= WINDOW || length <= region.memory().resident();
        let start = position + HEADER;
        Ok(end.filter(|_| is_there(length)).map(|end| StoredItem { start, length, end, has_handles }))
    }

    /// The words with which an item with handles begins, which are taken off it. None if that cannot be.
    pub(super) fn handles(&mut self, region: &Region, item: &mut StoredItem) -> io::Result<Option<Vec<u64>>> {
        let mut words = Vec::new();
        let mut count = 2;
        while words.len() < count {
            if item.length < 8 {
                return Ok(None);
            }
            let word = self.window(region, item.start)?.words::<AtomicU64>()[index(item.start)].load(Ordering::Relaxed);
            if words.is_empty() {
                let most = (item.length / 8).saturating_sub(2);
                let Some(handles) = Some(word).filter(|handles| *handles <= most) else { return Ok(None) };
                count += handles as usize;
            }
            words.push(word);
            item.start += 8;
            item.length -= 8;
        }
        Ok(Some(words))
    }

    /// Copies the bytes of an item to the end of a vector that has room for them.
    pub(super) fn read(&mut self, region: &Region, stored: &StoredItem, item: &mut Vec<u8>) -> io::Result<()> {
        let (mut position, mut left) = (stored.start, stored.length);
        while left > 0 {
            let here = left.min(WINDOW - position % WINDOW);
            let window = self.window(region, position)?;
            let start = (position % WINDOW) as usize;
            let words = &window.words::<AtomicU64>()[start / 8..][..here as usize / 8];
            // Part by part, so that what is zeroed first is still in the processor's nearest cache.
            for words in words.chunks(PART) {
                let before = item.len();
                item.resize(before + 8 * words.len(), 0);
                for (bytes, word) in item[before..].as_chunks_mut::<8>().0.iter_mut().zip(words) {
                    *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
                }
            }
            let last = &window.words::<AtomicU8>()[start + 8 * words.len()..][..here as usize % 8];
            item.extend(last.iter().map(|byte| byte.load(Ordering::Relaxed)));
            (position, left) = (position + here, left - here);
        }
        Ok(())
    }
}
