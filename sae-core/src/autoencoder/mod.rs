//! An autoencoder in use: its weights in host memory, encoding and decoding. Training is in [`crate::train`] and reading files in
//! [`formats`], which folds whatever a format subtracts or rescales into the weights.

pub mod formats;
pub mod kernel;
pub mod released;
pub mod sparse;

use crate::vector;
use crate::{Error, Result};
use burn::tensor::{Device, Tensor, TensorData};
use kernel::{Panels, Rule};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sparse::Sparse;

/// How an autoencoder is trained. How it is used afterwards is its [`Activation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    /// `z = ReLU(x W_enc + b_enc)` with an L1 penalty, as in SAE-V; SAELens calls it `standard`.
    #[default]
    #[serde(rename = "relu")]
    Relu,
    /// The `k` strongest activations of a token (Gao et al. 2024).
    #[serde(rename = "topk")]
    TopK,
    /// The `k` times `batch` strongest activations of a batch (Bussmann et al. 2024); used with one learned threshold.
    #[serde(rename = "batch-topk")]
    BatchTopK,
    /// Activations above a learned threshold for each feature (Rajamanoharan et al. 2024b).
    #[serde(rename = "jumprelu")]
    JumpRelu,
    /// A gate decides whether a feature is active, a magnitude how strongly (Rajamanoharan et al. 2024a).
    #[serde(rename = "gated")]
    Gated,
    /// BatchTopK, where prefixes of the dictionary also have to reconstruct the input (Bussmann et al. 2025).
    #[serde(rename = "matryoshka")]
    Matryoshka,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Relu, Self::TopK, Self::BatchTopK, Self::JumpRelu, Self::Gated, Self::Matryoshka];

    /// The name on the command line and in `train.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::TopK => "topk",
            Self::BatchTopK => "batch-topk",
            Self::JumpRelu => "jumprelu",
            Self::Gated => "gated",
            Self::Matryoshka => "matryoshka",
        }
    }
}

impl std::str::FromStr for Architecture {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|a| a.name() == name);
        found.ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|a| a.name()).collect();
            format!("there is no architecture {name}; there are {}", known.join(", "))
        })
    }
}

/// How feature activations come from the pre-activations `p = x W_enc + b_enc`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Activation {
    /// `z = max(p, 0)`
    #[default]
    Relu,
    /// The `k` largest of a token, if they are positive.
    TopK {
        /// Largest number of active features of a token.
        k: usize,
    },
    /// `z = p` where `p > threshold`, and positive.
    JumpRelu {
        /// `[d_sae]`
        threshold: Vec<f32>,
    },
    /// `z = max((p - b_enc) scale + bias, 0)` where `p > 0`: `b_enc` is the gate's bias.
    Gated {
        /// `exp(r_mag)`, `[d_sae]`
        scale: Vec<f32>,
        /// `b_mag`, `[d_sae]`
        bias: Vec<f32>,
    },
}

impl Activation {
    /// Its name in files and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::TopK { .. } => "topk",
            Self::JumpRelu { .. } => "jumprelu",
            Self::Gated { .. } => "gated",
        }
    }
}

/// The normalization of every input before encoding, which is undone after decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputNorm {
    /// Nothing.
    #[default]
    None,
    /// Scaled to norm `sqrt(d_in)`.
    ConstantNorm,
    /// Centered and divided by its standard deviation (unbiased, plus 1e-5), as SAELens does it.
    LayerNorm,
}

/// An autoencoder's weights in host memory, row-major, in the units of the stored activations.
///
/// `x_hat = sum_k z_k f_k + b_dec (+ skip x)`, with `z` from `x W_enc^T + b_enc` by the activation. Nothing is subtracted
/// from `x` first: if a format subtracts `b_dec`, that is folded into `b_enc`. A transcoder reconstructs another state `y` of the
/// same position, whose width may differ: rows of the decoder and `b_dec` have that width then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// Width of the states that are read.
    pub d_in: usize,
    /// Number of features.
    pub d_sae: usize,
    /// `[d_sae, d_in]`; row `k` is the encoder direction of feature `k`.
    pub w_enc: Vec<f32>,
    /// `[d_sae]`
    pub b_enc: Vec<f32>,
    /// `[d_sae, d_out]`; row `k` is the decoder direction of feature `k`.
    pub w_dec: Vec<f32>,
    /// `[d_out]`
    pub b_dec: Vec<f32>,
    /// From pre-activations to activations.
    pub activation: Activation,
    /// How inputs are normalized, token by token.
    pub normalization: InputNorm,
    /// A linear skip connection from input to reconstruction, `[d_out, d_in]`, if there is one.
    pub skip: Option<Vec<f32>>,
}

impl Weights {
    /// Width of reconstructions: `d_in`, but for a transcoder that of its target.
    pub fn d_out(&self) -> usize {
        self.w_dec.len() / self.d_sae.max(1)
    }

    /// The decoder direction of a feature, `[d_out]`.
    pub fn direction(&self, feature: usize) -> &[f32] {
        let d = self.d_out();
        &self.w_dec[feature * d..(feature + 1) * d]
    }

    /// The shift and scale that normalize an input `x`: `(x - shift) * scale`.
    fn affine(&self, x: &[f32]) -> (f32, f32) {
        let d = x.len() as f32;
        match self.normalization {
            InputNorm::None => (0.0, 1.0),
            InputNorm::ConstantNorm => (0.0, d.sqrt() / vector::norm_sq(x).sqrt()),
            InputNorm::LayerNorm => layer_norm(x),
        }
    }

    /// Normalized inputs; borrowed if there is no normalization.
    ///
    /// # Shapes
    /// `x`: `[rows, d_in]`.
    pub fn normalized<'a>(&self, x: &'a [f32]) -> std::borrow::Cow<'a, [f32]> {
        if self.normalization == InputNorm::None {
            return x.into();
        }
        let mut out = x.to_vec();
        for row in out.chunks_exact_mut(self.d_in) {
            let (shift, scale) = self.affine(row);
            row.iter_mut().for_each(|v| *v = (*v - shift) * scale);
        }
        out.into()
    }

    /// Writes the reconstruction of one token `x` from its active features to `out`.
    ///
    /// # Shapes
    /// `x`: `[d_in]`; `out`: `[d_out]`; `features`, `values`: the active features and their activations.
    pub fn decode(&self, x: &[f32], features: &[u32], values: &[f32], out: &mut [f32]) {
        out.copy_from_slice(&self.b_dec);
        for (feature, value) in features.iter().zip(values) {
            vector::axpy(*value, self.direction(*feature as usize), out);
        }
        if let Some(skip) = &self.skip {
            for (o, row) in out.iter_mut().zip(skip.chunks_exact(self.d_in)) {
                *o += vector::dot(row, x);
            }
        }
        if self.normalization != InputNorm::None {
            let (shift, scale) = self.affine(x);
            // SAELens multiplies by the deviation without the small constant of the division.
            let inverse =
                if self.normalization == InputNorm::LayerNorm { 1.0 / scale - LAYER_NORM_EPSILON } else { 1.0 / scale };
            out.iter_mut().for_each(|o| *o = *o * inverse + shift);
        }
    }

    /// Checks the weights.
    ///
    /// # Errors
    /// Values that are not finite, or sizes that contradict each other.
    pub fn check(&self) -> Result<()> {
        let (d, f, out) = (self.d_in, self.d_sae, self.b_dec.len());
        let mut arrays: Vec<(&str, &[f32], usize)> = vec![
            ("W_enc", &self.w_enc, f * d),
            ("b_enc", &self.b_enc, f),
            ("W_dec", &self.w_dec, f * out),
            ("b_dec", &self.b_dec, out),
        ];
        match &self.activation {
            Activation::JumpRelu { threshold } => arrays.push(("threshold", threshold, f)),
            Activation::Gated { scale, bias } => arrays.extend([("r_mag", &scale[..], f), ("b_mag", &bias[..], f)]),
            Activation::TopK { k } if *k == 0 || *k > f => {
                return Err(Error::config(format!("the autoencoder keeps {k} of {f} features")));
            }
            Activation::TopK { .. } | Activation::Relu => (),
        }
        arrays.extend(self.skip.as_ref().map(|skip| ("the skip connection", &skip[..], out * d)));
        if out != d && self.normalization != InputNorm::None {
            let text = format!("normalized inputs of width {d} cannot be restored in reconstructions of width {out}");
            return Err(Error::config(text));
        }
        for (name, values, expected) in arrays {
            if values.len() != expected {
                let found = values.len();
                return Err(Error::config(format!("{name} of the autoencoder has {found} values, not {expected}")));
            }
            if values.iter().any(|v| !v.is_finite()) {
                return Err(Error::config(format!("{name} of the autoencoder holds values that are not finite")));
            }
        }
        Ok(())
    }

    /// The activation of a feature that was selected by its pre-activation `p`.
    fn activate(&self, feature: u32, p: f32) -> f32 {
        match &self.activation {
            Activation::Gated { scale, bias } => {
                let k = feature as usize;
                ((p - self.b_enc[k]) * scale[k] + bias[k]).max(0.0)
            }
            Activation::Relu | Activation::TopK { .. } | Activation::JumpRelu { .. } => p,
        }
    }
}

/// The mean of a row, and the factor that brings its deviation to 1: `1 / (standard deviation + 1e-5)`, the deviation
/// unbiased, as SAELens computes it.
pub(crate) fn layer_norm(x: &[f32]) -> (f32, f32) {
    let d = x.len() as f32;
    let mean = x.iter().sum::<f32>() / d;
    let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / (d - 1.0).max(1.0);
    (mean, 1.0 / (variance.sqrt() + LAYER_NORM_EPSILON))
}

/// Added to the standard deviation by [`InputNorm::LayerNorm`].
const LAYER_NORM_EPSILON: f32 = 1e-5;

/// Encodes and reconstructs hidden states: on a CPU with the kernels of [`kernel`], on a GPU with Burn's tensors.
///
/// ```
/// use sae_core::autoencoder::{Activation, Encoder, Weights};
/// use sae_core::device::DeviceChoice;
///
/// // Two features of a stream that is 2 wide: one for each axis, with at most one active per row.
/// let axes = vec![1.0, 0.0, 0.0, 1.0];
/// let weights = Weights {
///     d_in: 2,
///     d_sae: 2,
///     w_enc: axes.clone(),
///     b_enc: vec![0.0; 2],
///     w_dec: axes,
///     b_dec: vec![0.0; 2],
///     activation: Activation::TopK { k: 1 },
///     ..Weights::default()
/// };
/// weights.check()?;
///
/// let encoder = Encoder::new(&weights, &DeviceChoice::Cpu.open()?);
/// let hidden = [3.0, 1.0, -2.0, 5.0]; // two rows
/// let active = encoder.encode(&hidden)?;
/// assert_eq!(active.row(0), (&[0][..], &[3.0][..]));
/// assert_eq!(active.row(1), (&[1][..], &[5.0][..]));
/// assert_eq!(encoder.reconstruct(&hidden)?, [3.0, 0.0, 0.0, 5.0]);
/// # Ok::<(), sae_core::Error>(())
/// ```
pub struct Encoder<'a> {
    weights: &'a Weights,
    floors: Vec<f32>,
    location: WeightLocation,
}

enum WeightLocation {
    Cpu(Panels),
    Device(Box<Tensors>),
}

struct Tensors {
    w_enc: Tensor<2>,
    b_enc: Tensor<2>,
    device: Device,
}

impl<'a> Encoder<'a> {
    /// Prepares the encoder for a device.
    pub fn new(weights: &'a Weights, device: &Device) -> Self {
        let (d, f) = (weights.d_in, weights.d_sae);
        let floors = match &weights.activation {
            Activation::JumpRelu { threshold } => threshold.iter().map(|t| t.max(0.0)).collect(),
            _ => Vec::new(),
        };
        let location = if *device == Device::flex() {
            WeightLocation::Cpu(Panels::new(&weights.w_enc, d))
        } else {
            WeightLocation::Device(Box::new(Tensors {
                w_enc: Tensor::<2>::from_data(TensorData::new(weights.w_enc.clone(), [f, d]), device).transpose(),
                b_enc: Tensor::from_data(TensorData::new(weights.b_enc.clone(), [1, f]), device),
                device: device.clone(),
            }))
        };
        Self { weights, floors, location }
    }

    /// Reconstructions of hidden states.
    ///
    /// # Shapes
    /// `hidden`: `[rows, d_in]` row-major; the result: `[rows, d_out]`.
    ///
    /// # Errors
    /// A device that failed.
    pub fn reconstruct(&self, hidden: &[f32]) -> Result<Vec<f32>> {
        let (active, d, d_out) = (self.encode(hidden)?, self.weights.d_in, self.weights.d_out());
        let mut out = vec![0.0; hidden.len() / d * d_out];
        out.par_chunks_exact_mut(d_out).zip(hidden.par_chunks_exact(d)).enumerate().for_each(|(row, (out, x))| {
            let (features, values) = active.row(row);
            self.weights.decode(x, features, values, out);
        });
        Ok(out)
    }

    /// Feature activations of hidden states.
    ///
    /// # Shapes
    /// `hidden`: `[rows, d_in]` row-major.
    ///
    /// # Errors
    /// A device that failed.
    pub fn encode(&self, hidden: &[f32]) -> Result<Sparse> {
        let weights = self.weights;
        let x = weights.normalized(hidden);
        let rule = match &weights.activation {
            Activation::TopK { k } => Rule::TopK(*k),
            Activation::JumpRelu { .. } => Rule::Above(&self.floors),
            Activation::Relu | Activation::Gated { .. } => Rule::Over(0.0),
        };
        let mut active = match &self.location {
            WeightLocation::Cpu(panels) => kernel::select(&x, &weights.w_enc, &weights.b_enc, None, panels, rule),
            WeightLocation::Device(tensors) => {
                let Tensors { w_enc, b_enc, device } = &**tensors;
                let shape = [x.len() / weights.d_in, weights.d_in];
                let x = Tensor::<2>::from_data(TensorData::new(x.into_owned(), shape), device);
                let p = (x.matmul(w_enc.clone()) + b_enc.clone()).try_into_data();
                let p = p.map_err(|e| Error::device(format!("the device failed: {e}")))?;
                let p: Vec<f32> = p.try_into_vec().map_err(|e| Error::device(format!("not f32: {e:?}")))?;
                kernel::select::from_dense(&p, weights.d_sae, rule)
            }
        };
        if let Activation::Gated { .. } = weights.activation {
            active.map(|feature, p| weights.activate(feature, p));
            active.retain(|_, _, z| z > 0.0);
        }
        Ok(active)
    }
}
