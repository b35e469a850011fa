//! Families with a vision tower of CLIP or SigLIP: LLaVA, LLaVA-NeXT, LLaVA-OneVision, Gemma 3 and PaliGemma.

use super::features::features;
use super::types::{
    ImageTokens, Patches, Positions, PrefixRows, ProjectorConfig, SIDE_LIMIT, Tiling, TowerConfig, TowerNames,
    VisionConfig, VisionEncoder, check_channels,
};
use crate::fields::Fields;
use crate::kernel::pointwise::Activation;
use crate::model::config::block::{Biases, BlockConfig, CLIP, Extras, NormConfig};
use crate::precedence::{self, BEGIN_OF_IMAGE, END_OF_IMAGE, IMAGE_TOKEN};

/// The class token of CLIP.
const CLASS: [PrefixRows; 1] = [PrefixRows { name: "embeddings.class_embedding", shape: &[] }];
const CLIP_TYPE: &str = "clip_vision_model";
const SIGLIP_TYPE: &str = "siglip_vision_model";

/// The width, `d_ff`, the numbers of blocks and heads, and the sides of an image and of a patch in pixels.
pub(super) type Sizes = [usize; 6];
const CLIP_SIZES: Sizes = [768, 3_072, 12, 12, 224, 32];
const SIGLIP_SIZES: Sizes = [768, 3_072, 12, 12, 224, 16];

/// The tower of a family whose configuration says nothing about it.
#[derive(Clone, Copy)]
struct Absent {
    /// Its type, also where the configuration describes a tower without its type.
    kind: &'static str,
    sizes: Sizes,
}

/// What a LLaVA has if its configuration does not say.
#[derive(Clone, Copy)]
struct Llava {
    tower: Absent,
    feature_layer: i64,
    select_strategy: &'static str,
    /// Whether there is a vector for newlines, which no configuration says.
    newline: bool,
}

/// CLIP-ViT-L/14 at 336 pixels.
const LLAVA: Llava = Llava {
    tower: Absent { kind: CLIP_TYPE, sizes: [1_024, 4_096, 24, 16, 336, 14] },
    feature_layer: -2,
    select_strategy: "default",
    newline: false,
};
const LLAVA_NEXT: Llava = Llava { newline: true, ..LLAVA };
/// SigLIP-SO400M/14 at 384 pixels without its last block.
const LLAVA_ONEVISION: Llava = Llava {
    tower: Absent { kind: SIGLIP_TYPE, sizes: [1_152, 4_304, 26, 16, 384, 14] },
    feature_layer: -1,
    select_strategy: "full",
    newline: true,
};

/// The tower of CLIP or SigLIP up to the last block that is used, and the side of an image in pixels. `used` returns how many
/// of all blocks are used.
fn clip(
    vision: Fields,
    absent: Absent,
    used: impl Fn(usize) -> Result<usize, String>,
) -> Result<(TowerConfig, usize), String> {
    let kind = vision.or("model_type", absent.kind.to_owned())?;
    let is_siglip = match kind.as_str() {
        CLIP_TYPE => false,
        SIGLIP_TYPE => true,
        _ => {
            return Err(format!("unsupported vision tower type {kind:?}: expected {CLIP_TYPE} or {SIGLIP_TYPE}"));
        }
    };
    clip_or_siglip(vision, is_siglip, default_sizes(vision, absent)?, used)
}

/// The tower of SigLIP if it `is_siglip`, otherwise of CLIP, with these sizes where its configuration does not say, up to the last
/// block that is used, and the side of an image in pixels.
pub(super) fn clip_or_siglip(
    vision: Fields,
    is_siglip: bool,
    sizes: Sizes,
    used: impl Fn(usize) -> Result<usize, String>,
) -> Result<(TowerConfig, usize), String> {
    check_channels(vision, "num_channels")?;
    let [width, d_ff, layers, heads, image, patch] = sizes;
    let width = vision.size("hidden_size", width)?;
    let heads = vision.size("num_attention_heads", heads)?;
    let (image, patch) = (vision.side("image_size", image)?, vision.side("patch_size", patch)?);
    // Pixels at the right and at the bottom that do not fill a patch are not used.
    if image > SIDE_LIMIT || image < patch {
        return Err(format!("the image size of {image} pixels does not fit the patch size {patch}"));
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
        cap: None,
        extras: Extras::default(),
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
        patches: Patches { side: patch, frames: 1, bias: is_siglip, by_pixel: false },
        prefix: if is_siglip { &[] } else { &CLASS },
        positions: Positions::Table(image / patch),
        rope: None,
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

/// The sizes of a tower where its configuration does not have them.
fn default_sizes(vision: Fields, absent: Absent) -> Result<Sizes, String> {
    if !vision.is_object() {
        return Ok(absent.sizes);
    }
    let kind = vision.or("model_type", absent.kind.to_owned())?;
    Ok(if kind == SIGLIP_TYPE { SIGLIP_SIZES } else { CLIP_SIZES })
}

/// The tower of a LLaVA with its projector, the side of an image in pixels and in patches, and whether the class token is
/// kept.
fn llava_tower(config: Fields, default: Llava) -> Result<(VisionEncoder, usize, usize, bool), String> {
    let vision = config.under("vision_config");
    let blocks = vision.size("num_hidden_layers", default_sizes(vision, default.tower)?[2])?;
    let features = features(config, default.feature_layer, blocks)?;
    let last = *features.iter().max().ok_or("vision_feature_layer names no layer")?;
    let (tower, side) = clip(vision, default.tower, |_| Ok(last))?;
    let strategy = config.or("vision_feature_select_strategy", default.select_strategy.to_owned())?;
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
        newline: default.newline,
    };
    let grid = side / tower.patches.side;
    Ok((VisionEncoder::Tower(Box::new(tower), projector), side, grid, class))
}

pub(in super::super) fn llava(config: Fields) -> Result<VisionConfig, String> {
    let (kind, side, grid, class) = llava_tower(config, LLAVA)?;
    let image_token_id = precedence::token(config, &IMAGE_TOKEN, 32_000)?;
    let tiling = Tiling::Square { side, grid, class };
    Ok(VisionConfig { image_token_id, image_tokens: ImageTokens::Bare, tiling, kind, video: None })
}

pub(in super::super) fn llava_next(config: Fields) -> Result<VisionConfig, String> {
    let pinpoints = vec![[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]];
    any_resolution(config, LLAVA_NEXT, pinpoints, 32_000, None)
}

pub(in super::super) fn llava_onevision(config: Fields) -> Result<VisionConfig, String> {
    let pinpoints = (1..=6).flat_map(|rows| (1..=6).map(move |columns| [384 * rows, 384 * columns]));
    let ratio = config.or("vision_aspect_ratio", precedence::ASPECT_RATIO.to_owned())?;
    let most_tiles = ratio.strip_prefix("anyres_max_").and_then(|most| most.parse::<usize>().ok());
    let most_tiles = most_tiles.filter(|most| (1..=SIDE_LIMIT).contains(most)).ok_or_else(|| {
        format!(
            "vision_aspect_ratio {ratio:?} is not supported: expected anyres_max_ and a number, such as anyres_max_9"
        )
    })?;
    any_resolution(config, LLAVA_ONEVISION, pinpoints.collect(), 151_646, Some(most_tiles))
}

/// A LLaVA that divides images into tiles, with the defaults of `image_grid_pinpoints` and of the token of an image.
fn any_resolution(
    config: Fields,
    default: Llava,
    pinpoints: Vec<[usize; 2]>,
    image_token: u32,
    most_tiles: Option<usize>,
) -> Result<VisionConfig, String> {
    let (kind, side, grid, class) = llava_tower(config, default)?;
    let pinpoints: Vec<[usize; 2]> = config.or("image_grid_pinpoints", pinpoints)?;
    let is_multiple = |size: &usize| (1..=SIDE_LIMIT).contains(size) && size.is_multiple_of(side);
    if pinpoints.is_empty() || !pinpoints.iter().flatten().all(is_multiple) {
        return Err(format!("invalid image_grid_pinpoints {pinpoints:?}: expected multiples of {side} pixels"));
    }
    if class {
        return Err("vision_feature_select_strategy full is not supported together with tiles".into());
    }
    let image_token_id = precedence::token(config, &IMAGE_TOKEN, image_token)?;
    let tiling = Tiling::AnyResolution { side, grid, pinpoints, most_tiles };
    Ok(VisionConfig { image_token_id, image_tokens: ImageTokens::Bare, tiling, kind, video: None })
}

/// SigLIP with all its blocks and its last norm, and the side of an image in pixels. `sizes` are those of a family whose
/// configuration says nothing about its tower.
fn whole_siglip(config: Fields, sizes: Sizes) -> Result<(TowerConfig, usize), String> {
    let (tower, side) = clip(config.under("vision_config"), Absent { kind: SIGLIP_TYPE, sizes }, Ok)?;
    if !tower.prefix.is_empty() {
        return Err(format!("expected a vision tower of type {SIGLIP_TYPE} for this family, found {CLIP_TYPE}"));
    }
    Ok((TowerConfig { last_norm: Some("post_layernorm"), ..tower }, side))
}

pub(in super::super) fn paligemma(config: Fields) -> Result<VisionConfig, String> {
    let (tower, side) = whole_siglip(config, [1_152, 4_096, 27, 16, 224, 14])?;
    let grid = side / tower.patches.side;
    let projector = ProjectorConfig::Shuffle { patches: 1, name: "multi_modal_projector.linear", bias: true };
    Ok(VisionConfig {
        image_token_id: precedence::token(config, &IMAGE_TOKEN, 256_000)?,
        image_tokens: ImageTokens::Prefix,
        tiling: Tiling::Square { side, grid, class: false },
        kind: VisionEncoder::Tower(Box::new(tower), projector),
        video: None,
    })
}

pub(in super::super) fn gemma3(config: Fields) -> Result<VisionConfig, String> {
    let (tower, side) = whole_siglip(config, SIGLIP_SIZES)?;
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
