//! What a worker does: it counts the words of some files.

use pool_runtime::task;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::{ffi::OsString, fs::File, io, io::Read, io::Seek, io::SeekFrom, time::Duration, time::Instant};

/// A file, or a part of a large one that begins and ends between words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// Not a `PathBuf`: serde refuses names that are not UTF-8.
    pub path: OsString,
    pub start: u64,
    pub bytes: u64,
    /// The number of the file of which this is a part.
    pub part_of: Option<usize>,
}

/// The words of some pieces. All of them are in one string: the parent has to make none for words that it knows.
#[derive(Default, Serialize, Deserialize)]
pub struct Counted {
    words: String,
    times: Vec<u64>,
    pub files: u64,
    pub skipped: u64,
    pub bytes: u64,
    pub part_of: Option<usize>,
    pub pid: u32,
    pub time: Duration,
}

impl Counted {
    pub fn words(&self) -> impl Iterator<Item = (&str, u64)> {
        self.words.lines().zip(self.times.iter().copied())
    }
}

#[task]
pub fn count_words(pieces: &[Piece]) -> Counted {
    let begun = Instant::now();
    let mut counted = Counted { pid: std::process::id(), ..Counted::default() };
    let mut counts: FxHashMap<String, u64> = FxHashMap::default();
    for piece in pieces {
        counted.part_of = piece.part_of;
        let Ok(text) = read(piece) else {
            counted.skipped += 1;
            continue;
        };
        // A file that comes in parts counts with the first of them.
        counted.files += u64::from(piece.start == 0);
        counted.bytes += text.len() as u64;
        for word in text.split(|c: char| !c.is_alphanumeric() && c != '\'') {
            let word = word.trim_matches('\'');
            match counts.get_mut(word) {
                Some(times) => *times += 1,
                None if word.is_empty() => {}
                None => drop(counts.insert(word.to_owned(), 1)),
            }
        }
    }
    // Here, each word is put in lower case once, and not as often as it occurs.
    for (word, times) in counts {
        counted.words.extend([&word.to_lowercase(), "\n"]);
        counted.times.push(times);
    }
    counted.time = begun.elapsed();
    counted
}

/// The text of a piece. What has a zero byte or is not UTF-8 is no text.
fn read(piece: &Piece) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(piece.bytes as usize);
    let mut file = File::open(&piece.path)?;
    file.seek(SeekFrom::Start(piece.start))?;
    file.take(piece.bytes).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    if text.contains('\0') { Err(io::ErrorKind::InvalidData.into()) } else { Ok(text) }
}
