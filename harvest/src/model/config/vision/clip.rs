//! Families with a vision tower of CLIP or SigLIP: LLaVA, LLaVA-NeXT and Gemma 3.

use super::types::{
    ImageTokens, Patches, Positions, PrefixRows, ProjectorConfig, SIDE_LIMIT, Tiling, TowerConfig, TowerNames,
    VisionConfig, VisionEncoder,
};
use crate::fields::Fields;
use crate::kernel::pointwise::Activation;
use crate::model::config::block::{Biases, BlockConfig, CLIP, NormConfig};
use crate::precedence::{self, BEGIN_OF_IMAGE, END_OF_IMAGE, IMAGE_TOKEN};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(i64),
    More(Vec<i64>),
}

/// The class token of CLIP.
const CLASS: [PrefixRows; 1] = [PrefixRows { name: "embeddings.class_embedding", shape: &[] }];
const CLIP_TYPE: &str = "clip_vision_model";
const SIGLIP_TYPE: &str = "siglip_vision_model";

/// The tower of CLIP or SigLIP up to the last block that is used, and the side of an image in pixels. `kind` is the default
/// if the configuration does not say which of the two it is. `used` returns how many of all blocks are used.
fn clip(
    vision: Fields,
    kind: &str,
    used: impl Fn(usize) -> Result<usize, String>,
) -> Result<(TowerConfig, usize), String> {
    let kind = vision.or("model_type", kind.to_owned())?;
    let is_siglip = match kind.as_str() {
        CLIP_TYPE => false,
        SIGLIP_TYPE => true,
        _ => {
            return Err(format!("unsupported vision tower type {kind:?}: expected {CLIP_TYPE} or {SIGLIP_TYPE}"));
        }
    };
    if vision.or("num_channels", 3)? != 3 {
        return Err("the vision tower does not take RGB images: num_channels is not 3".into());
    }
    let [width, d_ff, layers, heads, image, patch] = clip_defaults(vision, is_siglip);
    let width = vision.size("hidden_size", width)?;
    let heads = vision.size("num_attention_heads", heads)?;
    let (image, patch) = (vision.side("image_size", image)?, vision.side("patch_size", patch)?);
    if image > SIDE_LIMIT || !image.is_multiple_of(patch) {
        return Err(format!("the image size of {image} pixels is not a multiple of the patch size {patch}"));
    }
    if !width.is_multiple_of(heads) {
        return Err(format!("the sizes of vision_config do not fit each other: width {width}, {heads} heads"));
    }
    let norm = NormConfig::Layer { eps: vision.or("layer_norm_eps", if is_siglip { 1e-6 } else { 1e-5 })? };
    let activation = if is_siglip { Activation::GeluPytorchTanh } else { Activation::QuickGelu };
    let block = BlockConfig {
        width,
        d_ff: vision.size("intermediate_size", d_ff)?,
        heads,
        kv_heads: heads,
        head_dim: width / heads,
        scale: ((width / heads) as f64).powf(-0.5),
        activation: vision.or("hidden_act", activation)?,
        norm,
        norms: [Some("layer_norm1"), None, Some("layer_norm2"), None],
        layer_scale: None,
        qk_norm: None,
        bias: Biases { qkv: true, out: true, mlp: true },
        names: CLIP,
    };
    let layers = vision.size("num_hidden_layers", layers)?;
    let tower = TowerConfig {
        block: block.check("vision tower")?,
        layers: used(layers)?,
        patches: Patches { side: patch, frames: 1, bias: is_siglip },
        prefix: if is_siglip { &[] } else { &CLASS },
        positions: Positions::Table(image / patch),
        rope_theta: None,
        windows: None,
        // This is the spelling in checkpoints.
        first_norm: (!is_siglip).then_some("pre_layrnorm"),
        last_norm: None,
        names: TowerNames {
            prefixes: &[
                "model.vision_tower.",
                "model.vision_tower.vision_model.",
                "vision_tower.vision_model.",
                "vision_tower.",
            ],
            patch: "embeddings.patch_embedding",
            positions: "embeddings.position_embedding.weight",
            blocks: "encoder.layers.",
        },
    };
    Ok((tower, image))
}

/// The defaults of the width, `d_ff`, the numbers of blocks and heads, and the sides of an image and of a patch in pixels.
fn clip_defaults(vision: Fields, is_siglip: bool) -> [usize; 6] {
    match (vision.is_object(), is_siglip) {
        (_, true) => [768, 3_072, 12, 12, 224, 16],
        (true, false) => [768, 3_072, 12, 12, 224, 32],
        // A LLaVA without a configuration of its tower has CLIP-ViT-L/14 at 336 pixels.
        (false, false) => [1_024, 4_096, 24, 16, 336, 14],
    }
}

/// The tower of a LLaVA with its projector, the side of an image in pixels and in patches, and whether the class token is
/// kept.
fn llava_tower(config: Fields, newline: bool) -> Result<(VisionEncoder, usize, usize, bool), String> {
    let layers = config.or("vision_feature_layer", OneOrMore::One(-2))?;
    let layers = match layers {
        OneOrMore::One(layer) => vec![layer],
        OneOrMore::More(layers) => layers,
    };
    let features = |blocks: usize| {
        let states = blocks as i64 + 1;
        let features = layers.iter().map(|layer| {
            let state = if *layer < 0 { layer + states } else { *layer };
            let exists = (0..states).contains(&state);
            exists.then_some(state as usize).ok_or_else(|| {
                format!("there is no vision_feature_layer {layer}: the vision tower has {blocks} blocks")
            })
        });
        features.collect::<Result<Vec<_>, _>>()
    };
    let vision = config.under("vision_config");
    let is_siglip = vision.or("model_type", String::new())? == SIGLIP_TYPE;
    let blocks = vision.size("num_hidden_layers", clip_defaults(vision, is_siglip)[2])?;
    let features = features(blocks)?;
    let last = *features.iter().max().ok_or("vision_feature_layer names no layer")?;
    let (tower, side) = clip(vision, CLIP_TYPE, |_| Ok(last))?;
    let strategy = config.or("vision_feature_select_strategy", "default".to_owned())?;
    let class = match (strategy.as_str(), !tower.prefix.is_empty()) {
        // This strategy removes the first position, whatever it is.
        ("default", false) => {
            return Err("a vision tower without a class token requires the vision_feature_select_strategy full".into());
        }
        ("default", true) => false,
        ("full", class) => class,
        _ => return Err(format!("invalid vision_feature_select_strategy {strategy:?}: expected default or full")),
    };
    let projector = ProjectorConfig::Mlp {
        features,
        activation: config.or("projector_hidden_act", Activation::Gelu)?,
        bias: config.or("multimodal_projector_bias", true)?,
        newline,
    };
    let grid = side / tower.patches.side;
    Ok((VisionEncoder::Tower(Box::new(tower), projector), side, grid, class))
}

pub(in super::super) fn llava(config: Fields) -> Result<VisionConfig, String> {
    let (kind, side, grid, class) = llava_tower(config, false)?;
    let image_token_id = precedence::token(config, &IMAGE_TOKEN, 32_000)?;
    let tiling = Tiling::Square { side, grid, class };
    Ok(VisionConfig { image_token_id, image_tokens: ImageTokens::Bare, tiling, kind, video: None })
}

pub(in super::super) fn llava_next(config: Fields) -> Result<VisionConfig, String> {
    let (kind, side, grid, class) = llava_tower(config, true)?;
    let default = vec![[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]];
    let pinpoints: Vec<[usize; 2]> = config.or("image_grid_pinpoints", default)?;
    let is_multiple = |size: &usize| (1..=SIDE_LIMIT).contains(size) && size.is_multiple_of(side);
    if pinpoints.is_empty() || !pinpoints.iter().flatten().all(is_multiple) {
        return Err(format!("invalid image_grid_pinpoints {pinpoints:?}: expected multiples of {side} pixels"));
    }
    if class {
        return Err("vision_feature_select_strategy full is not supported together with tiles".into());
    }
    let image_token_id = precedence::token(config, &IMAGE_TOKEN, 32_000)?;
    let tiling = Tiling::AnyResolution { side, grid, pinpoints };
    Ok(VisionConfig { image_token_id, image_tokens: ImageTokens::Bare, tiling, kind, video: None })
}

pub(in super::super) fn gemma3(config: Fields) -> Result<VisionConfig, String> {
    let (mut tower, side) = clip(config.under("vision_config"), SIGLIP_TYPE, Ok)?;
    if !tower.prefix.is_empty() {
        return Err(format!("expected a vision tower of type {SIGLIP_TYPE} for Gemma 3, found {CLIP_TYPE}"));
    }
    tower.last_norm = Some("post_layernorm");
    let positions: usize = config.or("mm_tokens_per_image", 256)?;
    let (grid, patches) = (positions.isqrt(), side / tower.patches.side);
    if grid == 0 || grid * grid != positions || !patches.is_multiple_of(grid) {
        return Err(format!("mm_tokens_per_image {positions} does not fit {patches} x {patches} patches"));
    }
    let NormConfig::Layer { eps } = tower.block.norm else {
        return Err("expected a vision tower with LayerNorm".into());
    };
    let image_token_id = precedence::token(config, &IMAGE_TOKEN, 262_144)?;
    let tiling = Tiling::Square { side, grid, class: false };
    let image_tokens = ImageTokens::Gemma {
        begin: precedence::token(config, &BEGIN_OF_IMAGE, 255_999)?,
        end: precedence::token(config, &END_OF_IMAGE, 256_000)?,
    };
    Ok(VisionConfig {
        image_token_id,
        image_tokens,
        tiling,
        kind: VisionEncoder::Tower(Box::new(tower), ProjectorConfig::Pool { grid, eps }),
        video: None,
    })
}
