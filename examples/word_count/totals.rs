//! What was found, added up.

use crate::count::Counted;
use rustc_hash::FxHashMap;
use std::time::Duration;

/// The words of many pieces.
#[derive(Default, PartialEq)]
pub struct Totals {
    words: FxHashMap<String, u64>,
    pub files: u64,
    pub skipped: u64,
    pub bytes: u64,
}

impl Totals {
    pub fn new(skipped: u64) -> Self {
        Self { skipped, ..Self::default() }
    }

    pub fn add(&mut self, counted: &Counted) {
        for (word, times) in counted.words() {
            match self.words.get_mut(word) {
                Some(sum) => *sum += times,
                None => drop(self.words.insert(word.to_owned(), times)),
            }
        }
        self.files += counted.files;
        self.skipped += counted.skipped;
        self.bytes += counted.bytes;
    }

    /// Adds a file that came in parts; all of it is skipped if one part was.
    pub fn add_large(&mut self, file: Self) {
        if file.skipped > 0 {
            self.skipped += 1;
            return;
        }
        for (word, times) in file.words {
            *self.words.entry(word).or_default() += times;
        }
        self.files += file.files;
        self.bytes += file.bytes;
    }

    pub fn text(&self, time: Duration) -> String {
        let (megabytes, seconds) = (self.bytes as f64 / 1e6, time.as_secs_f64());
        let (files, skipped, speed) = (self.files, self.skipped, megabytes / seconds);
        format!("{files} files, {skipped} skipped, {megabytes:.1} MB in {seconds:.2} s: {speed:.0} MB/s")
    }

    /// The most frequent words first; those of one frequency by the alphabet.
    pub fn most_frequent(&self, top: usize) -> Vec<(&str, u64)> {
        let mut words: Vec<_> = self.words.iter().map(|(word, times)| (word.as_str(), *times)).collect();
        words.sort_unstable_by(|(a, most), (b, least)| least.cmp(most).then(a.cmp(b)));
        words.truncate(top);
        words
    }
}

/// What one worker did.
#[derive(Default)]
pub struct Share {
    files: u64,
    bytes: u64,
    busy: Duration,
}

impl Share {
    pub fn add(&mut self, counted: &Counted) {
        self.files += counted.files;
        self.bytes += counted.bytes;
        self.busy += counted.time;
    }

    pub fn text(&self, of: Duration) -> String {
        let (megabytes, busy) = (self.bytes as f64 / 1e6, 100.0 * self.busy.as_secs_f64() / of.as_secs_f64());
        format!("{} files, {megabytes:.1} MB, busy {busy:.0} %", self.files)
    }
}
