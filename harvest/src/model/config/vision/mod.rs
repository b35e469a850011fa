//! What turns images into positions of the decoder, family by family: a vision tower and how it is joined, or an image
//! tokenizer; and how an image's positions are laid out.

mod chameleon;
mod clip;
mod qwen;

pub(super) use chameleon::chameleon;
pub(super) use clip::{gemma3, llava, llava_next};
pub(super) use qwen::{qwen2_5, qwen3};

use super::block::{BlockConfig, NormConfig};
use crate::kernel::pointwise::Activation;

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
    VqTokenizer(Box<VqTokenizerConfig>),
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
    /// Image tokenizer.
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
            VisionEncoder::VqTokenizer(_) => None,
        }
    }
}
