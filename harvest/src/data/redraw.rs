//! Images that are redrawn when they are read: white, blurred, noisy, black in places, or spliced with another one. What is drawn is decided row by row; decoding,
//! drawing and encoding happen when the image is read, on the thread that prepares its row.

use super::row_error::RowError;
use crate::pixels;
use crate::resample::Rgb;
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, ImageEncoder, RgbImage, codecs::png::PngEncoder};
use rand::{Rng, RngExt};
use sae_core::random;
use sae_core::store::sample::Sample;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Standard deviation of a blur, as a share of the shorter side.
const BLUR: f32 = 0.08;
/// Standard deviation of noise, where the largest value of a pixel is 255.
const NOISE: f32 = 96.0;

/// How an image is redrawn. Another image of the data set is an `I`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Redraw<I> {
    /// White.
    White(Size),
    /// Blurred by 8 % of the shorter side.
    Blurred,
    /// With normal noise of standard deviation 96 (of 255), drawn from the stream `image` of the random numbers of
    /// `seed`.
    Noisy { seed: u64, image: u64 },
    /// With these rectangles in black: `[x0, y0, x1, y1]`, each from 0 to 1.
    Black(Vec<[f32; 4]>),
    /// With the right half of another image, which is scaled to the size of this one.
    Spliced(Box<I>),
}

/// The size of a white image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Size {
    /// Width and height in pixels.
    Known([u32; 2]),
    /// The size in the header of the image file. Its pixels are not decoded.
    FromFile,
    /// There was an earlier pass, but it has no such image.
    Missing,
}

/// Sizes of the images that an earlier pass captured, by the source of their row. A second pass with white images uses
/// them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageSizes(BTreeMap<String, Vec<[u32; 2]>>);

impl ImageSizes {
    /// The sizes of the images in the samples of a run.
    pub fn new(samples: &[Sample]) -> Self {
        let sizes = |sample: &Sample| sample.images.iter().map(|image| [image.width, image.height]).collect();
        Self(samples.iter().map(|sample| (sample.source.clone(), sizes(sample))).collect())
    }

    /// The size of one image of the row at `source`.
    pub(super) fn get(&self, source: &str, image: usize) -> Size {
        let sizes = self.0.get(source).and_then(|sizes| sizes.get(image));
        sizes.map_or(Size::Missing, |size| Size::Known(*size))
    }
}

/// Rectangles of the images of samples that are to be black, by the source of their row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageMasks(BTreeMap<String, Vec<Vec<[f32; 4]>>>);

impl ImageMasks {
    /// Sets the rectangles `[x0, y0, x1, y1]`, each from 0 to 1, of every image of the row at `source`.
    pub fn insert(&mut self, source: &str, images: Vec<Vec<[f32; 4]>>) {
        self.0.insert(source.to_owned(), images);
    }

    /// The rectangles of one image of the row at `source`.
    pub(super) fn get(&self, source: &str, image: usize) -> Vec<[f32; 4]> {
        self.0.get(source).and_then(|images| images.get(image)).cloned().unwrap_or_default()
    }
}

/// What a plan says about single images.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerImage {
    pub sizes: Option<Arc<ImageSizes>>,
    pub masks: Option<Arc<ImageMasks>>,
}

/// Applies the steps one after the other to the image file that `read` returns, and encodes the result as PNG. Other images are
/// read by `read_other`.
pub(super) fn redraw<'a, I>(
    steps: &[Redraw<I>],
    read: impl FnOnce() -> Result<Cow<'a, [u8]>, RowError>,
    read_other: impl Fn(&I) -> Result<Cow<'_, [u8]>, RowError>,
) -> Result<Vec<u8>, RowError> {
    // White covers everything that was drawn before.
    let white = steps.iter().enumerate().rev().find_map(|(at, step)| match step {
        Redraw::White(size) => Some((at, *size)),
        _ => None,
    });
    let (mut image, steps) = match white {
        Some((at, size)) => (self::white(size, read)?, &steps[at + 1..]),
        None => (pixels::decode(&read()?)?, steps),
    };
    for step in steps {
        image = step.draw(image, &read_other)?;
    }
    let Rgb { width, height, data } = image;
    let mut bytes = Vec::new();
    let encoder = PngEncoder::new(&mut bytes);
    let written = encoder.write_image(&data, width as u32, height as u32, ExtendedColorType::Rgb8);
    written.map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn white<'a>(size: Size, read: impl FnOnce() -> Result<Cow<'a, [u8]>, RowError>) -> Result<Rgb, RowError> {
    let [width, height] = match size {
        Size::Known(size) => size,
        Size::FromFile => pixels::size(&read()?)?,
        Size::Missing => return Err("the first pass skipped the row".into()),
    };
    let [width, height] = [width, height].map(|side| side as usize);
    Ok(Rgb { width, height, data: vec![255; 3 * width * height] })
}

impl<I> Redraw<I> {
    fn draw(
        &self,
        mut image: Rgb,
        read_other: impl Fn(&I) -> Result<Cow<'_, [u8]>, RowError>,
    ) -> Result<Rgb, RowError> {
        if let Self::Black(rects) = self {
            rects.iter().for_each(|rect| image.blacken(*rect));
            return Ok(image);
        }
        let Rgb { width, height, mut data } = image;
        match self {
            Self::Black(_) => (),
            Self::White(_) => data.fill(255),
            Self::Blurred => {
                let sigma = (BLUR * width.min(height) as f32).max(0.5);
                data = imageops::fast_blur(&buffer(Rgb { width, height, data })?, sigma).into_raw();
            }
            Self::Spliced(other) => {
                let other = buffer(pixels::decode(&read_other(other)?)?)?;
                let other = imageops::resize(&other, width as u32, height as u32, FilterType::Triangle).into_raw();
                let (row, left) = (3 * width, 3 * (width / 2));
                for (row, other) in data.chunks_exact_mut(row).zip(other.chunks_exact(row)) {
                    row[left..].copy_from_slice(&other[left..]);
                }
            }
            Self::Noisy { seed, image } => {
                let mut rng = random::chacha(*seed, *image);
                data.iter_mut().for_each(|v| *v = (f32::from(*v) + NOISE * normal(&mut rng)) as u8);
            }
        }
        Ok(Rgb { width, height, data })
    }
}

fn buffer(Rgb { width, height, data }: Rgb) -> Result<RgbImage, RowError> {
    RgbImage::from_raw(width as u32, height as u32, data).ok_or_else(|| "the image has an unexpected size".into())
}

/// A number from the standard normal distribution (Box and Muller 1958).
fn normal(rng: &mut impl Rng) -> f32 {
    let (radius, angle): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random::<f32>());
    (-2.0 * radius.ln()).sqrt() * (std::f32::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: usize, height: usize) -> Vec<u8> {
        let data = (0..3 * width * height).map(|n| (n % 251) as u8).collect();
        encode(Rgb { width, height, data })
    }

    fn encode(Rgb { width, height, data }: Rgb) -> Vec<u8> {
        let mut bytes = Vec::new();
        let encoder = PngEncoder::new(&mut bytes);
        encoder.write_image(&data, width as u32, height as u32, ExtendedColorType::Rgb8).unwrap();
        bytes
    }

    fn never() -> Result<Cow<'static, [u8]>, RowError> {
        panic!("the file was read")
    }

    /// Other images are the content of their files.
    fn redrawn<'a>(
        steps: &[Redraw<Vec<u8>>],
        read: impl FnOnce() -> Result<Cow<'a, [u8]>, RowError>,
    ) -> Result<Vec<u8>, RowError> {
        redraw(steps, read, |other| Ok(Cow::Borrowed(other)))
    }

    #[test]
    fn a_white_image_of_known_size_is_made_without_reading_the_file() {
        let noisy = Redraw::Noisy { seed: 1, image: 0 };
        let white = Redraw::White(Size::Known([5, 3]));
        let found = redrawn(&[noisy, Redraw::Blurred, white], never).unwrap();
        assert_eq!(found, encode(Rgb { width: 5, height: 3, data: vec![255; 45] }));
        let missing = redrawn(&[Redraw::White(Size::Missing)], never);
        assert_eq!(missing.unwrap_err().cause, "the first pass skipped the row");
    }

    #[test]
    fn rectangles_become_black_and_the_rest_stays() {
        let black = Redraw::Black(vec![[0.0, 0.0, 0.5, 0.5], [0.75, 0.5, 1.0, 1.0]]);
        let found =
            redrawn(&[black], || Ok(Cow::Owned(encode(Rgb { width: 4, height: 2, data: vec![9; 24] })))).unwrap();
        let [dark, light] = [[0; 3], [9; 3]];
        let data = [dark, dark, light, light, light, light, light, dark].concat();
        assert_eq!(found, encode(Rgb { width: 4, height: 2, data }));
        let mut masks = ImageMasks::default();
        masks.insert("a.jsonl:1", vec![vec![], vec![[0.0; 4]]]);
        assert_eq!((masks.get("a.jsonl:1", 1), masks.get("a.jsonl:1", 0)), (vec![[0.0; 4]], vec![]));
        assert_eq!((masks.get("a.jsonl:1", 2), masks.get("a.jsonl:2", 0)), (vec![], vec![]));
    }

    #[test]
    fn an_image_of_another_size_is_scaled_before_it_is_spliced_in() {
        let shade = |width, height, shade| encode(Rgb { width, height, data: vec![shade; 3 * width * height] });
        let other = shade(12, 30, 200);
        let found = redrawn(&[Redraw::Spliced(Box::new(other))], || Ok(Cow::Owned(shade(7, 2, 10)))).unwrap();
        let row = [vec![10; 3 * 3], vec![200; 3 * 4]].concat();
        assert_eq!(found, encode(Rgb { width: 7, height: 2, data: row.repeat(2) }));
        let broken = Redraw::Spliced(Box::new(b"no image".to_vec()));
        let cause = redrawn(&[broken], || Ok(Cow::Owned(shade(7, 2, 10)))).unwrap_err().cause;
        assert!(cause.contains("cannot be decoded"), "{cause}");
    }

    #[test]
    fn a_white_image_of_unknown_size_needs_only_the_header() {
        let complete = png(40, 20);
        let header = &complete[..complete.len() / 2];
        assert!(pixels::decode(header).is_err(), "its pixels are truncated");
        let found = redrawn(&[Redraw::White(Size::FromFile)], || Ok(Cow::Borrowed(header))).unwrap();
        assert_eq!(found, encode(Rgb { width: 40, height: 20, data: vec![255; 2400] }));
    }

    #[test]
    fn sizes_are_those_of_the_images_of_samples() {
        let image =
            |width| sae_core::store::sample::ImageRef { path: String::new(), width, height: 7, sha256: String::new() };
        let sample = Sample {
            id: String::new(),
            key: String::new(),
            text: String::new(),
            images: vec![image(3), image(4)],
            source: "a.jsonl:2".into(),
            meta: serde_json::Value::Null,
            piece: None,
        };
        let sizes = ImageSizes::new(&[sample]);
        assert_eq!(sizes.get("a.jsonl:2", 1), Size::Known([4, 7]));
        assert_eq!((sizes.get("a.jsonl:2", 2), sizes.get("a.jsonl:1", 0)), (Size::Missing, Size::Missing));
    }
}
