//! Crosscoders as published with the open-source replication of Anthropic's (Kissane et al. 2024): `cfg.json` + `cc_weights.pt`, the state
//! dict of a ReLU crosscoder; read and written.
//!
//! `z = ReLU(sum_m x^m W_enc[m] + b_enc)`, `x_hat^m = z W_dec[:, m] + b_dec[m]`, with `W_enc [M, d, F]`, `W_dec [F, M, d]`, `b_dec [M, d]`. Its
//! training multiplies the states of each model by a factor that makes their mean norm `sqrt(d)`, and no file has these factors.
//! Files written here are for states as they are, and say so with the key `input_scales`.

use super::arrays::{Arrays, plain};
use super::config_file::{self, check_supported};
use super::saved::{ModelStream, Origin, Saved};
use super::torch;
use crate::autoencoder::{Activation, Architecture, InputNorm, Weights};
use crate::store::hooks;
use crate::{Result, file};
use serde::Deserialize;
use serde_json::json;
use std::path::Path;

pub const CONFIG: &str = "cfg.json";
pub const WEIGHTS: &str = "cc_weights.pt";

#[derive(Deserialize)]
struct Config {
    d_in: usize,
    dict_size: usize,
    #[serde(default)]
    model_name: String,
    #[serde(default)]
    hook_point: String,
    /// The factors that the states of each model are multiplied by.
    input_scales: Option<Vec<f32>>,
}

/// Reads the folder.
pub fn load(dir: &Path) -> Result<Saved> {
    let path = dir.join(CONFIG);
    let (training, config): (_, Config) = config_file::read_with_value(&path)?;
    let (d, f) = (config.d_in, config.dict_size);
    let file = Arrays::open(&dir.join(WEIGHTS), torch::entries)?;
    let [models, _] = file.matrix("b_dec")?;
    let scales = config.input_scales;
    let fits = scales.as_ref().is_none_or(|s| s.len() == models && s.iter().all(|s| *s > 0.0 && s.is_finite()));
    check_supported(
        &path,
        [
            (!(2..=9).contains(&models), format!("a crosscoder of {models} models, only 2 to 9 are")),
            (!fits, format!("input_scales that are not {models} numbers above 0")),
        ],
    )?;
    let [enc, b_enc, w_dec, b_dec] = file.take([
        plain("W_enc", &[models, d, f]),
        plain("b_enc", &[f]),
        plain("W_dec", &[f, models, d]),
        plain("b_dec", &[models, d]),
    ])?;
    // A row of `W_dec` has the blocks of all models already.
    let width = models * d;
    let w_enc = super::arrays::transposed(&enc, width, f);
    let stream = ModelStream { run: Default::default(), model: String::new(), scale: 1.0 };
    let (hook, layer) = hooks::of_tool(&config.hook_point);
    let notes = if scales.is_some() { Vec::new() } else { vec![NO_SCALES.into()] };
    let model = config.model_name;
    let origin = Origin { model, hook, layer, models: vec![stream; models], training, notes, ..Origin::default() };
    let weights = Weights { d_in: width, d_sae: f, w_enc, b_enc, w_dec, b_dec, ..Weights::default() };
    let mut saved = Saved { architecture: Architecture::Relu, weights, origin };
    if let Some(scales) = scales {
        saved.scale_inputs(&scales);
    }
    Ok(saved)
}

/// What is said of a file without the factors of its inputs.
const NO_SCALES: &str =
    "the states of each model were scaled to a mean norm of sqrt(d) in training, by factors that its files do not have";

/// The properties that the format cannot express.
pub fn missing(saved: &Saved) -> Vec<&'static str> {
    let checks = [
        (saved.origin.models.is_empty(), "an autoencoder of one model"),
        (saved.weights.activation != Activation::Relu, "another activation than ReLU"),
        (saved.weights.normalization != InputNorm::None, "inputs that are normalized token by token"),
        (saved.weights.skip.is_some(), "a skip connection"),
    ];
    checks.into_iter().filter(|(missing, _)| *missing).map(|(_, what)| what).collect()
}

/// Writes the folder; the weights come last.
pub fn save(dir: &Path, saved: &Saved) -> Result<()> {
    let (weights, models) = (&saved.weights, saved.origin.models.len());
    let (f, d) = (weights.d_sae, weights.d_in / models);
    let enc = super::arrays::transposed(&weights.w_enc, f, weights.d_in);
    let config = json!({
        "d_in": d,
        "dict_size": f,
        "n_models": models,
        "enc_dtype": "fp32",
        "device": "cpu",
        "seed": 0,
        "dec_init_norm": 0.08,
        "model_name": saved.origin.model,
        "hook_point": hooks::to_sae_lens(&saved.origin.hook),
        "input_scales": vec![1.0; models],
    });
    file::write_json(&dir.join(CONFIG), &config)?;
    let tensors: [(&str, &[usize], &[f32]); 4] = [
        ("W_enc", &[models, d, f], &enc),
        ("W_dec", &[f, models, d], &weights.w_dec),
        ("b_enc", &[f], &weights.b_enc),
        ("b_dec", &[models, d], &weights.b_dec),
    ];
    torch::write(&dir.join(WEIGHTS), &tensors)
}

impl Saved {
    /// Whether the inputs have to be scaled by factors that are not known from its files.
    pub fn needs_scales(&self) -> bool {
        self.origin.notes.iter().any(|note| note == NO_SCALES)
    }

    /// Makes a crosscoder whose inputs were multiplied by a factor for each model read them as they are: the encoder is multiplied by the
    /// factors, and reconstructions are divided by them.
    ///
    /// # Panics
    /// If there is not one factor for each of its models.
    pub fn scale_inputs(&mut self, scales: &[f32]) {
        assert_eq!(scales.len(), self.origin.models.len(), "one factor for each model");
        let weights = &mut self.weights;
        let (width, d) = (weights.d_in, weights.d_in / scales.len());
        for row in weights.w_enc.chunks_exact_mut(width) {
            row.iter_mut().enumerate().for_each(|(n, weight)| *weight *= scales[n / d]);
        }
        for row in weights.w_dec.chunks_exact_mut(width).chain(std::iter::once(&mut weights.b_dec[..])) {
            row.iter_mut().enumerate().for_each(|(n, weight)| *weight /= scales[n / d]);
        }
        self.origin.notes.retain(|note| note != NO_SCALES);
        self.origin.models.iter_mut().zip(scales).for_each(|(stream, scale)| stream.scale = *scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoencoder::Encoder;
    use burn::tensor::Device;

    const M: usize = 3;
    const D: usize = 2;
    const F: usize = 4;

    fn wave(n: usize, by: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + 1.0) * by).sin()).collect()
    }

    fn published(dir: &Path, scales: Option<[f32; M]>) {
        let mut config =
            json!({ "d_in": D, "dict_size": F, "model_name": "gemma-2-2b", "hook_point": "blocks.14.hook_resid_pre" });
        if let Some(scales) = scales {
            config["input_scales"] = json!(scales);
        }
        std::fs::write(dir.join(CONFIG), config.to_string()).unwrap();
        let tensors: [(&str, &[usize], &[f32]); 4] = [
            ("W_enc", &[M, D, F], &wave(M * D * F, 0.7)),
            ("W_dec", &[F, M, D], &wave(M * D * F, 1.9)),
            ("b_enc", &[F], &wave(F, 1.3)),
            ("b_dec", &[M, D], &wave(M * D, 0.4)),
        ];
        torch::write(&dir.join(WEIGHTS), &tensors).unwrap();
    }

    /// Activations and reconstruction of states by the published formula, index by index, of states that are multiplied by factors.
    fn by_formula(x: &[f32], scales: [f32; M]) -> (Vec<f32>, Vec<f32>) {
        let (enc, dec, b_enc, b_dec) = (wave(M * D * F, 0.7), wave(M * D * F, 1.9), wave(F, 1.3), wave(M * D, 0.4));
        let z: Vec<f32> = (0..F)
            .map(|k| {
                let sum: f32 = (0..M)
                    .flat_map(|m| (0..D).map(move |i| (m, i)))
                    .map(|(m, i)| scales[m] * x[m * D + i] * enc[(m * D + i) * F + k])
                    .sum();
                (sum + b_enc[k]).max(0.0)
            })
            .collect();
        let x_hat = (0..M * D).map(|n| {
            let sum: f32 = (0..F).map(|k| z[k] * dec[(k * M + n / D) * D + n % D]).sum();
            (sum + b_dec[n]) / scales[n / D]
        });
        (z.clone(), x_hat.collect())
    }

    fn computed(saved: &Saved, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let active = Encoder::new(&saved.weights, &Device::flex()).encode(x).unwrap();
        let (features, values) = active.row(0);
        let (mut z, mut x_hat) = (vec![0.0; F], vec![0.0; M * D]);
        features.iter().zip(values).for_each(|(k, v)| z[*k as usize] = *v);
        saved.weights.decode(x, features, values, &mut x_hat);
        (z, x_hat)
    }

    fn near(a: &(Vec<f32>, Vec<f32>), b: &(Vec<f32>, Vec<f32>)) -> bool {
        let pairs = a.0.iter().zip(&b.0).chain(a.1.iter().zip(&b.1));
        pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5)
    }

    #[test]
    fn a_published_crosscoder_computes_its_formula_and_survives_being_written() {
        let x = wave(M * D, 2.3);
        for scales in [None, Some([0.5, 2.0, 1.5])] {
            let dir = tempfile::tempdir().unwrap();
            published(dir.path(), scales);
            let mut saved = load(dir.path()).unwrap();
            assert_eq!((&saved.origin.hook[..], saved.origin.models.len()), ("layers.13", M));
            assert_eq!(saved.needs_scales(), scales.is_none());
            let factors = scales.unwrap_or([0.25, 4.0, 1.0]);
            if scales.is_none() {
                let said = super::super::check(super::super::Format::SaeLens, &saved).unwrap_err().to_string();
                assert!(said.contains("inputs scaled by unknown factors"), "{said}");
                assert!(near(&computed(&saved, &x), &by_formula(&x, [1.0; M])));
                saved.scale_inputs(&factors);
            }
            let expected = by_formula(&x, factors);
            assert!(expected.0.iter().any(|z| *z > 0.0) && expected.0.contains(&0.0), "{expected:?}");
            assert!(near(&computed(&saved, &x), &expected));
            let out = tempfile::tempdir().unwrap();
            save(out.path(), &saved).unwrap();
            assert!(near(&computed(&load(out.path()).unwrap(), &x), &expected));
        }
    }

    #[test]
    fn sizes_and_factors_that_do_not_fit_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        published(dir.path(), Some([1.0, 0.0, 1.0]));
        let said = load(dir.path()).unwrap_err().to_string();
        assert!(said.contains("input_scales that are not 3 numbers above 0"), "{said}");
        published(dir.path(), None);
        std::fs::write(dir.path().join(CONFIG), r#"{"d_in": 2, "dict_size": 5}"#).unwrap();
        let said = load(dir.path()).unwrap_err().to_string();
        assert!(said.contains("W_enc has shape [3, 2, 4], expected [3, 2, 5]"), "{said}");
    }
}
