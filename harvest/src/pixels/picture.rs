//! A decoded image to be drawn on: parts of it made black, several put on one sheet; written as PNG. Knows no model.

use super::decode::decode;
use crate::resample::{Filter, Rgb, resize};
use crate::{Error, Result};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use std::path::Path;

/// An image in memory.
#[derive(Clone, Debug)]
pub struct Picture {
    rgb: Rgb,
}

/// Pixels between the pictures of a sheet.
const GAP: usize = 4;

impl Picture {
    /// Decodes an image file.
    ///
    /// # Errors
    /// Why this is no image that can be used.
    pub fn decode(file: &[u8]) -> Result<Self, String> {
        decode(file).map(|rgb| Self { rgb })
    }

    /// Makes the rectangle `[x0, y0, x1, y1]`, each 0 to 1, black.
    pub fn blacken(&mut self, rect: [f32; 4]) {
        let (width, height) = (self.rgb.width, self.rgb.height);
        let edge = |part: f32, side: usize| ((part.clamp(0.0, 1.0) * side as f32).round() as usize).min(side);
        let [left, right] = [edge(rect[0], width), edge(rect[2], width)];
        for y in edge(rect[1], height)..edge(rect[3], height) {
            self.rgb.data[(y * width + left) * 3..(y * width + right) * 3].fill(0);
        }
    }

    /// The share of it that is black.
    pub fn black(&self) -> f64 {
        let pixels = self.rgb.data.as_chunks::<3>().0;
        pixels.iter().filter(|pixel| **pixel == [0; 3]).count() as f64 / pixels.len().max(1) as f64
    }

    /// Pictures in rows on white, each brought into a square of `side` pixels.
    pub fn sheet(rows: &[Vec<Picture>], side: usize) -> Self {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let extent = |n: usize| (n * (side + GAP) + GAP).max(1);
        let (width, height) = (extent(columns), extent(rows.len()));
        let mut sheet = Rgb { width, height, data: vec![255; width * height * 3] };
        for (y, row) in rows.iter().enumerate() {
            for (x, picture) in row.iter().enumerate() {
                let longest = picture.rgb.width.max(picture.rgb.height).max(1);
                let fitted = |n: usize| (n * side / longest).max(1);
                let small =
                    resize(picture.rgb.clone(), fitted(picture.rgb.width), fitted(picture.rgb.height), Filter::Bicubic);
                let corner = (extent(y) + (side - small.height) / 2, extent(x) + (side - small.width) / 2);
                for (n, pixels) in small.data.chunks_exact(small.width * 3).enumerate() {
                    let at = ((corner.0 + n) * width + corner.1) * 3;
                    sheet.data[at..at + pixels.len()].copy_from_slice(pixels);
                }
            }
        }
        Self { rgb: sheet }
    }

    /// Writes it as PNG.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, path: &Path) -> Result<()> {
        let (width, height) = (self.rgb.width as u32, self.rgb.height as u32);
        let mut png = Vec::new();
        PngEncoder::new(&mut png)
            .write_image(&self.rgb.data, width, height, ExtendedColorType::Rgb8)
            .map_err(Error::data(path))?;
        Ok(sae_core::file::write_bytes(path, &png)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_black_rectangle_covers_its_pixels_and_no_others() {
        let mut picture = Picture { rgb: Rgb { width: 4, height: 2, data: vec![9; 24] } };
        picture.blacken([0.25, 0.0, 0.75, 0.5]);
        let row = |y: usize| picture.rgb.data[y * 12..][..12].chunks(3).map(|p| p[0]).collect::<Vec<_>>();
        assert_eq!((row(0), row(1)), (vec![9, 0, 0, 9], vec![9; 4]));
        picture.blacken([-1.0, 0.9, f32::NAN, 2.0]);
        let sheet = Picture::sheet(&[vec![picture.clone(), picture]], 8);
        assert_eq!((sheet.rgb.width, sheet.rgb.height), (4 + 2 * 12, 4 + 12));
    }
}
