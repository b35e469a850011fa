//! What `config.json` says about a model, in either layout (the Hub's older one leaves defaults out; `transformers` 5
//! writes `rope_parameters`), checked so that the sizes fit each other. Reads no weights.

use super::ops::Activation;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The architectures that are supported, as `model_type` names them.
pub const SUPPORTED: [&str; 2] = ["llava", "llama"];

/// Larger sizes than any model has are taken for damage.
const SIZE_LIMIT: usize = 1 << 22;

/// A model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The class that `transformers` loads it with, such as `LlavaForConditionalGeneration`.
    pub architecture: String,
    /// The decoder.
    pub text: TextConfig,
    /// The vision tower and how it is joined to the decoder; nothing for text-only models.
    pub vision: Option<VisionConfig>,
}

/// A Llama-shaped decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Gate of the MLP.
    pub activation: Activation,
    /// Most positions of a sample.
    pub context: usize,
    /// Added to the mean square.
    pub norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether query, key, value and output projections have biases.
    pub attention_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// Whether the output head is the embedding.
    pub tied_head: bool,
}

/// A CLIP vision tower and the projector behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Width.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads.
    pub heads: usize,
    /// Width and height of an image in pixels.
    pub image_size: usize,
    /// Width and height of a patch in pixels; divides `image_size`.
    pub patch_size: usize,
    /// Of the MLP.
    pub activation: Activation,
    /// Added to the variance.
    pub norm_eps: f64,
    /// Hidden states that go to the projector, side by side: 0 is what enters the first block, `n` what leaves block `n`.
    pub features: Vec<usize>,
    /// Whether the class position goes to the decoder too, in front of the patches.
    pub keep_class: bool,
    /// Between the projector's two layers.
    pub projector_activation: Activation,
    /// Whether the projector's layers have biases.
    pub projector_bias: bool,
    /// Id of the placeholder token that image positions have.
    pub image_token_id: u32,
}

impl VisionConfig {
    /// Patches along a side of an image.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Positions that an image takes in the decoder's sequence.
    pub fn positions(&self) -> usize {
        self.grid().pow(2) + usize::from(self.keep_class)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(i64),
    More(Vec<i64>),
}

#[derive(Deserialize)]
struct RawLlava {
    #[serde(default)]
    text_config: Value,
    #[serde(default)]
    vision_config: Value,
    image_token_index: Option<u32>,
    image_token_id: Option<u32>,
    projector_hidden_act: Option<Activation>,
    vision_feature_select_strategy: Option<String>,
    vision_feature_layer: Option<OneOrMore>,
    multimodal_projector_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
}

#[derive(Deserialize)]
struct RawText {
    model_type: Option<String>,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<Activation>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    rope_parameters: Option<Rope>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
}

#[derive(Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
    #[serde(rename = "type")]
    old_type: Option<String>,
    rope_type: Option<String>,
}

#[derive(Deserialize)]
struct RawVision {
    model_type: Option<String>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_channels: Option<usize>,
    image_size: Option<usize>,
    patch_size: Option<usize>,
    hidden_act: Option<Activation>,
    layer_norm_eps: Option<f64>,
}

impl ModelConfig {
    /// Reads `config.json` of the checkpoint in `folder`.
    ///
    /// # Errors
    /// The file is missing or damaged, the architecture is not supported, or its sizes contradict each other.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        if !path.exists() {
            return Err(Error::checkpoint(folder)("this is no Hugging Face checkpoint (it has no config.json)"));
        }
        Self::new(sae_core::file::read_json(&path, 1 << 20)?).map_err(Error::checkpoint(&path))
    }

    fn new(config: Value) -> Result<Self, String> {
        let kind = config["model_type"].as_str().unwrap_or("unknown");
        let architecture = config["architectures"][0].as_str().map(str::to_owned);
        match kind {
            "llava" => llava(architecture, parse(config)?),
            "llama" => {
                let architecture = architecture.unwrap_or_else(|| "LlamaForCausalLM".into());
                Ok(Self { architecture, text: text(parse(config)?, false)?, vision: None })
            }
            _ => Err(format!("models of type {kind} are not supported; these are: {}", SUPPORTED.join(", "))),
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(config: Value) -> Result<T, String> {
    let config = if config.is_null() { Value::Object(Default::default()) } else { config };
    serde_json::from_value(config).map_err(|e| e.to_string())
}

fn llava(architecture: Option<String>, raw: RawLlava) -> Result<ModelConfig, String> {
    let text = text(parse(raw.text_config)?, raw.tie_word_embeddings.unwrap_or(false))?;
    let vision: RawVision = parse(raw.vision_config)?;
    let kind = vision.model_type.unwrap_or_else(|| "clip_vision_model".into());
    if kind != "clip_vision_model" {
        return Err(format!("vision towers of type {kind} are not supported; this is: clip_vision_model"));
    }
    if vision.num_channels.unwrap_or(3) != 3 {
        return Err("the vision tower does not take RGB images (num_channels is not 3)".into());
    }
    let layers = vision.num_hidden_layers.unwrap_or(24);
    let features = match raw.vision_feature_layer.unwrap_or(OneOrMore::One(-2)) {
        OneOrMore::One(layer) => vec![layer],
        OneOrMore::More(layers) => layers,
    };
    let states = layers as i64 + 1;
    let features = features.into_iter().map(|layer| {
        let state = if layer < 0 { layer + states } else { layer };
        let known = (0..states).contains(&state);
        known.then_some(state as usize).ok_or_else(|| format!("vision_feature_layer {layer} of {layers} blocks"))
    });
    let vision = VisionConfig {
        hidden_size: vision.hidden_size.unwrap_or(1024),
        intermediate_size: vision.intermediate_size.unwrap_or(4096),
        layers,
        heads: vision.num_attention_heads.unwrap_or(16),
        image_size: vision.image_size.unwrap_or(336),
        patch_size: vision.patch_size.unwrap_or(14),
        activation: vision.hidden_act.unwrap_or(Activation::QuickGelu),
        norm_eps: vision.layer_norm_eps.unwrap_or(1e-5),
        features: features.collect::<Result<_, _>>()?,
        keep_class: match raw.vision_feature_select_strategy.as_deref().unwrap_or("default") {
            "default" => false,
            "full" => true,
            other => return Err(format!("vision_feature_select_strategy {other} is neither default nor full")),
        },
        projector_activation: raw.projector_hidden_act.unwrap_or(Activation::Gelu),
        projector_bias: raw.multimodal_projector_bias.unwrap_or(true),
        image_token_id: raw.image_token_index.or(raw.image_token_id).unwrap_or(32_000),
    };
    let sizes = [vision.hidden_size, vision.intermediate_size, layers, vision.heads, vision.patch_size];
    let image_fits = vision.image_size <= 1 << 14 && vision.image_size.is_multiple_of(vision.patch_size.max(1));
    if !plausible(&sizes) || !vision.hidden_size.is_multiple_of(vision.heads) || vision.features.is_empty() {
        return Err("the sizes of vision_config do not fit each other".into());
    }
    if vision.image_size == 0 || !image_fits {
        return Err(format!("images of {} pixels are no whole patches of {}", vision.image_size, vision.patch_size));
    }
    let architecture = architecture.unwrap_or_else(|| "LlavaForConditionalGeneration".into());
    Ok(ModelConfig { architecture, text, vision: Some(vision) })
}

fn text(raw: RawText, tied: bool) -> Result<TextConfig, String> {
    let kind = raw.model_type.unwrap_or_else(|| "llama".into());
    if kind != "llama" {
        return Err(format!("decoders of type {kind} are not supported; this is: llama"));
    }
    let ropes = [&raw.rope_parameters, &raw.rope_scaling];
    for rope in ropes.into_iter().flatten() {
        let kind = rope.rope_type.as_ref().or(rope.old_type.as_ref());
        if let Some(kind) = kind.filter(|kind| *kind != "default") {
            return Err(format!("rotary embeddings of type {kind} are not supported; this is: default"));
        }
    }
    let (hidden_size, heads) = (raw.hidden_size.unwrap_or(4096), raw.num_attention_heads.unwrap_or(32));
    let config = TextConfig {
        vocab_size: raw.vocab_size.unwrap_or(32_000),
        hidden_size,
        intermediate_size: raw.intermediate_size.unwrap_or(11_008),
        layers: raw.num_hidden_layers.unwrap_or(32),
        heads,
        kv_heads: raw.num_key_value_heads.unwrap_or(heads),
        head_dim: raw.head_dim.unwrap_or_else(|| hidden_size / heads.max(1)),
        activation: raw.hidden_act.unwrap_or(Activation::Silu),
        context: raw.max_position_embeddings.unwrap_or(2048),
        norm_eps: raw.rms_norm_eps.unwrap_or(1e-6),
        rope_theta: ropes.into_iter().flatten().find_map(|r| r.rope_theta).or(raw.rope_theta).unwrap_or(10_000.0),
        attention_bias: raw.attention_bias.unwrap_or(false),
        mlp_bias: raw.mlp_bias.unwrap_or(false),
        tied_head: tied || raw.tie_word_embeddings.unwrap_or(false),
    };
    let sizes = [
        config.vocab_size,
        hidden_size,
        config.intermediate_size,
        config.layers,
        heads,
        config.kv_heads,
        config.head_dim,
        config.context,
    ];
    if !plausible(&sizes) || !heads.is_multiple_of(config.kv_heads) || !config.head_dim.is_multiple_of(2) {
        return Err("the sizes of the decoder do not fit each other (hidden size, heads, key-value heads)".into());
    }
    Ok(config)
}

fn plausible(sizes: &[usize]) -> bool {
    sizes.iter().all(|size| (1..=SIZE_LIMIT).contains(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_older_layout_of_the_hub_and_the_newer_one_read_alike() {
        let sizes = json!({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-5, "max_position_embeddings": 256});
        let config = |rope: Value| {
            let mut text = sizes.clone();
            text.as_object_mut().unwrap().extend(rope.as_object().unwrap().clone());
            ModelConfig::new(json!({"model_type": "llava", "text_config": text, "vision_config": {}})).unwrap()
        };
        let old = config(json!({"rope_theta": 5e5, "rope_scaling": null}));
        let new = config(json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}));
        assert_eq!(old, new);
        let vision = old.vision.unwrap();
        assert_eq!((vision.positions(), vision.features), (576, vec![23]));
        assert_eq!((old.text.kv_heads, old.text.head_dim, old.text.rope_theta), (2, 16, 5e5));
    }

    #[test]
    fn foreign_architectures_are_refused_with_the_supported_ones() {
        let refused = |config| ModelConfig::new(config).unwrap_err();
        let error = refused(json!({"model_type": "qwen2_5_vl"}));
        assert!(error.contains("qwen2_5_vl") && error.contains("llava"), "{error}");
        assert!(refused(json!({"model_type": "llava", "text_config": {"model_type": "mistral"}})).contains("mistral"));
        assert!(refused(json!({"model_type": "llama", "rope_scaling": {"type": "linear"}})).contains("linear"));
        assert!(refused(json!({"model_type": "llama", "num_key_value_heads": 3})).contains("fit each other"));
        assert!(refused(json!({"model_type": "llama", "num_attention_heads": 0})).contains("fit each other"));
    }
}
