//! `pmi`: do the image features and the text features of a sample belong together? The pointwise mutual information of
//! the two under a Gaussian model, fitted to pairs without labels.
//!
//! # Formula
//! 1. *SamplePooler*: `u_k = log(1 + max_j z_jk)` over image positions with content, `t_k` the same over text positions; of each
//!    side the features whose share of active samples is most balanced.
//! 2. *Fit*: means and covariances `S_u, S_t, S_ut` of a calibration set, `rho trace(S) / n` added to the diagonals of `S_u`
//!    and `S_t`; with `S_u = L_u L_u^T`, `S_t = L_t L_t^T` the singular values `s_j` of `L_u^-1 S_ut L_t^-T` are the
//!    canonical correlations (Hotelling 1936), and `p = A^T L_u^-1 (u - mean)`, `q = B^T L_t^-1 (t - mean)` the
//!    canonical variables (Bach and Jordan 2005 for their reading as a model).
//! 3. *Score*, in nats: `sum_j -1/2 log(1 - s_j^2) - (s_j^2 (p_j^2 + q_j^2) - 2 s_j p_j q_j) / (2 (1 - s_j^2))`, the log of how
//!    much likelier the two are together than apart. [`nats`] is one term of it.
//!
//! A sample must not be scored by a fit that its image was part of: with fewer samples than features the fit knows its own
//! pairs, the wrong ones too. Calibration data that holds images of the scored data is cut into folds by the hash of the
//! image, and each is scored by the fit of the others ([`folds`]).
//!
//! A decoder's text positions have read the image before them, so that a wrong caption's features fit the image a little
//! whatever it says. Where the run has the same samples with white images beside it ([`BLANK_DIR`]), the column `pmi_blank` takes
//! the text's features from there ([`crate::pooling::PooledStore::with_text`]).
//!
//! One wrong word among many right ones hardly changes what a text's features are. The column `pmi_token_min` asks the same of
//! every token by itself and takes the least ([`Unit::Token`]): is there one that does not belong to this image?

mod explain;
mod file;
mod fit;
pub mod folds;
mod moments;

pub use explain::{Component, Contribution, Explanation, explain};
pub use file::{read, write};
pub use fit::Fit;
pub use folds::{Folds, Set};
pub use moments::{Chosen, Moments};

use crate::pooling::{PooledFeature, PooledSample};
use serde::{Deserialize, Serialize};

/// The folder in a run that holds the same samples with white images, as a run of its own.
pub const BLANK_DIR: &str = "blank";

/// Fewest samples of a fit.
pub const LEAST: usize = 16;

/// How features of a side's positions become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their largest activation.
    Max,
    /// Their mean.
    Mean,
}

/// What is done to that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// `log(1 + z)`
    Log1p,
    /// Nothing.
    Raw,
    /// 1 where it is positive, else 0.
    Binary,
}

/// What is paired with an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// The text as a whole; the score is that of the pair.
    #[default]
    Sample,
    /// Each of its tokens; the score is the least of theirs.
    Token,
}

/// How to fit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Features a side at most.
    pub features: usize,
    /// Canonical components at most.
    pub components: usize,
    /// `rho`
    pub ridge: f64,
    /// Largest canonical correlation.
    pub clip: f64,
    /// From positions to a sample.
    pub pooling: Pooling,
    /// From activations to what is fitted.
    pub scale: Scale,
    /// Parts that are scored by the fit of the others, where there is no calibration set.
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

/// The log density ratio of a pair of canonical variables `p, q` of correlation `s`, in nats: how much likelier they are
/// together than apart, both standard normal.
pub fn nats(s: f64, p: f64, q: f64) -> f64 {
    let rest = 1.0 - s * s;
    -0.5 * rest.ln() - (s * s * (p * p + q * q) - 2.0 * s * p * q) / (2.0 * rest)
}
