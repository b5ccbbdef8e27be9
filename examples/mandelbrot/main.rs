//! cargo run --release --example mandelbrot -- /tmp/mandelbrot.png
//!
//! Draws the Mandelbrot set: several processes fill one image in shared memory, and this one writes it to a file.

use anyhow::{Context, Result};
use clap::Parser;
use pool_runtime::{Array, Atomic, Pool, cpu_count, pool_main, task};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

/// Draws the Mandelbrot set into a PNG file.
#[derive(Parser)]
struct Args {
    output: PathBuf,
    /// Width and height of the image, in pixels
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    size: u32,
    #[arg(long, default_value_t = cpu_count())]
    workers: usize,
}

/// After so many steps, a point is taken for one of the set.
const STEPS: u32 = 1000;

/// Draws one row of the image, and counts the points of the set in it.
#[task]
fn draw(row: u32, size: u32, pixels: Array<[u8; 3]>, inside: Atomic<u64>) {
    let scale = |pixel: u32| 3.0 * f64::from(pixel) / f64::from(size) - 1.5;
    let steps: Vec<_> = (0..size).map(|column| steps_outside(scale(column) - 0.6, scale(row))).collect();
    let colors: Vec<_> = steps.iter().map(|steps| steps.map_or([0; 3], color)).collect();
    pixels.store(0, &colors);
    inside.fetch_add(steps.iter().filter(|steps| steps.is_none()).count() as u64, Relaxed);
}

/// How many steps of z² + c stay within a circle of radius 2. None: all.
fn steps_outside(real: f64, imaginary: f64) -> Option<u32> {
    let (mut x, mut y) = (0.0_f64, 0.0_f64);
    (0..STEPS).find(|_| {
        (x, y) = (x * x - y * y + real, 2.0 * x * y + imaginary);
        x * x + y * y > 4.0
    })
}

fn color(steps: u32) -> [u8; 3] {
    let part = f64::from(steps) / f64::from(STEPS);
    [part.powf(0.3), part.powf(0.5), part.powf(0.2)].map(|part| (255.0 * part) as u8)
}

pool_main!(run);

fn run() -> Result<()> {
    let Args { output, size, workers } = Args::parse();
    let pixels = Array::zeroed(size as usize * size as usize).context("cannot make the image")?;
    let inside = Atomic::new(0_u64)?;
    let pool = Pool::new(workers)?;
    // Each row is the part of one call. Those in the middle take longest: a worker that has drawn one gets the next.
    pool.map(|(row, pixels)| draw::call(row, size, pixels, inside.clone()), (0..).zip(pixels.chunks(size as usize)))?;
    image::save_buffer(&output, &pixels.to_vec().concat(), size, size, image::ColorType::Rgb8)
        .with_context(|| format!("cannot write {}", output.display()))?;
    let share = 100.0 * inside.load(Relaxed) as f64 / f64::from(size).powi(2);
    println!("{}: {size} × {size} pixels, {share:.1} % of them in the set", output.display());
    Ok(())
}
