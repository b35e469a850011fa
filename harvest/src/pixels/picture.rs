//! A decoded image on which can be drawn: parts of it are blackened, framed or cut out, and several images are put on
//! one sheet, which is written as PNG or JPEG. Knows no model.

use super::decode::decode;
use super::error::ImageError;
use crate::resample::{Filter, Rgb, resize};
use crate::{Error, Result};
use image::{
    ExtendedColorType, ImageEncoder,
    codecs::{jpeg::JpegEncoder, png::PngEncoder},
};
use std::ops::Range;
use std::path::Path;

/// An image in memory.
#[derive(Clone, Debug)]
pub struct Picture {
    rgb: Rgb,
}

/// Pixels between two pictures of a sheet.
const GAP: usize = 4;

impl Picture {
    /// Decodes an image file.
    ///
    /// # Errors
    /// The file cannot be decoded.
    pub fn decode(file: &[u8]) -> Result<Self, ImageError> {
        decode(file).map(|rgb| Self { rgb })
    }

    /// Makes the rectangle `[x0, y0, x1, y1]` black; each coordinate is from 0 to 1.
    pub fn blacken(&mut self, rect: [f32; 4]) {
        self.rgb.blacken(rect);
    }

    /// The share of black pixels.
    pub fn black_share(&self) -> f64 {
        let pixels = self.rgb.data.as_chunks::<3>().0;
        pixels.iter().filter(|pixel| **pixel == [0; 3]).count() as f64 / pixels.len().max(1) as f64
    }

    /// Arranges pictures in rows on a white background. Each is resized to fit into a square of `side` pixels.
    pub fn sheet(rows: &[Vec<Picture>], side: usize) -> Self {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let extent = |n: usize| (n * (side + GAP) + GAP).max(1);
        let (width, height) = (extent(columns), extent(rows.len()));
        let mut sheet = Rgb { width, height, data: vec![255; width * height * 3] };
        for (y, row) in rows.iter().enumerate() {
            for (x, picture) in row.iter().enumerate() {
                let small = picture.fitted(side, true).rgb;
                let corner = (extent(y) + (side - small.height) / 2, extent(x) + (side - small.width) / 2);
                for (n, pixels) in small.data.chunks_exact(small.width * 3).enumerate() {
                    let at = ((corner.0 + n) * width + corner.1) * 3;
                    sheet.data[at..at + pixels.len()].copy_from_slice(pixels);
                }
            }
        }
        Self { rgb: sheet }
    }

    /// Cuts out the surroundings of a rectangle: three times its width and height, and at least a fifth of the picture.
    pub fn around(&self, rect: [f32; 4]) -> Self {
        let (width, height) = (self.rgb.width, self.rgb.height);
        let span = |from: f32, to: f32, side: usize| {
            let (from, to) = (from.clamp(0.0, 1.0), to.clamp(0.0, 1.0));
            let reach = (1.5 * (to - from)).max(0.1);
            let pixel = |part: f32| (part.clamp(0.0, 1.0) * side as f32).round() as usize;
            let (middle, last) = ((from + to) / 2.0, side - 1);
            pixel(middle - reach).min(last)
                ..pixel(middle + reach).clamp(1, side).max(pixel(middle - reach).min(last) + 1)
        };
        let (columns, rows) = (span(rect[0], rect[2], width), span(rect[1], rect[3], height));
        let row = |y: usize| &self.rgb.data[(y * width + columns.start) * 3..(y * width + columns.end) * 3];
        let data = rows.clone().flat_map(row).copied().collect();
        Self { rgb: Rgb { width: columns.len(), height: rows.len(), data } }
    }

    /// The rectangle `[x0, y0, x1, y1]` (each from 0 to 1) in a red frame, with a margin on every side that is as large as
    /// the rectangle; white where the picture ends.
    pub fn framed_around(&self, rect: [f32; 4]) -> Self {
        let rect = rect.map(|part| part.clamp(0.0, 1.0));
        let size = self.size();
        let margin = [0, 1].map(|axis| ((rect[axis + 2] - rect[axis]) * size[axis] as f32).ceil() as usize);
        let [width, height] = [0, 1].map(|axis| size[axis] + 2 * margin[axis]);
        let mut data = vec![255; width * height * 3];
        for (y, row) in self.rgb.data.chunks_exact(size[0] * 3).enumerate() {
            let at = ((y + margin[1]) * width + margin[0]) * 3;
            data[at..at + row.len()].copy_from_slice(row);
        }
        let inside = |n: usize| {
            let axis = n % 2;
            (rect[n] * size[axis] as f32 + margin[axis] as f32) / [width, height][axis] as f32
        };
        let rect = [inside(0), inside(1), inside(2), inside(3)];
        let mut wider = Self { rgb: Rgb { width, height, data } };
        wider.frame(rect, 1 + size[0].max(size[1]) / 200);
        wider.around(rect)
    }

    /// Draws a red frame of `line` pixels around the rectangle `[x0, y0, x1, y1]` (each from 0 to 1), outside of it if
    /// there is room.
    pub fn frame(&mut self, rect: [f32; 4], line: usize) {
        const RED: [u8; 3] = [255, 0, 0];
        let (width, height) = (self.rgb.width, self.rgb.height);
        let edge = |part: f32, side: usize| ((part.clamp(0.0, 1.0) * side as f32).round() as usize).min(side);
        let (inner_x, inner_y) =
            (edge(rect[0], width)..edge(rect[2], width), edge(rect[1], height)..edge(rect[3], height));
        let wider = |span: &Range<usize>, side: usize| span.start.saturating_sub(line)..(span.end + line).min(side);
        for y in wider(&inner_y, height) {
            for x in wider(&inner_x, width) {
                if !(inner_x.contains(&x) && inner_y.contains(&y)) {
                    self.rgb.data[(y * width + x) * 3..][..3].copy_from_slice(&RED);
                }
            }
        }
    }

    /// The same picture with its longest side resized to `side` pixels if it is longer, or, with `grow`, also if it is
    /// shorter.
    pub fn fitted(&self, side: usize, grow: bool) -> Self {
        let longest = self.rgb.width.max(self.rgb.height).max(1);
        if longest == side || longest < side && !grow {
            return self.clone();
        }
        let fitted = |n: usize| (n * side / longest).max(1);
        let (width, height) = (fitted(self.rgb.width), fitted(self.rgb.height));
        Self { rgb: resize(self.rgb.clone(), width, height, Filter::Bicubic) }
    }

    /// Width and height in pixels.
    pub fn size(&self) -> [usize; 2] {
        [self.rgb.width, self.rgb.height]
    }

    /// The pixels: `[height, width, 3]` bytes of red, green and blue, row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.rgb.data
    }

    /// Encodes the picture as PNG.
    ///
    /// # Errors
    /// The picture has no pixels.
    pub fn png(&self) -> Result<Vec<u8>, ImageError> {
        let (width, height) = (self.rgb.width as u32, self.rgb.height as u32);
        let mut png = Vec::new();
        let written = PngEncoder::new(&mut png).write_image(&self.rgb.data, width, height, ExtendedColorType::Rgb8);
        written.map(|()| png).map_err(|e| ImageError::Unencodable(e.to_string()))
    }

    /// Encodes the picture as JPEG, for web pages.
    ///
    /// # Errors
    /// The picture has no pixels, or more in a line than JPEG supports.
    pub fn jpeg(&self) -> Result<Vec<u8>, ImageError> {
        let (width, height) = (self.rgb.width as u32, self.rgb.height as u32);
        let mut jpeg = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut jpeg, 85);
        let written = encoder.write_image(&self.rgb.data, width, height, ExtendedColorType::Rgb8);
        written.map(|()| jpeg).map_err(|e| ImageError::Unencodable(e.to_string()))
    }

    /// Writes the picture as a PNG file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(sae_core::file::write_bytes(path, &self.png().map_err(Error::data(path))?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surroundings_of_any_rectangle_are_inside_the_picture() {
        let data = (0..40 * 20).flat_map(|n| [(n % 40) as u8, (n / 40) as u8, 0]).collect();
        let picture = Picture { rgb: Rgb { width: 40, height: 20, data } };
        let cut = picture.around([0.25, 0.5, 0.5, 0.75]);
        assert_eq!(
            (cut.size(), &cut.rgb.data[..3]),
            ([30, 15], &[0, 5, 0][..]),
            "three times the rectangle, starting at its corner"
        );
        assert_eq!(picture.around([0.5, 0.5, 0.5, 0.5]).size(), [8, 4], "a fifth");
        for rect in [[1.0, 1.0, 1.0, 1.0], [0.9, -3.0, 7.0, 0.1], [f32::NAN; 4], [0.7, 0.7, 0.2, 0.2]] {
            let [width, height] = picture.around(rect).size();
            assert!((1..=40).contains(&width) && (1..=20).contains(&height), "{rect:?}");
        }
        let mut framed = picture.clone();
        framed.frame([0.5, 0.5, 0.75, 1.0], 1);
        let red = |x: usize, y: usize| framed.rgb.data[(y * 40 + x) * 3..][..3] == [255, 0, 0];
        assert!(red(19, 9) && red(30, 19) && !red(20, 10) && !red(29, 19) && !red(18, 9));
        assert_eq!(picture.fitted(10, false).size(), [10, 5]);
        assert_eq!(Picture::decode(&picture.png().unwrap()).unwrap().rgb, picture.rgb);
    }

    #[test]
    fn a_framed_patch_is_in_the_middle_of_its_surroundings_even_in_a_corner() {
        let picture = Picture { rgb: Rgb { width: 40, height: 20, data: vec![9; 40 * 20 * 3] } };
        for rect in [[0.0, 0.0, 0.25, 0.5], [0.75, 0.5, 1.0, 1.0], [0.25, 0.25, 0.5, 0.75]] {
            let cut = picture.framed_around(rect);
            assert_eq!(cut.size(), [30, 30], "{rect:?}");
            let pixel = |x: usize, y: usize| &cut.rgb.data[(y * 30 + x) * 3..][..3];
            assert!(
                (9..21).all(|n| [(n, 9), (n, 20), (9, n), (20, n)].iter().all(|(x, y)| pixel(*x, *y) == [255, 0, 0]))
            );
            assert!(pixel(10, 10) == [9; 3] && pixel(19, 19) == [9; 3]);
        }
        let corner = picture.framed_around([0.0, 0.0, 0.25, 0.5]);
        assert_eq!((&corner.rgb.data[..3], &corner.rgb.data[(29 * 30 + 29) * 3..]), (&[255; 3][..], &[9; 3][..]));
        for odd in [[1.0, 1.0, 1.0, 1.0], [-3.0, 0.2, 7.0, 0.1], [f32::NAN; 4]] {
            picture.framed_around(odd);
        }
    }

    #[test]
    fn a_black_rectangle_covers_exactly_its_pixels() {
        let mut picture = Picture { rgb: Rgb { width: 4, height: 2, data: vec![9; 24] } };
        picture.blacken([0.25, 0.0, 0.75, 0.5]);
        let row = |y: usize| picture.rgb.data[y * 12..][..12].chunks(3).map(|p| p[0]).collect::<Vec<_>>();
        assert_eq!((row(0), row(1)), (vec![9, 0, 0, 9], vec![9; 4]));
        picture.blacken([-1.0, 0.9, f32::NAN, 2.0]);
        let sheet = Picture::sheet(&[vec![picture.clone(), picture]], 8);
        assert_eq!((sheet.rgb.width, sheet.rgb.height), (4 + 2 * 12, 4 + 12));
    }
}
