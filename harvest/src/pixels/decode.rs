//! From an image file's bytes to upright RGB pixels, with bounds on what a file may claim. Opens what Pillow opens, and
//! refuses what Pillow refuses: above all a file that was cut off.

use super::{file_end, foreign, jpeg};
use crate::resample::Rgb;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Pixels of the largest image that is decoded, or made by resizing (Pillow's own bound for trusted files).
pub const PIXEL_LIMIT: u64 = 178_956_970;

/// Bytes that one decoder may allocate: the largest image as 16-bit RGBA.
const DECODER_LIMIT: u64 = PIXEL_LIMIT * 8;

const TRUNCATED: &str = "the image file is truncated";

/// Decodes a file, upright, on a white ground where it is transparent.
pub(crate) fn decode(file: &[u8]) -> Result<Rgb, String> {
    let format = format(file)?;
    let file = &*file_end::complete(file, format).ok_or(TRUNCATED)?;
    let (mut image, orientation) = pixels(file, format).map_err(|reason| match format {
        ImageFormat::Jpeg if !jpeg::has_end(file) => TRUNCATED.into(),
        _ => reason,
    })?;
    if format == ImageFormat::Jpeg && !jpeg::is_whole(file, |file| Some(pixels(file, format).ok()?.0.into_bytes())) {
        return Err(TRUNCATED.into());
    }
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    // Bit 2 of the color type in a PNG file's head; other formats have no 16 bits here.
    narrow(&mut image, file.get(25).is_some_and(|color| color & 4 != 0));
    let data = match image.color().has_alpha() {
        false => image.into_rgb8().into_raw(),
        true => image.into_rgba8().as_chunks::<4>().0.iter().flat_map(on_white).collect(),
    };
    Ok(Rgb { width, height, data })
}

/// Width and height of the upright image, as the header says; its pixels are not looked at.
pub(crate) fn size(file: &[u8]) -> Result<[u32; 2], String> {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let (decoder, orientation) = open(file, format(file)?)?;
    let (width, height) = decoder.dimensions();
    let on_its_side = matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
    Ok(if on_its_side { [height, width] } else { [width, height] })
}

/// The format that a file begins with, or what it is instead of an image: another format, or what a server sent.
fn format(file: &[u8]) -> Result<ImageFormat, String> {
    const READ: &str = "PNG, JPEG, WebP, GIF and BMP files are read";
    let format = image::guess_format(file).ok().filter(ImageFormat::reading_enabled);
    format.ok_or_else(|| match foreign::name(file) {
        Some(name) => format!("the image is {name}; {READ}"),
        None => format!("the image does not decode: it is of no known format; {READ}"),
    })
}

fn pixels(file: &[u8], format: ImageFormat) -> Result<(DynamicImage, Orientation), String> {
    let (decoder, orientation) = open(file, format)?;
    Ok((DynamicImage::from_decoder(decoder).map_err(failed)?, orientation))
}

/// Reads the header of a file: what decodes the rest, and which way is up.
fn open(file: &[u8], format: ImageFormat) -> Result<(impl ImageDecoder, Orientation), String> {
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
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

/// Brings channels of 16 bits to the levels of 8 that Pillow reads: of gray without alpha those above 255 are white, and a
/// level that stands for transparency does not count; of all others the high byte counts.
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

/// A pixel with alpha laid on white, rounded as Pillow's `alpha_composite` rounds.
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

    /// The files that `make_images.py` made, with what it says of them.
    fn files() -> Vec<(String, Vec<u8>, Value)> {
        let table = std::fs::read(golden().join("images.json")).unwrap();
        let Value::Object(table) = serde_json::from_slice(&table).unwrap() else { panic!("an object") };
        table
            .into_iter()
            .map(|(name, said)| (name.clone(), std::fs::read(golden().join(name)).unwrap(), said))
            .collect()
    }

    #[test]
    fn files_are_opened_as_pillow_opens_them() {
        let mut wrong = Vec::new();
        for (name, file, said) in files() {
            let found = decode(&file);
            if !said["opens"].as_bool().unwrap() {
                wrong.extend(found.is_ok().then(|| format!("{name}: Pillow refuses it")));
                continue;
            }
            let expected = decode(&std::fs::read(golden().join(format!("{name}.expected.png"))).unwrap()).unwrap();
            let tolerance = said["tolerance"].as_u64().unwrap() as u8;
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

    /// Where the two disagree, nothing of the image is missing: decoders need a byte or two more or less behind its data.
    #[test]
    fn files_that_are_cut_off_anywhere_are_opened_or_refused_as_by_pillow() {
        let mut wrong = Vec::new();
        for (name, file, said) in files() {
            let cuts: Vec<[usize; 2]> = serde_json::from_value(said["cuts"].clone()).unwrap();
            let opens = |length: usize| cuts.iter().any(|[first, last]| (*first..=*last).contains(&length));
            for length in 0..file.len() {
                let found = decode(&file[..length]);
                let right = match &found {
                    Ok(_) if opens(length) => true,
                    Ok(cut) => (length..length + 3).any(opens) && cut.data == decode(&file).unwrap().data,
                    // The checksums of a PNG file's data are missing.
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
