//! The vision towers of Qwen2.5-VL and Qwen3-VL.

use super::types::{
    ImageTokens, Patches, Positions, ProjectorConfig, SIDE_LIMIT, Tiling, TowerConfig, TowerNames, TowerRope,
    VideoConfig, VideoTiming, VisionConfig, VisionEncoder, Windows, check_channels,
};
use crate::fields::Fields;
use crate::kernel::pointwise::Activation;
use crate::model::config::block::{Biases, BlockConfig, Extras, Names, NormConfig, QWEN2_5_TOWER, QWEN3_TOWER};
use crate::precedence::{self, RopeDefaults};

/// The fields that Qwen2.5-VL and Qwen3-VL have in common: sizes of blocks and patches, and the side of a position in
/// patches.
struct Qwen {
    width: usize,
    d_ff: usize,
    heads: usize,
    layers: usize,
    patch: usize,
    merge: usize,
    frames: usize,
    theta: f64,
}

/// The base of the frequencies, of rows and columns. They are never scaled.
pub(super) fn theta(vision: Fields) -> Result<f64, String> {
    let rope = precedence::rope(vision, RopeDefaults { theta: 1e4, context: 1 })?;
    let rope = Fields(&rope);
    let kind = rope.or("rope_type", rope.or("type", "default".to_owned())?)?;
    if !["default", "axial"].contains(&kind.as_str()) {
        return Err(format!(
            "unsupported type {kind:?} of rotary positions in a vision tower: expected default or axial"
        ));
    }
    rope.or("rope_theta", 1e4)
}

impl Qwen {
    fn read(vision: Fields, [width, d_ff, heads, layers, patch]: [usize; 5]) -> Result<Self, String> {
        check_channels(vision, "in_channels")?;
        let qwen = Self {
            width: vision.size("hidden_size", width)?,
            d_ff: vision.size("intermediate_size", d_ff)?,
            heads: vision.size("num_heads", heads)?,
            layers: vision.size("depth", layers)?,
            patch: vision.side("patch_size", patch)?,
            merge: vision.size("spatial_merge_size", 2)?,
            frames: vision.size("temporal_patch_size", 2)?,
            theta: theta(vision)?,
        };
        // Rows and columns share the rotary frequencies of a head.
        if qwen.width.is_multiple_of(4 * qwen.heads) && qwen.patch * qwen.merge <= SIDE_LIMIT {
            return Ok(qwen);
        }
        Err(format!(
            "the sizes of vision_config do not fit each other: width {}, {} heads, patches of {}",
            qwen.width, qwen.heads, qwen.patch
        ))
    }

    fn tower(&self, block: BlockConfig, bias: bool, positions: Positions, windows: Option<Windows>) -> TowerConfig {
        TowerConfig {
            block,
            layers: self.layers,
            patches: Patches { side: self.patch, frames: self.frames, bias, by_pixel: false },
            prefix: &[],
            positions,
            rope: Some(TowerRope { theta: self.theta, alternating: false }),
            windows,
            first_norm: None,
            last_norm: None,
            names: TowerNames {
                prefixes: &["model.visual.", "visual."],
                patch: "patch_embed.proj",
                positions: "pos_embed.weight",
                blocks: "blocks.",
            },
        }
    }

    fn config(
        &self,
        config: Fields,
        tower: TowerConfig,
        projector: ProjectorConfig,
        timing: VideoTiming,
    ) -> Result<VisionConfig, String> {
        Ok(VisionConfig {
            image_token_id: config.or("image_token_id", 151_655)?,
            image_tokens: ImageTokens::Bare,
            tiling: Tiling::Native { patch: self.patch, merge: self.merge, frames: self.frames },
            kind: VisionEncoder::Tower(Box::new(tower), projector),
            video: Some(VideoConfig { token_id: config.or("video_token_id", 151_656)?, timing }),
        })
    }

    fn block(&self, norm: NormConfig, activation: Activation, names: Names) -> BlockConfig {
        let head_dim = self.width / self.heads;
        BlockConfig {
            width: self.width,
            d_ff: self.d_ff,
            heads: self.heads,
            kv_heads: self.heads,
            head_dim,
            scale: (head_dim as f64).powf(-0.5),
            cap: None,
            extras: Extras::default(),
            activation,
            norm,
            norms: [Some("norm1"), None, Some("norm2"), None],
            layer_scale: None,
            qk_norm: None,
            bias: Biases { qkv: true, out: true, mlp: true },
            names,
        }
    }
}

pub(in super::super) fn qwen2_5(config: Fields) -> Result<VisionConfig, String> {
    let vision = config.under("vision_config");
    let qwen = Qwen::read(vision, [3_584, 3_420, 16, 32, 14])?;
    let window = vision.size("window_size", 112)?;
    let side = window / qwen.merge / qwen.patch * qwen.merge;
    if side == 0 {
        return Err(format!("window_size {window} is smaller than {} patches of {} pixels", qwen.merge, qwen.patch));
    }
    let windows = Windows { side, full: vision.or("fullatt_block_indexes", vec![7, 15, 23, 31])? };
    let norm = NormConfig::Rms { eps: 1e-6, offset: 0.0 };
    let block = qwen.block(norm, vision.or("hidden_act", Activation::Silu)?, QWEN2_5_TOWER);
    let projector = ProjectorConfig::Merge {
        patches: qwen.merge * qwen.merge,
        norm,
        names: ["merger.ln_q", "merger.mlp.0", "merger.mlp.2"],
        deep: Vec::new(),
    };
    let tower = qwen.tower(block, false, Positions::None, Some(windows));
    let tokens_per_second: f64 = vision.or("tokens_per_second", 4.0)?;
    if !(0.0..=1e6).contains(&tokens_per_second) {
        return Err(format!("invalid tokens_per_second {tokens_per_second}: expected a number from 0"));
    }
    qwen.config(config, tower, projector, VideoTiming::Axis { tokens_per_second })
}

pub(in super::super) fn qwen3(config: Fields) -> Result<VisionConfig, String> {
    let vision = config.under("vision_config");
    let qwen = Qwen::read(vision, [1_152, 4_304, 16, 27, 16])?;
    let positions = vision.size("num_position_embeddings", 2_304)?;
    let side = positions.isqrt();
    if side * side != positions {
        return Err(format!("invalid num_position_embeddings {positions}: expected a square number"));
    }
    let deep = vision.or("deepstack_visual_indexes", vec![8, 16, 24])?;
    if let Some(block) = deep.iter().find(|block| **block >= qwen.layers) {
        return Err(format!("deepstack_visual_indexes names block {block}, but the tower has {} blocks", qwen.layers));
    }
    let norm = NormConfig::Layer { eps: 1e-6 };
    let block = qwen.block(norm, vision.or("hidden_act", Activation::GeluPytorchTanh)?, QWEN3_TOWER);
    let names = ["merger.norm", "merger.linear_fc1", "merger.linear_fc2"];
    let projector = ProjectorConfig::Merge { patches: qwen.merge * qwen.merge, norm, names, deep };
    let tower = qwen.tower(block, true, Positions::Interpolated(side), None);
    qwen.config(config, tower, projector, VideoTiming::Text)
}
