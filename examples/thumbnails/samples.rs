//! Images to try it with, good ones and broken ones.

use image::{ImageResult, Rgb, RgbImage};
use std::{fs, path::Path};

/// A PNG of 60,000 times 60,000 pixels, or so its header says: 14 GB of memory. Its image data never comes.
const BOMB: &[u8] = b"\x89PNG\r\n\x1a\n\
    \0\0\0\x0dIHDR\0\0\xea\x60\0\0\xea\x60\x08\x06\0\0\0\x80\xd2\x75\x42\
    \0\0\x10\0IDAT";

pub fn make(directory: &Path) -> ImageResult<()> {
    let sky = RgbImage::from_fn(800, 600, |x, y| Rgb([(x / 4) as u8, (y / 3) as u8, 200]));
    sky.save(directory.join("sky.png"))?;
    sky.save(directory.join("sky.jpg"))?;
    RgbImage::new(20, 10).save(directory.join("small.png"))?;

    let png = fs::read(directory.join("sky.png"))?;
    fs::write(directory.join("truncated.png"), &png[..png.len() / 2])?;
    fs::write(directory.join("text.png"), "This is no image.")?;
    fs::write(directory.join("empty.jpg"), "")?;
    Ok(fs::write(directory.join("bomb.png"), BOMB)?)
}
