//! The settings of image and video processors as files have them, with the defaults of each class. Knows no image.

use super::decode::PIXEL_LIMIT;
use super::frame::Patches;
use super::geometry;
use crate::fields::short;
use crate::model::config::{ProjectorConfig, SIDE_LIMIT, Tiling, VisionConfig, VisionEncoder};
use crate::resample::Filter;
use serde::Deserialize;
use serde_json::{Value, json};

/// The number that stands for every byte, for red, green and blue.
pub(super) type Values = Box<[[f32; 256]; 3]>;

/// The size to which an image is resized.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resize {
    ShortestEdge(usize),
    /// With an even shorter edge, as Idefics3 has it.
    LongestEdge(usize),
    To {
        width: usize,
        height: usize,
    },
}

/// The settings of an image processor, or of a video processor, which has the same.
#[derive(Deserialize)]
pub(super) struct Raw {
    pub(super) do_resize: bool,
    pub(super) size: Value,
    pub(super) square_size: bool,
    pub(super) resample: u64,
    pub(super) do_center_crop: bool,
    pub(super) crop_size: Value,
    pub(super) do_rescale: bool,
    pub(super) rescale_factor: f64,
    pub(super) do_normalize: bool,
    pub(super) image_mean: [f64; 3],
    pub(super) image_std: [f64; 3],
    #[serde(default)]
    pub(super) do_pad: bool,
    #[serde(default)]
    pub(super) do_pan_and_scan: bool,
    #[serde(default)]
    pub(super) do_image_splitting: bool,
    #[serde(default)]
    pub(super) max_image_size: Value,
    #[serde(default)]
    pub(super) min_patches: usize,
    #[serde(default)]
    pub(super) max_patches: usize,
    pub(super) image_grid_pinpoints: Option<Vec<[usize; 2]>>,
    #[serde(default)]
    pub(super) patch_size: Value,
    pub(super) temporal_patch_size: Option<usize>,
    pub(super) merge_size: Option<usize>,
    pub(super) min_pixels: Option<usize>,
    pub(super) max_pixels: Option<usize>,
    #[serde(default)]
    pub(super) cap_pixels_per_frame: bool,
    pub(super) max_soft_tokens: Option<usize>,
    pub(super) pooling_kernel_size: Option<usize>,
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
        let patch = self.patch_size.as_u64().and_then(|side| usize::try_from(side).ok());
        let found = [patch, self.merge_size, self.temporal_patch_size];
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
pub(super) fn classes(vision: &VisionConfig) -> &'static [&'static str] {
    match (&vision.tiling, &vision.kind) {
        (_, VisionEncoder::VqTokenizer(_)) => &["ChameleonImageProcessor"],
        (Tiling::AnyResolution { most_tiles: Some(_), .. }, _) => &["LlavaOnevisionImageProcessor"],
        (Tiling::AnyResolution { .. }, _) => &["LlavaNextImageProcessor"],
        (_, VisionEncoder::Tower(_, ProjectorConfig::ShuffleMlp { .. })) => &["GotOcr2ImageProcessor"],
        (Tiling::Square { .. }, VisionEncoder::Tower(_, ProjectorConfig::Shuffle { .. })) => &["SiglipImageProcessor"],
        (Tiling::Split { .. }, _) => &["Idefics3ImageProcessor", "SmolVLMImageProcessor"],
        (_, VisionEncoder::Tower(_, ProjectorConfig::PatchMerger { .. })) => &["PixtralImageProcessor"],
        (_, VisionEncoder::Tower(_, ProjectorConfig::PoolNative { .. })) => &["Gemma4ImageProcessor"],
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
        "GotOcr2ImageProcessor" => json!({"size": {"height": 384, "width": 384}, "do_center_crop": false,
            "min_patches": 1, "max_patches": 12}),
        "PixtralImageProcessor" => json!({"size": {"longest_edge": 1024}, "do_center_crop": false}),
        "Idefics3ImageProcessor" | "SmolVLMImageProcessor" => over(
            siglip,
            json!({"size": {"longest_edge": 4 * 364}, "resample": 1, "do_image_splitting": true,
            "max_image_size": {"longest_edge": 364}}),
        ),
        "Gemma4ImageProcessor" => json!({"do_center_crop": false, "do_normalize": false, "image_mean": [0.0, 0.0, 0.0],
            "image_std": [1.0, 1.0, 1.0], "patch_size": 16, "max_soft_tokens": 280, "pooling_kernel_size": 3}),
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

/// Parses a configuration, with the defaults of its class for fields that are missing or null.
pub(super) fn read(config: Value, classes: &[&str]) -> Result<Raw, String> {
    // Before transformers 4.26, the second name was used, and the classes had other names.
    let name = ["image_processor_type", "feature_extractor_type"].iter().find_map(|name| config[*name].as_str());
    let class = name.unwrap_or(classes[0]).replace("FeatureExtractor", "ImageProcessor");
    let class = class.trim_end_matches("Fast").trim_end_matches("Pil");
    if !classes.contains(&class) {
        return Err(format!("the image processor {class} does not fit the model: expected {}", classes.join(" or ")));
    }
    serde_json::from_value(over(defaults(class), config)).map_err(|e| e.to_string())
}

impl Resize {
    /// The size `[width, height]` of a resized image, given its original size.
    pub(super) fn apply(self, [width, height]: [usize; 2]) -> [usize; 2] {
        match self {
            Self::To { width, height } => [width, height],
            Self::LongestEdge(edge) => {
                let [height, width] = geometry::longest_edge([height, width], edge);
                [width, height]
            }
            Self::ShortestEdge(edge) if width <= height => [edge, edge * height / width],
            Self::ShortestEdge(edge) => [edge * width / height, edge],
        }
    }
}

/// A number of pixels that an edge may have.
fn edge(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|edge| usize::try_from(edge).ok()).filter(|edge| (1..=SIDE_LIMIT).contains(edge))
}

/// The side of `{"longest_edge": 512}`.
pub(super) fn longest_edge(size: &Value) -> Result<usize, String> {
    edge(&size["longest_edge"])
        .ok_or_else(|| format!("the image processor's size {} is not supported: expected a longest_edge", short(size)))
}

/// A size as image processors write it: `336` (of a `square`, or of its shorter edge), `[336, 336]`,
/// `{"shortest_edge": 336}` or `{"height": 336, "width": 336}`.
pub(super) fn size(value: &Value, square: bool) -> Result<Resize, String> {
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
