//! Crosscoders as published on the Hugging Face hub by the fork of dictionary_learning that has `CrossCoder` and
//! `BatchTopKCrossCoder` (Minder et al. 2025): `config.json` + `model.safetensors`, read and written.
//!
//! Arrays have a block for each model: `encoder.weight [M, d, f]`, `decoder.weight [M, f, d]`, `decoder.bias [M, d]`, `encoder.bias
//! [f]`. An activation counts if its product with a norm of the decoder exceeds `threshold`; `code_normalization_id` says which.
//! With `activation_mean` and `activation_std` (no value of which is NaN), the mean is subtracted from the states of each model,
//! which are then multiplied by its `activation_global_scale`; reconstructions are brought back. Both are folded into the weights.

use super::arrays::{self, Arrays, plain};
use super::config_file::{self, check_supported};
use super::saved::{ModelStream, Origin, Saved};
use crate::autoencoder::{Activation, Architecture, InputNorm, Weights};
use crate::{Error, Result, file, tensors};
use serde::Deserialize;
use serde_json::json;
use std::path::Path;

pub const CONFIG: &str = "config.json";
pub const WEIGHTS: &str = "model.safetensors";

/// The norms that activations are multiplied by, by their `code_normalization_id`.
const SUM_OF_NORMS: f64 = 1.0;
const JOINT_NORM: f64 = 2.0;
const NO_NORM: f64 = 4.0;
/// What is added to a scale before reconstructions are divided by it.
const EPSILON: f64 = 1e-8;

#[derive(Deserialize)]
struct Config {
    activation_dim: usize,
    dict_size: usize,
    #[serde(alias = "num_encoder_layers")]
    num_layers: usize,
}

/// Whether a folder is of this format: language models have files of these names as well.
pub fn is_at(dir: &Path) -> bool {
    dir.join(WEIGHTS).is_file() && config_file::read::<Config>(&dir.join(CONFIG)).is_ok()
}

/// Reads the folder.
pub fn load(dir: &Path) -> Result<Saved> {
    let path = dir.join(CONFIG);
    let (value, config): (_, Config) = config_file::read_with_value(&path)?;
    let (models, d, f) = (config.num_layers, config.activation_dim, config.dict_size);
    check_supported(
        &path,
        [(!(2..=9).contains(&models), format!("a crosscoder of {models} models, only 2 to 9 are"))],
    )?;
    let file = Arrays::open(&dir.join(WEIGHTS), arrays::safetensors)?;
    let [enc, mut b_enc, dec, mut b_dec] = file.take([
        plain("encoder.weight", &[models, d, f]),
        plain("encoder.bias", &[f]),
        plain("decoder.weight", &[models, f, d]),
        plain("decoder.bias", &[models, d]),
    ])?;
    let width = models * d;
    let (mut w_enc, mut w_dec) = (vec![0.0; f * width], vec![0.0; f * width]);
    for model in 0..models {
        for k in 0..f {
            let row = k * width + model * d;
            w_dec[row..row + d].copy_from_slice(&dec[(model * f + k) * d..][..d]);
            (0..d).for_each(|i| w_enc[row + i] = enc[(model * d + i) * f + k]);
        }
    }
    let (architecture, activation) = if file.has("threshold") {
        let (threshold, kind) = (file.number("threshold")?, normalization(&file)?);
        if threshold < 0.0 {
            let cause = "no threshold was learned, so activations would depend on the batch";
            return Err(Error::format(file.path())(cause));
        }
        let of_feature = |row: &[f32]| {
            let norm = |block: &[f32]| block.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let norm = if kind == SUM_OF_NORMS {
                row.chunks_exact(d).map(norm).sum::<f64>()
            } else if kind == JOINT_NORM {
                norm(row)
            } else {
                1.0
            };
            // A feature without a direction is above no threshold.
            if norm > 0.0 { ((threshold / norm) as f32).min(f32::MAX) } else { f32::MAX }
        };
        let threshold = w_dec.chunks_exact(width).map(of_feature).collect();
        (Architecture::BatchTopK, Activation::JumpRelu { threshold })
    } else {
        (Architecture::Relu, Activation::Relu)
    };
    if file.is_finite("activation_mean") && file.is_finite("activation_std") {
        let mean = plain("activation_mean", &[models, d]);
        let [mean, scale] = file.take([mean, plain("activation_global_scale", &[models])])?;
        for (row, bias) in w_enc.chunks_exact_mut(width).zip(&mut b_enc) {
            row.iter_mut().enumerate().for_each(|(n, weight)| *weight *= scale[n / d]);
            let shift: f64 = row.iter().zip(&mean).map(|(weight, mean)| f64::from(*weight) * f64::from(*mean)).sum();
            *bias = (f64::from(*bias) - shift) as f32;
        }
        let back = |value: f32, n: usize| f64::from(value) / (f64::from(scale[n / d]) + EPSILON);
        for row in w_dec.chunks_exact_mut(width) {
            row.iter_mut().enumerate().for_each(|(n, weight)| *weight = back(*weight, n) as f32);
        }
        let with_mean =
            |(n, (bias, mean)): (usize, (&mut f32, &f32))| *bias = (back(*bias, n) + f64::from(*mean)) as f32;
        b_dec.iter_mut().zip(&mean).enumerate().for_each(with_mean);
    }
    let stream = ModelStream { run: Default::default(), model: String::new(), scale: 1.0 };
    let origin = Origin { models: vec![stream; models], training: value, ..Origin::default() };
    let weights = Weights { d_in: width, d_sae: f, w_enc, b_enc, w_dec, b_dec, activation, ..Weights::default() };
    Ok(Saved { architecture, weights, origin })
}

/// Which norm activations are multiplied by before they are compared with the threshold.
fn normalization(file: &Arrays) -> Result<f64> {
    // Before the buffer existed, there was only the sum of norms.
    let kind = if file.has("code_normalization_id") { file.number("code_normalization_id")? } else { SUM_OF_NORMS };
    let known = [SUM_OF_NORMS, JOINT_NORM, NO_NORM].contains(&kind);
    check_supported(file.path(), [(!known, format!("code_normalization_id = {kind}, only 1, 2 and 4 are"))])?;
    Ok(kind)
}

/// The properties that the format cannot express.
pub fn missing(saved: &Saved) -> Vec<&'static str> {
    let weights = &saved.weights;
    let uniform = match &weights.activation {
        Activation::Relu => true,
        Activation::JumpRelu { threshold } => threshold.windows(2).all(|pair| pair[0] == pair[1]),
        Activation::TopK { .. } | Activation::Gated { .. } => false,
    };
    let checks = [
        (saved.origin.models.is_empty(), "an autoencoder of one model"),
        (!uniform, "another activation than ReLU and one threshold for all features"),
        (weights.normalization != InputNorm::None, "inputs that are normalized token by token"),
        (weights.skip.is_some(), "a skip connection"),
    ];
    checks.into_iter().filter(|(missing, _)| *missing).map(|(_, what)| what).collect()
}

/// Writes the folder. Thresholds are compared with activations themselves (`code_normalization` NONE), because the norms are in
/// the weights already.
pub fn save(dir: &Path, saved: &Saved) -> Result<()> {
    let (weights, models) = (&saved.weights, saved.origin.models.len());
    let (f, width, d) = (weights.d_sae, weights.d_in, weights.d_in / models);
    let (mut enc, mut dec) = (vec![0.0; f * width], vec![0.0; f * width]);
    for model in 0..models {
        for k in 0..f {
            let row = k * width + model * d;
            dec[(model * f + k) * d..][..d].copy_from_slice(&weights.w_dec[row..row + d]);
            (0..d).for_each(|i| enc[(model * d + i) * f + k] = weights.w_enc[row + i]);
        }
    }
    let threshold = match &weights.activation {
        Activation::JumpRelu { threshold } => threshold.first().copied(),
        _ => None,
    };
    // The library passes every field to the constructor, so there must be no others than its arguments.
    let mut config = json!({
        "activation_dim": d,
        "dict_size": f,
        "num_layers": models,
        "code_normalization": "NONE",
    });
    let k = saved.origin.training["k"].as_u64().unwrap_or(1);
    let (shapes, one) = ([vec![models, d, f], vec![f], vec![models, f, d], vec![models, d]], [NO_NORM as f32]);
    let (threshold, active) = (threshold.map(|t| [t]), [k as f32]);
    let mut arrays: Vec<(&str, &[usize], &[f32])> = vec![
        ("encoder.weight", &shapes[0], &enc),
        ("encoder.bias", &shapes[1], &weights.b_enc),
        ("decoder.weight", &shapes[2], &dec),
        ("decoder.bias", &shapes[3], &weights.b_dec),
        ("code_normalization_id", &[], &one),
    ];
    if let Some(threshold) = &threshold {
        config["k"] = k.into();
        arrays.push(("threshold", &[], threshold));
        arrays.push(("k", &[], &active));
    }
    file::write_json(&dir.join(CONFIG), &config)?;
    tensors::write(&dir.join(WEIGHTS), safetensors::Dtype::F32, &arrays)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoencoder::Encoder;
    use burn::tensor::Device;

    const M: usize = 2;
    const D: usize = 3;
    const F: usize = 5;

    fn wave(n: usize, by: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + 1.0) * by).sin()).collect()
    }

    /// A folder as the fork writes it, with this kind of norm.
    fn published(dir: &Path, kind: f32, threshold: f32) {
        let config =
            json!({ "activation_dim": D, "dict_size": F, "num_layers": M, "k": 2, "code_normalization": "CROSSCODER" });
        std::fs::write(dir.join(CONFIG), config.to_string()).unwrap();
        let (enc, dec) = (wave(M * D * F, 0.7), wave(M * F * D, 1.9));
        let arrays: [(&str, &[usize], &[f32]); 6] = [
            ("encoder.weight", &[M, D, F], &enc),
            ("encoder.bias", &[F], &wave(F, 1.3)),
            ("decoder.weight", &[M, F, D], &dec),
            ("decoder.bias", &[M, D], &wave(M * D, 0.4)),
            ("code_normalization_id", &[], &[kind]),
            ("threshold", &[], &[threshold]),
        ];
        tensors::write(&dir.join(WEIGHTS), safetensors::Dtype::F32, &arrays).unwrap();
    }

    /// Activations and reconstruction of states `[M, D]` by the published formulas.
    fn by_formula(x: &[f32], kind: f32, threshold: f32) -> (Vec<f32>, Vec<f32>) {
        let (enc, dec, b_enc) = (wave(M * D * F, 0.7), wave(M * F * D, 1.9), wave(F, 1.3));
        let at = |m: usize, k: usize, i: usize| dec[(m * F + k) * D + i];
        let activation = |k: usize| {
            let sum = (0..M * D).map(|n| x[n] * enc[n * F + k]).sum::<f32>();
            let f = (sum + b_enc[k]).max(0.0);
            let square = |m: usize| (0..D).map(|i| at(m, k, i).powi(2)).sum::<f32>();
            let norm = match kind as u32 {
                1 => (0..M).map(|m| square(m).sqrt()).sum(),
                2 => (0..M).map(square).sum::<f32>().sqrt(),
                _ => 1.0,
            };
            if f * norm > threshold { f } else { 0.0 }
        };
        let z: Vec<f32> = (0..F).map(activation).collect();
        let bias = wave(M * D, 0.4);
        let out = |n: usize| bias[n] + (0..F).map(|k| z[k] * at(n / D, k, n % D)).sum::<f32>();
        (z.clone(), (0..M * D).map(out).collect())
    }

    #[test]
    fn published_crosscoders_compute_what_their_formulas_say_and_survive_a_round_trip() {
        for kind in [1.0, 2.0, 4.0] {
            let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            published(dir.path(), kind, 0.9);
            assert!(is_at(dir.path()));
            let saved = super::super::load(dir.path()).unwrap();
            assert_eq!((saved.weights.d_in, saved.origin.models.len()), (M * D, M));
            let mut silent = 0;
            for n in 0..20 {
                let x: Vec<f32> = wave(M * D, 0.31 + n as f32 * 0.17).iter().map(|v| v * 2.0).collect();
                let encoder = Encoder::new(&saved.weights, &Device::flex());
                let (z, expected) = by_formula(&x, kind, 0.9);
                let active = encoder.encode(&x).unwrap();
                let found: Vec<u32> = (0..F as u32).filter(|k| z[*k as usize] > 0.0).collect();
                assert_eq!(active.row(0).0, found);
                silent += F - found.len();
                let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
                assert!(close(&encoder.reconstruct(&x).unwrap(), &expected));
            }
            assert!(silent > 0, "the threshold matters");
            let written = super::super::save(super::super::Format::Crosscoder, out.path(), &saved);
            if kind == NO_NORM as f32 {
                written.unwrap();
                assert_eq!(super::super::load(out.path()).unwrap().weights, saved.weights);
                let config: serde_json::Value = file::read_json(&out.path().join(CONFIG), 1 << 20).unwrap();
                let known = ["activation_dim", "code_normalization", "dict_size", "k", "num_layers"];
                assert!(config.as_object().unwrap().keys().all(|key| known.contains(&&key[..])), "{config}");
            } else {
                assert!(written.unwrap_err().to_string().contains("one threshold for all features"));
            }
        }
    }

    #[test]
    fn what_is_no_crosscoder_or_not_supported_is_rejected() {
        let dir = tempfile::tempdir().unwrap();
        published(dir.path(), 3.0, 0.9);
        assert!(load(dir.path()).unwrap_err().to_string().contains("code_normalization_id = 3"));
        published(dir.path(), 1.0, -1.0);
        assert!(load(dir.path()).unwrap_err().to_string().contains("no threshold was learned"));
        std::fs::write(dir.path().join(CONFIG), r#"{"activation_dim": 3, "dict_size": 9, "num_layers": 2}"#).unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().contains("encoder.weight"));
        std::fs::write(dir.path().join(CONFIG), r#"{"model_type": "llama"}"#).unwrap();
        assert!(!is_at(dir.path()), "a language model has files of these names");
    }
}
