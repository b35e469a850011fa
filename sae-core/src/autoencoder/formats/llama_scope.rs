//! Llama Scope as released by OpenMOSS in 2024: `hyperparams.json` and `checkpoints/final.safetensors`. The weights compute
//! the same as `lm_saes`, the authors' package at the time: biases and decoder are converted to the units of the model's
//! activations, then every direction is normalized to norm 1, and one threshold is used for all features. (SAELens compares
//! with the same threshold before it normalizes directions.)

use super::arrays::{self, Arrays, plain, turned};
use super::config_file::{self, check_supported, unsupported};
use super::fold;
use super::saved::{Origin, Saved};
use crate::autoencoder::{Activation, Architecture, InputNorm, Weights};
use crate::{Error, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

pub const CONFIG: &str = "hyperparams.json";
/// Where `lm_saes` looks for weights; it uses the first file that exists.
pub const WEIGHTS: [&str; 3] =
    ["sae_weights.safetensors", "checkpoints/pruned.safetensors", "checkpoints/final.safetensors"];

#[derive(Deserialize)]
struct Config {
    d_model: usize,
    d_sae: Option<usize>,
    expansion_factor: Option<f64>,
    act_fn: String,
    jump_relu_threshold: Option<f64>,
    top_k: Option<usize>,
    norm_activation: String,
    dataset_average_activation_norm: Option<Norms>,
    #[serde(default = "config_file::on")]
    sparsity_include_decoder_norm: bool,
    #[serde(default = "config_file::on")]
    use_decoder_bias: bool,
    #[serde(default)]
    apply_decoder_bias_to_pre_encoder: bool,
    #[serde(default)]
    use_glu_encoder: bool,
    hook_point_in: String,
    hook_point_out: String,
}

/// Mean norms of the activations that were read and of those that were reconstructed.
#[derive(Clone, Copy, Deserialize)]
struct Norms {
    r#in: f64,
    out: f64,
}

/// The weights of a folder, if it has this format.
pub fn weights(dir: &Path) -> Option<PathBuf> {
    let weights = || WEIGHTS.iter().map(|name| dir.join(name)).find(|path| path.is_file());
    dir.join(CONFIG).is_file().then(weights).flatten()
}

/// Reads the folder.
pub fn load(dir: &Path) -> Result<Saved> {
    let path = dir.join(CONFIG);
    let (value, config): (_, Config) = config_file::read_with_value(&path)?;
    let norm = &config.norm_activation[..];
    let transcoder = config.hook_point_in != config.hook_point_out;
    check_supported(
        &path,
        [
            (config.use_glu_encoder, "use_glu_encoder".into()),
            (!["dataset-wise", "token-wise", "inference"].contains(&norm), format!("norm_activation {norm:?}")),
            (norm == "token-wise" && transcoder, "token-wise normalization of a transcoder".into()),
        ],
    )?;
    let wrong = |cause: &str| Error::format(&path)(cause);
    let d = config.d_model;
    let expanded = config.expansion_factor.map(|factor| (d as f64 * factor) as usize);
    let f = config.d_sae.or(expanded).ok_or_else(|| wrong("there is neither d_sae nor expansion_factor"))?;
    // `lm_saes` takes a TopK autoencoder with a threshold for a JumpReLU one.
    let threshold = config.jump_relu_threshold.filter(|t| t.is_finite() && *t >= 0.0).map(|t| t as f32);
    let (architecture, activation) = match (&config.act_fn.to_lowercase()[..], threshold) {
        ("relu", _) => (Architecture::Relu, Activation::Relu),
        ("jumprelu", Some(t)) => (Architecture::JumpRelu, Activation::JumpRelu { threshold: vec![t] }),
        ("topk", Some(t)) if t > 0.0 => (Architecture::TopK, Activation::JumpRelu { threshold: vec![t] }),
        ("topk", _) => {
            let k = config.top_k.ok_or_else(|| wrong("a topk autoencoder without top_k"))?;
            (Architecture::TopK, Activation::TopK { k })
        }
        ("jumprelu", None) => return Err(wrong("a jumprelu autoencoder without jump_relu_threshold")),
        (other, _) => return Err(unsupported(&path, "act_fn", other, &["relu", "topk", "jumprelu"])),
    };
    let from = weights(dir).ok_or_else(|| {
        let names = WEIGHTS.join(", ");
        Error::run(dir, format!("{CONFIG} is here without weights (looked for {names})"))
    })?;
    let file = Arrays::open(&from, arrays::safetensors)?;
    let parameters =
        || [plain("encoder.weight", &[f, d]), plain("encoder.bias", &[f]), turned("decoder.weight", [d, f])];
    let [w_enc, b_enc, w_dec, b_dec] = if config.use_decoder_bias {
        let [e, be, dec] = parameters();
        file.take([e, be, dec, plain("decoder.bias", &[d])])?
    } else {
        let [e, be, dec] = file.take(parameters())?;
        [e, be, dec, vec![0.0; d]]
    };
    let mut weights = Weights { d_in: d, d_sae: f, w_enc, b_enc, w_dec, b_dec, activation, ..Weights::default() };
    // One threshold serves all features. Only now is it known that the file has as many as its configuration claims.
    if let Activation::JumpRelu { threshold } = &mut weights.activation {
        let shared = threshold[0];
        threshold.resize(f, shared);
    }
    match norm {
        "dataset-wise" => {
            let norms = config.dataset_average_activation_norm;
            let norms = norms.filter(|n| n.r#in > 0.0 && n.out > 0.0 && n.r#in.is_finite() && n.out.is_finite());
            let norms =
                norms.ok_or_else(|| wrong("invalid dataset_average_activation_norm: expected two numbers above 0"))?;
            let (input, output) = ((d as f64).sqrt() / norms.r#in, (d as f64).sqrt() / norms.out);
            fold::scale_output(&mut weights, (1.0 / output) as f32);
            weights.w_dec.iter_mut().for_each(|v| *v *= input as f32);
            weights.b_enc.iter_mut().for_each(|v| *v /= input as f32);
        }
        "token-wise" => weights.normalization = InputNorm::ConstantNorm,
        _ => (),
    }
    if config.apply_decoder_bias_to_pre_encoder {
        fold::center(&mut weights);
    }
    if config.sparsity_include_decoder_norm {
        fold::normalize_decoder(&mut weights);
    }
    let origin = Origin::from_tool_hook(&config.hook_point_in, value).with_tool_target(&config.hook_point_out);
    Ok(Saved { architecture, weights, origin })
}
