//! Random numbers, and inputs made from others.

/// The same numbers from the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Less than `limit`; 0 if nothing is.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// A number near a limit of something, or any.
    pub(crate) fn interesting(&mut self, length: usize) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => self.below(64) as u64,
            3 => 1 << self.below(64),
            4 => (1_u64 << self.below(64)).wrapping_sub(1 + self.below(20) as u64),
            // About as long as the input is.
            5 => (length as u64).wrapping_add(self.below(40) as u64).wrapping_sub(20),
            // As a sum with a position, just beyond what there is.
            6 => u64::MAX - self.below(length.max(64)) as u64,
            _ => self.next(),
        }
    }

    /// One of these inputs, changed in a few ways.
    pub(super) fn mutated(&mut self, corpus: &[Vec<u8>], longest: usize) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        // Most often in one way: what is behind it should still be reached.
        let ways = 1 + self.below(3) * self.below(3);
        for _ in 0..ways {
            self.change(&mut input, corpus);
            input.truncate(longest);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let length = input.len();
        match self.below(10) {
            0 if length > 0 => {
                let at = self.below(length);
                input[at] ^= 1 << self.below(8);
            }
            1..=3 if length > 0 => self.overwrite(input),
            4 => input.truncate(self.below(length + 1)),
            5 => {
                let (more, byte) = (1 + self.below(64), self.next() as u8);
                let any = self.below(2) == 0;
                input.extend((0..more).map(|_| if any { self.next() as u8 } else { byte }));
            }
            // The beginning of this one, the end of another.
            6 => {
                let other = &corpus[self.below(corpus.len())];
                input.truncate(self.below(length + 1));
                input.extend_from_slice(&other[self.below(other.len() + 1)..]);
            }
            7 => {
                let range = self.range(length);
                let part = input[range].to_vec();
                let at = self.below(length + 1);
                input.splice(at..at, part);
            }
            8 => drop(input.drain(self.range(length))),
            // A length or a count, as values have them.
            _ => {
                let (mut number, mut bytes) = (self.interesting(length), Vec::new());
                while number >= 0x80 {
                    bytes.push(number as u8 | 0x80);
                    number >>= 7;
                }
                bytes.push(number as u8);
                let at = self.below(length + 1);
                let replaced = if self.below(2) == 0 { at } else { (at + 1).min(length) };
                input.splice(at..replaced, bytes);
            }
        }
    }

    /// Numbers stand at multiples of their size, most of them.
    fn overwrite(&mut self, input: &mut [u8]) {
        let size = [1, 2, 4, 4, 8, 8][self.below(6)];
        let mut at = self.below(input.len());
        if self.below(4) > 0 {
            at = at / size * size;
        }
        let number = self.interesting(input.len()).to_le_bytes();
        for (to, from) in input[at..].iter_mut().zip(&number[..size]) {
            *to = *from;
        }
    }

    /// Most often a short one.
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let longest = if self.below(4) > 0 { 64 } else { length };
        start..(start + self.below(longest + 1)).min(length)
    }
}
