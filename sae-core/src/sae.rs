//! The autoencoder: its weights on a device, encode and decode. How it is trained and saved is told elsewhere.

use crate::{Error, Result};
use burn::tensor::{Device, Tensor, TensorData, activation::relu};
use serde::{Deserialize, Serialize};

/// How feature activations come from pre-activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// `z = ReLU(x W_enc + b_enc)`, as in SAE-V; SAELens calls it `standard`.
    #[default]
    Relu,
}

impl std::str::FromStr for Architecture {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "relu" | "standard" => Ok(Self::Relu),
            _ => Err(format!("the architecture {name} is not supported; supported: relu")),
        }
    }
}

/// An autoencoder's weights in host memory, row-major, in the units of the stored activations.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Width of the residual stream.
    pub d_in: usize,
    /// Number of features.
    pub d_sae: usize,
    /// `[d_in, d_sae]`
    pub w_enc: Vec<f32>,
    /// `[d_sae]`
    pub b_enc: Vec<f32>,
    /// `[d_sae, d_in]`; row `k` is the direction of feature `k`.
    pub w_dec: Vec<f32>,
    /// `[d_in]`
    pub b_dec: Vec<f32>,
}

impl Weights {
    /// The direction of a feature, `[d_in]`.
    pub fn direction(&self, feature: usize) -> &[f32] {
        &self.w_dec[feature * self.d_in..(feature + 1) * self.d_in]
    }

    /// `x_hat = sum_k z_k f_k + b_dec` of one token, from its active features alone.
    pub fn decode(&self, features: &[u32], values: &[f32], out: &mut [f32]) {
        out.copy_from_slice(&self.b_dec);
        for (feature, value) in features.iter().zip(values) {
            for (o, w) in out.iter_mut().zip(self.direction(*feature as usize)) {
                *o += value * w;
            }
        }
    }

    /// Refuses weights that are not finite.
    pub fn check(&self) -> Result<()> {
        let arrays = [("W_enc", &self.w_enc), ("b_enc", &self.b_enc), ("W_dec", &self.w_dec), ("b_dec", &self.b_dec)];
        match arrays.iter().find(|(_, values)| values.iter().any(|v| !v.is_finite())) {
            Some((name, _)) => {
                Err(Error::Config(format!("{name} of the autoencoder holds values that are not finite")))
            }
            None => Ok(()),
        }
    }
}

/// The encoder on a device.
#[derive(Clone, Debug)]
pub struct Encoder {
    w_enc: Tensor<2>,
    b_enc: Tensor<2>,
    device: Device,
}

impl Encoder {
    /// Moves the encoder's weights to a device.
    pub fn new(weights: &Weights, device: &Device) -> Self {
        let (d, f) = (weights.d_in, weights.d_sae);
        Self {
            w_enc: Tensor::from_data(TensorData::new(weights.w_enc.clone(), [d, f]), device),
            b_enc: Tensor::from_data(TensorData::new(weights.b_enc.clone(), [1, f]), device),
            device: device.clone(),
        }
    }

    /// Feature activations of hidden states.
    ///
    /// # Shapes
    /// `hidden`: `[rows, d_in]` row-major, `rows` of them; returns `[rows, d_sae]` row-major.
    pub fn encode(&self, hidden: &[f32], rows: usize) -> Result<Vec<f32>> {
        let x = TensorData::new(hidden.to_vec(), [rows, hidden.len() / rows]);
        let z = encode(Tensor::from_data(x, &self.device), self.w_enc.clone(), self.b_enc.clone());
        let data = z.try_into_data().map_err(|e| Error::Device(format!("the device failed: {e}")))?;
        data.try_into_vec().map_err(|e| Error::Device(format!("the device returned other data than f32: {e:?}")))
    }
}

/// `z = ReLU(x W_enc + b_enc)`.
///
/// # Shapes
/// `x` `[rows, d_in]`, `w_enc` `[d_in, d_sae]`, `b_enc` `[1, d_sae]`; returns `[rows, d_sae]`.
pub fn encode(x: Tensor<2>, w_enc: Tensor<2>, b_enc: Tensor<2>) -> Tensor<2> {
    relu(x.matmul(w_enc) + b_enc)
}
