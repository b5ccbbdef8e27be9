//! cargo run --release --example thumbnails -- ~/Pictures /tmp/thumbnails
//!
//! Makes thumbnails of all images below a directory; if none is given, of samples, some of them broken.

mod samples;

use anyhow::{Context, Result};
use clap::Parser;
use pool_runtime::{Pool, cpu_count, pool_main, task};
use std::{ffi::OsStr, fs, path::Path, path::PathBuf};
use walkdir::WalkDir;

/// Makes thumbnails of all PNG and JPEG images below a directory.
#[derive(Parser)]
struct Args {
    /// Where the images are [default: samples in a temporary directory]
    #[arg(requires = "output")]
    input: Option<PathBuf>,
    /// Where the thumbnails go
    output: Option<PathBuf>,
    /// The longer side of a thumbnail, in pixels
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4096))]
    size: u32,
    #[arg(long, default_value_t = cpu_count())]
    workers: usize,
}

/// The paths are no `&Path`: serde refuses those that are not UTF-8.
#[task]
fn thumbnail(from: &OsStr, to: &OsStr, size: u32) -> Result<()> {
    // The decoder refuses images that would take more than 512 MiB.
    let image = image::ImageReader::open(from)?.with_guessed_format()?.decode()?;
    let small = if image.width().max(image.height()) > size { image.thumbnail(size, size) } else { image };
    Path::new(to).parent().map_or(Ok(()), fs::create_dir_all)?;
    Ok(small.into_rgba8().save_with_format(to, image::ImageFormat::Png)?)
}

pool_main!(run);

fn run() -> Result<()> {
    let args = Args::parse();
    let pool = Pool::new(args.workers)?;
    if let (Some(input), Some(output)) = (args.input, args.output) {
        return make_thumbnails(&pool, &input, &output, args.size);
    }
    // It is removed when this function is left, with all that is in it.
    let samples = tempfile::tempdir().context("cannot make a temporary directory")?;
    samples::make(samples.path()).context("cannot make samples")?;
    make_thumbnails(&pool, samples.path(), &samples.path().join("thumbnails"), args.size)?;
    println!("The samples and their thumbnails are removed again.");
    Ok(())
}

fn make_thumbnails(pool: &Pool, input: &Path, output: &Path, size: u32) -> Result<()> {
    fs::read_dir(input).with_context(|| format!("cannot read the directory {}", input.display()))?;
    fs::create_dir_all(output).with_context(|| format!("cannot make the directory {}", output.display()))?;
    let mut images = Vec::new();
    for entry in WalkDir::new(input).sort_by_file_name().into_iter().filter_entry(|entry| entry.path() != output) {
        let Ok(entry) = entry.inspect_err(|error| println!("cannot be read: {error}")) else { continue };
        let kind = entry.path().extension().map(OsStr::to_ascii_lowercase).unwrap_or_default();
        if entry.file_type().is_file() && ["png", "jpg", "jpeg"].iter().any(|image| kind == *image) {
            let mut to = output.join(entry.path().strip_prefix(input)?).into_os_string();
            to.push(".png");
            images.push((entry.into_path().into_os_string(), to));
        }
    }
    let mut broken = 0;
    for ((from, _), made) in images.iter().zip(pool.imap(|(from, to)| thumbnail::call(from, to, size), &images)) {
        // The task's own error, or that of the pool, if the decoder panicked or crashed.
        if let Err(reason) = made.unwrap_or_else(|error| Err(error.into())) {
            println!("{}: {}", Path::new(from).display(), reason.to_string().trim());
            broken += 1;
        }
    }
    println!("{} thumbnails in {}, {broken} broken images", images.len() - broken, output.display());
    Ok(())
}
