//! The model of a benchmark: a checkpoint, or a shape with random weights, and inputs for it.

use super::noise;
use crate::control::Control;
use crate::{Result, model};
use harvest::Checkpoint;
use harvest::model::config::ImageTokens;
use harvest::model::{Image, Input, ModelConfig, Weights};
use harvest::pixels::ImageProcessor;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::str::FromStr;

/// A shape of a model, with random weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelShape {
    /// CLIP's ViT-B/16 in front of SmolLM2-135M's decoder.
    Llava160m,
    /// LLaVA-NeXT on Mistral 7B.
    LlavaNext7b,
}

impl ModelShape {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Llava160m, Self::LlavaNext7b];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llava160m => "llava-160m",
            Self::LlavaNext7b => "llava-next-7b",
        }
    }
}

impl FromStr for ModelShape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|shape| shape.name() == name);
        let known = Self::ALL.map(Self::name).join(" or ");
        found.ok_or_else(|| format!("invalid shape {name:?}: expected {known}"))
    }
}

/// Which model to time.
#[derive(Clone, Debug)]
pub enum BenchModel {
    /// A shape, with random weights.
    Shape(ModelShape),
    /// A checkpoint.
    Checkpoint(PathBuf),
}

/// A model that is ready to be loaded.
pub(super) struct Found {
    pub name: String,
    pub config: ModelConfig,
    pub images: Option<ImageProcessor>,
    pub weights: Weights,
}

impl BenchModel {
    /// Opens the model. Downloads it only with a `control`.
    ///
    /// # Errors
    /// It is not supported or has not been downloaded.
    pub(super) fn open(&self, control: Option<&mut Control>) -> Result<Found> {
        match (self, control) {
            (Self::Checkpoint(model), control) => {
                let folder = match control {
                    Some(control) => model::download(model, control)?,
                    None => model::local(model)?,
                };
                let checkpoint = Checkpoint::open(&folder)?;
                let (config, images) = (checkpoint.config().clone(), checkpoint.images().cloned());
                Ok(Found { name: model.display().to_string(), config, images, weights: Weights::open(&folder)? })
            }
            (Self::Shape(shape), _) => {
                let (config, processor) = config_of(*shape);
                let unsupported = |cause: String| harvest::Error::InvalidInput(cause);
                let config = ModelConfig::parse(&config).map_err(unsupported)?;
                let vision = config.vision.as_ref();
                let images = vision.map(|vision| ImageProcessor::parse(processor, vision)).transpose();
                let images = images.map_err(unsupported)?;
                Ok(Found { name: shape.name().into(), config, images, weights: Weights::random() })
            }
        }
    }
}

/// A sample with one image, if the model reads images, and text after it.
///
/// # Errors
/// The model does not take images of 640x480 pixels.
pub(super) fn input(config: &ModelConfig, images: Option<&ImageProcessor>, words: usize, seed: u64) -> Result<Input> {
    let mut noise = noise(seed + 1);
    let image_token = config.vision.as_ref().map(|vision| vision.image_token_id);
    let image: Option<Image> = images
        .map(|images| images.blank(640, 480))
        .transpose()
        .map_err(|cause| harvest::Error::InvalidInput(cause.to_string()))?;
    let positions = image.as_ref().map_or(0, |image| image.sources.len());
    let mut ids: Vec<u32> = image_token.into_iter().flat_map(|id| std::iter::repeat_n(id, positions)).collect();
    let mut word = || ((noise() + 1.0) / 2.0 * (config.text.vocab_size - 1) as f32) as u32;
    while ids.len() < positions + words {
        ids.extend(Some(word()).filter(|word| Some(*word) != image_token));
    }
    let has_prefix = config.vision.as_ref().is_some_and(|vision| vision.image_tokens == ImageTokens::Prefix);
    let prefix = if has_prefix { ids.len() } else { 0 };
    Ok(Input { ids, images: image.into_iter().collect(), prefix })
}

/// `config.json` and `preprocessor_config.json` of a model of a known shape.
fn config_of(shape: ModelShape) -> (Value, Value) {
    match shape {
        // CLIP's ViT-B/16 in front of SmolLM2-135M's decoder.
        ModelShape::Llava160m => (
            json!({"model_type": "llava", "image_token_index": 49151,
                "vision_config": {"model_type": "clip_vision_model", "hidden_size": 384, "intermediate_size": 1536,
                    "num_hidden_layers": 12, "num_attention_heads": 6, "image_size": 336, "patch_size": 14},
                "text_config": {"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
                    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
                    "max_position_embeddings": 8192}}),
            json!({"size": {"shortest_edge": 336}, "crop_size": 336}),
        ),
        ModelShape::LlavaNext7b => (
            json!({"model_type": "llava_next", "image_token_index": 32000,
                "text_config": {"model_type": "mistral", "vocab_size": 32064, "sliding_window": null}}),
            json!({"size": {"shortest_edge": 336}, "crop_size": 336}),
        ),
    }
}
