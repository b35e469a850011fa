//! What `config.json` says about a model, in either layout (the Hub's older one leaves defaults out; `transformers` 5
//! writes `rope_parameters`), checked so that the sizes fit each other. Differences between families are data here; behind
//! this module there is one decoder and one vision tower. Reads no weights.

mod block;
mod fields;
mod rope;
mod text;
mod vision;

pub use block::{Biases, BlockConfig, HeadNorm, Mlp, Names, NormConfig, Qkv};
pub use rope::{AXES, Axes, RopeConfig, Scaling};
pub use text::{Layer, TextConfig};
pub use vision::{
    Codes, Framing, Join, Kind, Patches, Positions, Tiling, TowerConfig, TowerNames, VisionConfig, Windows,
};

use crate::{Error, Result};
use fields::Fields;
use serde_json::Value;
use std::path::Path;

/// The models that are supported, as `model_type` names them.
pub const SUPPORTED: [&str; 11] = [
    "llava",
    "llava_next",
    "qwen2_5_vl",
    "qwen3_vl",
    "gemma3",
    "chameleon",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma3_text",
];

/// A model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The class that `transformers` loads it with, such as `LlavaForConditionalGeneration`.
    pub architecture: String,
    /// The decoder.
    pub text: TextConfig,
    /// What turns images into positions of the decoder; nothing for text-only models.
    pub vision: Option<VisionConfig>,
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
        let config: Value = sae_core::file::read_json(&path, 1 << 24)?;
        Self::parse(&config).map_err(Error::checkpoint(&path))
    }

    /// What a `config.json` says.
    ///
    /// # Errors
    /// What in it is not supported, or contradicts itself.
    pub fn parse(config: &Value) -> Result<Self, String> {
        let fields = Fields(config);
        let kind = fields.or("model_type", "unknown".to_owned())?;
        let inner = fields.under("text_config");
        let decoder = |default: &str| match inner.is_object() {
            true => text::text(&inner.or("model_type", default.to_owned())?, inner),
            // Qwen2.5-VL of the older layout has the decoder's fields at the top; others mean all defaults.
            false if kind == "qwen2_5_vl" => text::text(default, fields),
            false => text::text(default, inner),
        };
        let alone = || text::text(&kind, fields);
        let (class, mut text, vision) = match kind.as_str() {
            "llava" => ("LlavaForConditionalGeneration", decoder("llama")?, Some(vision::llava(fields)?)),
            "llava_next" => ("LlavaNextForConditionalGeneration", decoder("llama")?, Some(vision::llava_next(fields)?)),
            "qwen2_5_vl" => {
                ("Qwen2_5_VLForConditionalGeneration", decoder("qwen2_5_vl_text")?, Some(vision::qwen2_5(fields)?))
            }
            "qwen3_vl" => ("Qwen3VLForConditionalGeneration", decoder("qwen3_vl_text")?, Some(vision::qwen3(fields)?)),
            "gemma3" => ("Gemma3ForConditionalGeneration", decoder("gemma3_text")?, Some(vision::gemma3(fields)?)),
            "chameleon" => ("ChameleonForConditionalGeneration", alone()?, Some(vision::chameleon(fields)?)),
            "llama" => ("LlamaForCausalLM", alone()?, None),
            "mistral" => ("MistralForCausalLM", alone()?, None),
            "qwen2" => ("Qwen2ForCausalLM", alone()?, None),
            "qwen3" => ("Qwen3ForCausalLM", alone()?, None),
            "gemma3_text" => ("Gemma3ForCausalLM", alone()?, None),
            _ => return Err(format!("models of type {kind} are not supported; these are: {}", SUPPORTED.join(", "))),
        };
        if kind == "gemma3" {
            text.images_see_themselves = true;
            // The multimodal class reads the cap and never applies it.
            text.logit_cap = None;
        }
        if let Some(VisionConfig { kind: Kind::Codes(codes), .. }) = &vision {
            if let Some(token) = codes.tokens.iter().find(|token| **token as usize >= text.vocab_size) {
                return Err(format!("vocabulary_map names token {token} of a vocabulary of {}", text.vocab_size));
            }
            text.unspoken.clone_from(&codes.tokens);
        }
        // The outer word counts, where there is one.
        let tied = match fields.get("tie_word_embeddings")? {
            Some(tied) => Some(tied),
            None => inner.get("tie_word_embeddings")?,
        };
        text.tied_head = tied.unwrap_or(kind.starts_with("gemma3"));
        let architecture = config["architectures"][0].as_str().unwrap_or(class).to_owned();
        Ok(Self { architecture, text, vision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(config: Value) -> ModelConfig {
        ModelConfig::parse(&config).unwrap()
    }

    fn refused(config: Value) -> String {
        ModelConfig::parse(&config).unwrap_err()
    }

    #[test]
    fn the_older_layout_of_the_hub_and_the_newer_one_read_alike() {
        let sizes = json!({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-5, "max_position_embeddings": 256});
        let config = |rope: Value| {
            let mut text = sizes.clone();
            text.as_object_mut().unwrap().extend(rope.as_object().unwrap().clone());
            of(json!({"model_type": "llava", "text_config": text}))
        };
        let old = config(json!({"rope_theta": 5e5, "rope_scaling": null}));
        let new = config(json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}));
        assert_eq!(old, new);
        let vision = old.vision.unwrap();
        assert_eq!(vision.tiling, Tiling::Square { side: 336, grid: 24, class: false });
        let Some((_, Join::Mlp { features, .. })) = vision.tower() else { panic!("a tower") };
        assert_eq!(features, &[23]);
        let block = old.text.block;
        assert_eq!((block.kv_heads, block.head_dim, old.text.ropes[0].theta), (2, 16, 5e5));
    }

    #[test]
    fn foreign_architectures_are_refused_with_the_supported_ones() {
        let error = refused(json!({"model_type": "mllama"}));
        assert!(error.contains("mllama") && error.contains("llava"), "{error}");
        let error = refused(json!({"model_type": "llava", "text_config": {"model_type": "falcon"}}));
        assert!(error.contains("falcon") && error.contains("mistral"), "{error}");
        assert!(refused(json!({"model_type": "llama", "rope_scaling": {"type": "yarn"}})).contains("yarn"));
        assert!(refused(json!({"model_type": "llama", "num_key_value_heads": 3})).contains("fit each other"));
        assert!(refused(json!({"model_type": "llama", "num_attention_heads": 0})).contains("num_attention_heads is 0"));
        let error = refused(json!({"model_type": "llama", "hidden_size": "wide"}));
        assert!(error.contains("hidden_size is \"wide\""), "{error}");
        assert!(
            refused(json!({"model_type": "gemma3_text", "use_bidirectional_attention": true}))
                .contains("bidirectional")
        );
    }

    #[test]
    fn a_window_that_is_left_out_is_not_one_that_is_null() {
        let window = |config: Value| of(config).text.layers[0].window;
        assert_eq!(window(json!({"model_type": "mistral"})), Some(4096));
        assert_eq!(window(json!({"model_type": "mistral", "sliding_window": null})), None);
        assert_eq!(window(json!({"model_type": "qwen2", "sliding_window": 8})), None);
        let slides = json!({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": true,
            "max_window_layers": 0});
        assert_eq!(window(slides), Some(8));
    }

    #[test]
    fn gemma_has_a_window_and_a_rope_for_five_layers_of_six() {
        let text = of(json!({"model_type": "gemma3_text"})).text;
        let global: Vec<usize> = (0..26).filter(|n| text.layers[*n].window.is_none()).collect();
        assert_eq!(global, [5, 11, 17, 23]);
        assert_eq!(text.ropes.iter().map(|rope| rope.theta).collect::<Vec<_>>(), [1e6, 1e4]);
        assert!(text.tied_head && text.layers[5].rope == 0 && text.layers[4].rope == 1);
    }

    #[test]
    fn axes_take_their_frequencies_in_blocks_or_in_turns() {
        let axes = |interleaved: bool| {
            let scaling = json!({"mrope_section": [2, 1, 1], "mrope_interleaved": interleaved});
            let rope = RopeConfig::new(Fields(&scaling), 1e4, 8, None).unwrap();
            rope.frequencies(8).into_iter().map(|(_, axis)| axis).collect::<Vec<_>>()
        };
        assert_eq!(axes(false), [0, 0, 1, 2]);
        assert_eq!(axes(true), [0, 1, 2, 0]);
        let scaling = json!({"mrope_section": [2, 1, 2]});
        assert!(RopeConfig::new(Fields(&scaling), 1e4, 8, None).unwrap_err().contains("mrope_section"));
    }
}
