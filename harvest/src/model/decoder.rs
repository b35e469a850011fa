//! A Llama-shaped decoder: RMS norms, half-split rotary positions, grouped queries, gated MLP. Loads and runs no block
//! behind the last one asked for. Knows nothing of images.

use super::config::TextConfig;
use super::ops::{Activation, Heads, Linear, RmsNorm, Rope, attention};
use super::weights::{Loader, Weights};
use burn::tensor::{Int, Tensor};
use std::ops::Range;

/// The first blocks of a decoder, or all of it.
pub(super) struct Decoder {
    /// `[vocab_size, hidden_size]`.
    embedding: Tensor<2>,
    blocks: Vec<Block>,
    head: Option<Head>,
    config: TextConfig,
}

struct Head {
    norm: RmsNorm,
    out: Linear,
}

struct Block {
    norms: [RmsNorm; 2],
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Decoder {
    /// Loads `depth` blocks; all of them and the output head if there is no `depth`.
    pub fn load(weights: &Weights, loader: &mut Loader, config: &TextConfig, depth: Option<usize>) -> Self {
        let (d, vocabulary) = (config.hidden_size, config.vocab_size);
        let prefixes = ["model.language_model.", "language_model.model.", "model."];
        let prefix = weights.prefix("embed_tokens.weight", &prefixes);
        let embedding = loader.tensor(&format!("{prefix}embed_tokens.weight"), [vocabulary, d]);
        let head = depth.is_none().then(|| Head {
            norm: RmsNorm::load(loader, &format!("{prefix}norm"), d, config.norm_eps),
            out: match config.tied_head {
                true => Linear::new(embedding.clone(), None),
                false => {
                    let prefix = weights.prefix("lm_head.weight", &["", "language_model."]);
                    Linear::load(loader, &format!("{prefix}lm_head"), [d, vocabulary], false)
                }
            },
        });
        let blocks = 0..depth.unwrap_or(config.layers);
        let blocks = blocks.map(|n| Block::load(loader, &format!("{prefix}layers.{n}."), config)).collect();
        Self { embedding, blocks, head, config: config.clone() }
    }

    /// # Shapes
    /// `[rows]` to `[rows, hidden_size]`.
    pub fn embed(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        self.embedding.clone().select(0, ids)
    }

    /// Blocks that are loaded.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// What tensors that meet this decoder's have to look like.
    pub fn like(&self) -> &Tensor<2> {
        &self.embedding
    }

    /// What leaves each of `layers`, which ascend.
    ///
    /// # Shapes
    /// `[batch * length, hidden_size]`, in and out.
    pub fn forward(&self, x: Tensor<2>, batch: usize, layers: &[usize]) -> Vec<Tensor<2>> {
        let mut left = Vec::with_capacity(layers.len());
        self.run(x, batch, 0..layers.last().map_or(0, |layer| layer + 1), |n, x| {
            if layers.contains(&n) {
                left.push(x.clone());
            }
        });
        left
    }

    /// What leaves the last loaded block when `x` leaves block `layer`.
    ///
    /// # Shapes
    /// `[batch * length, hidden_size]`, in and out.
    pub fn resume(&self, x: Tensor<2>, batch: usize, layer: usize) -> Tensor<2> {
        self.run(x, batch, layer + 1..self.depth(), |_, _| ())
    }

    /// Runs `blocks` on what enters the first of them; `see` is shown what leaves each.
    fn run(
        &self,
        mut x: Tensor<2>,
        batch: usize,
        blocks: Range<usize>,
        mut see: impl FnMut(usize, &Tensor<2>),
    ) -> Tensor<2> {
        let heads = Heads { batch, length: x.dims()[0] / batch, head_dim: self.config.head_dim };
        let rope = Rope::new(heads, self.config.rope_theta, &x);
        for n in blocks {
            x = self.blocks[n].forward(x, heads, &rope);
            see(n, &x);
        }
        x
    }

    /// Logits of the token that follows each row; `x` is what left the last block.
    ///
    /// # Shapes
    /// `[rows, hidden_size]` to `[rows, vocab_size]`.
    ///
    /// # Panics
    /// If the decoder was loaded without its head.
    pub fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        let head = self.head.as_ref().expect("the decoder was loaded whole");
        head.out.forward(head.norm.forward(x))
    }
}

impl Block {
    fn load(loader: &mut Loader, prefix: &str, config: &TextConfig) -> Self {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let (attention_bias, mlp_bias) = (config.attention_bias, config.mlp_bias);
        let norms = ["input_layernorm", "post_attention_layernorm"]
            .map(|name| RmsNorm::load(loader, &format!("{prefix}{name}"), d, config.norm_eps));
        let mut linear = |name: &str, shape, bias| Linear::load(loader, &format!("{prefix}{name}"), shape, bias);
        Self {
            norms,
            query: linear("self_attn.q_proj", [d, q], attention_bias),
            key: linear("self_attn.k_proj", [d, kv], attention_bias),
            value: linear("self_attn.v_proj", [d, kv], attention_bias),
            out: linear("self_attn.o_proj", [q, d], attention_bias),
            gate: linear("mlp.gate_proj", [d, inner], mlp_bias),
            up: linear("mlp.up_proj", [d, inner], mlp_bias),
            down: linear("mlp.down_proj", [inner, d], mlp_bias),
            activation: config.activation,
        }
    }

    fn forward(&self, x: Tensor<2>, heads: Heads, rope: &Rope) -> Tensor<2> {
        let y = self.norms[0].forward(x.clone());
        let (q, k) = (rope.forward(self.query.forward(y.clone())), rope.forward(self.key.forward(y.clone())));
        let x = x + self.out.forward(attention(q, k, self.value.forward(y), heads, true));
        let y = self.norms[1].forward(x.clone());
        let gate = self.activation.apply(self.gate.forward(y.clone()));
        x + self.down.forward(gate * self.up.forward(y))
    }
}
