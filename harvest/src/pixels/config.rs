//! The checkpoint's image processor, checked against the input of the model. Which file describes it is decided in
//! `precedence.rs`.

use super::decode::{PIXEL_LIMIT, decode};
use super::error::ImageError;
use super::frame::{Frame, Origin, Patches, SquareView, window};
use super::{geometry, prismatic};
use crate::fields::{Fields, short};
use crate::model::Image;
use crate::model::config::{ProjectorConfig, Tiling, VisionConfig, VisionEncoder};
use crate::resample::{Filter, Rgb, resize};
use crate::{Error, Result, precedence};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// Qwen's processors reject images whose sides have this ratio or more.
pub(super) const ELONGATED: usize = 200;

/// The number that stands for every byte, for red, green and blue.
pub(super) type Values = Box<[[f32; 256]; 3]>;

/// An image processor of a checkpoint.
#[derive(Clone, Debug)]
pub struct ImageProcessor {
    steps: Steps,
    filter: Filter,
    tiling: Tiling,
    patches: Patches,
    /// Rows of the tower's output before those of a view's patches: one for the class token.
    prefix: usize,
    /// The number that stands for every byte, for red, green and blue.
    values: Values,
    /// The same for the second of two towers.
    fused: Option<Values>,
}

/// How the size of an image is changed.
#[derive(Clone, Copy, Debug)]
enum Steps {
    /// The image is resized, and its center is cut out.
    Square { resize: Option<Resize>, crop: Option<[usize; 2]>, side: usize },
    /// The image is divided into tiles. `background` surrounds an image that is not divided.
    Tiles { background: [u8; 3] },
    /// The image is resized so that its sides are multiples of a patch and its area is within the bounds.
    Native { area: [usize; 2], resize: bool },
}

#[derive(Clone, Copy, Debug)]
enum Resize {
    ShortestEdge(usize),
    To { width: usize, height: usize },
}

/// The settings of an image processor, or of a video processor, which has the same.
#[derive(Deserialize)]
pub(super) struct Raw {
    pub(super) do_resize: bool,
    size: Value,
    square_size: bool,
    resample: u64,
    do_center_crop: bool,
    crop_size: Value,
    do_rescale: bool,
    rescale_factor: f64,
    do_normalize: bool,
    image_mean: [f64; 3],
    image_std: [f64; 3],
    #[serde(default)]
    do_pad: bool,
    #[serde(default)]
    do_pan_and_scan: bool,
    image_grid_pinpoints: Option<Vec<[usize; 2]>>,
    patch_size: Option<usize>,
    temporal_patch_size: Option<usize>,
    merge_size: Option<usize>,
    pub(super) min_pixels: Option<usize>,
    pub(super) max_pixels: Option<usize>,
    #[serde(default)]
    pub(super) cap_pixels_per_frame: bool,
}

impl Raw {
    /// How images are resized.
    ///
    /// # Errors
    /// A way that is not supported.
    pub(super) fn filter(&self) -> Result<Filter, String> {
        Filter::from_code(self.resample).ok_or_else(|| {
            let code = self.resample;
            format!("resample {code} is not supported: expected 1 (Lanczos), 2 (bilinear) or 3 (bicubic)")
        })
    }

    /// The number that stands for every byte.
    pub(super) fn values(&self) -> Values {
        // The multiplication is in f64 and everything after it in f32, as in numpy.
        let value = |channel: usize, byte: usize| {
            let value = if self.do_rescale { (byte as f64 * self.rescale_factor) as f32 } else { byte as f32 };
            let (mean, std) = (self.image_mean[channel] as f32, self.image_std[channel] as f32);
            if self.do_normalize { (value - mean) / std } else { value }
        };
        Box::new(std::array::from_fn(|channel| std::array::from_fn(|byte| value(channel, byte))))
    }

    /// Checks that the patches are those of the vision tower.
    pub(super) fn check_patches(&self, Patches { side, merge, frames }: Patches) -> Result<(), String> {
        let found = [self.patch_size, self.merge_size, self.temporal_patch_size];
        let expected = [side, merge, frames].map(Some);
        if found == expected {
            return Ok(());
        }
        Err(format!("the processor produces patches of {found:?}: expected {expected:?} for the vision tower"))
    }

    /// The bounds of the number of pixels: those that are given, and otherwise those of the size.
    pub(super) fn area(&self, [least, most]: [Option<usize>; 2]) -> Result<[usize; 2], String> {
        let bound = |pixels: Option<usize>, name: &str| {
            let value = pixels.or_else(|| self.size[name].as_u64().and_then(|v| usize::try_from(v).ok()));
            value
                .filter(|v| (1..=PIXEL_LIMIT as usize).contains(v))
                .ok_or_else(|| format!("the size of the processor has no valid {name}"))
        };
        Ok([bound(least, "shortest_edge")?, bound(most, "longest_edge")?])
    }
}

/// The class names of image processors whose results fit the model, without the suffixes that describe their
/// implementation. The first one is the model's own.
fn classes(vision: &VisionConfig) -> &'static [&'static str] {
    match (&vision.tiling, &vision.kind) {
        (_, VisionEncoder::VqTokenizer(_)) => &["ChameleonImageProcessor"],
        (Tiling::AnyResolution { most_tiles: Some(_), .. }, _) => &["LlavaOnevisionImageProcessor"],
        (Tiling::AnyResolution { .. }, _) => &["LlavaNextImageProcessor"],
        (Tiling::Native { .. }, _) => &["Qwen2VLImageProcessor", "Qwen2_5_VLImageProcessor"],
        (_, VisionEncoder::Tower(_, ProjectorConfig::Fused { .. })) => &["PrismaticImageProcessor"],
        (_, VisionEncoder::Tower(_, ProjectorConfig::Pool { .. })) => &["Gemma3ImageProcessor", "SiglipImageProcessor"],
        _ => &["LlavaImageProcessor", "CLIPImageProcessor", "SiglipImageProcessor", "Gemma3ImageProcessor"],
    }
}

/// The defaults of a class for fields that its configuration does not have. If a size is a single number, `square_size`
/// says whether it is the side of a square or the shorter edge.
pub(super) fn defaults(class: &str) -> Value {
    const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
    const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];
    let clip = json!({"do_resize": true, "size": 224, "square_size": false, "resample": 3, "do_center_crop": true,
        "crop_size": 224, "do_rescale": true, "rescale_factor": 1.0 / 255.0, "do_normalize": true, "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD});
    let siglip = json!({"size": {"height": 224, "width": 224}, "do_center_crop": false, "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5]});
    let other = match class {
        "ChameleonImageProcessor" => json!({"size": {"shortest_edge": 512}, "resample": 1, "crop_size": 512,
            "rescale_factor": 0.0078, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]}),
        "Qwen2VLImageProcessor" | "Qwen2_5_VLImageProcessor" => json!({
            "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}, "do_center_crop": false,
            "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}),
        "Qwen2VLVideoProcessor" => json!({
            "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768}, "do_center_crop": false,
            "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}),
        "Qwen3VLVideoProcessor" => over(
            siglip,
            json!({
            "size": {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768},
            "patch_size": 16, "temporal_patch_size": 2, "merge_size": 2}),
        ),
        "SiglipImageProcessor" => siglip,
        "LlavaOnevisionImageProcessor" => {
            json!({"size": {"height": 384, "width": 384}, "do_center_crop": false, "crop_size": 384})
        }
        "Gemma3ImageProcessor" => over(siglip, json!({"resample": 2, "square_size": true})),
        _ => json!({}),
    };
    over(clip, other)
}

/// The fields of `base`, overridden by the fields of `other` that are not null.
pub(super) fn over(mut base: Value, other: Value) -> Value {
    if let (Some(base), Value::Object(other)) = (base.as_object_mut(), other) {
        base.extend(other.into_iter().filter(|(_, value)| !value.is_null()));
    }
    base
}

impl ImageProcessor {
    /// Reads the image processor of the checkpoint in `folder`, which has to produce the input of `vision`.
    ///
    /// # Errors
    /// There is no image processor, it is of another kind, or its results do not fit the vision tower.
    pub fn open(folder: &Path, vision: &VisionConfig) -> Result<Self> {
        let (path, config) = precedence::image_processor(folder)?;
        check_positions(&precedence::processor(folder)?, vision).map_err(Error::checkpoint(&path))?;
        Self::parse(config, vision).map_err(Error::checkpoint(&path))
    }

    /// Interprets the settings of an image processor, which has to produce the input of `vision`.
    ///
    /// # Errors
    /// As for [`ImageProcessor::open`].
    pub fn parse(config: Value, vision: &VisionConfig) -> Result<Self, String> {
        if !matches!(vision.tower(), Some((_, ProjectorConfig::Fused { .. }))) {
            return Self::parse_one(config, vision);
        }
        let [first, second] = prismatic::towers(&config)?.map(|config| Self::parse_one(config, vision));
        Ok(Self { fused: Some(second?.values), ..first? })
    }

    fn parse_one(config: Value, vision: &VisionConfig) -> Result<Self, String> {
        let raw = read(config, classes(vision))?;
        let (steps, patches) = steps(&raw, vision)?;
        let prefix = match vision.tower() {
            // The rows before the patches are dropped before the features of both towers are joined.
            Some((_, ProjectorConfig::Fused { .. })) | None => 0,
            Some((tower, _)) => tower.prefix_rows(),
        };
        let (filter, values, tiling) = (raw.filter()?, raw.values(), vision.tiling.clone());
        Ok(Self { steps, filter, tiling, patches, prefix, values, fused: None })
    }

    /// Decodes the only image file of a sample and brings it to the size that the model takes.
    ///
    /// # Errors
    /// The file cannot be used. The dimensions are checked before anything is decoded.
    pub fn frame(&self, file: &[u8]) -> Result<Frame, ImageError> {
        self.resized_frame(decode(file)?, true)
    }

    /// The same for all image files of a sample, because a model may divide an image only if there is no other.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn frames(&self, files: &[impl AsRef<[u8]>]) -> Result<Vec<Frame>, ImageError> {
        files.iter().map(|file| self.resized_frame(decode(file.as_ref())?, files.len() == 1)).collect()
    }

    /// Whether an image is divided only if it is the only one of its sample.
    pub(crate) fn divides_lone_images(&self) -> bool {
        matches!(self.tiling, Tiling::AnyResolution { most_tiles: Some(_), .. })
    }

    fn resized_frame(&self, rgb: Rgb, is_alone: bool) -> Result<Frame, ImageError> {
        let original = [rgb.width, rgb.height];
        let square = |side: usize, grid: usize| {
            let covered = side / self.patches.side * self.patches.side;
            SquareView { side, grid, covered, prefix: self.prefix }
        };
        match (self.steps, &self.tiling) {
            (Steps::Square { resize, crop, side }, Tiling::Square { grid, class, .. }) => {
                let rgb = match resize {
                    Some(size) => {
                        let [width, height] = size.apply(original);
                        self.resize(rgb, width, height)?
                    }
                    None => rgb,
                };
                let resized = [rgb.width, rgb.height];
                let (offset, view) = match crop {
                    Some(size) => {
                        let center = |axis: usize| (resized[axis] as i64 - size[axis] as i64).div_euclid(2);
                        let offset = [center(0), center(1)];
                        (offset, window(&rgb, offset, size, [0; 3]))
                    }
                    None => ([0, 0], rgb),
                };
                if [view.width, view.height] != [side, side] {
                    let (width, height) = (view.width, view.height);
                    return Err(ImageError::OtherSize { side, width, height });
                }
                let origin = Origin { resized: resized.map(|n| n as f64), offset: offset.map(|n| n as f64) };
                Ok(Frame::square(original, view, origin, square(side, *grid), *class))
            }
            (Steps::Tiles { background }, Tiling::AnyResolution { side, grid, .. })
                if self.divides_lone_images() && !is_alone =>
            {
                let longest = rgb.width.max(rgb.height);
                if (longest * longest) as u64 > PIXEL_LIMIT {
                    return Err(ImageError::ElongatedWhenResized { width: longest, height: longest });
                }
                Ok(Frame::padded(&rgb, self.filter, square(*side, *grid), background))
            }
            (Steps::Tiles { .. }, Tiling::AnyResolution { side, grid, pinpoints, most_tiles }) => {
                Ok(Frame::any_resolution(rgb, self.filter, square(*side, *grid), pinpoints, *most_tiles))
            }
            (Steps::Native { area, resize }, _) => {
                let cell = self.patches.side * self.patches.merge;
                let [width, height] = original;
                if width.max(height) > ELONGATED * width.min(height) {
                    return Err(ImageError::Elongated { width, height });
                }
                let [to_height, to_width] =
                    if resize { geometry::smart([height, width], cell, area) } else { [height, width] };
                if !to_height.is_multiple_of(cell) || !to_width.is_multiple_of(cell) {
                    return Err(ImageError::NotDivisible { width, height, cell });
                }
                Ok(Frame::native(original, self.resize(rgb, to_width, to_height)?, cell))
            }
            (Steps::Square { .. } | Steps::Tiles { .. }, _) => Err(ImageError::Tiles),
        }
    }

    fn resize(&self, rgb: Rgb, width: usize, height: usize) -> Result<Rgb, ImageError> {
        if (width * height) as u64 > PIXEL_LIMIT {
            return Err(ImageError::ElongatedWhenResized { width, height });
        }
        Ok(resize(rgb, width, height, self.filter))
    }

    /// The input of the model for a black image, for benchmarks.
    pub fn blank(&self, width: usize, height: usize) -> Image {
        let frame = self.resized_frame(Rgb { width, height, data: vec![0; width * height * 3] }, true);
        self.image(&frame.expect("an image of ordinary size can be resized to any other"))
    }

    /// The input of the model for a frame.
    pub fn image(&self, frame: &Frame) -> Image {
        let image = frame.image(&self.values, self.patches);
        match &self.fused {
            Some(values) => Image { fused: frame.image(values, self.patches).patches, ..image },
            None => image,
        }
    }
}

/// Parses a configuration, with the defaults of its class for fields that are missing or null.
fn read(config: Value, classes: &[&str]) -> Result<Raw, String> {
    // Before transformers 4.26, the second name was used, and the classes had other names.
    let name = ["image_processor_type", "feature_extractor_type"].iter().find_map(|name| config[*name].as_str());
    let class = name.unwrap_or(classes[0]).replace("FeatureExtractor", "ImageProcessor");
    let class = class.trim_end_matches("Fast").trim_end_matches("Pil");
    if !classes.contains(&class) {
        return Err(format!("the image processor {class} does not fit the model: expected {}", classes.join(" or ")));
    }
    serde_json::from_value(over(defaults(class), config)).map_err(|e| e.to_string())
}

/// Rejects a processor that counts another number of positions per image than the model produces.
fn check_positions(processor: &Value, vision: &VisionConfig) -> Result<(), String> {
    let processor = Fields(processor);
    let (name, expected) = match (&vision.kind, &vision.tiling) {
        (VisionEncoder::Tower(tower, _), Tiling::AnyResolution { grid, most_tiles: Some(most), .. }) => {
            let found = processor.or("vision_aspect_ratio", precedence::ASPECT_RATIO.to_owned())?;
            if found != format!("anyres_max_{most}") {
                return Err(format!(
                    "vision_aspect_ratio is {found} in the processor: expected anyres_max_{most}, as in config.json"
                ));
            }
            ("num_image_tokens", grid * grid + tower.prefix_rows())
        }
        (VisionEncoder::Tower(tower, ProjectorConfig::Mlp { .. }), tiling) => {
            let kept = usize::from(matches!(tiling, Tiling::Square { class: true, .. }));
            let dropped =
                processor.get::<String>("vision_feature_select_strategy")?.map(|s| usize::from(s == "default"));
            let added = processor.get::<usize>("num_additional_image_tokens")?;
            match (added, dropped.map(|dropped| kept + dropped)) {
                (Some(added), Some(expected)) if added != expected => {
                    return Err(format!(
                        "num_additional_image_tokens is {added} in the processor: expected {expected}, as the tower produces"
                    ));
                }
                _ => {}
            }
            ("patch_size", tower.patches.side)
        }
        (_, Tiling::Square { grid, .. }) => ("image_seq_length", grid * grid),
        _ => return Ok(()),
    };
    match processor.get::<usize>(name)? {
        Some(found) if found != expected => {
            Err(format!("{name} is {found} in the processor: expected {expected}, as in config.json"))
        }
        _ => Ok(()),
    }
}

fn steps(raw: &Raw, vision: &VisionConfig) -> Result<(Steps, Patches), String> {
    if raw.do_pan_and_scan {
        return Err("do_pan_and_scan is not supported".into());
    }
    let patch = vision.tower().map(|(tower, _)| tower.patches.side);
    match &vision.tiling {
        Tiling::Square { side, .. } => {
            if raw.do_pad {
                return Err("image processors that pad (do_pad) are not supported".into());
            }
            let resize = raw.do_resize.then(|| size(&raw.size, raw.square_size)).transpose()?;
            let crop = match raw.do_center_crop.then(|| size(&raw.crop_size, true)).transpose()? {
                Some(Resize::ShortestEdge(side)) => Some([side, side]),
                Some(Resize::To { width, height }) => Some([width, height]),
                None => None,
            };
            let produced = crop.or(match resize {
                Some(Resize::To { width, height }) => Some([width, height]),
                _ => None,
            });
            if produced != Some([*side, *side]) {
                let produced = produced.map_or("images of any size".into(), |[w, h]| format!("{w}x{h} pixels"));
                return Err(format!(
                    "the image processor produces {produced}: expected {side}x{side} for the vision tower"
                ));
            }
            // An image tokenizer reads the whole square as one patch.
            let patches = Patches { side: patch.unwrap_or(*side), merge: 1, frames: 1 };
            Ok((Steps::Square { resize, crop, side: *side }, patches))
        }
        Tiling::AnyResolution { side, pinpoints, .. } => {
            if raw.image_grid_pinpoints.as_ref().is_some_and(|found| found != pinpoints) {
                return Err("image_grid_pinpoints differ from those in config.json".into());
            }
            let sides = |value: &Value| match size(value, false)? {
                Resize::ShortestEdge(edge) => Ok([edge, edge]),
                Resize::To { width, height } => Ok::<_, String>([width, height]),
            };
            let (size, crop) = (sides(&raw.size)?, sides(&raw.crop_size)?);
            if size != [*side, *side] || raw.do_center_crop && crop != size {
                return Err(format!(
                    "the image processor produces tiles of {size:?} and {crop:?}: expected {side}x{side} for the vision tower"
                ));
            }
            let background = raw.image_mean.map(|mean| (mean * 255.0) as u8);
            Ok((Steps::Tiles { background }, Patches { side: patch.unwrap_or(*side), merge: 1, frames: 1 }))
        }
        Tiling::Native { patch, merge, frames } => {
            let patches = Patches { side: *patch, merge: *merge, frames: *frames };
            raw.check_patches(patches)?;
            let area = raw.area([raw.min_pixels, raw.max_pixels])?;
            Ok((Steps::Native { area, resize: raw.do_resize }, patches))
        }
    }
}

impl Resize {
    /// The size `[width, height]` of a resized image, given its original size.
    fn apply(self, [width, height]: [usize; 2]) -> [usize; 2] {
        match self {
            Self::To { width, height } => [width, height],
            Self::ShortestEdge(edge) if width <= height => [edge, edge * height / width],
            Self::ShortestEdge(edge) => [edge * width / height, edge],
        }
    }
}

/// A size as image processors write it: `336` (of a `square`, or of its shorter edge), `[336, 336]`,
/// `{"shortest_edge": 336}` or `{"height": 336, "width": 336}`.
fn size(value: &Value, square: bool) -> Result<Resize, String> {
    let edge = |value: &Value| value.as_u64().filter(|v| (1..=1 << 14).contains(v)).map(|v| v as usize);
    let both = |height: &Value, width: &Value| {
        edge(width).zip(edge(height)).map(|(width, height)| Resize::To { width, height })
    };
    let keys: Vec<_> = value.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()).map(|(k, _)| k).collect();
    let size = match (keys.as_slice(), value.as_array().map(Vec::as_slice)) {
        (_, Some([height, width])) => both(height, width),
        ([], _) if square => both(value, value),
        ([], _) => edge(value).map(Resize::ShortestEdge),
        ([key], _) if *key == "shortest_edge" => edge(&value["shortest_edge"]).map(Resize::ShortestEdge),
        ([_, _], _) => both(&value["height"], &value["width"]),
        _ => None,
    };
    size.ok_or_else(|| format!("the image processor's size {} is not supported", short(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config;
    use std::io::Cursor;

    /// A tower with `grid` x `grid` patches that takes squares of `side` pixels.
    fn vision(side: usize, grid: usize) -> VisionConfig {
        let config = json!({"model_type": "llava", "text_config": {}, "vision_config": {"image_size": side,
            "patch_size": side / grid}});
        let vision = config::ModelConfig::parse(&config).unwrap().vision.unwrap();
        assert!(matches!(vision.tower(), Some((_, ProjectorConfig::Mlp { .. }))));
        vision
    }

    fn processor(config: Value, side: usize, grid: usize) -> ImageProcessor {
        ImageProcessor::parse(config, &vision(side, grid)).unwrap()
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 0]))
            .write_to(&mut file, image::ImageFormat::Png)
            .unwrap();
        file.into_inner()
    }

    #[test]
    fn rectangles_are_relative_to_the_original_image() {
        let shortest = processor(json!({"size": {"shortest_edge": 8}, "crop_size": 8}), 8, 2);
        let frame = shortest.frame(&png(32, 16)).unwrap();
        assert_eq!((frame.width, frame.height), (32, 16));
        // Resized to 16x8, of which the central 8 columns are kept: a quarter of the width is lost on either side.
        assert_eq!(frame.positions[0].rect, [0.25, 0.0, 0.5, 0.5]);
        assert_eq!(frame.positions[3].rect, [0.5, 0.5, 0.75, 1.0]);
    }

    #[test]
    fn small_images_are_padded_with_black_and_the_padding_shows_nothing() {
        let pad = json!({"do_resize": false, "crop_size": {"height": 4, "width": 4}, "do_normalize": false});
        let pad = processor(pad, 4, 4);
        let frame = pad.frame(&png(2, 2)).unwrap();
        let red: Vec<_> = pad.image(&frame).patches.chunks(3).map(|p| (p[0] * 255.0).round() as u8).collect();
        assert_eq!(red, [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        assert_eq!(frame.positions[5].rect, [0.0, 0.0, 0.5, 0.5]);
        let [x0, _, x1, _] = frame.positions[15].rect;
        assert_eq!(x0, x1);
    }

    #[test]
    fn other_processors_and_sizes_that_do_not_fit_are_rejected() {
        let error = |config| ImageProcessor::parse(config, &vision(8, 2)).unwrap_err();
        assert!(error(json!({"image_processor_type": "Qwen2VLImageProcessor"})).contains("Qwen2VLImageProcessor"));
        assert!(error(json!({"crop_size": 16})).contains("expected 8x8"));
        assert!(error(json!({"crop_size": 8, "resample": 0})).contains("resample 0"));
        assert!(error(json!({"crop_size": 8, "size": {"longest_edge": 9}})).contains("longest_edge"));
        assert!(error(json!({"crop_size": 8, "do_pad": true})).contains("do_pad"));
    }

    #[test]
    fn an_elongated_image_is_rejected_before_it_is_resized() {
        let shortest = processor(json!({"size": 336, "crop_size": 336}), 336, 24);
        let frame = shortest.frame(&png(1, 4000));
        assert!(matches!(frame, Err(ImageError::ElongatedWhenResized { .. })) || 336 * 336 * 4000 < PIXEL_LIMIT);
        assert!(Resize::ShortestEdge(336).apply([1, 2_000_000])[1] as u64 * 336 > PIXEL_LIMIT);
    }
}
