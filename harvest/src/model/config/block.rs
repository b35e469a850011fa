//! The components of a transformer block, as data: sizes, norms and their places, biases, and the names of the parts in
//! checkpoints. Decoders and vision towers consist of the same kind of block.

use crate::kernel::pointwise::Activation;

/// A transformer block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockConfig {
    /// Width of the residual stream.
    pub width: usize,
    /// Width of the hidden layer of the MLP.
    pub d_ff: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// The factor of products of queries and keys.
    pub scale: f64,
    /// If present, these products become `cap * tanh(product / cap)`.
    pub cap: Option<f64>,
    /// Activation function of the MLP.
    pub activation: Activation,
    /// The kind of all norms that span the residual stream.
    pub norm: NormConfig,
    /// Names of the norms before and after attention, and before and after the MLP; nothing where there is no norm.
    pub norms: [Option<&'static str>; 4],
    /// Names of the factors of each channel of what attention and the MLP add, if there are any (LayerScale).
    pub layer_scale: Option<[&'static str; 2]>,
    /// The norm of queries and keys, head by head.
    pub qk_norm: Option<QkNorm>,
    /// What only the blocks of Gemma 4 have.
    pub extras: Extras,
    /// Which projections have biases.
    pub bias: Biases,
    /// Names of the projections.
    pub names: Names,
}

/// How a row is normalized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormConfig {
    /// RMSNorm: divided by the root mean square, times `offset` + weight.
    Rms {
        /// Added to the mean square.
        eps: f64,
        /// Added to the stored weight: 1 for Gemma, otherwise 0.
        offset: f32,
    },
    /// LayerNorm: the mean is subtracted, divided by the standard deviation, times weight, plus bias.
    Layer {
        /// Added to the variance.
        eps: f64,
    },
}

/// A norm of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QkNorm {
    /// The kind of norm.
    pub norm: NormConfig,
    /// Whether every head has its own weights.
    pub per_head: bool,
}

/// What only the blocks of Gemma 4 have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Whether values are normalized as queries and keys are, without weights.
    pub v_norm: bool,
    /// Whether each half of a head is rotated by itself, the first one by columns. Their channels are loaded in another order.
    pub halves: bool,
    /// The name of the factor of the block's output.
    pub factor: Option<&'static str>,
}

/// Which projections have biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Projections to queries, keys and values.
    pub qkv: bool,
    /// Output projection of attention.
    pub out: bool,
    /// Projections of the MLP.
    pub mlp: bool,
}

/// Names of the projections of a block in checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Queries, keys and values.
    pub qkv: Qkv,
    /// Output projection of attention.
    pub out: &'static str,
    /// Projections of the MLP.
    pub mlp: Mlp,
}

/// How queries, keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qkv {
    /// Three matrices.
    Separate([&'static str; 3]),
    /// One matrix, in which they are stacked.
    Stacked(&'static str),
    /// Two matrices, for queries and for keys. Values are the keys before their norm.
    Keys([&'static str; 2]),
}

/// The structure of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// `down(f(gate(x)) * up(x))`: gate, up, down.
    Gated([&'static str; 3]),
    /// `second(f(first(x)))`.
    Plain([&'static str; 2]),
}

/// Llama's names, which most decoders use.
pub(super) const LLAMA: Names = Names {
    qkv: Qkv::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    out: "self_attn.o_proj",
    mlp: Mlp::Gated(["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]),
};

/// Llama's names in blocks whose values are their keys (Gemma 4).
pub(super) const LLAMA_KEYS: Qkv = Qkv::Keys(["self_attn.q_proj", "self_attn.k_proj"]);

/// The names in Gemma 4's vision tower.
pub(super) const GEMMA4_TOWER: Names = Names {
    qkv: Qkv::Separate(["self_attn.q_proj.linear", "self_attn.k_proj.linear", "self_attn.v_proj.linear"]),
    out: "self_attn.o_proj.linear",
    mlp: Mlp::Gated(["mlp.gate_proj.linear", "mlp.up_proj.linear", "mlp.down_proj.linear"]),
};

/// The norms of Gemma from version 2 on: before and after attention, and before and after the MLP.
pub(super) const GEMMA_NORMS: [Option<&str>; 4] = [
    Some("input_layernorm"),
    Some("post_attention_layernorm"),
    Some("pre_feedforward_layernorm"),
    Some("post_feedforward_layernorm"),
];

/// The names of CLIP and SigLIP.
pub(super) const CLIP: Names = Names {
    qkv: Qkv::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    out: "self_attn.out_proj",
    mlp: Mlp::Plain(["mlp.fc1", "mlp.fc2"]),
};

/// The names in vision towers of timm.
pub(super) const TIMM: Names =
    Names { qkv: Qkv::Stacked("attn.qkv"), out: "attn.proj", mlp: Mlp::Plain(["mlp.fc1", "mlp.fc2"]) };

/// The names in Qwen2.5-VL's vision tower.
pub(super) const QWEN2_5_TOWER: Names = Names {
    qkv: Qkv::Stacked("attn.qkv"),
    out: "attn.proj",
    mlp: Mlp::Gated(["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]),
};

/// The names in Qwen3-VL's vision tower.
pub(super) const QWEN3_TOWER: Names =
    Names { qkv: Qkv::Stacked("attn.qkv"), out: "attn.proj", mlp: Mlp::Plain(["mlp.linear_fc1", "mlp.linear_fc2"]) };

/// The names in InternVL's vision tower.
pub(super) const INTERN_TOWER: Names = Names {
    qkv: Qkv::Separate(["attention.q_proj", "attention.k_proj", "attention.v_proj"]),
    out: "attention.projection_layer",
    mlp: Mlp::Plain(["mlp.fc1", "mlp.fc2"]),
};

/// The names in Pixtral's vision tower.
pub(super) const PIXTRAL: Names = Names {
    qkv: Qkv::Separate(["attention.q_proj", "attention.k_proj", "attention.v_proj"]),
    out: "attention.o_proj",
    mlp: Mlp::Gated(["feed_forward.gate_proj", "feed_forward.up_proj", "feed_forward.down_proj"]),
};

/// Norms before attention and before the MLP, with Llama's names.
pub(super) const LLAMA_NORMS: [Option<&str>; 4] =
    [Some("input_layernorm"), None, Some("post_attention_layernorm"), None];

impl BlockConfig {
    /// Rejects sizes that contradict each other. `what` names the model part in the error message.
    pub(super) fn check(self, what: &str) -> Result<Self, String> {
        let fits = self.heads.is_multiple_of(self.kv_heads) && self.head_dim.is_multiple_of(2) && self.head_dim > 0;
        if fits {
            return Ok(self);
        }
        Err(format!(
            "the sizes of the {what} do not fit each other: width {}, {} heads of {}, {} heads for keys and values",
            self.width, self.heads, self.head_dim, self.kv_heads
        ))
    }
}
