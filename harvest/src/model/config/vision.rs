//! What turns images into positions of the decoder, family by family: a vision tower and how it is joined, or an image
//! tokenizer; and how an image's positions are laid out.

use super::block::{Biases, BlockConfig, CLIP, NormConfig, QWEN2_5_TOWER, QWEN3_TOWER};
use crate::fields::Fields;
use crate::kernel::pointwise::Activation;
use crate::precedence::{self, BEGIN_OF_IMAGE, END_OF_IMAGE, IMAGE_TOKEN, RopeDefaults};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Most pixels along a side of an image that a tower takes whole.
const SIDE_LIMIT: usize = 1 << 14;

/// What turns images into positions of the decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Id of the token that image positions have.
    pub image_token_id: u32,
    /// What stands around an image in the text.
    pub framing: ImageTokens,
    /// How an image is cut.
    pub tiling: Tiling,
    /// What an image becomes: vectors, or words of an image vocabulary.
    pub kind: VisionEncoder,
}

/// What stands around an image in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageTokens {
    /// Whatever the chat template puts there.
    Bare,
    /// The template's mark is the token that begins an image; one ends it, and blank lines stand around both.
    Gemma {
        /// Its id.
        begin: u32,
        /// Its id.
        end: u32,
    },
    /// Tokens that begin and end it, by name; there is no chat template, and every turn is ended by a separator.
    Chameleon,
}

/// What an image becomes.
#[derive(Clone, Debug, PartialEq)]
pub enum VisionEncoder {
    /// Vectors of a tower, joined to the decoder.
    Tower(Box<TowerConfig>, ProjectorConfig),
    /// Tokens.
    VqTokenizerConfig(Box<VqTokenizerConfig>),
}

/// How an image is cut into what goes through the tower, and how its positions follow.
#[derive(Clone, Debug, PartialEq)]
pub enum Tiling {
    /// One square; its positions row by row.
    Square {
        /// Pixels along a side.
        side: usize,
        /// Positions along a side.
        grid: usize,
        /// Whether the tower's class position comes first.
        class: bool,
    },
    /// The whole in one square, then its tiles in higher resolution, their positions row by row across the tiles, every
    /// row ended by a newline, without the rows and columns that pad the picture (LLaVA-NeXT).
    AnyResolution {
        /// Pixels along a side of a tile.
        side: usize,
        /// Positions along a side of a tile.
        grid: usize,
        /// Heights and widths that the picture may be brought to.
        pinpoints: Vec<[usize; 2]>,
    },
    /// As large as it is, in patches that are joined `merge` x `merge` (Qwen).
    Native {
        /// Pixels along a side of a patch.
        patch: usize,
        /// Patches along a side of a position.
        merge: usize,
        /// Times that a still picture is shown.
        frames: usize,
    },
}

/// A vision transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct TowerConfig {
    /// What its blocks are made of.
    pub block: BlockConfig,
    /// Blocks that are used.
    pub layers: usize,
    /// How pixels go in.
    pub patches: Patches,
    /// Whether a class position stands in front of the patches of an image.
    pub class: bool,
    /// Learned positions.
    pub positions: Positions,
    /// Base of rotary positions of rows and columns.
    pub rope_theta: Option<f64>,
    /// Where attention stays inside windows.
    pub windows: Option<Windows>,
    /// Norm in front of the blocks, by its name.
    pub first_norm: Option<&'static str>,
    /// Norm behind the blocks, by its name.
    pub last_norm: Option<&'static str>,
    /// Names of the other parts.
    pub names: TowerNames,
}

/// How pixels become vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    /// Pixels along a side.
    pub side: usize,
    /// Pictures in a row, the same one for stills.
    pub frames: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Patches {
    /// Numbers of a patch.
    pub fn width(&self) -> usize {
        3 * self.frames * self.side * self.side
    }
}

/// Positions that a tower has learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// None.
    None,
    /// One for every patch of a square of so many patches a side (and the class position).
    Table(usize),
    /// A square of so many, interpolated to the grid of the image.
    Interpolated(usize),
}

/// Attention inside windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Patches along a side of a window.
    pub side: usize,
    /// Blocks that see the whole image.
    pub full: Vec<usize>,
}

/// What checkpoints call the parts of a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TowerNames {
    /// Where the tower may begin.
    pub prefixes: &'static [&'static str],
    /// Embedding of patches.
    pub patch: &'static str,
    /// Table of positions.
    pub positions: &'static str,
    /// In front of a block's number.
    pub blocks: &'static str,
}

/// How the tower's vectors become the decoder's.
#[derive(Clone, Debug, PartialEq)]
pub enum ProjectorConfig {
    /// Two layers, over the features of one or several blocks side by side (LLaVA).
    Mlp {
        /// 0 is what enters the first block, `n` what leaves block `n`.
        features: Vec<usize>,
        /// Between the layers.
        activation: Activation,
        /// Whether they have biases.
        bias: bool,
        /// Whether there is a vector that ends rows.
        newline: bool,
    },
    /// Patches joined four by four, two layers (Qwen); the same once more for each block in `deep`, whose results are
    /// added behind the decoder's first blocks.
    Merge {
        /// Patches that become one position.
        patches: usize,
        /// Norm of patches.
        norm: NormConfig,
        /// Names of norm and layers.
        names: [&'static str; 3],
        /// Blocks whose output is added behind the decoder's first ones.
        deep: Vec<usize>,
    },
    /// Patches averaged in squares, normalized, one layer (Gemma 3).
    Pool {
        /// Positions along a side of an image.
        grid: usize,
        /// Of the norm.
        eps: f64,
    },
}

/// Chameleon's image tokenizer: a convolutional encoder and a code book whose entries are words of the vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct VqTokenizerConfig {
    /// Channels of the first convolution.
    pub base_channels: usize,
    /// Factors of `base_channels`, one a resolution.
    pub multipliers: Vec<usize>,
    /// Residual blocks a resolution.
    pub res_blocks: usize,
    /// Width of what leaves the encoder.
    pub latent_channels: usize,
    /// Width of a code.
    pub embed_dim: usize,
    /// VqTokenizerConfig.
    pub embeddings: usize,
    /// Pixels along a side at the first resolution.
    pub resolution: usize,
    /// Resolutions that have attention.
    pub attention: Vec<usize>,
    /// Whether the last resolution attends to itself.
    pub attends: bool,
    /// The token of each code.
    pub tokens: Vec<u32>,
}

impl ProjectorConfig {
    /// Whether something is added to images behind the decoder's first blocks.
    pub fn is_deep(&self) -> bool {
        matches!(self, Self::Merge { deep, .. } if !deep.is_empty())
    }
}

impl VisionConfig {
    /// The tower, where there is one.
    pub fn tower(&self) -> Option<(&TowerConfig, &ProjectorConfig)> {
        match &self.kind {
            VisionEncoder::Tower(tower, join) => Some((tower, join)),
            VisionEncoder::VqTokenizerConfig(_) => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(i64),
    More(Vec<i64>),
}

const CLIP_TYPE: &str = "clip_vision_model";
const SIGLIP_TYPE: &str = "siglip_vision_model";

/// CLIP or SigLIP, `kind` unless the configuration says which; up to the last block that is used, and pixels along a side
/// of an image.
fn clip(
    vision: Fields,
    kind: &str,
    used: impl Fn(usize) -> Result<usize, String>,
) -> Result<(TowerConfig, usize), String> {
    let kind = vision.or("model_type", kind.to_owned())?;
    let siglip = match kind.as_str() {
        CLIP_TYPE => false,
        SIGLIP_TYPE => true,
        _ => {
            return Err(format!(
                "vision towers of type {kind} are not supported; these are: {CLIP_TYPE}, {SIGLIP_TYPE}"
            ));
        }
    };
    if vision.or("num_channels", 3)? != 3 {
        return Err("the vision tower does not take RGB images (num_channels is not 3)".into());
    }
    let [width, d_ff, layers, heads, image, patch] = clip_defaults(vision, siglip);
    let width = vision.size("hidden_size", width)?;
    let heads = vision.size("num_attention_heads", heads)?;
    let (image, patch) = (vision.side("image_size", image)?, vision.side("patch_size", patch)?);
    if image > SIDE_LIMIT || !image.is_multiple_of(patch) {
        return Err(format!("images of {image} pixels are no whole patches of {patch}"));
    }
    if !width.is_multiple_of(heads) {
        return Err(format!("the sizes of vision_config do not fit each other: width {width}, {heads} heads"));
    }
    let norm = NormConfig::Layer { eps: vision.or("layer_norm_eps", if siglip { 1e-6 } else { 1e-5 })? };
    let activation = if siglip { Activation::GeluPytorchTanh } else { Activation::QuickGelu };
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
        qk_norm: None,
        bias: Biases { qkv: true, out: true, mlp: true },
        names: CLIP,
    };
    let layers = vision.size("num_hidden_layers", layers)?;
    let tower = TowerConfig {
        block: block.check("vision tower")?,
        layers: used(layers)?,
        patches: Patches { side: patch, frames: 1, bias: siglip },
        class: !siglip,
        positions: Positions::Table(image / patch),
        rope_theta: None,
        windows: None,
        // The checkpoints spell it so.
        first_norm: (!siglip).then_some("pre_layrnorm"),
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

/// Width, d_ff width, blocks, heads, pixels a side and a patch's side, where they are left out.
fn clip_defaults(vision: Fields, siglip: bool) -> [usize; 6] {
    match (vision.is_object(), siglip) {
        (_, true) => [768, 3_072, 12, 12, 224, 16],
        (true, false) => [768, 3_072, 12, 12, 224, 32],
        // A LLaVA that says nothing of its tower has CLIP-ViT-L/14 at 336 pixels.
        (false, false) => [1_024, 4_096, 24, 16, 336, 14],
    }
}

/// The tower of a LLaVA with its projector, pixels along a side, and whether the class position is kept.
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
            let known = (0..states).contains(&state);
            known.then_some(state as usize).ok_or_else(|| format!("vision_feature_layer {layer} of {blocks} blocks"))
        });
        features.collect::<Result<Vec<_>, _>>()
    };
    let vision = config.under("vision_config");
    let siglip = vision.or("model_type", String::new())? == SIGLIP_TYPE;
    let blocks = vision.size("num_hidden_layers", clip_defaults(vision, siglip)[2])?;
    let features = features(blocks)?;
    let last = *features.iter().max().ok_or("vision_feature_layer names no layer")?;
    let (tower, side) = clip(vision, CLIP_TYPE, |_| Ok(last))?;
    let strategy = config.or("vision_feature_select_strategy", "default".to_owned())?;
    let class = match (strategy.as_str(), tower.class) {
        // It takes the first position away, whatever that is.
        ("default", false) => {
            return Err("a tower without a class position needs vision_feature_select_strategy full".into());
        }
        ("default", true) => false,
        ("full", class) => class,
        _ => return Err(format!("vision_feature_select_strategy {strategy} is not supported: default or full")),
    };
    let join = ProjectorConfig::Mlp {
        features,
        activation: config.or("projector_hidden_act", Activation::Gelu)?,
        bias: config.or("multimodal_projector_bias", true)?,
        newline,
    };
    let grid = side / tower.patches.side;
    Ok((VisionEncoder::Tower(Box::new(tower), join), side, grid, class))
}

pub(super) fn llava(config: Fields) -> Result<VisionConfig, String> {
    let (kind, side, grid, class) = llava_tower(config, false)?;
    let image_token_id = precedence::token(config, &IMAGE_TOKEN, 32_000)?;
    let tiling = Tiling::Square { side, grid, class };
    Ok(VisionConfig { image_token_id, framing: ImageTokens::Bare, tiling, kind })
}

pub(super) fn llava_next(config: Fields) -> Result<VisionConfig, String> {
    let (kind, side, grid, class) = llava_tower(config, true)?;
    let default = vec![[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]];
    let pinpoints: Vec<[usize; 2]> = config.or("image_grid_pinpoints", default)?;
    let whole = |size: &usize| (1..=SIDE_LIMIT).contains(size) && size.is_multiple_of(side);
    if pinpoints.is_empty() || !pinpoints.iter().flatten().all(whole) {
        return Err(format!("image_grid_pinpoints {pinpoints:?} are no whole tiles of {side} pixels"));
    }
    if class {
        return Err(
            "vision_feature_select_strategy full is not supported with tiles: a class position is no tile's".into()
        );
    }
    let image_token_id = precedence::token(config, &IMAGE_TOKEN, 32_000)?;
    let tiling = Tiling::AnyResolution { side, grid, pinpoints };
    Ok(VisionConfig { image_token_id, framing: ImageTokens::Bare, tiling, kind })
}

/// What both Qwens have in common: block sizes, patches, how many patches a side become one position.
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

impl Qwen {
    fn read(vision: Fields, [width, d_ff, heads, layers, patch]: [usize; 5]) -> Result<Self, String> {
        if vision.or("in_channels", 3)? != 3 {
            return Err("the vision tower does not take RGB images (in_channels is not 3)".into());
        }
        let qwen = Self {
            width: vision.size("hidden_size", width)?,
            d_ff: vision.size("intermediate_size", d_ff)?,
            heads: vision.size("num_heads", heads)?,
            layers: vision.size("depth", layers)?,
            patch: vision.side("patch_size", patch)?,
            merge: vision.size("spatial_merge_size", 2)?,
            frames: vision.size("temporal_patch_size", 2)?,
            theta: Self::theta(vision)?,
        };
        // Rows and columns share the rotary frequencies of a head.
        match qwen.width.is_multiple_of(4 * qwen.heads) && qwen.patch * qwen.merge <= SIDE_LIMIT {
            true => Ok(qwen),
            false => Err(format!(
                "the sizes of vision_config do not fit each other: width {}, {} heads, patches of {}",
                qwen.width, qwen.heads, qwen.patch
            )),
        }
    }

    /// The base of the frequencies, which rows and columns share; they are never scaled.
    fn theta(vision: Fields) -> Result<f64, String> {
        let rope = precedence::rope(vision, RopeDefaults { theta: 1e4, context: 1 })?;
        let rope = Fields(&rope);
        let kind = rope.or("rope_type", rope.or("type", "default".to_owned())?)?;
        if !["default", "axial"].contains(&kind.as_str()) {
            return Err(format!("rotary positions of type {kind} are not supported in a vision tower"));
        }
        rope.or("rope_theta", 1e4)
    }

    fn tower(self, block: BlockConfig, bias: bool, positions: Positions, windows: Option<Windows>) -> TowerConfig {
        TowerConfig {
            block,
            layers: self.layers,
            patches: Patches { side: self.patch, frames: self.frames, bias },
            class: false,
            positions,
            rope_theta: Some(self.theta),
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

    fn tiling(&self) -> Tiling {
        Tiling::Native { patch: self.patch, merge: self.merge, frames: self.frames }
    }

    fn block(&self, norm: NormConfig, activation: Activation, names: super::block::Names) -> BlockConfig {
        let head_dim = self.width / self.heads;
        BlockConfig {
            width: self.width,
            d_ff: self.d_ff,
            heads: self.heads,
            kv_heads: self.heads,
            head_dim,
            scale: (head_dim as f64).powf(-0.5),
            activation,
            norm,
            norms: [Some("norm1"), None, Some("norm2"), None],
            qk_norm: None,
            bias: Biases { qkv: true, out: true, mlp: true },
            names,
        }
    }
}

pub(super) fn qwen2_5(config: Fields) -> Result<VisionConfig, String> {
    let vision = config.under("vision_config");
    let qwen = Qwen::read(vision, [3_584, 3_420, 16, 32, 14])?;
    let window = vision.size("window_size", 112)?;
    let side = window / qwen.merge / qwen.patch * qwen.merge;
    if side == 0 {
        return Err(format!("windows of {window} pixels hold no {} patches of {}", qwen.merge, qwen.patch));
    }
    let windows = Windows { side, full: vision.or("fullatt_block_indexes", vec![7, 15, 23, 31])? };
    let norm = NormConfig::Rms { eps: 1e-6, offset: 0.0 };
    let block = qwen.block(norm, vision.or("hidden_act", Activation::Silu)?, QWEN2_5_TOWER);
    let join = ProjectorConfig::Merge {
        patches: qwen.merge * qwen.merge,
        norm,
        names: ["merger.ln_q", "merger.mlp.0", "merger.mlp.2"],
        deep: Vec::new(),
    };
    let tiling = qwen.tiling();
    let tower = qwen.tower(block, false, Positions::None, Some(windows));
    let image_token_id = config.or("image_token_id", 151_655)?;
    Ok(VisionConfig {
        image_token_id,
        framing: ImageTokens::Bare,
        tiling,
        kind: VisionEncoder::Tower(Box::new(tower), join),
    })
}

pub(super) fn qwen3(config: Fields) -> Result<VisionConfig, String> {
    let vision = config.under("vision_config");
    let qwen = Qwen::read(vision, [1_152, 4_304, 16, 27, 16])?;
    let positions = vision.size("num_position_embeddings", 2_304)?;
    let side = positions.isqrt();
    if side * side != positions {
        return Err(format!("num_position_embeddings is {positions}, which is no square"));
    }
    let deep = vision.or("deepstack_visual_indexes", vec![8, 16, 24])?;
    if let Some(block) = deep.iter().find(|block| **block >= qwen.layers) {
        return Err(format!("deepstack_visual_indexes names block {block} of {}", qwen.layers));
    }
    let norm = NormConfig::Layer { eps: 1e-6 };
    let block = qwen.block(norm, vision.or("hidden_act", Activation::GeluPytorchTanh)?, QWEN3_TOWER);
    let names = ["merger.norm", "merger.linear_fc1", "merger.linear_fc2"];
    let join = ProjectorConfig::Merge { patches: qwen.merge * qwen.merge, norm, names, deep };
    let tiling = qwen.tiling();
    let tower = qwen.tower(block, true, Positions::Interpolated(side), None);
    let image_token_id = config.or("image_token_id", 151_655)?;
    Ok(VisionConfig {
        image_token_id,
        framing: ImageTokens::Bare,
        tiling,
        kind: VisionEncoder::Tower(Box::new(tower), join),
    })
}

pub(super) fn gemma3(config: Fields) -> Result<VisionConfig, String> {
    let (mut tower, side) = clip(config.under("vision_config"), SIGLIP_TYPE, Ok)?;
    if tower.class {
        return Err(format!("the vision tower of a Gemma 3 is a {SIGLIP_TYPE}"));
    }
    tower.last_norm = Some("post_layernorm");
    let positions: usize = config.or("mm_tokens_per_image", 256)?;
    let (grid, patches) = (positions.isqrt(), side / tower.patches.side);
    if grid == 0 || grid * grid != positions || !patches.is_multiple_of(grid) {
        return Err(format!("mm_tokens_per_image is {positions} for {patches} x {patches} patches"));
    }
    let NormConfig::Layer { eps } = tower.block.norm else { return Err("a SigLIP tower without layer norms".into()) };
    let image_token_id = precedence::token(config, &IMAGE_TOKEN, 262_144)?;
    let tiling = Tiling::Square { side, grid, class: false };
    let framing = ImageTokens::Gemma {
        begin: precedence::token(config, &BEGIN_OF_IMAGE, 255_999)?,
        end: precedence::token(config, &END_OF_IMAGE, 256_000)?,
    };
    Ok(VisionConfig {
        image_token_id,
        framing,
        tiling,
        kind: VisionEncoder::Tower(Box::new(tower), ProjectorConfig::Pool { grid, eps }),
    })
}

pub(super) fn chameleon(config: Fields) -> Result<VisionConfig, String> {
    let vq = config.under("vq_config");
    let multipliers: Vec<usize> = vq.or("channel_multiplier", vec![1, 1, 2, 2, 4])?;
    let resolution = vq.size("resolution", 512)?;
    let halvings = multipliers.len().saturating_sub(1);
    if multipliers.is_empty() || halvings > 12 || !resolution.is_multiple_of(1 << halvings) || resolution > SIDE_LIMIT {
        return Err(format!("an image tokenizer of {resolution} pixels with {} resolutions", multipliers.len()));
    }
    if vq.or("in_channels", 3)? != 3 || vq.or("double_latent", false)? {
        return Err("image tokenizers with in_channels other than 3, or double_latent, are not supported".into());
    }
    let embeddings = vq.size("num_embeddings", 8_192)?;
    let map: BTreeMap<String, u32> = config.or("vocabulary_map", BTreeMap::new())?;
    let image_token_id = *map.get("<image>").ok_or("vocabulary_map has no <image>")?;
    let codes = VqTokenizerConfig {
        base_channels: vq.size("base_channels", 128)?,
        multipliers,
        res_blocks: vq.size("num_res_blocks", 2)?,
        latent_channels: vq.size("latent_channels", 256)?,
        embed_dim: vq.size("embed_dim", 256)?,
        embeddings,
        resolution,
        attention: vq.or("attn_resolutions", Vec::new())?,
        attends: vq.or("attn_type", "vanilla".to_owned())? == "vanilla",
        tokens: code_tokens(&map, embeddings)?,
    };
    let tiling = Tiling::Square { side: resolution, grid: resolution >> halvings, class: false };
    Ok(VisionConfig {
        image_token_id,
        framing: ImageTokens::Chameleon,
        tiling,
        kind: VisionEncoder::VqTokenizerConfig(Box::new(codes)),
    })
}

/// The token of each code: `IMGIMG` and the number's digits as letters from `A`, ended by `Z`.
fn code_tokens(map: &BTreeMap<String, u32>, codes: usize) -> Result<Vec<u32>, String> {
    let mut tokens = vec![None; codes];
    for (name, id) in map.iter().filter(|(name, _)| name.starts_with("IMGIMG")) {
        let digits = name["IMGIMG".len()..].bytes().rev().skip(1).collect::<Vec<_>>().into_iter().rev();
        let number = digits.map(|letter| letter.wrapping_sub(b'A')).try_fold(0usize, |number, digit| {
            (digit < 10).then(|| number.saturating_mul(10).saturating_add(usize::from(digit)))
        });
        let place = number.and_then(|number| tokens.get_mut(number));
        *place.ok_or_else(|| format!("vocabulary_map has a token {name} for {codes} image codes"))? = Some(*id);
    }
    let missing = tokens.iter().filter(|token| token.is_none()).count();
    tokens
        .into_iter()
        .collect::<Option<_>>()
        .ok_or_else(|| format!("vocabulary_map has no token for {missing} image codes"))
}
