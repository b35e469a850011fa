//! InternVL: its tower on tiles of an image and on the whole image, whose patches are concatenated in squares.

use super::features::feature;
use super::types::{
    ImageTokens, Patches, Positions, PrefixRows, ProjectorConfig, SIDE_LIMIT, Tiling, TowerConfig, TowerNames,
    VisionConfig, VisionEncoder, check_channels,
};
use crate::fields::Fields;
use crate::kernel::pointwise::Activation;
use crate::model::config::block::{Biases, BlockConfig, Extras, INTERN_TOWER, NormConfig};

const CLASS: [PrefixRows; 1] = [PrefixRows { name: "embeddings.cls_token", shape: &[1, 1] }];

pub(in super::super) fn internvl(config: Fields) -> Result<VisionConfig, String> {
    let vision = config.under("vision_config");
    let feature = feature(config, -1, vision.size("num_hidden_layers", 24)?)?;
    let strategy = config.or("vision_feature_select_strategy", "default".to_owned())?;
    if strategy != "default" {
        return Err(format!("invalid vision_feature_select_strategy {strategy:?}: expected default"));
    }
    let (tower, side) = tower(vision, feature)?;
    let patches = side / tower.patches.side;
    let ratio: f64 = config.or("downsample_ratio", 0.5)?;
    let merge = (1.0 / ratio) as usize;
    // The reference implementation divides sides by the ratio, which leaves a remainder unless it is a power of two.
    let is_exact = merge.is_power_of_two() && 1.0 / merge as f64 == ratio;
    if !is_exact || merge > patches || !patches.is_multiple_of(merge) {
        return Err(format!("downsample_ratio {ratio} does not fit {patches} x {patches} patches"));
    }
    let activation = config.or("projector_hidden_act", Activation::Gelu)?;
    Ok(VisionConfig {
        image_token_id: config.or("image_token_id", 151_667)?,
        image_tokens: ImageTokens::Named(["start_image_token", "end_image_token"]),
        tiling: Tiling::Split { side, grid: patches / merge, merge },
        kind: VisionEncoder::Tower(
            Box::new(tower),
            ProjectorConfig::ShuffleMlp { patches: merge * merge, feature, activation },
        ),
        video: None,
    })
}

/// The tower up to its `layers`-th block, and the side of an image in pixels.
fn tower(vision: Fields, layers: usize) -> Result<(TowerConfig, usize), String> {
    check_channels(vision, "num_channels")?;
    if vision.or("use_qk_norm", false)? {
        return Err("use_qk_norm is not supported in the vision tower".into());
    }
    if !vision.or("use_mean_pooling", true)? {
        return Err("use_mean_pooling is false, which is not supported in the vision tower".into());
    }
    let (width, heads) = (vision.size("hidden_size", 1_024)?, vision.size("num_attention_heads", 16)?);
    let (side, patch) = (vision.side("image_size", 448)?, vision.side("patch_size", 14)?);
    if !width.is_multiple_of(heads) || side > SIDE_LIMIT || side < patch {
        return Err(format!(
            "the sizes of vision_config do not fit each other: width {width}, {heads} heads, {side} pixels in patches of {patch}"
        ));
    }
    let eps = vision.or("layer_norm_eps", 1e-6)?;
    let norm = match vision.or("norm_type", "layer_norm".to_owned())?.as_str() {
        "layer_norm" => NormConfig::Layer { eps },
        "rms_norm" => NormConfig::Rms { eps, offset: 0.0 },
        other => return Err(format!("invalid norm_type {other:?}: expected layer_norm or rms_norm")),
    };
    let block = BlockConfig {
        width,
        d_ff: vision.size("intermediate_size", 4_096)?,
        heads,
        kv_heads: heads,
        head_dim: width / heads,
        scale: ((width / heads) as f64).powf(-0.5),
        cap: None,
        extras: Extras::default(),
        activation: vision.or("hidden_act", Activation::Gelu)?,
        norm,
        norms: [Some("layernorm_before"), None, Some("layernorm_after"), None],
        layer_scale: Some(["lambda_1", "lambda_2"]),
        qk_norm: None,
        bias: Biases { qkv: vision.or("attention_bias", false)?, out: true, mlp: true },
        names: INTERN_TOWER,
    };
    let has_positions = vision.or("use_absolute_position_embeddings", true)?;
    let tower = TowerConfig {
        block: block.check("vision tower")?,
        layers,
        patches: Patches { side: patch, frames: 1, bias: true, by_pixel: false },
        prefix: &CLASS,
        positions: if has_positions { Positions::Stacked(side / patch) } else { Positions::None },
        rope: None,
        windows: None,
        first_norm: None,
        last_norm: None,
        names: TowerNames {
            prefixes: &["model.vision_tower.", "vision_tower."],
            patch: "embeddings.patch_embeddings.projection",
            positions: "embeddings.position_embeddings",
            blocks: "encoder.layer.",
        },
    };
    Ok((tower, side))
}
