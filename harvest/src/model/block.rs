//! A transformer block of a decoder or of a vision tower: norms, attention and MLP according to its configuration.

use super::config::{BlockConfig, Mlp as MlpNames, Qkv};
use super::matrix::Matrix;
use super::ops::{Continued, Linear, Norm, Rotary, VisibleKeys, attention, attention_after};
use super::weights::Loader;
use crate::kernel::attention::Heads;
use crate::kernel::pointwise::Activation;
use sae_core::store::Site;

/// A block with its weights.
pub(super) struct Block {
    heads: Heads,
    /// The norms before and after attention, and before and after the MLP.
    norms: [Option<Norm>; 4],
    /// The projections to queries and keys.
    qk: [Linear; 2],
    /// The projection to values; without it, they are the keys before their norm.
    v: Option<Linear>,
    /// The norms of queries and of keys.
    qk_norms: Option<[Norm; 2]>,
    v_norm: Option<Norm>,
    out: Linear,
    mlp: Mlp,
    activation: Activation,
    /// The factor of the output.
    factor: Option<f32>,
}

/// How far a block is: what was computed last, and the residual stream to which it, or what follows from it, will be added. There
/// is none behind the block.
pub(super) struct Partial {
    pub site: Site,
    /// `[rows, width]`.
    pub state: Matrix,
    /// `[rows, width]`.
    pub residual: Option<Matrix>,
}

/// What the attention of a block is given besides the states. `visible` says which rows each row attends to. The rows are whole
/// samples, or they continue samples whose keys and values in this block are `kept` ([`attention_after`]).
pub(super) struct Attending<'a> {
    pub rotary: Option<&'a Rotary>,
    pub visible: &'a VisibleKeys,
    pub kept: Option<Vec<Continued<'a>>>,
}

#[expect(clippy::large_enum_variant, reason = "there are few instances, and their content is large anyway")]
enum Mlp {
    /// Gate, up, down.
    Gated([Linear; 3]),
    Plain([Linear; 2]),
}

impl Block {
    /// Loads the tensors whose names begin with `prefix`.
    pub fn load(loader: &mut Loader, prefix: &str, config: &BlockConfig) -> Self {
        let BlockConfig { width, d_ff, heads, kv_heads, head_dim, bias, names, extras, .. } = *config;
        let name = |part: &str| format!("{prefix}{part}");
        let (q, kv) = (heads * head_dim, kv_heads * head_dim);
        let norms = config.norms.map(|part| part.map(|part| Norm::load(loader, &name(part), width, None, config.norm)));
        let order = extras.halves.then(|| order_of_halves(head_dim));
        let order = order.as_deref();
        let mut pair = |query: &str, key: &str| {
            [(query, q), (key, kv)]
                .map(|(part, d_out)| Linear::load_in_order(loader, &name(part), [width, d_out], bias.qkv, order))
        };
        let (qk, v) = match names.qkv {
            Qkv::Separate([query, key, value]) => {
                let qk = pair(query, key);
                (qk, Some(Linear::load(loader, &name(value), [width, kv], bias.qkv)))
            }
            Qkv::Keys([query, key]) => (pair(query, key), None),
            Qkv::Stacked(part) => {
                let [q, k, v] = Linear::load_parts(loader, &name(part), [width, q], bias.qkv);
                ([q, k], Some(v))
            }
        };
        let v_norm = extras.v_norm.then(|| Norm::without_weights(loader, head_dim, config.norm));
        let factor = extras.factor.map(|part| loader.values(&name(part), &[1]).first().copied().unwrap_or(1.0));
        let qk_norms = config.qk_norm.map(|norm| {
            [("self_attn.q_norm", heads), ("self_attn.k_norm", kv_heads)].map(|(part, heads)| {
                Norm::load_in_order(loader, &name(part), head_dim, norm.per_head.then_some(heads), norm.norm, order)
            })
        });
        let mut scale = |n: usize| {
            let part = config.layer_scale.map(|names| names[n])?;
            Some(loader.values(&name(part), &[width]))
        };
        let [out_scale, down_scale] = [scale(0), scale(1)];
        let out = Linear::load_scaled(loader, &name(names.out), [q, width], bias.out, out_scale.as_deref());
        let down_scale = down_scale.as_deref();
        let mut linear =
            |part: &str, shape, scale: Option<&[f32]>| Linear::load_scaled(loader, &name(part), shape, bias.mlp, scale);
        let (up_shape, down_shape) = ([width, d_ff], [d_ff, width]);
        let mlp = match names.mlp {
            MlpNames::Gated([gate, up, down]) => Mlp::Gated([
                linear(gate, up_shape, None),
                linear(up, up_shape, None),
                linear(down, down_shape, down_scale),
            ]),
            MlpNames::Plain([first, second]) => {
                Mlp::Plain([linear(first, up_shape, None), linear(second, down_shape, down_scale)])
            }
        };
        let (scale, cap) = (config.scale as f32, config.cap.map(|cap| cap as f32));
        let heads = Heads { heads, kv_heads, head_dim, scale, cap };
        Self { heads, norms, qk, v, qk_norms, v_norm, out, mlp, activation: config.activation, factor }
    }

    /// Runs the block.
    ///
    /// # Shapes
    /// `[rows, width]`, in and out.
    pub fn forward(&self, x: Matrix, attending: Attending) -> Matrix {
        self.run(self.enter(x), attending, &mut |_| false).state
    }

    /// The beginning of the block, whose input is `x`.
    ///
    /// # Shapes
    /// `[rows, width]`.
    pub fn enter(&self, x: Matrix) -> Partial {
        Partial { site: Site::AttnIn, state: self.norm(0, x.clone()), residual: Some(x) }
    }

    /// Runs the block from where it is. Shows each state to `stop`, the first one too, and ends at the one at which it returns
    /// whether to stop, or behind the block.
    pub fn run(&self, mut at: Partial, attending: Attending, stop: &mut dyn FnMut(&Partial) -> bool) -> Partial {
        let mut attending = Some(attending);
        while !stop(&at) {
            at = match (at.site, at.residual) {
                (Site::AttnIn, residual) => {
                    let attending = attending.take().expect("a block attends once");
                    let state = self.norm(1, self.attend(&at.state, attending));
                    Partial { site: Site::AttnOut, state, residual }
                }
                (Site::AttnOut, Some(residual)) => {
                    let residual = residual.add(at.state);
                    Partial { site: Site::MlpIn, state: self.norm(2, residual.clone()), residual: Some(residual) }
                }
                (Site::MlpIn, residual) => {
                    Partial { site: Site::MlpOut, state: self.norm(3, self.mlp(&at.state)), residual }
                }
                (Site::MlpOut, Some(residual)) => {
                    let sum = residual.add(at.state);
                    let state = if let Some(factor) = self.factor { sum.scale(factor) } else { sum };
                    Partial { site: Site::Output, state, residual: None }
                }
                (site, residual) => return Partial { site, state: at.state, residual },
            };
        }
        at
    }

    fn norm(&self, n: usize, x: Matrix) -> Matrix {
        match &self.norms[n] {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }

    fn attend(&self, x: &Matrix, Attending { rotary, visible, kept }: Attending) -> Matrix {
        let [mut q, mut k] = self.qk.each_ref().map(|linear| linear.forward(x));
        let mut v = self.v.as_ref().map_or_else(|| k.clone(), |v| v.forward(x));
        if let Some(norm) = &self.v_norm {
            v = norm.forward(v);
        }
        if let Some([query, key]) = &self.qk_norms {
            (q, k) = (query.forward(q), key.forward(k));
        }
        if let Some(rotary) = rotary {
            (q, k) = (rotary.forward(q), rotary.forward(k));
        }
        self.out.forward(&match kept {
            Some(samples) => attention_after(&q, &k, &v, self.heads, visible, samples),
            None => attention(&q, &k, &v, self.heads, visible),
        })
    }

    fn mlp(&self, x: &Matrix) -> Matrix {
        match &self.mlp {
            Mlp::Gated([gate, up, down]) => down.forward(&gate.forward(x).gate(self.activation, up.forward(x))),
            Mlp::Plain([first, second]) => second.forward(&first.forward(x).activate(self.activation)),
        }
    }
}

/// The channels of a head in the order in which one rotation of the whole head rotates its second half by rows and its first one by
/// columns, each by itself as it is stored: channel `i` together with channel `i + head_dim / 4` of the same half.
fn order_of_halves(head_dim: usize) -> Vec<usize> {
    let (half, quarter) = (head_dim / 2, head_dim / 4);
    [half..half + quarter, 0..quarter, half + quarter..head_dim, quarter..half].into_iter().flatten().collect()
}
