//! Which files there are, and which of them go to a worker together.

use crate::count::Piece;
use anyhow::{Context, Result};
use std::{fs::File, io, io::Read, io::Seek, io::SeekFrom, path::Path};
use walkdir::WalkDir;

const MIB: u64 = 1 << 20;

/// All files below a directory, and how many entries could not be read.
pub fn find(directory: &Path) -> Result<(Vec<Piece>, u64)> {
    std::fs::read_dir(directory).with_context(|| format!("cannot read the directory {}", directory.display()))?;
    let (mut files, mut unreadable) = (Vec::new(), 0);
    for entry in WalkDir::new(directory).sort_by_file_name() {
        match entry.and_then(|entry| entry.metadata().map(|metadata| (entry, metadata))) {
            Ok((entry, metadata)) if metadata.is_file() => {
                let path = entry.into_path().into_os_string();
                files.push(Piece { path, start: 0, bytes: metadata.len(), part_of: None });
            }
            Ok(_) => {}
            Err(_) => unreadable += 1,
        }
    }
    Ok((files, unreadable))
}

/// Batches of about the same size, several for each worker, but none so large that it would fill the memory.
pub fn batches(files: &[Piece], workers: usize) -> Vec<Vec<Piece>> {
    let total: u64 = files.iter().map(|file| file.bytes).sum();
    let share = (total / (16 * workers as u64)).clamp(MIB, 32 * MIB);
    let (mut batches, mut batch, mut weight) = (Vec::new(), Vec::new(), 0);
    for (number, file) in files.iter().enumerate() {
        if file.bytes > 2 * share {
            // If it cannot be read here, neither can the worker, which says so.
            let parts = cut(file, number, share).unwrap_or_else(|_| vec![file.clone()]);
            batches.extend(parts.into_iter().map(|part| vec![part]));
            continue;
        }
        batch.push(file.clone());
        // Opening a file takes about as long as counting so many bytes.
        weight += file.bytes + 4096;
        if weight >= share {
            batches.push(std::mem::take(&mut batch));
            weight = 0;
        }
    }
    batches.extend((!batch.is_empty()).then_some(batch));
    batches
}

/// Cuts a large file at white space.
fn cut(file: &Piece, number: usize, share: u64) -> io::Result<Vec<Piece>> {
    let mut reader = File::open(&file.path)?;
    let (mut parts, mut start, mut end) = (Vec::new(), 0, 0);
    while start < file.bytes {
        end += share;
        let mut text = [0; 4096];
        reader.seek(SeekFrom::Start(end))?;
        let length = reader.read(&mut text)?;
        match text[..length].iter().position(u8::is_ascii_whitespace) {
            Some(blank) => end += blank as u64,
            // A long word, or no text at all: the next cut may be possible.
            None if length > 0 => continue,
            None => end = file.bytes,
        }
        parts.push(Piece { start, bytes: end - start, part_of: Some(number), ..file.clone() });
        start = end;
    }
    Ok(parts)
}
