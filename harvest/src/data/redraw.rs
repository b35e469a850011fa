//! Images that are redrawn when they are read: white, blurred or noisy. What is drawn is decided row by row; decoding,
//! drawing and encoding happen when the image is read, on the thread that prepares its row.

use super::row_error::RowError;
use crate::pixels;
use crate::resample::Rgb;
use image::{ExtendedColorType, ImageEncoder, RgbImage, codecs::png::PngEncoder};
use rand::{Rng, RngExt};
use sae_core::random;
use sae_core::store::sample::Sample;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Standard deviation of a blur, as a share of the shorter side.
const BLUR: f32 = 0.08;
/// Standard deviation of noise, where the largest value of a pixel is 255.
const NOISE: f32 = 96.0;

/// How an image is redrawn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Redraw {
    /// White.
    White(Size),
    /// Blurred by 8 % of the shorter side.
    Blurred,
    /// With normal noise of standard deviation 96 (of 255), drawn from the stream `image` of the random numbers of
    /// `seed`.
    Noisy { seed: u64, image: u64 },
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

/// Applies the steps one after the other to the image file that `read` returns, and encodes the result as PNG.
pub(super) fn redraw<'a>(
    steps: &[Redraw],
    read: impl FnOnce() -> Result<Cow<'a, [u8]>, RowError>,
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
        image = step.draw(image)?;
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

impl Redraw {
    fn draw(&self, image: Rgb) -> Result<Rgb, RowError> {
        let Rgb { width, height, mut data } = image;
        match self {
            Self::White(_) => data.fill(255),
            Self::Blurred => {
                let image =
                    RgbImage::from_raw(width as u32, height as u32, data).ok_or("the image has an unexpected size")?;
                let sigma = (BLUR * width.min(height) as f32).max(0.5);
                data = image::imageops::fast_blur(&image, sigma).into_raw();
            }
            Self::Noisy { seed, image } => {
                let mut rng = random::chacha(*seed, *image);
                data.iter_mut().for_each(|v| *v = (f32::from(*v) + NOISE * normal(&mut rng)) as u8);
            }
        }
        Ok(Rgb { width, height, data })
    }
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

    #[test]
    fn a_white_image_of_known_size_is_made_without_reading_the_file() {
        let noisy = Redraw::Noisy { seed: 1, image: 0 };
        let white = Redraw::White(Size::Known([5, 3]));
        let found = redraw(&[noisy, Redraw::Blurred, white], never).unwrap();
        assert_eq!(found, encode(Rgb { width: 5, height: 3, data: vec![255; 45] }));
        let missing = redraw(&[Redraw::White(Size::Missing)], never);
        assert_eq!(missing.unwrap_err().cause, "the first pass skipped the row");
    }

    #[test]
    fn a_white_image_of_unknown_size_needs_only_the_header() {
        let complete = png(40, 20);
        let header = &complete[..complete.len() / 2];
        assert!(pixels::decode(header).is_err(), "its pixels are truncated");
        let found = redraw(&[Redraw::White(Size::FromFile)], || Ok(Cow::Borrowed(header))).unwrap();
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
