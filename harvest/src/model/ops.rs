//! What vision tower and decoder have in common: linear maps, norms, activations, attention, rotary positions.
//! Sequences are `[batch * length, width]` matrices, so that every product is one large one.

use super::weights::Loader;
use burn::tensor::activation::{gelu, gelu_approximate, relu, sigmoid, silu};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Tensor, TensorData, module};
use serde::Deserialize;

/// An activation function by its name in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// With the error function.
    Gelu,
    /// With the hyperbolic tangent.
    #[serde(alias = "gelu_new")]
    GeluPytorchTanh,
    /// `x * sigmoid(1.702 x)`, CLIP's.
    QuickGelu,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    pub(super) fn apply(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Silu => silu(x),
            Self::Gelu => gelu(x),
            Self::GeluPytorchTanh => gelu_approximate(x),
            Self::QuickGelu => x.clone() * sigmoid(x * 1.702),
            Self::Relu => relu(x),
        }
    }
}

/// `x W^T + b`.
pub(super) struct Linear {
    /// `[d_in, d_out]`: a transposed view of what the checkpoint stores.
    weight: Tensor<2>,
    bias: Option<Tensor<2>>,
}

impl Linear {
    pub fn load(loader: &mut Loader, name: &str, [d_in, d_out]: [usize; 2], bias: bool) -> Self {
        let weight = loader.tensor(&format!("{name}.weight"), [d_out, d_in]);
        let bias = bias.then(|| loader.tensor(&format!("{name}.bias"), [d_out]).unsqueeze());
        Self::new(weight, bias)
    }

    /// From a weight `[d_out, d_in]` and a bias `[1, d_out]`.
    pub fn new(weight: Tensor<2>, bias: Option<Tensor<2>>) -> Self {
        Self { weight: weight.transpose(), bias }
    }

    /// # Shapes
    /// `[rows, d_in]` to `[rows, d_out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = x.matmul(self.weight.clone());
        match &self.bias {
            Some(bias) => y + bias.clone(),
            None => y,
        }
    }
}

/// Subtracts the mean, divides by the standard deviation; scale and shift.
pub(super) struct LayerNorm {
    scale: Tensor<1>,
    shift: Tensor<1>,
    eps: f64,
}

impl LayerNorm {
    pub fn load(loader: &mut Loader, name: &str, width: usize, eps: f64) -> Self {
        let scale = loader.tensor(&format!("{name}.weight"), [width]);
        Self { scale, shift: loader.tensor(&format!("{name}.bias"), [width]), eps }
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        module::layer_norm(x, self.scale.clone(), Some(self.shift.clone()), self.eps)
    }
}

/// Divides by the root mean square; scale.
pub(super) struct RmsNorm {
    scale: Tensor<2>,
    eps: f64,
}

impl RmsNorm {
    pub fn load(loader: &mut Loader, name: &str, width: usize, eps: f64) -> Self {
        Self { scale: loader.tensor(&format!("{name}.weight"), [width]).unsqueeze(), eps }
    }

    /// In `f32`, whatever the model's dtype, as the reference does.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let inverse = (x.clone().square().mean_dim(1) + self.eps).sqrt().recip();
        (x * inverse).cast(dtype) * self.scale.clone()
    }
}

/// How rows of a `[batch * length, heads * head_dim]` matrix belong to sequences and heads.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    pub batch: usize,
    pub length: usize,
    pub head_dim: usize,
}

impl Heads {
    /// # Shapes
    /// `[batch * length, heads * head_dim]` to `[batch, length, heads, head_dim]`.
    fn split(self, x: Tensor<2>) -> Tensor<4> {
        let heads = x.dims()[1] / self.head_dim;
        x.reshape([self.batch, self.length, heads, self.head_dim])
    }
}

/// Scaled dot-product attention. Keys and values may have fewer heads than queries, which then share them in order.
/// With `causal` no position sees those behind it: what pads a sequence on the right reaches no position of it.
///
/// # Shapes
/// All `[batch * length, heads * head_dim]`, with the heads each has.
pub(super) fn attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: Heads, causal: bool) -> Tensor<2> {
    let [rows, width] = q.dims();
    let groups = width / k.dims()[1];
    // Burn documents no grouped queries, so that keys and values are repeated.
    let split = |x: Tensor<2>, groups: usize| {
        let x = heads.split(x).swap_dims(1, 2);
        if groups == 1 {
            return x;
        }
        let [batch, kv_heads, length, head_dim] = x.dims();
        let x: Tensor<5> = x.unsqueeze_dim::<5>(2).expand([batch, kv_heads, groups, length, head_dim]);
        x.reshape([batch, kv_heads * groups, length, head_dim])
    };
    let options = AttentionModuleOptions { is_causal: causal, ..Default::default() };
    let out = module::attention(split(q, 1), split(k, groups), split(v, groups), None, None, options);
    out.swap_dims(1, 2).reshape([rows, width])
}

/// Rotary positions in the half-split form of Llama: element `i` turns with element `i + head_dim / 2`.
pub(super) struct Rope {
    cos: Tensor<4>,
    sin: Tensor<4>,
    heads: Heads,
}

impl Rope {
    /// The rotations of positions 0 to `heads.length`, in the dtype and on the device of `like`.
    pub fn new(heads: Heads, theta: f64, like: &Tensor<2>) -> Self {
        let half = heads.head_dim / 2;
        let frequency = |i: usize| 1.0 / theta.powf(2.0 * i as f64 / heads.head_dim as f64) as f32;
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let angle = |position: usize| frequencies.iter().map(move |f| position as f32 * f);
        let table = |of: fn(f32) -> f32| {
            let values: Vec<f32> = (0..heads.length).flat_map(angle).map(of).collect();
            Tensor::from_data(TensorData::new(values, [1, heads.length, 1, half]), (&like.device(), like.dtype()))
        };
        Self { cos: table(f32::cos), sin: table(f32::sin), heads }
    }

    /// # Shapes
    /// `[batch * length, heads * head_dim]`, in and out.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let dims = x.dims();
        let half = self.heads.head_dim / 2;
        let x = self.heads.split(x);
        let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let turned = [
            first.clone() * self.cos.clone() - second.clone() * self.sin.clone(),
            second * self.cos.clone() + first * self.sin.clone(),
        ];
        Tensor::cat(turned.into(), 3).reshape(dims)
    }
}
