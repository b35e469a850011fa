//! From the bytes of an image file to upright RGB pixels, with bounds on the size that a file may claim. Opens the
//! files that Pillow opens, and rejects those that Pillow rejects, in particular truncated ones.

use super::error::ImageError;
use super::{file_end, foreign, jpeg};
use crate::resample::Rgb;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Maximum number of pixels of an image that is decoded or produced by resizing. It is Pillow's own bound for trusted
/// files.
pub const PIXEL_LIMIT: u64 = 178_956_970;

/// Maximum memory of a decoder in bytes: the largest image as 16-bit RGBA.
const DECODER_LIMIT: u64 = PIXEL_LIMIT * 8;

/// Decodes a file to an upright image. Transparent parts are put on a white background.
pub(crate) fn decode(file: &[u8]) -> Result<Rgb, ImageError> {
    let format = format(file)?;
    let file = &*file_end::complete(file, format).ok_or(ImageError::Truncated)?;
    let (mut image, orientation) = pixels(file, format).map_err(|error| match format {
        ImageFormat::Jpeg if !jpeg::has_end(file) => ImageError::Truncated,
        _ => error,
    })?;
    if format == ImageFormat::Jpeg && !jpeg::is_complete(file, |file| Some(pixels(file, format).ok()?.0.into_bytes())) {
        return Err(ImageError::Truncated);
    }
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    // Bit 2 of the color type in the header of a PNG file. Other formats have no 16-bit channels here.
    narrow(&mut image, file.get(25).is_some_and(|color| color & 4 != 0));
    let data = if image.color().has_alpha() {
        image.into_rgba8().as_chunks::<4>().0.iter().flat_map(on_white).collect()
    } else {
        image.into_rgb8().into_raw()
    };
    Ok(Rgb { width, height, data })
}

/// Width and height of the upright image, according to the header. Its pixels are not decoded.
pub(crate) fn size(file: &[u8]) -> Result<[u32; 2], ImageError> {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let (decoder, orientation) = open(file, format(file)?)?;
    let (width, height) = decoder.dimensions();
    let is_rotated = matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
    Ok(if is_rotated { [height, width] } else { [width, height] })
}

/// The format of a file. The error names other formats and files that are not images, such as what a server sent
/// instead.
fn format(file: &[u8]) -> Result<ImageFormat, ImageError> {
    let format = image::guess_format(file).ok().filter(ImageFormat::reading_enabled);
    let other = || foreign::name(file).map_or(ImageError::UnknownFormat, |found| ImageError::OtherFormat { found });
    format.ok_or_else(other)
}

fn pixels(file: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), ImageError> {
    let (decoder, orientation) = open(file, format)?;
    Ok((DynamicImage::from_decoder(decoder).map_err(failed)?, orientation))
}

/// Reads the header of a file. Returns the decoder of the rest and the orientation.
fn open(file: &[u8], format: ImageFormat) -> Result<(impl ImageDecoder, Orientation), ImageError> {
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(DECODER_LIMIT);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > PIXEL_LIMIT {
        return Err(ImageError::TooLarge { width, height, limit: PIXEL_LIMIT });
    }
    if pixels == 0 {
        return Err(ImageError::Empty { width, height });
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((decoder, orientation))
}

fn failed(error: image::ImageError) -> ImageError {
    ImageError::Undecodable(error.to_string())
}

/// Converts channels of 16 bits to the 8-bit levels that Pillow reads. In grayscale images without alpha, levels above
/// 255 become white, and a level that stands for transparency is ignored. In all other images the high byte counts.
fn narrow(image: &mut DynamicImage, has_alpha: bool) {
    let low = |level: u16| level.min(255) * 257;
    let high = |level: u16| (level >> 8) * 257;
    let all = |levels: &mut [u16], to: &dyn Fn(u16) -> u16| levels.iter_mut().for_each(|level| *level = to(*level));
    match image {
        DynamicImage::ImageLuma16(gray) => all(gray, &low),
        DynamicImage::ImageLumaA16(gray) if !has_alpha => {
            gray.pixels_mut().for_each(|pixel| pixel.0 = [low(pixel.0[0]), u16::MAX]);
        }
        DynamicImage::ImageLumaA16(gray) => all(gray, &high),
        DynamicImage::ImageRgb16(color) => all(color, &high),
        DynamicImage::ImageRgba16(color) => all(color, &high),
        _ => {}
    }
}

/// Blends a pixel with alpha over white, rounded like Pillow's `alpha_composite`.
fn on_white(&[r, g, b, alpha]: &[u8; 4]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [r, g, b].map(|value| {
        let sum = (u32::from(value) * alpha + 255 * (255 - alpha) + 128) << 7;
        ((((sum >> 8) + sum) >> 8) >> 7) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::path::{Path, PathBuf};

    fn golden() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/decode")
    }

    /// The files that `make_images.py` produced, with its description of each.
    fn files() -> Vec<(String, Vec<u8>, Value)> {
        let table = std::fs::read(golden().join("images.json")).unwrap();
        let Value::Object(table) = serde_json::from_slice(&table).unwrap() else { panic!("an object") };
        table
            .into_iter()
            .map(|(name, expected)| (name.clone(), std::fs::read(golden().join(name)).unwrap(), expected))
            .collect()
    }

    #[test]
    fn files_are_decoded_as_by_pillow() {
        let mut wrong = Vec::new();
        for (name, file, entry) in files() {
            let found = decode(&file);
            if !entry["opens"].as_bool().unwrap() {
                wrong.extend(found.is_ok().then(|| format!("{name}: Pillow rejects it")));
                continue;
            }
            let expected = decode(&std::fs::read(golden().join(format!("{name}.expected.png"))).unwrap()).unwrap();
            let tolerance = entry["tolerance"].as_u64().unwrap() as u8;
            match found {
                Err(reason) => wrong.push(format!("{name}: {reason}")),
                Ok(found) => {
                    assert_eq!((found.width, found.height), (expected.width, expected.height), "{name}");
                    let off = found.data.iter().zip(&expected.data).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                    wrong.extend((off > tolerance).then(|| format!("{name}: off by {off}")));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Where this decoder and Pillow disagree, no part of the image is missing: they need a byte or two more or less
    /// behind the data of the image.
    #[test]
    fn files_truncated_at_any_byte_are_accepted_or_rejected_as_by_pillow() {
        let mut wrong = Vec::new();
        for (name, file, entry) in files() {
            let cuts: Vec<[usize; 2]> = serde_json::from_value(entry["cuts"].clone()).unwrap();
            let opens = |length: usize| cuts.iter().any(|[first, last]| (*first..=*last).contains(&length));
            for length in 0..file.len() {
                let found = decode(&file[..length]);
                let right = match &found {
                    Ok(_) if opens(length) => true,
                    Ok(cut) => (length..length + 3).any(opens) && cut.data == decode(&file).unwrap().data,
                    // The checksums of the data in a PNG file are missing.
                    Err(_) => !opens(length) || (name.ends_with(".png") && !opens(length - 9)),
                };
                if !right {
                    wrong.push(format!(
                        "{name} cut to {length} of {}: {:?}, Pillow {}",
                        file.len(),
                        found.err(),
                        opens(length)
                    ));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
