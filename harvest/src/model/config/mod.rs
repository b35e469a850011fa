//! The configuration of a model, as `config.json` describes it in either layout (the older one of the hub omits
//! defaults; `transformers` 5 writes `rope_parameters`), checked for consistent sizes. Differences between families are
//! data here: outside of this module there is one decoder and one vision tower. Reads no weights.

mod block;
mod rope;
mod supported;
mod text;
mod unsupported;
mod vision;

pub use block::{Biases, BlockConfig, Extras, Mlp, Names, NormConfig, QkNorm, Qkv};
pub use rope::{AXES, Axes, RopeConfig, Scaling};
pub use text::{Layer, LayerHeads, TextConfig};
pub(crate) use vision::SIDE_LIMIT;
pub use vision::{
    ImageTokens, Patches, Positions, PrefixRows, ProjectorConfig, Tiling, TowerConfig, TowerNames, TowerRope,
    VideoConfig, VideoTiming, VisionConfig, VisionEncoder, VqTokenizerConfig, Windows,
};

use crate::fields::Fields;
use crate::{Error, Result, precedence};
use sae_core::store::{Hook, Site};
use serde_json::Value;
use std::path::Path;

/// The configuration of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The class with which `transformers` loads the model, such as `LlavaForConditionalGeneration`.
    pub architecture: String,
    /// The decoder.
    pub text: TextConfig,
    /// The part that turns images into positions of the decoder; nothing for text-only models.
    pub vision: Option<VisionConfig>,
}

impl ModelConfig {
    /// The width of activations at a hook: that of the vision tower, or that of the residual stream.
    pub fn width_at(&self, hook: Hook) -> usize {
        let tower = self.vision.as_ref().and_then(VisionConfig::tower).filter(|_| hook.site() == Site::Vision);
        tower.map_or(self.text.hidden_size, |(tower, _)| tower.block.width)
    }

    /// Reads `config.json` of the checkpoint in `folder`.
    ///
    /// # Errors
    /// The file is missing or damaged, the architecture is not supported, or its sizes contradict each other.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        if !path.exists() {
            return Err(Error::checkpoint(folder)("this is not a Hugging Face checkpoint: it has no config.json"));
        }
        let config: Value = sae_core::file::read_json(&path, 1 << 24)?;
        Self::parse(&config).map_err(Error::checkpoint(&path))
    }

    /// Interprets the content of a `config.json`.
    ///
    /// # Errors
    /// What is not supported or inconsistent.
    pub fn parse(config: &Value) -> Result<Self, String> {
        let fields = Fields(config);
        let kind = fields.or("model_type", "unknown".to_owned())?;
        let (class, vision) = supported::family(&kind)?;
        // In PaliGemma the setting is true, and is about the prefix that the family has in any case.
        let read_elsewhere: &[&str] = match kind.as_str() {
            "paligemma" => &["use_bidirectional_attention"],
            "gemma4" | "gemma4_text" => &["use_bidirectional_attention", "per_layer_config"],
            _ => &[],
        };
        unsupported::check(fields, read_elsewhere)?;
        let (family, settings) = precedence::decoder(&kind, fields)?;
        unsupported::check(settings, read_elsewhere)?;
        let mut text = text::text(&family, settings)?;
        let vision = vision.map(|read| read(fields)).transpose()?;
        if kind == "gemma3" {
            text.layers.iter_mut().for_each(|layer| layer.bidirectional_images = true);
            // The multimodal class reads the cap but never applies it.
            text.logit_cap = None;
        }
        if kind == "paligemma" {
            text.first_position = 1;
            let (projected, width) = (fields.size("projection_dim", 2_048)?, text.hidden_size);
            if !matches!(family.as_str(), "gemma" | "gemma2") || projected != width {
                return Err(format!(
                    "PaliGemma projects images to {projected} numbers (projection_dim) for a decoder of type {family} of width \
                     {width}: expected gemma or gemma2, of the same width"
                ));
            }
        }
        if let Some(VisionConfig { kind: VisionEncoder::VqTokenizer(tokenizer), .. }) = &vision {
            if let Some(token) = tokenizer.tokens.iter().find(|token| **token as usize >= text.vocab_size) {
                let size = text.vocab_size;
                return Err(format!(
                    "vocabulary_map names the token {token}, which is outside the vocabulary of {size}"
                ));
            }
            text.never_predicted.clone_from(&tokenizer.tokens);
        }
        text.tied_head = precedence::tied(&kind, fields)?;
        let architecture = config["architectures"][0].as_str().unwrap_or(class).to_owned();
        Ok(Self { architecture, text, vision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::pointwise::Activation;
    use serde_json::json;

    fn parse(config: Value) -> ModelConfig {
        ModelConfig::parse(&config).unwrap()
    }

    fn error(config: Value) -> String {
        ModelConfig::parse(&config).unwrap_err()
    }

    #[test]
    fn the_older_layout_of_the_hub_and_the_newer_one_are_equivalent() {
        let sizes = json!({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 100, "rms_norm_eps": 1e-5, "max_position_embeddings": 256});
        let config = |rope: Value| {
            let mut text = sizes.clone();
            text.as_object_mut().unwrap().extend(rope.as_object().unwrap().clone());
            parse(json!({"model_type": "llava", "text_config": text}))
        };
        let old = config(json!({"rope_theta": 5e5, "rope_scaling": null}));
        let new = config(json!({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}));
        assert_eq!(old, new);
        let vision = old.vision.unwrap();
        assert_eq!(vision.tiling, Tiling::Square { side: 336, grid: 24, class: false });
        let Some((_, ProjectorConfig::Mlp { features, .. })) = vision.tower() else { panic!("a tower") };
        assert_eq!(features, &[23]);
        let block = old.text.block;
        assert_eq!((block.kv_heads, block.head_dim, old.text.ropes[0].theta), (2, 16, 5e5));
    }

    #[test]
    fn llava_onevision_has_its_own_defaults_and_no_other_modes_than_anyres_max() {
        let config = parse(json!({"model_type": "llava_onevision", "text_config": {}}));
        assert!(config.text.block.bias.qkv, "Qwen2");
        let vision = config.vision.unwrap();
        let Tiling::AnyResolution { side: 384, grid: 27, pinpoints, most_tiles: Some(9) } = &vision.tiling else {
            panic!("{:?}", vision.tiling)
        };
        assert_eq!((pinpoints.len(), pinpoints[1], pinpoints[35]), (36, [384, 768], [2304, 2304]));
        let Some((tower, ProjectorConfig::Mlp { features, newline: true, .. })) = vision.tower() else {
            panic!("a tower and newlines")
        };
        assert_eq!(
            (features.as_slice(), tower.layers, tower.block.width, vision.image_token_id),
            (&[26][..], 26, 1152, 151_646)
        );
        for ratio in ["pad", "square", "anyres", "anyres_max_0"] {
            let error =
                error(json!({"model_type": "llava_onevision", "text_config": {}, "vision_aspect_ratio": ratio}));
            assert!(error.contains(ratio) && error.contains("anyres_max_9"), "{error}");
        }
    }

    #[test]
    fn sizes_of_idefics3_internvl_and_mistral3_that_disagree_are_rejected() {
        let smolvlm = |vision: Value, scale: Value| json!({"model_type": "smolvlm", "text_config": {}, "scale_factor": scale, "vision_config": vision});
        let vision = parse(smolvlm(json!({"image_size": 384, "patch_size": 14}), json!(3))).vision.unwrap();
        assert_eq!(vision.tiling, Tiling::Split { side: 384, grid: 9, merge: 3 });
        let with = |mut config: Value, field: &str, value: Value| {
            config[field] = value;
            config
        };
        let internvl = |field: &str, value| with(json!({"model_type": "internvl", "text_config": {}}), field, value);
        let vision = parse(internvl("image_token_id", json!(5))).vision.unwrap();
        assert_eq!((vision.tiling, vision.image_token_id), (Tiling::Split { side: 448, grid: 16, merge: 2 }, 5));
        let mistral = |field: &str, value| {
            let config = json!({"model_type": "mistral3", "text_config": {"rms_norm_eps": 1e-5}, "vision_config": {"patch_size": 14}});
            with(config, field, value)
        };
        let config = parse(mistral("image_token_id", json!(7)));
        assert!(config.text.tied_head && config.vision.as_ref().unwrap().image_token_id == 7);
        let Some((tower, ProjectorConfig::PatchMerger { feature: 24, eps: 1e-5, .. })) =
            config.vision.as_ref().and_then(VisionConfig::tower)
        else {
            panic!("Pixtral")
        };
        assert_eq!((tower.block.head_dim, tower.rope.map(|rope| rope.theta)), (64, Some(1e4)));
        for (config, named) in [
            (smolvlm(json!({"image_size": 384, "patch_size": 14}), json!(2)), "scale_factor 2 does not fit 27 x 27"),
            (smolvlm(json!({}), json!(0)), "scale_factor 0"),
            (smolvlm(json!({"image_size": 8, "patch_size": 16}), json!(1)), "patch size 16"),
            (smolvlm(json!({"num_attention_heads": 7}), json!(1)), "7 heads"),
            (smolvlm(json!({"image_size": 266, "patch_size": 14}), json!(1)), "19 x 19 patches"),
            (smolvlm(json!({"num_channels": 1}), json!(1)), "num_channels is not 3"),
            (json!({"model_type": "idefics3"}), "no text_config"),
            (internvl("downsample_ratio", json!(0.3)), "downsample_ratio 0.3 does not fit 32 x 32"),
            (internvl("downsample_ratio", json!(0.0)), "downsample_ratio 0 "),
            (internvl("downsample_ratio", json!(-0.5)), "downsample_ratio -0.5"),
            (internvl("downsample_ratio", json!(1e-9)), "does not fit 32 x 32"),
            (internvl("vision_feature_select_strategy", json!("full")), "expected default"),
            (internvl("vision_config", json!({"use_qk_norm": true})), "use_qk_norm"),
            (internvl("vision_config", json!({"norm_type": "batch_norm"})), "norm_type \"batch_norm\""),
            (internvl("vision_config", json!({"image_size": [448, 336]})), "image_size"),
            (internvl("vision_config", json!({"image_size": 8})), "8 pixels in patches of 14"),
            (mistral("spatial_merge_size", json!(1 << 20)), "spatial_merge_size 1048576"),
            (mistral("spatial_merge_size", json!(0)), "spatial_merge_size 0"),
            (mistral("vision_feature_layer", json!([-1, -2])), "names 2 layers"),
            (mistral("vision_feature_layer", json!(i64::MIN)), "there is no vision_feature_layer"),
            (mistral("vision_config", json!({"hidden_size": 24, "num_attention_heads": 4})), "width 24, 4 heads"),
            (mistral("vision_config", json!({"patch_size": 1 << 20})), "patches of 1048576"),
            (mistral("vision_config", json!({"model_type": "siglip_vision_model"})), "expected pixtral"),
            (mistral("text_config", json!({"model_type": "ministral3"})), "unsupported decoder type \"ministral3\""),
            (
                with(
                    json!({"model_type": "llava", "text_config": {}}),
                    "vision_config",
                    json!({"model_type": "pixtral"}),
                ),
                "type \"pixtral\"",
            ),
        ] {
            let error = error(config);
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn unsupported_architectures_are_rejected_with_a_list_of_the_supported_ones() {
        for (kind, name, missing) in [
            ("mllama", "Llama 3.2 Vision", "cross-attention"),
            ("qwen3_5", "Qwen3.5", "linear attention"),
            ("qwen3_5_moe", "Qwen3.5", "linear attention"),
            ("qwen3_next", "Qwen3-Next", "linear attention"),
            ("qwen2_audio", "Qwen2-Audio", "an encoder of audio"),
            ("gemma3n", "Gemma 3n", "AltUp"),
            ("gemma3n_text", "Gemma 3n", "AltUp"),
        ] {
            let error = error(json!({"model_type": kind}));
            assert!(error.contains(name) && error.contains(missing) && error.contains("paligemma"), "{error}");
        }
        for (kind, name, missing) in [
            ("mllama_text_model", "Llama 3.2 Vision", "cross-attention"),
            ("qwen3_5_text", "Qwen3.5", "linear attention"),
            ("qwen3_5_moe_text", "Qwen3.5", "linear attention"),
        ] {
            let error = error(json!({"model_type": "llava", "text_config": {"model_type": kind}}));
            assert!(error.contains(name) && error.contains(missing) && error.contains("mistral"), "{error}");
        }
        let error = self::error(json!({"model_type": "llava", "text_config": {"model_type": "falcon"}}));
        assert!(error.contains("falcon") && error.contains("mistral"), "{error}");
        let error = self::error;
        assert!(error(json!({"model_type": "llama", "rope_scaling": {"type": "yarn"}})).contains("yarn"));
        assert!(error(json!({"model_type": "llama", "num_key_value_heads": 3})).contains("fit each other"));
        assert!(error(json!({"model_type": "llama", "num_attention_heads": 0})).contains("num_attention_heads 0"));
        let wide = error(json!({"model_type": "llama", "hidden_size": "wide"}));
        assert!(wide.contains("hidden_size \"wide\""), "{wide}");
        assert!(
            error(json!({"model_type": "gemma3_text", "use_bidirectional_attention": true})).contains("bidirectional")
        );
    }

    #[test]
    fn a_missing_window_differs_from_one_that_is_null() {
        let window = |config: Value| parse(config).text.layers[0].window;
        assert_eq!(window(json!({"model_type": "mistral"})), Some(4096));
        assert_eq!(window(json!({"model_type": "mistral", "sliding_window": null})), None);
        assert_eq!(window(json!({"model_type": "qwen2", "sliding_window": 8})), None);
        let slides = json!({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": true,
            "max_window_layers": 0});
        assert_eq!(window(slides), Some(8));
    }

    #[test]
    fn gemma_has_a_window_and_its_own_rope_in_five_of_six_layers() {
        let text = parse(json!({"model_type": "gemma3_text"})).text;
        let global: Vec<usize> = (0..26).filter(|n| text.layers[*n].window.is_none()).collect();
        assert_eq!(global, [5, 11, 17, 23]);
        assert_eq!(text.ropes.iter().map(|rope| rope.theta).collect::<Vec<_>>(), [1e6, 1e4]);
        assert!(text.tied_head && text.layers[5].rope == 0 && text.layers[4].rope == 1);
    }

    #[test]
    fn gemma_2_caps_and_has_a_window_in_every_other_layer() {
        let text = parse(json!({"model_type": "gemma2"})).text;
        let local: Vec<usize> = (0..6).filter(|n| text.layers[*n].window == Some(4096)).collect();
        assert_eq!((local, text.block.cap, text.logit_cap), (vec![0, 2, 4], Some(50.0), Some(30.0)));
        let uncapped = json!({"model_type": "gemma2", "attn_logit_softcapping": null, "final_logit_softcapping": null});
        let text = parse(uncapped).text;
        assert_eq!((text.block.cap, text.logit_cap), (None, None));
        for cap in [json!(0.0), json!(-3), json!("x")] {
            let error = error(json!({"model_type": "gemma2", "attn_logit_softcapping": cap}));
            assert!(error.contains("attn_logit_softcapping"), "{error}");
        }
        // The name of the first files means the other function.
        let [first, other] =
            ["gelu", "silu"].map(|name| parse(json!({"model_type": "gemma", "hidden_act": name})).text);
        assert_eq!((first.block.activation, other.block.activation), (Activation::GeluPytorchTanh, Activation::Silu));
    }

    #[test]
    fn a_paligemma_whose_parts_do_not_fit_is_rejected() {
        let paligemma = |field: &str, value: Value| {
            let mut config = json!({"model_type": "paligemma", "projection_dim": 64, "text_config": {"hidden_size": 64},
                "vision_config": {"image_size": 224, "patch_size": 14}});
            config[field] = value;
            config
        };
        let config = parse(paligemma("image_token_index", json!(7)));
        let vision = config.vision.as_ref().unwrap();
        assert_eq!((vision.image_token_id, vision.image_tokens), (7, ImageTokens::Prefix));
        assert_eq!(vision.tiling, Tiling::Square { side: 224, grid: 16, class: false });
        assert!(config.text.first_position == 1 && config.text.tied_head);
        let prefix = paligemma("text_config", json!({"hidden_size": 64, "use_bidirectional_attention": true}));
        assert_eq!(parse(prefix).text, config.text);
        for (config, named) in [
            (paligemma("projection_dim", json!(32)), "32 numbers (projection_dim)"),
            (paligemma("projection_dim", json!(0)), "projection_dim 0"),
            (paligemma("text_config", json!({"hidden_size": 64, "model_type": "llama"})), "type llama"),
            (paligemma("text_config", json!({"hidden_size": 64, "model_type": "gemma3_text"})), "type gemma3_text"),
            (paligemma("text_config", Value::Null), "no text_config"),
            (paligemma("vision_config", json!({"model_type": "clip_vision_model"})), "expected a vision tower"),
            (paligemma("vision_config", json!({"image_size": 8, "patch_size": 14})), "patch size 14"),
            (paligemma("vision_config", json!({"hidden_size": 7, "num_attention_heads": 2})), "width 7, 2 heads"),
        ] {
            let error = error(config);
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn axes_get_consecutive_or_interleaved_frequencies() {
        let rope = |axes, sections: Value| RopeConfig::new(Fields(&json!({"mrope_section": sections})), 8, axes);
        let axes = |axes| {
            let frequencies = rope(axes, json!([2, 1, 1])).unwrap().frequencies(1);
            frequencies.into_iter().map(|(_, axis)| axis).collect::<Vec<_>>()
        };
        assert_eq!(axes(Axes::Sections([0; 3])), [0, 0, 1, 2]);
        assert_eq!(axes(Axes::Interleaved([0; 3])), [0, 1, 2, 0]);
        // Other families ignore it.
        assert_eq!(axes(Axes::One), [0, 0, 0, 0]);
        assert!(rope(Axes::Sections([0; 3]), json!([2, 1, 2])).unwrap_err().contains("mrope_section"));
        // The default is that of Qwen2.5-VL's heads.
        let text = parse(json!({"model_type": "qwen2_5_vl", "text_config": {}})).text;
        assert_eq!(text.ropes[0].axes, Axes::Sections([16, 24, 24]));
    }

    #[test]
    fn scaled_positions_are_read_and_unknown_parameters_are_rejected() {
        let llama = |rope: Value| json!({"model_type": "llama", "max_position_embeddings": 64, "rope_scaling": rope});
        let parse = |config: Value| self::parse(config).text;
        let yarn = parse(llama(json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768})));
        assert_eq!(yarn.context, 131_072);
        let rope = &yarn.ropes[0].scaling;
        // 0.1 ln 4 + 1, and the frequencies that make 32 turns and one turn over 32,768 positions.
        assert!((rope.magnitude() - 1.138_629_4).abs() < 1e-6);
        assert!(matches!(rope, Scaling::Yarn { ramp: [35.0, 60.0], .. }), "{rope:?}");
        let set = |extra: Value| {
            let mut rope = json!({"rope_type": "yarn", "factor": 4.0});
            rope.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            parse(llama(rope)).ropes[0].scaling.magnitude()
        };
        assert!((set(json!({"attention_factor": 0.5})) - 0.5).abs() < 1e-6);
        assert!((set(json!({"mscale": 1.0, "mscale_all_dim": 1.0})) - 1.0).abs() < 1e-6);
        assert_eq!(parse(llama(json!({"type": "dynamic", "factor": 2.0}))).context, 128);
        for (rope, named) in [
            (json!({"type": "yarn", "factor": 2.0, "attn_temperature": 3}), "attn_temperature"),
            (json!({"type": "dynamic"}), "require factor"),
            (json!({"type": "linear", "factor": -1.0}), "invalid factor -1"),
            (
                json!({"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}),
                "short_factor has 1 numbers: expected 64",
            ),
            (json!({"type": "su", "factor": 2.0}), "type \"su\""),
            (json!({"type": "mrope", "mrope_section": [1, 1, 1]}), "type \"mrope\""),
            (json!({"full_attention": {"rope_type": "yarn"}}), "full_attention"),
            (json!({"rope_type": "default", "partial_rotary_factor": 0.5}), "partial_rotary_factor"),
        ] {
            let error = error(llama(rope));
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn the_newer_name_of_a_token_and_the_inner_level_take_precedence() {
        let token = |config: Value| parse(config).vision.unwrap().image_token_id;
        assert_eq!(
            token(json!({"model_type": "llava", "text_config": {}, "image_token_index": 5, "image_token_id": 7})),
            7
        );
        assert_eq!(token(json!({"model_type": "llava", "text_config": {}, "image_token_index": 5})), 5);
        assert_eq!(token(json!({"model_type": "qwen2_5_vl", "text_config": {}, "image_token_index": 5})), 151_655);
        let width = |config: Value| parse(config).text.hidden_size;
        let both = json!({"model_type": "qwen2_5_vl", "hidden_size": 64, "text_config": {"hidden_size": 8192}});
        assert_eq!(width(both), 8192);
        // The class decides, whatever the file says about its decoder.
        let named = json!({"model_type": "qwen3_vl", "text_config": {"model_type": "llama"}});
        assert!(parse(named).text.block.qk_norm.is_some());
    }
}
