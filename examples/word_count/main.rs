//! cargo run --release --example word_count -- --top 20 --check /usr/share/doc
//!
//! Counts the words of all text files below a directory, with a process for each core.

mod count;
mod files;
mod totals;

use anyhow::{Result, ensure};
use clap::Parser;
use count::count_words;
use indicatif::{ProgressBar, ProgressStyle};
use pool_runtime::{Pool, cpu_count, pool_main};
use std::{collections::BTreeMap, io::Write, path::PathBuf, time::Instant};
use totals::{Share, Totals};

/// Counts the words of all text files below a directory.
#[derive(Parser)]
struct Args {
    directory: PathBuf,
    /// How many processes count
    #[arg(long, default_value_t = cpu_count())]
    workers: usize,
    /// How many of the most frequent words are printed
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// Count in this process too, and compare
    #[arg(long)]
    check: bool,
}

pool_main!(run);

fn run() -> Result<()> {
    let args = Args::parse();
    let pool = Pool::new(args.workers)?;
    let begun = Instant::now();
    let (found, unreadable) = files::find(&args.directory)?;
    let batches = files::batches(&found, args.workers);
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")?;
    // It is drawn on standard error, and only if that is a terminal.
    let progress = ProgressBar::new(found.iter().map(|file| file.bytes).sum()).with_style(style);

    let mut totals = Totals::new(unreadable);
    let mut large: BTreeMap<usize, Totals> = BTreeMap::new();
    let mut workers: BTreeMap<u32, Share> = BTreeMap::new();
    for counted in pool.imap_unordered(|batch| count_words::call(batch), &batches) {
        let counted = counted?;
        progress.inc(counted.bytes);
        workers.entry(counted.pid).or_default().add(&counted);
        // A large file comes in parts, and counts only if all of them are text.
        counted.part_of.map_or(&mut totals, |file| large.entry(file).or_default()).add(&counted);
    }
    large.into_values().for_each(|file| totals.add_large(file));
    let time = begun.elapsed();
    progress.finish_and_clear();

    let mut out = std::io::stdout().lock();
    for (word, times) in totals.most_frequent(args.top) {
        writeln!(out, "{times:>12}  {word}")?;
    }
    writeln!(out, "{}", totals.text(time))?;
    for (pid, share) in workers {
        writeln!(out, "worker {pid}: {}", share.text(time))?;
    }
    if args.check {
        let begun = Instant::now();
        let mut single = Totals::new(unreadable);
        single.add(&count_words(&found));
        writeln!(out, "single process: {}", single.text(begun.elapsed()))?;
        ensure!(single == totals, "the workers and the single process do not agree");
        writeln!(out, "they agree")?;
    }
    Ok(())
}
