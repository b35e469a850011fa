//! Mistral 3: the tower of Pixtral, which reads images in their own proportions, and a merger of patches.

use super::features::feature;
use super::qwen::theta;
use super::types::{
    ImageTokens, Patches, Positions, ProjectorConfig, SIDE_LIMIT, Tiling, TowerConfig, TowerNames, TowerRope,
    VisionConfig, VisionEncoder, check_channels,
};
use crate::fields::Fields;
use crate::kernel::pointwise::Activation;
use crate::model::config::block::{Biases, BlockConfig, Extras, NormConfig, PIXTRAL};
use crate::precedence::{self, IMAGE_TOKEN};

const TYPE: &str = "pixtral";

pub(in super::super) fn mistral3(config: Fields) -> Result<VisionConfig, String> {
    let vision = config.under("vision_config");
    let kind = vision.or("model_type", TYPE.to_owned())?;
    if kind != TYPE {
        return Err(format!("unsupported vision tower type {kind:?}: expected {TYPE}"));
    }
    let feature = feature(config, -1, vision.size("num_hidden_layers", 24)?)?;
    let tower = tower(vision, feature)?;
    let merge = config.size("spatial_merge_size", 2)?;
    let patch = tower.patches.side;
    if patch.saturating_mul(merge) > SIDE_LIMIT {
        return Err(format!("spatial_merge_size {merge} does not fit patches of {patch} pixels"));
    }
    let projector = ProjectorConfig::PatchMerger {
        patches: merge * merge,
        feature,
        eps: config.under("text_config").or("rms_norm_eps", 1e-6)?,
        activation: config.or("projector_hidden_act", Activation::Gelu)?,
        bias: config.or("multimodal_projector_bias", false)?,
    };
    Ok(VisionConfig {
        image_token_id: precedence::token(config, &IMAGE_TOKEN, 10)?,
        image_tokens: ImageTokens::Rows,
        tiling: Tiling::Native { patch, merge, frames: 1 },
        kind: VisionEncoder::Tower(Box::new(tower), projector),
        video: None,
    })
}

/// The tower of Pixtral, up to its `layers`-th block.
fn tower(vision: Fields, layers: usize) -> Result<TowerConfig, String> {
    check_channels(vision, "num_channels")?;
    let (width, heads) = (vision.size("hidden_size", 1_024)?, vision.size("num_attention_heads", 16)?);
    let patch = vision.side("patch_size", if vision.is_object() { 16 } else { 14 })?;
    // Rows and columns share the rotary frequencies of a head.
    if !width.is_multiple_of(heads.saturating_mul(4)) || patch > SIDE_LIMIT {
        return Err(format!(
            "the sizes of vision_config do not fit each other: width {width}, {heads} heads, patches of {patch}"
        ));
    }
    let head_dim = width / heads;
    let block = BlockConfig {
        width,
        d_ff: vision.size("intermediate_size", 4_096)?,
        heads,
        kv_heads: heads,
        head_dim,
        scale: (head_dim as f64).powf(-0.5),
        cap: None,
        extras: Extras::default(),
        activation: vision.or("hidden_act", Activation::Gelu)?,
        norm: NormConfig::Rms { eps: 1e-5, offset: 0.0 },
        norms: [Some("attention_norm"), None, Some("ffn_norm"), None],
        layer_scale: None,
        qk_norm: None,
        bias: Biases::default(),
        names: PIXTRAL,
    };
    Ok(TowerConfig {
        block: block.check("vision tower")?,
        layers,
        patches: Patches { side: patch, frames: 1, bias: false, by_pixel: false },
        prefix: &[],
        positions: Positions::None,
        rope: Some(TowerRope { theta: theta(vision)?, alternating: true }),
        windows: None,
        first_norm: Some("ln_pre"),
        last_norm: None,
        names: TowerNames {
            prefixes: &["model.vision_tower.", "vision_tower."],
            patch: "patch_conv",
            positions: "",
            blocks: "transformer.layers.",
        },
    })
}
