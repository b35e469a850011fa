//! OpenVLA's pair of vision towers: DINOv2 with registers and SigLIP, both as `timm` 0.9.16 builds them, of which the output
//! of the last block but one is used.

use super::types::{
    ImageTokens, Patches, Positions, PrefixRows, ProjectorConfig, SIDE_LIMIT, Tiling, TowerConfig, TowerNames,
    VisionConfig, VisionEncoder,
};
use crate::fields::Fields;
use crate::kernel::pointwise::Activation;
use crate::model::config::block::{Biases, BlockConfig, Extras, NormConfig, TIMM};

/// The supported pairs of towers with the side of their images in pixels.
const BACKBONES: [(&str, usize); 2] = [("dinosiglip-vit-so-224px", 224), ("dinosiglip-vit-so-384px", 384)];

/// The class token and the registers of DINOv2.
const DINO_PREFIX: [PrefixRows; 2] =
    [PrefixRows { name: "cls_token", shape: &[1, 1] }, PrefixRows { name: "reg_token", shape: &[1, 4] }];

/// What distinguishes the two towers. The numbers are the defaults of `timm`'s arguments.
struct Defaults {
    /// The field of `config.json` with other arguments.
    arguments: &'static str,
    prefixes: &'static [&'static str],
    prefix: &'static [PrefixRows],
    layer_scale: Option<[&'static str; 2]>,
    embed_dim: usize,
    depth: usize,
    num_heads: usize,
    mlp_ratio: f64,
}

/// `vit_large_patch14_reg4_dinov2`.
const DINO: Defaults = Defaults {
    arguments: "featurizer_args",
    prefixes: &["vision_backbone.featurizer."],
    prefix: &DINO_PREFIX,
    layer_scale: Some(["ls1.scale_factor", "ls2.scale_factor"]),
    embed_dim: 1024,
    depth: 24,
    num_heads: 16,
    mlp_ratio: 4.0,
};

/// `vit_so400m_patch14_siglip`.
const SIGLIP: Defaults = Defaults {
    arguments: "fused_featurizer_args",
    prefixes: &["vision_backbone.fused_featurizer."],
    prefix: &[],
    layer_scale: None,
    embed_dim: 1152,
    depth: 27,
    num_heads: 16,
    mlp_ratio: 3.7362,
};

pub(in super::super) fn openvla(config: Fields) -> Result<VisionConfig, String> {
    let backbone = config.or("vision_backbone_id", "siglip-vit-so400m".to_owned())?;
    let Some((_, side)) = BACKBONES.iter().find(|(name, _)| *name == backbone) else {
        let known = BACKBONES.map(|(name, _)| name).join(" or ");
        return Err(format!("vision_backbone_id {backbone:?} is not supported: expected {known}"));
    };
    if !config.or("use_fused_vision_backbone", true)? {
        return Err(format!("use_fused_vision_backbone is false: expected true for {backbone}"));
    }
    let overridden = config.or("timm_override_act_layers", vec![None::<String>; 2])?;
    if let Some(name) = overridden.into_iter().flatten().next() {
        return Err(format!("timm_override_act_layers ({name}) is not supported"));
    }
    let sides: Vec<usize> = config.or("image_sizes", vec![*side; 2])?;
    let [side, other] = sides[..] else { return Err(format!("image_sizes has {} entries: expected 2", sides.len())) };
    if side != other {
        return Err(format!("image_sizes {side} and {other} differ: expected the same size for both towers"));
    }
    let [first, second] = [tower(config, &DINO, side)?, tower(config, &SIGLIP, side)?];
    if first.patches != second.patches {
        return Err("the two towers divide images into different patches".into());
    }
    let grid = side / first.patches.side;
    Ok(VisionConfig {
        // No token of the vocabulary stands for images. The token for padding is never read otherwise.
        image_token_id: config.or("pad_token_id", 32_000)?,
        image_tokens: ImageTokens::Prismatic,
        tiling: Tiling::Square { side, grid, class: false },
        kind: VisionEncoder::Tower(Box::new(first), ProjectorConfig::Fused { second: Box::new(second) }),
        video: None,
    })
}

/// A tower without its last block. `config.json` may have other arguments of `timm` than those of the published model.
fn tower(config: Fields, defaults: &Defaults, side: usize) -> Result<TowerConfig, String> {
    let arguments = config.under(defaults.arguments);
    let width = arguments.size("embed_dim", defaults.embed_dim)?;
    let heads = arguments.size("num_heads", defaults.num_heads)?;
    let patch = arguments.size("patch_size", 14)?;
    let depth = arguments.size("depth", defaults.depth)?;
    let ratio = arguments.or("mlp_ratio", defaults.mlp_ratio)?;
    if side > SIDE_LIMIT || !side.is_multiple_of(patch) || side == 0 {
        return Err(format!("the image size of {side} pixels is not a multiple of the patch size {patch}"));
    }
    if !width.is_multiple_of(heads) || depth < 2 || !(0.0..=64.0).contains(&ratio) {
        return Err(format!(
            "the sizes of {} do not fit each other: width {width}, {heads} heads, {depth} blocks, mlp_ratio {ratio}",
            defaults.arguments
        ));
    }
    let block = BlockConfig {
        width,
        d_ff: ((width as f64 * ratio) as usize).max(1),
        heads,
        kv_heads: heads,
        head_dim: width / heads,
        scale: ((width / heads) as f64).powf(-0.5),
        cap: None,
        extras: Extras::default(),
        activation: Activation::Gelu,
        norm: NormConfig::Layer { eps: 1e-6 },
        norms: [Some("norm1"), None, Some("norm2"), None],
        layer_scale: defaults.layer_scale,
        qk_norm: None,
        bias: Biases { qkv: true, out: true, mlp: true },
        names: TIMM,
    };
    Ok(TowerConfig {
        block: block.check("vision tower")?,
        layers: depth - 1,
        patches: Patches { side: patch, frames: 1, bias: true, by_pixel: false },
        prefix: defaults.prefix,
        positions: Positions::Patches(side / patch),
        rope: None,
        windows: None,
        first_norm: None,
        last_norm: None,
        names: TowerNames {
            prefixes: defaults.prefixes,
            patch: "patch_embed.proj",
            positions: "pos_embed",
            blocks: "blocks.",
        },
    })
}
