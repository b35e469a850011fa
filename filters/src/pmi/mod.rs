//! `pmi`: do the image features and the text features of a sample belong together? The pointwise mutual information of
//! the two under a Gaussian model, fitted to pairs without labels.
//!
//! # Formula
//! 1. *Pooling*: `u_k = log(1 + max_j z_jk)` over image positions with content, and `t_k` the same over text positions. Each
//!    side uses the features whose share of active samples is closest to one half.
//! 2. *Fit*: the means and covariances `S_u, S_t, S_ut` of a calibration set, with `rho trace(S) / n` added to the diagonals
//!    of `S_u` and `S_t`. With `S_u = L_u L_u^T` and `S_t = L_t L_t^T`, the singular values `s_j` of `L_u^-1 S_ut L_t^-T` are
//!    the canonical correlations (Hotelling 1936), and `p = A^T L_u^-1 (u - mean)` and `q = B^T L_t^-1 (t - mean)` are the
//!    canonical variables (Bach and Jordan 2005 describe the underlying model).
//! 3. *Score*, in nats: `sum_j -1/2 log(1 - s_j^2) - (s_j^2 (p_j^2 + q_j^2) - 2 s_j p_j q_j) / (2 (1 - s_j^2))`, the log ratio
//!    of the joint density to the product of the marginal densities. [`nats`] is one term of it.
//!
//! A sample must not be scored by a fit to its own image, because a fit to fewer samples than features memorizes its pairs,
//! including the wrong ones. Calibration data that contains images of the scored data is divided into folds by the hash of
//! the image, and each fold is scored by a fit to the others ([`folds`]).
//!
//! The text positions of a decoder attend to the image before them, so that even the features of a wrong caption fit the
//! image to some extent. If the run contains the same samples with blank images ([`BLANK_DIR`]), the column `pmi_blank` takes
//! the features of the text from there ([`crate::pooling::PooledStore::with_text`]).
//!
//! One wrong word among many right ones hardly changes the pooled features of a text. The column `pmi_token_min` therefore
//! scores every token by itself and takes the minimum ([`Unit::Token`]), to find a single token that does not fit the image.
//!
//! A pair is a good match if it fits better than mismatches do. The column `pmi_relative` ([`References`]) subtracts what other texts
//! score with the same image, and other images with the same text.

mod eigen;
mod explain;
mod file;
mod fit;
pub mod folds;
mod moments;
mod relative;
mod svd;

pub use explain::{Component, Contribution, Explanation, explain};
pub use file::{read, write};
pub use fit::Fit;
pub use folds::{Folds, Mismatch, Set};
pub use moments::{Chosen, Moments};
pub use relative::References;

use crate::pooling::{PooledFeature, PooledSample};
use serde::{Deserialize, Serialize};

/// The folder in a run that holds a run of the same samples with white images.
pub const BLANK_DIR: &str = "blank";

/// Minimum number of samples of a fit.
pub const LEAST: usize = 16;

/// How the activations of a feature at the positions of a side become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The largest activation.
    Max,
    /// The mean activation.
    Mean,
}

/// The transformation of the pooled number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// `log(1 + z)`
    Log1p,
    /// The number itself.
    Raw,
    /// 1 if it is positive, otherwise 0.
    Binary,
}

/// What is paired with an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// The whole text. The score is that of the pair.
    #[default]
    Sample,
    /// Each token of the text. The score is the minimum over the tokens.
    Token,
}

/// The settings of a fit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Maximum number of features per side.
    pub features: usize,
    /// Maximum number of canonical components.
    pub components: usize,
    /// The regularization `rho`.
    pub ridge: f64,
    /// The canonical correlation to which larger ones are clipped.
    pub clip: f64,
    /// How positions are pooled.
    pub pooling: Pooling,
    /// How pooled activations are transformed.
    pub scale: Scale,
    /// Number of folds, each of which is scored by a fit to the others, if there is no calibration set.
    pub folds: usize,
    /// What is paired with an image.
    #[serde(default)]
    pub unit: Unit,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            features: 1000,
            components: 64,
            ridge: 0.3,
            clip: 0.995,
            pooling: Pooling::Max,
            scale: Scale::Log1p,
            folds: 5,
            unit: Unit::Sample,
        }
    }
}

impl Options {
    /// The pooled value of a feature on a side of a sample.
    pub fn value(&self, trace: &PooledFeature, side: usize, sample: &PooledSample) -> f64 {
        let z = match self.pooling {
            Pooling::Max => f64::from(trace.max[side]),
            Pooling::Mean => f64::from(trace.sum[side]) / f64::from(sample.content[side].max(1)),
        };
        self.scaled(z)
    }

    fn scaled(&self, z: f64) -> f64 {
        match self.scale {
            Scale::Log1p => z.ln_1p(),
            Scale::Raw => z,
            Scale::Binary => f64::from(u8::from(z > 0.0)),
        }
    }
}

/// The log density ratio in nats of two canonical variables `p` and `q` with correlation `s`: their joint density relative to
/// the product of their densities, where both are standard normal.
pub fn nats(s: f64, p: f64, q: f64) -> f64 {
    let rest = 1.0 - s * s;
    -0.5 * rest.ln() - (s * s * (p * p + q * q) - 2.0 * s * p * q) / (2.0 * rest)
}
