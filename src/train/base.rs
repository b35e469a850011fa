//! The autoencoder that a training starts from: one of the run, files of any format, or a published one; and the configuration with which
//! its training goes on. Trains nothing.

use crate::control::Control;
use crate::import::SaeSource;
use crate::{Error, Result};
use sae_core::autoencoder::formats::{self, Format, Saved};
use sae_core::autoencoder::{Activation, InputNorm};
use sae_core::train::{TrainConfig, TrainingScale};
use serde::Deserialize;
use std::path::Path;

/// Loads the autoencoder. `k` is the number of active features, for the format whose files do not have it. A published one is downloaded
/// only with a `control`.
pub(super) fn load(run: &Path, from: &SaeSource, k: usize, control: Option<&mut Control>) -> Result<Saved> {
    let (path, format) = match from {
        SaeSource::Files(path) => {
            let named = run.join("saes").join(path);
            let path = if named.is_dir() { named } else { path.clone() };
            let format = formats::detect(&path)?;
            (path, format)
        }
        SaeSource::Hub(sae) => {
            let found = match control {
                Some(control) => sae.download(control)?,
                None => sae.cached()?,
            };
            (found.path, found.format)
        }
    };
    let k = Some(k).filter(|_| format == Format::QwenScope);
    Ok(formats::load_with(format, &path, k)?)
}

/// The configuration with which an autoencoder goes on: its own, if this program trained it, or else the defaults of its
/// architecture, with its number of features, of active features (`k`, if it is asked for and the files do not say), its kind of
/// normalization, and, for a transcoder, its skip connection. A published one is downloaded only with a `control`.
///
/// # Errors
/// There is no such autoencoder, or it has not been downloaded; inputs of constant norm, which are not trained on.
pub fn config_of_base(
    run: &Path,
    from: &SaeSource,
    k: Option<usize>,
    control: Option<&mut Control>,
) -> Result<TrainConfig> {
    let default_k = TrainConfig::default().k;
    let base = load(run, from, k.unwrap_or(default_k), control)?;
    let (weights, training) = (&base.weights, &base.origin.training);
    if let Ok(config) = TrainConfig::deserialize(training)
        && training["arch"].is_string()
    {
        return Ok(TrainConfig { features: weights.d_sae, ..config });
    }
    let defaults = TrainConfig::for_architecture(base.architecture);
    // A threshold stands in for `k` in the weights of BatchTopK; other tools keep `k` beside them.
    let stated = training["k"].as_f64().filter(|k| *k >= 1.0 && *k <= weights.d_sae as f64).map(|k| k.ceil() as usize);
    let own_k = if let Activation::TopK { k } = weights.activation { Some(k) } else { stated };
    let normalize = match weights.normalization {
        InputNorm::None => defaults.normalize,
        InputNorm::LayerNorm => TrainingScale::LayerNorm,
        InputNorm::ConstantNorm => return Err(Error::ConstantNorm),
    };
    let k = own_k.or(k).unwrap_or(default_k);
    // What another tool weights by is folded into the weights, which are compared as they are.
    let config = TrainConfig { features: weights.d_sae, k, normalize, rescale_by_decoder_norm: false, ..defaults };
    if base.is_transcoder() {
        return Ok(TrainConfig { skip: weights.skip.is_some(), d_out: weights.d_out(), ..config.transcoder() });
    }
    Ok(config)
}
