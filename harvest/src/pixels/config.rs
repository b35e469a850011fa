//! The checkpoint's image processor, checked against the input of the model. Which file describes it is decided in
//! `precedence.rs`.

use super::decode::{PIXEL_LIMIT, decode};
use super::error::ImageError;
use super::frame::{Frame, Origin, Patches, SquareView, window};
use super::settings::{Raw, Resize, Values, classes, longest_edge, read, size};
use super::{geometry, prismatic};
use crate::fields::Fields;
use crate::model::Image;
use crate::model::config::{ImageTokens, Positions, ProjectorConfig, Tiling, VisionConfig, VisionEncoder};
use crate::resample::{Filter, Rgb, resize};
use crate::{Error, Result, precedence};
use serde_json::Value;
use std::path::Path;

/// Maximum number of tiles into which an image is divided. Published models have at most 144.
const TILE_LIMIT: usize = 1 << 10;

/// Qwen's processors reject images whose sides have this ratio or more.
pub(super) const ELONGATED: usize = 200;

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
    /// The image is resized, and then enlarged to whole tiles if it is `divided`, or else resized to a square.
    WholeTiles { resize: Option<Resize>, divided: bool },
    /// The image is resized to as many tiles, within these bounds, as fit its proportions best.
    BestCanvas { tiles: [usize; 2] },
    /// The image is resized so that its sides are multiples of a patch and its area is within the bounds.
    Native { area: [usize; 2], resize: bool },
    /// The image is resized to at most this many positions, in whole ones. No side may be longer than `side` pixels.
    Budget { positions: usize, side: usize, resize: bool },
    /// The image is reduced to fit into this height and width, and its sides are enlarged to multiples of a position.
    FitInside { most: Option<[usize; 2]> },
}

impl ImageProcessor {
    /// Reads the image processor of the checkpoint in `folder`, which has to produce the input of `vision`.
    ///
    /// # Errors
    /// There is no image processor, it is of another kind, or its results do not fit the vision tower.
    pub fn open(folder: &Path, vision: &VisionConfig) -> Result<Self> {
        let (path, config) = precedence::image_processor(folder)?;
        let processor = match vision.image_tokens {
            // There the image processor itself has the number of positions.
            ImageTokens::Prefix => config.clone(),
            _ => precedence::processor(folder)?,
        };
        check_positions(&processor, vision).map_err(Error::checkpoint(&path))?;
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
            Some((_, ProjectorConfig::Fused { .. } | ProjectorConfig::ShuffleMlp { .. })) | None => 0,
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
        self.resized_frame(decode(file)?, true, usize::MAX)
    }

    /// The same for all image files of a sample, because a model may divide an image only if there is no other. An image with more
    /// than `context` positions is rejected before they are made.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn frames(&self, files: &[impl AsRef<[u8]>], context: usize) -> Result<Vec<Frame>, ImageError> {
        let is_alone = files.len() == 1;
        files.iter().map(|file| self.resized_frame(decode(file.as_ref())?, is_alone, context)).collect()
    }

    /// Whether an image is divided only if it is the only one of its sample.
    pub(crate) fn divides_lone_images(&self) -> bool {
        matches!(self.tiling, Tiling::AnyResolution { most_tiles: Some(_), .. })
    }

    fn resized_frame(&self, rgb: Rgb, is_alone: bool, context: usize) -> Result<Frame, ImageError> {
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
            (Steps::WholeTiles { resize, divided }, Tiling::Split { side, grid, .. }) => {
                let rgb = match resize.map(|size| size.apply(original)) {
                    Some([width, height]) => self.resize(rgb, width, height)?,
                    None => rgb,
                };
                let [height, width] = geometry::whole_tiles([rgb.height, rgb.width], *side);
                let [rows, columns] = [height / side, width / side];
                if divided && rows * columns > TILE_LIMIT {
                    return Err(ImageError::TooManyTiles { rows, columns, limit: TILE_LIMIT });
                }
                let rgb = if divided { self.resize(rgb, width, height)? } else { rgb };
                let whole = self.resize(rgb.clone(), *side, *side)?;
                Ok(Frame::split(original, divided.then_some(&rgb), whole, square(*side, *grid)))
            }
            (Steps::BestCanvas { tiles }, Tiling::Split { side, grid, .. }) => {
                let [rows, columns] = geometry::canvas([rgb.height, rgb.width], *side, tiles);
                let divided = self.resize(rgb.clone(), columns * side, rows * side)?;
                let whole = self.resize(rgb, *side, *side)?;
                Ok(Frame::split(original, Some(&divided), whole, square(*side, *grid)))
            }
            (Steps::FitInside { most }, _) => {
                let [width, height] = original;
                let cell = self.patches.side * self.patches.merge;
                let size =
                    most.map_or(Some([height, width]), |most| geometry::whole_cells([height, width], most, cell));
                self.native(rgb, size.ok_or(ImageError::Elongated { width, height })?, context)
            }
            (Steps::Budget { positions, side, resize }, _) => {
                let [width, height] = original;
                if !resize && width.max(height) > side {
                    return Err(ImageError::LongSide { width, height, limit: side });
                }
                let cell = self.patches.side * self.patches.merge;
                let size =
                    if resize { geometry::budget([height, width], cell, positions) } else { Some([height, width]) };
                self.native(rgb, size.ok_or(ImageError::Elongated { width, height })?, context)
            }
            (Steps::Native { area, resize }, _) => {
                let [width, height] = original;
                if width.max(height) > ELONGATED * width.min(height) {
                    return Err(ImageError::Elongated { width, height });
                }
                let cell = self.patches.side * self.patches.merge;
                let size = if resize { geometry::smart([height, width], cell, area) } else { [height, width] };
                self.native(rgb, size, context)
            }
            (Steps::Square { .. } | Steps::Tiles { .. } | Steps::WholeTiles { .. } | Steps::BestCanvas { .. }, _) => {
                Err(ImageError::Tiles)
            }
        }
    }

    /// The frame of an image that is resized to this height and width and stands in the text in rows of positions.
    fn native(&self, rgb: Rgb, [height, width]: [usize; 2], context: usize) -> Result<Frame, ImageError> {
        let (original, cell) = ([rgb.width, rgb.height], self.patches.side * self.patches.merge);
        if !height.is_multiple_of(cell) || !width.is_multiple_of(cell) {
            return Err(ImageError::NotDivisible { width: original[0], height: original[1], cell });
        }
        let positions = (height / cell) * (width / cell);
        if positions > context {
            return Err(ImageError::TooManyPositions { positions, context });
        }
        Ok(Frame::native(original, self.resize(rgb, width, height)?, cell))
    }

    fn resize(&self, rgb: Rgb, width: usize, height: usize) -> Result<Rgb, ImageError> {
        if (width * height) as u64 > PIXEL_LIMIT {
            return Err(ImageError::ElongatedWhenResized { width, height });
        }
        Ok(resize(rgb, width, height, self.filter))
    }

    /// The input of the model for a black image, for benchmarks.
    ///
    /// # Errors
    /// The model does not take images of this size.
    pub fn blank(&self, width: usize, height: usize) -> Result<Image, ImageError> {
        let rgb = Rgb { width, height, data: vec![0; width * height * 3] };
        self.resized_frame(rgb, true, usize::MAX).map(|frame| self.image(&frame))
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
        (VisionEncoder::Tower(_, ProjectorConfig::ShuffleMlp { .. }), Tiling::Split { grid, .. }) => {
            ("image_seq_length", grid * grid)
        }
        (_, Tiling::Split { grid, .. }) => ("image_seq_len", grid * grid),
        (VisionEncoder::Tower(_, ProjectorConfig::PatchMerger { .. }), Tiling::Native { patch, merge, .. }) => {
            // The processor gives the image processor this size, whatever the latter's own is.
            let side: usize = processor.or("patch_size", 16)?;
            let found = side.saturating_mul(processor.or("spatial_merge_size", 1)?);
            let expected = patch * merge;
            return if found == expected {
                Ok(())
            } else {
                Err(format!(
                    "patch_size times spatial_merge_size is {found} in the processor: expected {expected}, as in config.json"
                ))
            };
        }
        _ => return Ok(()),
    };
    let default = match (name, vision.image_tokens) {
        ("image_seq_len", _) => Some(precedence::IMAGE_SEQ_LEN),
        ("image_seq_length", ImageTokens::Named(_)) => Some(precedence::IMAGE_SEQ_LENGTH),
        _ => None,
    };
    match processor.get::<usize>(name)?.or(default) {
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
                Some(Resize::ShortestEdge(side) | Resize::LongestEdge(side)) => Some([side, side]),
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
                Resize::ShortestEdge(edge) | Resize::LongestEdge(edge) => Ok([edge, edge]),
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
        Tiling::Split { side, merge, .. } => {
            let patches = Patches { side: patch.unwrap_or(*side), merge: *merge, frames: 1 };
            if let Some((_, ProjectorConfig::ShuffleMlp { .. })) = vision.tower() {
                return Ok((Steps::BestCanvas { tiles: canvas(raw, *side)? }, patches));
            }
            let tile = longest_edge(&raw.max_image_size)?;
            if tile != *side {
                return Err(format!(
                    "the image processor produces tiles of {tile} pixels (max_image_size): expected {side} for the vision tower"
                ));
            }
            let size = || match &raw.size {
                sides if sides["longest_edge"].is_null() => size(sides, true),
                sides => longest_edge(sides).map(Resize::LongestEdge),
            };
            let steps =
                Steps::WholeTiles { resize: raw.do_resize.then(size).transpose()?, divided: raw.do_image_splitting };
            Ok((steps, patches))
        }
        Tiling::Native { patch, merge, frames } => {
            let patches = Patches { side: *patch, merge: *merge, frames: *frames };
            if let Some((_, ProjectorConfig::PatchMerger { .. })) = vision.tower() {
                if raw.do_center_crop {
                    return Err("do_center_crop is not supported together with images of any size".into());
                }
                let most = || match size(&raw.size, true) {
                    Ok(Resize::To { width, height }) => Ok([height, width]),
                    _ => longest_edge(&raw.size).map(|edge| [edge; 2]),
                };
                return Ok((Steps::FitInside { most: raw.do_resize.then(most).transpose()? }, patches));
            }
            if let Some((tower, ProjectorConfig::PoolNative { .. })) = vision.tower() {
                return Ok((budget(raw, patches, tower.positions)?, patches));
            }
            raw.check_patches(patches)?;
            let area = raw.area([raw.min_pixels, raw.max_pixels])?;
            Ok((Steps::Native { area, resize: raw.do_resize }, patches))
        }
    }
}

/// Gemma 4's steps. No side of an image may have more patches than there are learned positions.
fn budget(raw: &Raw, Patches { side, merge, .. }: Patches, learned: Positions) -> Result<Steps, String> {
    let patch = raw.patch_size.as_u64().and_then(|side| usize::try_from(side).ok());
    let (found, expected) = ([patch, raw.pooling_kernel_size], [Some(side), Some(merge)]);
    if found != expected {
        return Err(format!(
            "the processor has patches and pools of {found:?}: expected {expected:?} for the vision tower"
        ));
    }
    let positions = raw.max_soft_tokens.unwrap_or_default();
    if !SOFT_TOKENS.contains(&positions) {
        return Err(format!("max_soft_tokens {positions} is not supported: expected one of {SOFT_TOKENS:?}"));
    }
    let Positions::Axes(learned) = learned else { return Err("the vision tower has no positions for rows".into()) };
    let fits = (positions as u64) * (side as u64 * merge as u64).pow(2) <= PIXEL_LIMIT;
    if positions.saturating_mul(merge) > learned || !fits {
        return Err(format!(
            "max_soft_tokens {positions} with pools of {merge} patches of {side} pixels does not fit the {learned} learned \
             positions of the vision tower, or an image would be too large"
        ));
    }
    Ok(Steps::Budget { positions, side: learned.saturating_mul(side), resize: raw.do_resize })
}

/// The numbers of positions that Gemma 4's processor takes.
const SOFT_TOKENS: [usize; 5] = [70, 140, 280, 560, 1120];

/// The bounds of the number of tiles of `side` pixels into which InternVL's processor divides an image. It does so whatever
/// `crop_to_patches` says.
fn canvas(raw: &Raw, side: usize) -> Result<[usize; 2], String> {
    match size(&raw.size, true)? {
        Resize::To { width, height } if [width, height] == [side; 2] => {}
        _ => return Err(format!("the image processor's size {} does not fit tiles of {side} pixels", raw.size)),
    }
    let limit = TILE_LIMIT.min(PIXEL_LIMIT as usize / (side * side));
    let (least, most) = (raw.min_patches, raw.max_patches);
    if !raw.do_resize || !(1..=most).contains(&least) || most > limit {
        return Err(format!(
            "the image processor is not supported with do_resize {}, min_patches {least} and max_patches {most}: \
             expected true, and numbers from 1 to {limit}",
            raw.do_resize
        ));
    }
    Ok([least, most])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config;
    use serde_json::json;
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
