//! From an image file's bytes to the vision tower's pixel values, as the checkpoint's own image processor says:
//! decode (bounded), upright, RGB, resize, crop, rescale, normalise. Matches `CLIPImageProcessor` of `transformers` 5.23
//! with Pillow 13 as its backend (JPEG excepted: decoders differ by a level here and there). Also knows which part of the original image each pixel of the result shows.

use crate::resample::{Filter, Rgb, resize};
use crate::{Error, Result};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use serde::Deserialize;
use serde_json::Value;
use std::io::Cursor;
use std::path::Path;

/// Pixels of the largest image that is decoded, or made by resizing (Pillow's own bound for trusted files).
pub const PIXEL_LIMIT: u64 = 178_956_970;

/// Bytes that one decoder may allocate: the largest image as 16-bit RGBA.
const DECODER_LIMIT: u64 = PIXEL_LIMIT * 8;

/// The names under which checkpoints store a processor that computes what this one does.
const SUPPORTED: [&str; 5] = [
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPFeatureExtractor",
    "LlavaImageProcessor",
    "LlavaImageProcessorFast",
];

/// An image processor of a checkpoint.
#[derive(Clone, Debug)]
pub struct ImageProcessor {
    resize: Option<(Resize, Filter)>,
    crop: Option<(usize, usize)>,
    /// Width and height of all results.
    side: usize,
    /// The pixel value of every byte, for red, green and blue.
    values: Box<[[f32; 256]; 3]>,
}

#[derive(Clone, Copy, Debug)]
enum Resize {
    ShortestEdge(usize),
    To { width: usize, height: usize },
}

/// An image as the vision tower sees it, before its bytes become numbers.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Pixels of the original image, upright.
    pub width: u32,
    /// Pixels of the original image, upright.
    pub height: u32,
    rgb: Rgb,
    resized: (usize, usize),
    offset: (i64, i64),
}

impl Frame {
    /// What part of the original image the square at column `x` and row `y` of a `grid` x `grid` partition shows:
    /// `[x0, y0, x1, y1]`, each 0 to 1. A square over the padding of a small image shows nothing: it has no area.
    pub fn rect(&self, grid: usize, x: usize, y: usize) -> [f32; 4] {
        let edge = |n: usize, extent: usize, offset: i64, resized: usize| {
            let pixel = (n * extent) as f64 / grid as f64 + offset as f64;
            (pixel / resized as f64).clamp(0.0, 1.0) as f32
        };
        let column = |x| edge(x, self.rgb.width, self.offset.0, self.resized.0);
        let row = |y| edge(y, self.rgb.height, self.offset.1, self.resized.1);
        [column(x), row(y), column(x + 1), row(y + 1)]
    }
}

/// `preprocessor_config.json`, with the defaults of `CLIPImageProcessor`.
#[derive(Deserialize)]
#[serde(default)]
struct Raw {
    image_processor_type: Option<String>,
    do_resize: bool,
    size: Value,
    resample: u64,
    do_center_crop: bool,
    crop_size: Value,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f64; 3],
    image_std: [f64; 3],
    do_pad: Option<bool>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            image_processor_type: None,
            do_resize: true,
            size: 224.into(),
            resample: 3,
            do_center_crop: true,
            crop_size: 224.into(),
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: [0.48145466, 0.4578275, 0.40821073],
            image_std: [0.26862954, 0.26130258, 0.27577711],
            do_pad: None,
        }
    }
}

impl ImageProcessor {
    /// Reads the image processor of the checkpoint in `folder`, which has to make squares of `side` pixels.
    ///
    /// # Errors
    /// There is none, it is of another kind, or its results would not fit the vision tower.
    pub fn open(folder: &Path, side: usize) -> Result<Self> {
        let path = folder.join("preprocessor_config.json");
        if path.exists() {
            let config = sae_core::file::read_json(&path, 1 << 20)?;
            return Self::new(config, side).map_err(Error::checkpoint(&path));
        }
        let path = folder.join("processor_config.json");
        let mut config: Value = sae_core::file::read_json(&path, 1 << 20)?;
        let config = config["image_processor"].take();
        if !config.is_object() {
            return Err(Error::checkpoint(&path)(
                "the checkpoint has no image processor (no preprocessor_config.json)",
            ));
        }
        Self::new(config, side).map_err(Error::checkpoint(&path))
    }

    fn new(mut config: Value, side: usize) -> Result<Self, String> {
        if let Some(fields) = config.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        let raw: Raw = serde_json::from_value(config).map_err(|e| e.to_string())?;
        if let Some(kind) = raw.image_processor_type.filter(|kind| !SUPPORTED.contains(&kind.as_str())) {
            return Err(format!("{kind} is no supported image processor: {}", SUPPORTED.join(", ")));
        }
        if raw.do_pad == Some(true) {
            return Err("image processors that pad (do_pad) are not supported".into());
        }
        let filter = Filter::from_code(raw.resample).ok_or_else(|| {
            format!("resample {} is not supported: 1 (Lanczos), 2 (bilinear), 3 (bicubic)", raw.resample)
        });
        let resize = raw.do_resize.then(|| Ok::<_, String>((size(&raw.size)?, filter?))).transpose()?;
        let crop = match raw.do_center_crop.then(|| size(&raw.crop_size)).transpose()? {
            Some(Resize::ShortestEdge(side)) => Some((side, side)),
            Some(Resize::To { width, height }) => Some((width, height)),
            None => None,
        };
        let made = crop.or(match resize {
            Some((Resize::To { width, height }, _)) => Some((width, height)),
            _ => None,
        });
        if made != Some((side, side)) {
            let made = made.map_or("images of any size".into(), |(w, h)| format!("{w}x{h} pixels"));
            return Err(format!("the image processor makes {made}, the vision tower takes {side}x{side}"));
        }
        let (rescale, normalize) = (raw.do_rescale, raw.do_normalize);
        // In f64 up to the rescaling and in f32 behind it, as numpy does it there.
        let value = |channel: usize, byte: usize| {
            let value = if rescale { (byte as f64 * raw.rescale_factor) as f32 } else { byte as f32 };
            let (mean, std) = (raw.image_mean[channel] as f32, raw.image_std[channel] as f32);
            if normalize { (value - mean) / std } else { value }
        };
        let values = std::array::from_fn(|channel| std::array::from_fn(|byte| value(channel, byte)));
        Ok(Self { resize, crop, side, values: Box::new(values) })
    }

    /// Width and height of the images it makes.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Decodes an image file and brings it to the vision tower's size.
    ///
    /// # Errors
    /// Why this is no image that can be used. Its dimensions are checked before anything is decoded.
    pub fn frame(&self, file: &[u8]) -> Result<Frame, String> {
        let mut rgb = decode(file)?;
        let (width, height) = (rgb.width as u32, rgb.height as u32);
        if let Some((size, filter)) = self.resize {
            let (width, height) = size.of(rgb.width, rgb.height);
            if (width * height) as u64 > PIXEL_LIMIT {
                return Err(format!("the image is too elongated: it would be resized to {width}x{height} pixels"));
            }
            rgb = resize(rgb, width, height, filter);
        }
        let resized = (rgb.width, rgb.height);
        let mut offset = (0, 0);
        if let Some((width, height)) = self.crop {
            offset =
                ((rgb.width as i64 - width as i64).div_euclid(2), (rgb.height as i64 - height as i64).div_euclid(2));
            rgb = crop(&rgb, offset, width, height);
        }
        if (rgb.width, rgb.height) != (self.side, self.side) {
            return Err(format!("the image has {}x{} pixels, not {2}x{2}", rgb.width, rgb.height, self.side));
        }
        Ok(Frame { width, height, rgb, resized, offset })
    }

    /// Appends a frame's pixel values, `[3, side, side]` row-major.
    pub fn pixel_values(&self, frame: &Frame, out: &mut Vec<f32>) {
        let pixels = frame.rgb.data.as_chunks::<3>().0;
        for (channel, values) in self.values.iter().enumerate() {
            out.extend(pixels.iter().map(|pixel| values[usize::from(pixel[channel])]));
        }
    }
}

impl Resize {
    fn of(self, width: usize, height: usize) -> (usize, usize) {
        match self {
            Self::To { width, height } => (width, height),
            Self::ShortestEdge(edge) if width <= height => (edge, edge * height / width),
            Self::ShortestEdge(edge) => (edge * width / height, edge),
        }
    }
}

/// A size as image processors write it: `336`, `{"shortest_edge": 336}` or `{"height": 336, "width": 336}`.
fn size(value: &Value) -> Result<Resize, String> {
    let edge = |value: &Value| value.as_u64().filter(|v| (1..=1 << 14).contains(v)).map(|v| v as usize);
    let keys: Vec<_> = value.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()).map(|(k, _)| k).collect();
    let size = match keys.as_slice() {
        [] => edge(value).map(Resize::ShortestEdge),
        [key] if *key == "shortest_edge" => edge(&value["shortest_edge"]).map(Resize::ShortestEdge),
        [_, _] => edge(&value["width"]).zip(edge(&value["height"])).map(|(width, height)| Resize::To { width, height }),
        _ => None,
    };
    size.ok_or_else(|| format!("the image processor's size {value} is not supported"))
}

/// Decodes a file, upright, on a white ground where it is transparent.
fn decode(file: &[u8]) -> Result<Rgb, String> {
    let failed = |e: image::ImageError| format!("the image does not decode ({e})");
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
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let data = match image.color().has_alpha() {
        false => image.into_rgb8().into_raw(),
        true => image.into_rgba8().as_chunks::<4>().0.iter().flat_map(on_white).collect(),
    };
    Ok(Rgb { width, height, data })
}

/// A pixel with alpha laid on white, rounded as Pillow's `alpha_composite` rounds.
fn on_white(&[r, g, b, alpha]: &[u8; 4]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [r, g, b].map(|value| {
        let sum = (u32::from(value) * alpha + 255 * (255 - alpha) + 128) << 7;
        ((((sum >> 8) + sum) >> 8) >> 7) as u8
    })
}

/// The window of `width` x `height` at `offset`, black where it leaves the image.
fn crop(image: &Rgb, offset: (i64, i64), width: usize, height: usize) -> Rgb {
    let mut data = vec![0; width * height * 3];
    let (left, right) = (offset.0.max(0), (offset.0 + width as i64).min(image.width as i64));
    for (y, row) in data.chunks_exact_mut(width * 3).enumerate() {
        let from = y as i64 + offset.1;
        if (0..image.height as i64).contains(&from) {
            let source = &image.data[from as usize * image.width * 3..][left as usize * 3..right as usize * 3];
            row[(left - offset.0) as usize * 3..][..source.len()].copy_from_slice(source);
        }
    }
    Rgb { width, height, data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn processor(config: Value, side: usize) -> ImageProcessor {
        ImageProcessor::new(config, side).unwrap()
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 0]))
            .write_to(&mut file, image::ImageFormat::Png)
            .unwrap();
        file.into_inner()
    }

    #[test]
    fn rectangles_lie_in_the_original_image() {
        let shortest = processor(json!({"size": {"shortest_edge": 8}, "crop_size": 8}), 8);
        let frame = shortest.frame(&png(32, 16)).unwrap();
        assert_eq!((frame.width, frame.height), (32, 16));
        // Resized to 16x8, the middle 8 columns kept: a quarter of the width is lost on either side.
        assert_eq!(frame.rect(2, 0, 0), [0.25, 0.0, 0.5, 0.5]);
        assert_eq!(frame.rect(2, 1, 1), [0.5, 0.5, 0.75, 1.0]);
    }

    #[test]
    fn small_images_are_padded_with_black_and_the_padding_shows_nothing() {
        let pad =
            processor(json!({"do_resize": false, "crop_size": {"height": 4, "width": 4}, "do_normalize": false}), 4);
        let frame = pad.frame(&png(2, 2)).unwrap();
        let mut values = Vec::new();
        pad.pixel_values(&frame, &mut values);
        let red: Vec<_> = values[..16].iter().map(|v| (v * 255.0).round() as u8).collect();
        assert_eq!(red, [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(frame.rect(2, 0, 0), [0.0, 0.0, 0.5, 0.5]);
        let [x0, _, x1, _] = frame.rect(4, 3, 3);
        assert_eq!(x0, x1);
    }

    #[test]
    fn foreign_processors_and_sizes_that_do_not_fit_are_refused() {
        let refused = |config| ImageProcessor::new(config, 8).unwrap_err();
        assert!(refused(json!({"image_processor_type": "Qwen2VLImageProcessor"})).contains("Qwen2VLImageProcessor"));
        assert!(refused(json!({"crop_size": 16})).contains("takes 8x8"));
        assert!(refused(json!({"crop_size": 8, "resample": 0})).contains("resample 0"));
        assert!(refused(json!({"crop_size": 8, "size": {"longest_edge": 9}})).contains("longest_edge"));
    }

    #[test]
    fn an_elongated_image_is_refused_before_it_is_resized() {
        let shortest = processor(json!({"size": 336, "crop_size": 336}), 336);
        assert!(shortest.frame(&png(1, 4000)).unwrap_err().contains("too elongated") || 336 * 336 * 4000 < PIXEL_LIMIT);
        assert!(Resize::ShortestEdge(336).of(1, 2_000_000).1 as u64 * 336 > PIXEL_LIMIT);
    }
}
