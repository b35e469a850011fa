//! SAELens folders, `cfg.json` + `sae_weights.safetensors`: inference and training saves of every version, and the folders of
//! autoencoders that this workbench trained.

mod config;
mod write;

pub use config::CONFIG;
pub use write::{WEIGHTS, missing, save};

use super::arrays::{self, Arrays, plain, turned};
use super::config_file::{self, check_supported, unsupported};
use super::fold;
use super::saved::Saved;
use crate::autoencoder::{Activation, Architecture, InputNorm, Weights};
use crate::{Error, Result};
use config::Config;
use std::path::Path;

const SCALER: &str = "activation_scaler.json";

const KNOWN: [&str; 6] = ["standard", "topk", "jumprelu", "gated", "batchtopk", "matryoshka_batchtopk"];
/// The transcoders of SAELens, which has none with a limit to the number of features or with gates; this workbench names those by the
/// same rule.
const TRANSCODERS: [&str; 8] = [
    "transcoder",
    "skip_transcoder",
    "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
    "topk_transcoder",
    "topk_skip_transcoder",
    "gated_transcoder",
    "gated_skip_transcoder",
];

/// An architecture of a transcoder: how its features become active, and whether it has a skip connection. Nothing for an
/// autoencoder.
fn transcoder(name: &str) -> Option<(&str, bool)> {
    let base = name.strip_suffix("transcoder").filter(|_| TRANSCODERS.contains(&name))?;
    let (base, skip) = base.strip_suffix("skip_").map_or((base, false), |base| (base, true));
    Some((base.strip_suffix('_').unwrap_or("standard"), skip))
}

/// Whether the folder is of a version before 6.
pub fn is_old(dir: &Path) -> Result<bool> {
    Ok(Config::read(&dir.join(CONFIG))?.old)
}

/// Reads a folder of any version.
pub fn load(dir: &Path) -> Result<Saved> {
    let path = dir.join(CONFIG);
    let mut config = Config::read(&path)?;
    let is_transcoder = transcoder(&config.architecture);
    let (name, has_skip) = is_transcoder.unwrap_or((&config.architecture, false));
    if !KNOWN.contains(&name) {
        return Err(unsupported(&path, "architecture", name, &[&KNOWN[..], &TRANSCODERS].concat()));
    }
    let (d, f) = (config.d_in, config.d_sae);
    let d_out = config.d_out.filter(|_| is_transcoder.is_some()).unwrap_or(d);
    if is_transcoder.is_some() {
        let normalized = config.normalization != InputNorm::None || config.scaled;
        check_supported(
            &path,
            [
                (normalized, "normalize_activations of a transcoder".into()),
                (config.apply_b_dec_to_input, "apply_b_dec_to_input of a transcoder".into()),
            ],
        )?;
    }
    let file = Arrays::open(&dir.join(WEIGHTS), arrays::safetensors)?;
    scaling_of_ones(&file, f)?;
    // Each architecture asks for all its tensors at once, so that one error names everything that does not fit.
    let matrices = || (turned("W_enc", [d, f]), plain("W_dec", &[f, d_out]), plain("b_dec", &[d_out]));
    let b_enc = || plain("b_enc", &[f]);
    let (e, dec, b) = matrices();
    let (activation, [w_enc, w_dec, b_dec, b_enc]) = match name {
        "gated" => {
            let more = ["b_gate", "r_mag", "b_mag"].map(|name| plain(name, &[f]));
            let [b_gate, r_mag, b_mag] = more;
            let [w_enc, w_dec, b_dec, b_gate, r_mag, bias] = file.take([e, dec, b, b_gate, r_mag, b_mag])?;
            let scale = r_mag.into_iter().map(f32::exp).collect();
            (Activation::Gated { scale, bias }, [w_enc, w_dec, b_dec, b_gate])
        }
        // Older training saves hold the logarithm.
        "jumprelu" if file.has("log_threshold") && !file.has("threshold") => {
            let [w_enc, w_dec, b_dec, b_enc, log] = file.take([e, dec, b, b_enc(), plain("log_threshold", &[f])])?;
            let threshold = log.into_iter().map(f32::exp).collect();
            (Activation::JumpRelu { threshold }, [w_enc, w_dec, b_dec, b_enc])
        }
        "jumprelu" => {
            let [w_enc, w_dec, b_dec, b_enc, threshold] = file.take([e, dec, b, b_enc(), plain("threshold", &[f])])?;
            (Activation::JumpRelu { threshold }, [w_enc, w_dec, b_dec, b_enc])
        }
        "batchtopk" | "matryoshka_batchtopk" => {
            let arrays = file.take([e, dec, b, b_enc()])?;
            let threshold = file.number("topk_threshold")? as f32;
            (Activation::JumpRelu { threshold: vec![threshold; f] }, arrays)
        }
        "topk" => {
            let k = config.k.ok_or_else(|| Error::format(&path)("a topk autoencoder without k"))?;
            (Activation::TopK { k }, file.take([e, dec, b, b_enc()])?)
        }
        _ => (Activation::Relu, file.take([e, dec, b, b_enc()])?),
    };
    let skip = if has_skip {
        let [skip] = file.take([plain("W_skip", &[d_out, d])])?;
        Some(skip)
    } else {
        None
    };
    let normalization = config.normalization;
    let mut weights = Weights { d_in: d, d_sae: f, w_enc, b_enc, w_dec, b_dec, activation, normalization, skip };
    if config.apply_b_dec_to_input {
        fold::center(&mut weights);
    }
    if config.rescale_acts_by_decoder_norm && matches!(name, "topk" | "batchtopk" | "matryoshka_batchtopk") {
        fold::normalize_decoder(&mut weights);
    }
    if config.scaled {
        match scale(dir)? {
            // A checkpoint of a training has the factor in a separate file. Activations stay in the units of the training.
            Some(by) => {
                fold::scale_input(&mut weights, by);
                fold::scale_output(&mut weights, 1.0 / by);
            }
            // SAELens folds the factor in when a training ends, and applies none when it loads a folder.
            None => config.origin.notes.push(
                "inputs were scaled in training, and the factor is not in the folder: none is applied, as SAELens does"
                    .into(),
            ),
        }
    }
    let architecture = config.trained_as.as_deref().and_then(architecture).or_else(|| architecture(name));
    Ok(Saved { architecture: architecture.unwrap_or_default(), weights, origin: config.origin })
}

/// Versions before 6 may carry a factor for each activation, all ones unless it was finetuned.
fn scaling_of_ones(file: &Arrays, f: usize) -> Result<()> {
    for name in ["scaling_factor", "finetuning_scaling_factor"] {
        if file.has(name) {
            let [factors] = file.take([plain(name, &[f])])?;
            check_supported(file.path(), [(factors.iter().any(|v| *v != 1.0), format!("a {name} other than one"))])?;
        }
    }
    Ok(())
}

/// The factor of inputs, which a checkpoint of a training has in a separate file.
fn scale(dir: &Path) -> Result<Option<f32>> {
    #[derive(serde::Deserialize)]
    struct Scaler {
        scaling_factor: Option<f32>,
    }
    let path = dir.join(SCALER);
    if !path.is_file() {
        return Ok(None);
    }
    let scaler: Scaler = config_file::read(&path)?;
    match scaler.scaling_factor {
        Some(by) if !(by > 0.0 && by.is_finite()) => Err(Error::format(&path)(format!("scaling_factor = {by}"))),
        by => Ok(by),
    }
}

/// SAELens' name of an architecture in ours.
fn architecture(name: &str) -> Option<Architecture> {
    Architecture::ALL.into_iter().find(|a| write::name(*a) == name)
}
