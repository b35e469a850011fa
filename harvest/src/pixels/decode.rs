//! From an image file's bytes to upright RGB pixels, with bounds on what a file may claim.

use crate::resample::Rgb;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use std::io::Cursor;

/// Pixels of the largest image that is decoded, or made by resizing (Pillow's own bound for trusted files).
pub const PIXEL_LIMIT: u64 = 178_956_970;

/// Bytes that one decoder may allocate: the largest image as 16-bit RGBA.
const DECODER_LIMIT: u64 = PIXEL_LIMIT * 8;

/// Decodes a file, upright, on a white ground where it is transparent.
pub(crate) fn decode(file: &[u8]) -> Result<Rgb, String> {
    let (decoder, orientation) = open(file)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let data = match image.color().has_alpha() {
        false => image.into_rgb8().into_raw(),
        true => image.into_rgba8().as_chunks::<4>().0.iter().flat_map(on_white).collect(),
    };
    Ok(Rgb { width, height, data })
}

/// Width and height of the upright image, as the header says; its pixels are not looked at.
pub(crate) fn size(file: &[u8]) -> Result<[u32; 2], String> {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let (decoder, orientation) = open(file)?;
    let (width, height) = decoder.dimensions();
    let on_its_side = matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
    Ok(if on_its_side { [height, width] } else { [width, height] })
}

/// Reads the header of a file: what decodes the rest, and which way is up.
fn open(file: &[u8]) -> Result<(impl ImageDecoder, Orientation), String> {
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|e| e.to_string())?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODER_LIMIT);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > PIXEL_LIMIT {
        let megapixels = pixels / 1_000_000;
        return Err(format!(
            "the image claims {width}x{height}, {megapixels} megapixels; {} are the most that is decoded",
            PIXEL_LIMIT / 1_000_000
        ));
    }
    if pixels == 0 {
        return Err(format!("the image has no pixels ({width}x{height})"));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((decoder, orientation))
}

fn failed(error: image::ImageError) -> String {
    format!("the image does not decode ({error})")
}

/// A pixel with alpha laid on white, rounded as Pillow's `alpha_composite` rounds.
fn on_white(&[r, g, b, alpha]: &[u8; 4]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [r, g, b].map(|value| {
        let sum = (u32::from(value) * alpha + 255 * (255 - alpha) + 128) << 7;
        ((((sum >> 8) + sum) >> 8) >> 7) as u8
    })
}
