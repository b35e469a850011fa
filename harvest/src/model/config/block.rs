//! What one transformer block is made of, as data: sizes, norms and where they stand, biases, and the names that
//! checkpoints give the parts. Decoders and vision towers are built of the same block.

use crate::kernel::pointwise::Activation;

/// A transformer block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockConfig {
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside the MLP.
    pub d_ff: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// What products of queries and keys are multiplied with.
    pub scale: f64,
    /// Of the MLP.
    pub activation: Activation,
    /// Of all norms that span the residual stream.
    pub norm: NormConfig,
    /// Names of the norms before and behind attention, before and behind the MLP, where there are such.
    pub norms: [Option<&'static str>; 4],
    /// Norm of queries and keys, head by head.
    pub qk_norm: Option<QkNorm>,
    /// Which projections have biases.
    pub bias: Biases,
    /// Names of the projections.
    pub names: Names,
}

/// How a row is normalized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormConfig {
    /// Divided by the root mean square; times `offset` + weight.
    Rms {
        /// Added to the mean square.
        eps: f64,
        /// Added to the stored weight: 1 for Gemma, else 0.
        offset: f32,
    },
    /// Mean taken away, divided by the standard deviation; times weight, plus bias.
    Layer {
        /// Added to the variance.
        eps: f64,
    },
}

/// A norm of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QkNorm {
    /// Which.
    pub norm: NormConfig,
    /// Whether every head has weights of its own.
    pub per_head: bool,
}

/// Which projections have biases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys, values.
    pub qkv: bool,
    /// Output of attention.
    pub out: bool,
    /// MLP.
    pub mlp: bool,
}

/// What checkpoints call the projections of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    /// Queries, keys and values.
    pub qkv: Qkv,
    /// Output of attention.
    pub out: &'static str,
    /// MLP.
    pub mlp: Mlp,
}

/// How queries, keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qkv {
    /// A matrix each.
    Apart([&'static str; 3]),
    /// One above the other.
    Stacked(&'static str),
}

/// How an MLP computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// `down(f(gate(x)) * up(x))`: gate, up, down.
    Gated([&'static str; 3]),
    /// `second(f(first(x)))`.
    Plain([&'static str; 2]),
}

/// Llama's names, which most decoders have.
pub(super) const LLAMA: Names = Names {
    qkv: Qkv::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    out: "self_attn.o_proj",
    mlp: Mlp::Gated(["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]),
};

/// CLIP's and SigLIP's names.
pub(super) const CLIP: Names = Names {
    qkv: Qkv::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    out: "self_attn.out_proj",
    mlp: Mlp::Plain(["mlp.fc1", "mlp.fc2"]),
};

/// Qwen2.5-VL's names in its tower.
pub(super) const QWEN2_5_TOWER: Names = Names {
    qkv: Qkv::Stacked("attn.qkv"),
    out: "attn.proj",
    mlp: Mlp::Gated(["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]),
};

/// Qwen3-VL's names in its tower.
pub(super) const QWEN3_TOWER: Names =
    Names { qkv: Qkv::Stacked("attn.qkv"), out: "attn.proj", mlp: Mlp::Plain(["mlp.linear_fc1", "mlp.linear_fc2"]) };

/// Norms in front of attention and MLP, under Llama's names.
pub(super) const LLAMA_NORMS: [Option<&str>; 4] =
    [Some("input_layernorm"), None, Some("post_attention_layernorm"), None];

impl BlockConfig {
    /// Refuses sizes that contradict each other.
    pub(super) fn check(self, what: &str) -> Result<Self, String> {
        let fits = self.heads.is_multiple_of(self.kv_heads) && self.head_dim.is_multiple_of(2) && self.head_dim > 0;
        match fits {
            true => Ok(self),
            false => Err(format!(
                "the sizes of the {what} do not fit each other: width {}, {} heads of {}, {} for keys and values",
                self.width, self.heads, self.head_dim, self.kv_heads
            )),
        }
    }
}
