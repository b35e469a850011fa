//! How a model turns images into positions of the decoder, as data: a vision tower with its projector, or an image
//! tokenizer, and how an image is divided.

use crate::fields::Fields;
use crate::kernel::pointwise::Activation;
use crate::model::config::block::{BlockConfig, NormConfig};

/// Maximum side of an image that a tower reads as a whole, in pixels.
pub(crate) const SIDE_LIMIT: usize = 1 << 14;

/// Rejects a tower that does not take RGB images. `name` is the field with the number of channels.
pub(super) fn check_channels(vision: Fields, name: &str) -> Result<(), String> {
    if vision.or(name, 3)? != 3 {
        return Err(format!("the vision tower does not take RGB images: {name} is not 3"));
    }
    Ok(())
}

/// The part of a model that turns images into positions of the decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Id of the token at the positions of images.
    pub image_token_id: u32,
    /// How an image is delimited in the text.
    pub image_tokens: ImageTokens,
    /// How an image is divided.
    pub tiling: Tiling,
    /// What an image becomes: vectors, or tokens of an image vocabulary.
    pub kind: VisionEncoder,
    /// How a video stands in the sequence, if the model takes videos.
    pub video: Option<VideoConfig>,
}

/// How a video stands in the sequence of a model whose tower reads a few consecutive frames at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoConfig {
    /// Id of the token at the positions of videos.
    pub token_id: u32,
    /// How the decoder learns when frames were taken.
    pub timing: VideoTiming,
}

/// How a decoder learns when the frames of a video were taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum VideoTiming {
    /// By the first axis of rotary positions, on which a second takes this many steps (Qwen2.5-VL).
    Axis {
        /// Steps per second.
        tokens_per_second: f64,
    },
    /// By a text before the frames of every patch, such as `<1.5 seconds>` (Qwen3-VL).
    Text,
}

/// How an image is delimited in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageTokens {
    /// By whatever the chat template contains.
    Bare,
    /// The placeholder in the template is the token that begins an image. Another token ends it, and blank lines surround
    /// both.
    Gemma {
        /// Id of the token that begins an image.
        begin: u32,
        /// Id of the token that ends an image.
        end: u32,
    },
    /// By two tokens with fixed names. There is no chat template, and every turn ends with a separator.
    Chameleon,
    /// Each tile by a token with its row and column, the whole image by one of its own, and all of them by a token around images;
    /// tiles and their rows are apart in the text (Idefics3).
    Tiles,
    /// By two tokens around all of its positions, which the tokenizer's files have under these names (InternVL, Gemma 4).
    Named([&'static str; 2]),
    /// By a token behind each row of positions, another one behind the last (Pixtral).
    Rows,
    /// Not at all: the only image of a sample stands behind the first token, whatever the text is.
    Prismatic,
    /// By the token that begins the text: all images stand before it. They, the text and a line break are a prefix, whose
    /// positions attend to each other in both directions; an answer follows it (PaliGemma).
    Prefix,
}

/// What an image becomes.
#[derive(Clone, Debug, PartialEq)]
pub enum VisionEncoder {
    /// Vectors of a vision tower, projected to the width of the decoder.
    Tower(Box<TowerConfig>, ProjectorConfig),
    /// Tokens.
    VqTokenizer(Box<VqTokenizerConfig>),
}

/// How an image is divided into the views that go through the tower, and the order of its positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Tiling {
    /// One square, with its positions row by row.
    Square {
        /// Side in pixels.
        side: usize,
        /// Side in positions.
        grid: usize,
        /// Whether the class token of the tower comes first.
        class: bool,
    },
    /// The whole image in one square, then its tiles in higher resolution. The positions of the tiles are row by row across
    /// all tiles, with a newline at the end of each row, and without the rows and columns that pad the image (LLaVA-NeXT).
    AnyResolution {
        /// Side of a tile in pixels.
        side: usize,
        /// Side of a tile in positions.
        grid: usize,
        /// Heights and widths to which the image may be resized.
        pinpoints: Vec<[usize; 2]>,
        /// The number of tiles to whose positions those of more tiles are interpolated. If there is one, only the image of a
        /// sample that has no other is divided: of several, each is one square, padded, with a newline at its end
        /// (LLaVA-OneVision).
        most_tiles: Option<usize>,
    },
    /// The image, resized so that square tiles divide it, row by row, and then the whole of it in one square; only the latter if
    /// the image is not larger than a tile. Each tile has its own positions, row by row (Idefics3, InternVL).
    Split {
        /// Side of a tile in pixels.
        side: usize,
        /// Side of a tile in positions.
        grid: usize,
        /// Side of a position in patches.
        merge: usize,
    },
    /// The image in its own proportions, in patches of which `merge` x `merge` become one position (Qwen, Mistral 3).
    Native {
        /// Side of a patch in pixels.
        patch: usize,
        /// Side of a position in patches.
        merge: usize,
        /// How often a still image is repeated as a frame.
        frames: usize,
    },
}

/// The configuration of a vision transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct TowerConfig {
    /// The structure of its blocks.
    pub block: BlockConfig,
    /// Number of blocks that are used.
    pub layers: usize,
    /// How pixels are embedded.
    pub patches: Patches,
    /// Learned rows that come before the patches of an image, such as a class token.
    pub prefix: &'static [PrefixRows],
    /// Learned positions.
    pub positions: Positions,
    /// Rotary positions of rows and columns, if there are any.
    pub rope: Option<TowerRope>,
    /// The windows to which attention is limited, if it is.
    pub windows: Option<Windows>,
    /// Name of the norm before the blocks, if there is one.
    pub first_norm: Option<&'static str>,
    /// Name of the norm after the blocks, if there is one.
    pub last_norm: Option<&'static str>,
    /// Names of the other parts.
    pub names: TowerNames,
}

/// Learned rows before the patches of an image: the name of their tensor and its dimensions without the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixRows {
    /// The name of the tensor.
    pub name: &'static str,
    /// Its dimensions but the last one, which is the width.
    pub shape: &'static [usize],
}

impl TowerConfig {
    /// The number of rows before the patches of an image.
    pub fn prefix_rows(&self) -> usize {
        self.prefix.iter().map(|part| part.shape.iter().product::<usize>()).sum()
    }
}

/// How pixels are embedded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    /// Side of a patch in pixels.
    pub side: usize,
    /// Number of consecutive frames in a patch. A still image is repeated.
    pub frames: usize,
    /// Whether the embedding has a bias.
    pub bias: bool,
    /// Whether the weight is stored pixel by pixel, for numbers between -1 and 1 in place of those between 0 and 1 (Gemma 4).
    pub by_pixel: bool,
}

impl Patches {
    /// How many numbers a patch has.
    pub fn width(&self) -> usize {
        3 * self.frames * self.side * self.side
    }
}

/// The learned positions of a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// There are none.
    None,
    /// One for every patch of a square with this many patches per side, and one for every row before them.
    Table(usize),
    /// The same as a table, stored with a leading dimension of 1.
    Stacked(usize),
    /// One for every patch of such a square alone, stored with a leading dimension of 1.
    Patches(usize),
    /// One for each column and one for each row, this many of both, which are added (Gemma 4).
    Axes(usize),
    /// A square with this many positions per side, interpolated to the grid of the image.
    Interpolated(usize),
}

/// The rotary positions of rows and columns. One half of a head is rotated by the row of a patch, the other half by its column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TowerRope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Whether columns have the frequencies between those of rows (Pixtral); otherwise both have the same (Qwen).
    pub alternating: bool,
}

/// Attention that is limited to windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Side of a window in patches.
    pub side: usize,
    /// Blocks whose attention spans the whole image.
    pub full: Vec<usize>,
}

/// Names of the parts of a tower in checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TowerNames {
    /// Possible prefixes of all names.
    pub prefixes: &'static [&'static str],
    /// The embedding of patches.
    pub patch: &'static str,
    /// The table of positions.
    pub positions: &'static str,
    /// The prefix of a block's number.
    pub blocks: &'static str,
}

/// How vectors of the tower become vectors of the decoder.
#[derive(Clone, Debug, PartialEq)]
pub enum ProjectorConfig {
    /// Two layers on the concatenated features of one or several blocks (LLaVA).
    Mlp {
        /// The hidden states that are used: 0 is the input of the first block, `n` is the output of the `n`-th block.
        features: Vec<usize>,
        /// The activation function between the layers.
        activation: Activation,
        /// Whether the layers have biases.
        bias: bool,
        /// Whether there is a vector for newlines.
        newline: bool,
    },
    /// Two layers on concatenated patches (Qwen). The same is done for the output of each block in `deep`, and the results
    /// are added behind the decoder's first blocks.
    Merge {
        /// Number of patches that become one position.
        patches: usize,
        /// The norm of patches.
        norm: NormConfig,
        /// Names of the norm and the two layers.
        names: [&'static str; 3],
        /// The blocks of the tower whose outputs are added behind the decoder's first blocks (DeepStack).
        deep: Vec<usize>,
    },
    /// One layer on the concatenated patches of a square (Idefics3, which calls it a pixel shuffle), or on each patch (PaliGemma).
    Shuffle {
        /// Number of patches that become one position.
        patches: usize,
        /// The name of the layer.
        name: &'static str,
        /// Whether it has a bias.
        bias: bool,
    },
    /// A norm and two layers on the concatenated patches of a square (InternVL).
    ShuffleMlp {
        /// Number of patches that become one position.
        patches: usize,
        /// The hidden state that is used: 0 is the input of the first block, `n` is the output of the `n`-th block.
        feature: usize,
        /// The activation function between the layers.
        activation: Activation,
    },
    /// Patches are normalized, one layer without a bias merges those of a square, and two layers follow (Mistral 3).
    PatchMerger {
        /// Number of patches that become one position.
        patches: usize,
        /// The hidden state that is used: 0 is the input of the first block, `n` is the output of the `n`-th block.
        feature: usize,
        /// The epsilon of the norm.
        eps: f64,
        /// The activation function between the last two layers.
        activation: Activation,
        /// Whether these have biases.
        bias: bool,
    },
    /// Two towers read the same image, normalized in two ways. Three layers are applied to the concatenated features of each
    /// patch (OpenVLA).
    Fused {
        /// The second tower. It divides images into the same patches as the first.
        second: Box<TowerConfig>,
    },
    /// Patches of an image in its own proportions are averaged in squares, multiplied by the square root of the width, standardized
    /// and normalized without weights, and one layer is applied (Gemma 4).
    PoolNative {
        /// Number of patches that become one position.
        patches: usize,
        /// The epsilon of the norm.
        eps: f64,
        /// Whether each channel is standardized.
        standardized: bool,
    },
    /// Patches are averaged in squares and normalized, and one layer is applied (Gemma 3).
    Pool {
        /// Side of an image in positions.
        grid: usize,
        /// The epsilon of the norm.
        eps: f64,
    },
}

/// The configuration of Chameleon's image tokenizer: a convolutional encoder, and a codebook whose entries are tokens of the
/// vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct VqTokenizerConfig {
    /// Channels of the first convolution.
    pub base_channels: usize,
    /// Factors of `base_channels`, one for each resolution.
    pub multipliers: Vec<usize>,
    /// Number of residual blocks per resolution.
    pub res_blocks: usize,
    /// Width of the encoder's output.
    pub latent_channels: usize,
    /// Width of a code.
    pub embed_dim: usize,
    /// Number of codes in the codebook.
    pub embeddings: usize,
    /// Side of the image in pixels.
    pub resolution: usize,
    /// The resolutions that have attention.
    pub attention: Vec<usize>,
    /// Whether there is attention at all, also at the last resolution.
    pub attends: bool,
    /// The token of each code.
    pub tokens: Vec<u32>,
}

impl ImageTokens {
    /// Whether other tokens stand between the positions of an image.
    pub fn has_tokens_between_positions(self) -> bool {
        matches!(self, Self::Tiles | Self::Rows)
    }
}

impl ProjectorConfig {
    /// Whether vectors are added to images behind the decoder's first blocks.
    pub fn is_deep(&self) -> bool {
        matches!(self, Self::Merge { deep, .. } if !deep.is_empty())
    }
}

impl VisionConfig {
    /// Whether a token stands for a position of an image or a video.
    pub fn is_placeholder(&self, id: u32) -> bool {
        id == self.image_token_id || self.video.is_some_and(|video| id == video.token_id)
    }

    /// The vision tower and its projector, if there is one.
    pub fn tower(&self) -> Option<(&TowerConfig, &ProjectorConfig)> {
        match &self.kind {
            VisionEncoder::Tower(tower, projector) => Some((tower, projector)),
            VisionEncoder::VqTokenizer(_) => None,
        }
    }
}
