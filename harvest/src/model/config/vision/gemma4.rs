//! Gemma 4: images in their own proportions, whose patches are averaged in squares.

use super::types::{
    ImageTokens, Patches, Positions, ProjectorConfig, SIDE_LIMIT, Tiling, TowerConfig, TowerNames, TowerRope,
    VisionConfig, VisionEncoder,
};
use crate::fields::Fields;
use crate::kernel::pointwise::Activation;
use crate::model::config::block::{Biases, BlockConfig, Extras, GEMMA_NORMS, GEMMA4_TOWER, NormConfig, QkNorm};

pub(in super::super) fn gemma4(config: Fields) -> Result<VisionConfig, String> {
    let vision = config.under("vision_config");
    if config.under("audio_config").is_object() {
        return Err("audio_config is not supported: of Gemma 4, models with an encoder of audio are rejected".into());
    }
    if config.names("vision_config") && !vision.is_object() {
        return Err("vision_config is null: expected that of a vision tower".into());
    }
    if vision.or("use_clipped_linears", false)? {
        return Err(
            "use_clipped_linears is true: layers with bounds of their inputs and outputs are not supported".into()
        );
    }
    let (tower, eps) = tower(vision)?;
    let (patch, merge) = (tower.patches.side, vision.size("pooling_kernel_size", 3)?);
    if patch.saturating_mul(merge) > SIDE_LIMIT {
        return Err(format!("pooling_kernel_size {merge} does not fit patches of {patch} pixels"));
    }
    let standardized = vision.or("standardize", false)?;
    let projector = ProjectorConfig::PoolNative { patches: merge * merge, eps, standardized };
    Ok(VisionConfig {
        image_token_id: config.or("image_token_id", 258_880)?,
        image_tokens: ImageTokens::Named(["boi_token", "eoi_token"]),
        tiling: Tiling::Native { patch, merge, frames: 1 },
        kind: VisionEncoder::Tower(Box::new(tower), projector),
        video: None,
    })
}

/// The tower, and the epsilon of its norms.
fn tower(vision: Fields) -> Result<(TowerConfig, f64), String> {
    let heads = vision.size("num_attention_heads", 12)?;
    let head_dim = vision.size("head_dim", 64)?;
    if !head_dim.is_multiple_of(4) {
        return Err(format!("head_dim {head_dim} of the vision tower is not divisible by four"));
    }
    let rope = vision.under("rope_parameters");
    let kind = rope.or("rope_type", "axial".to_owned())?;
    if !matches!(kind.as_str(), "axial" | "default") {
        return Err(format!("unsupported type {kind:?} of rotary positions in the vision tower: expected axial"));
    }
    let theta: f64 = rope.or("rope_theta", 100.0)?;
    if !(theta.is_finite() && theta > 0.0) {
        return Err(format!("invalid rope_theta {theta}: expected a positive number"));
    }
    let eps = vision.or("rms_norm_eps", 1e-6)?;
    let norm = NormConfig::Rms { eps, offset: 0.0 };
    let block = BlockConfig {
        width: vision.size("hidden_size", 768)?,
        d_ff: vision.size("intermediate_size", 3_072)?,
        heads,
        kv_heads: vision.size("num_key_value_heads", 12)?,
        head_dim,
        scale: 1.0,
        cap: None,
        activation: vision.or("hidden_activation", Activation::GeluPytorchTanh)?,
        norm,
        norms: GEMMA_NORMS,
        layer_scale: None,
        qk_norm: Some(QkNorm { norm, per_head: false }),
        extras: Extras { v_norm: true, halves: true, factor: None },
        bias: Biases::default(),
        names: GEMMA4_TOWER,
    };
    let side = vision.size("patch_size", 16)?;
    if side > SIDE_LIMIT {
        return Err(format!("patches of {side} pixels are not supported: expected at most {SIDE_LIMIT}"));
    }
    let tower = TowerConfig {
        block: block.check("vision tower")?,
        layers: vision.size("num_hidden_layers", 16)?,
        patches: Patches { side, frames: 1, bias: false, by_pixel: true },
        prefix: &[],
        positions: Positions::Axes(vision.size("position_embedding_size", 10_240)?),
        rope: Some(TowerRope { theta, alternating: false }),
        windows: None,
        first_norm: None,
        last_norm: None,
        names: TowerNames {
            prefixes: &["model.vision_tower.", "vision_tower."],
            patch: "patch_embedder.input_proj",
            positions: "patch_embedder.position_embedding_table",
            blocks: "encoder.layers.",
        },
    };
    Ok((tower, eps))
}

#[cfg(test)]
mod tests {
    use crate::model::ModelConfig;
    use crate::model::config::LayerHeads;
    use serde_json::{Value, json};

    /// The dense model, with another value of a setting.
    fn dense(level: &str, field: &str, value: Value) -> Value {
        let mut config = json!({"model_type": "gemma4", "vision_config": {}, "text_config": {"num_hidden_layers": 7,
            "hidden_size_per_layer_input": 0, "attention_k_eq_v": true, "num_global_key_value_heads": 2,
            "use_bidirectional_attention": "vision"}});
        match level {
            "" => config[field] = value,
            level => config[level][field] = value,
        }
        config
    }

    #[test]
    fn blocks_without_a_window_have_wider_heads_and_see_no_later_positions() {
        let text = ModelConfig::parse(&dense("", "tie_word_embeddings", true.into())).unwrap().text;
        let global: Vec<usize> = (0..7).filter(|n| text.layers[*n].window.is_none()).collect();
        assert_eq!((global, text.layers[0].window), (vec![5, 6], Some(512)));
        assert!(text.layers.iter().all(|layer| layer.bidirectional_images == layer.window.is_some()));
        let wide = LayerHeads { head_dim: 512, kv_heads: 2, values_are_keys: true };
        assert_eq!(text.layers[5].heads, Some(wide));
        assert_eq!((text.block(5).head_dim, text.block(4).head_dim, text.block(4).kv_heads), (512, 256, 4));
        // A quarter of the pairs is rotated.
        let frequencies = text.ropes[0].frequencies(1);
        assert_eq!((frequencies.len(), frequencies.iter().filter(|(f, _)| *f > 0.0).count()), (256, 64));
        assert_eq!(text.ropes[1].frequencies(1).iter().filter(|(f, _)| *f > 0.0).count(), 128);
        // The same as transformers 5 writes it.
        let listed =
            json!({"5": {"head_dim": 512, "num_key_value_heads": 2}, "6": {"head_dim": 512, "num_key_value_heads": 2}});
        let listed = ModelConfig::parse(&dense("text_config", "per_layer_config", listed)).unwrap().text;
        assert_eq!(listed, text);
    }

    #[test]
    fn other_models_of_the_family_and_parts_that_do_not_fit_are_rejected() {
        let cases = [
            ("text_config", "hidden_size_per_layer_input", json!(256), "embeddings for each block"),
            ("text_config", "num_kv_shared_layers", json!(2), "share keys and values"),
            ("text_config", "enable_moe_block", json!(true), "experts"),
            ("text_config", "use_bidirectional_attention", json!("all"), "use_bidirectional_attention \"all\""),
            ("text_config", "global_head_dim", json!(0), "global_head_dim 0"),
            ("text_config", "global_head_dim", json!(7), "8 heads of 7"),
            ("text_config", "num_global_key_value_heads", json!(3), "3 heads for keys"),
            ("text_config", "num_global_key_value_heads", json!(0), "num_global_key_value_heads 0"),
            (
                "text_config",
                "per_layer_config",
                json!({"1": {"intermediate_size": 8}}),
                "intermediate_size (8) of block 1",
            ),
            ("text_config", "per_layer_config", json!({"1": {"head_dim": 8}}), "block 1 has heads of 8"),
            ("text_config", "per_layer_config", json!([1]), "invalid per_layer_config"),
            ("text_config", "rope_parameters", json!({"full_attention": {}}), "no sliding_attention"),
            (
                "text_config",
                "rope_parameters",
                json!({"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 1.5}, "sliding_attention": {}}),
                "partial_rotary_factor",
            ),
            ("text_config", "layer_types", json!(["full_attention"]), "layer_types has 1 entries"),
            ("vision_config", "use_clipped_linears", json!(true), "use_clipped_linears"),
            ("vision_config", "head_dim", json!(6), "head_dim 6"),
            ("vision_config", "num_key_value_heads", json!(5), "5 heads for keys"),
            ("vision_config", "patch_size", json!(1 << 20), "patches of 1048576"),
            ("vision_config", "pooling_kernel_size", json!(1 << 20), "pooling_kernel_size 1048576"),
            ("vision_config", "rope_parameters", json!({"rope_type": "yarn"}), "type \"yarn\""),
            ("", "vision_config", Value::Null, "vision_config is null"),
            ("", "audio_config", json!({"model_type": "gemma4_audio"}), "audio_config"),
        ];
        for (level, field, value, named) in cases {
            let error = ModelConfig::parse(&dense(level, field, value)).unwrap_err();
            assert!(error.contains(named), "{field}: {error}");
        }
    }
}
