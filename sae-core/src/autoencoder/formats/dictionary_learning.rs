//! Folders of dictionary_learning, `ae.pt` + `config.json`. Only the configuration says which class the weights
//! belong to; the pickle is read for its tensors and never executed (see [`pickle`](super::pickle)).

use super::arrays::{Arrays, plain, turned};
use super::config_file::{self, unsupported};
use super::saved::{Origin, Saved};
use super::{fold, torch};
use crate::autoencoder::{Activation, Architecture, Weights};
use crate::store::hooks;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

const CONFIG: &str = "config.json";
pub const WEIGHTS: &str = "ae.pt";

const KNOWN: [&str; 7] = [
    "AutoEncoder",
    "AutoEncoderNew",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder",
    "GatedAutoEncoder",
];

#[derive(Deserialize)]
struct Config {
    trainer: Value,
}

/// Reads the folder.
pub fn load(dir: &Path) -> Result<Saved> {
    let path = dir.join(CONFIG);
    let Config { trainer } = config_file::read(&path)?;
    let class = trainer["dict_class"].as_str().unwrap_or_default();
    let file = Arrays::open(&dir.join(WEIGHTS), torch::entries)?;
    // Classes made of `nn.Linear` hold the encoder as [d_sae, d_in] and the decoder the other way around.
    let linear = || -> Result<_> {
        let [f, d] = file.matrix("encoder.weight")?;
        Ok((plain("encoder.weight", &[f, d]), turned("decoder.weight", [d, f]), [f, d]))
    };
    let bare = || -> Result<_> {
        let [d, f] = file.matrix("W_enc")?;
        Ok((turned("W_enc", [d, f]), plain("W_dec", &[f, d]), plain("b_enc", &[f]), plain("b_dec", &[d]), [f, d]))
    };
    let threshold = |f: usize| Ok(Activation::JumpRelu { threshold: vec![file.number("threshold")? as f32; f] });
    let (architecture, activation, tensors, [f, d]) = match class {
        "AutoEncoder" | "AutoEncoderNew" | "AutoEncoderTopK" | "BatchTopKSAE" => {
            let (enc, dec, size @ [f, d]) = linear()?;
            let bias = match class {
                "AutoEncoder" => "bias",
                "AutoEncoderNew" => "decoder.bias",
                _ => "b_dec",
            };
            let tensors = file.take([enc, plain("encoder.bias", &[f]), dec, plain(bias, &[d])])?;
            let (architecture, activation) = match class {
                "AutoEncoder" | "AutoEncoderNew" => (Architecture::Relu, Activation::Relu),
                "BatchTopKSAE" => (Architecture::BatchTopK, threshold(f)?),
                _ => (Architecture::TopK, Activation::TopK { k: k(&file, &trainer)? }),
            };
            (architecture, activation, tensors, size)
        }
        "MatryoshkaBatchTopKSAE" => {
            let (enc, dec, b_enc, b_dec, size) = bare()?;
            // Read first: an empty matrix may claim any number of features.
            let tensors = file.take([enc, b_enc, dec, b_dec])?;
            (Architecture::Matryoshka, threshold(size[0])?, tensors, size)
        }
        "JumpReluAutoEncoder" => {
            let (enc, dec, b_enc, b_dec, size) = bare()?;
            let [enc, b_enc, dec, b_dec, threshold] =
                file.take([enc, b_enc, dec, b_dec, plain("threshold", &size[..1])])?;
            (Architecture::JumpRelu, Activation::JumpRelu { threshold }, [enc, b_enc, dec, b_dec], size)
        }
        "GatedAutoEncoder" => {
            let (enc, dec, size @ [f, d]) = linear()?;
            let [gate, mag, r_mag] = ["gate_bias", "mag_bias", "r_mag"].map(|name| plain(name, &[f]));
            let [enc, gate, dec, b_dec, bias, r_mag] =
                file.take([enc, gate, dec, plain("decoder_bias", &[d]), mag, r_mag])?;
            let scale = r_mag.into_iter().map(f32::exp).collect();
            (Architecture::Gated, Activation::Gated { scale, bias }, [enc, gate, dec, b_dec], size)
        }
        other => return Err(unsupported(&path, "class", other, &KNOWN)),
    };
    let [w_enc, b_enc, w_dec, b_dec] = tensors;
    let mut weights = Weights { d_in: d, d_sae: f, w_enc, b_enc, w_dec, b_dec, activation, ..Weights::default() };
    // The others subtract the decoder's bias from inputs.
    if !["JumpReluAutoEncoder", "AutoEncoderNew"].contains(&class) {
        fold::center(&mut weights);
    }
    // The trainer leaves the norms of directions free; `load_dictionary` normalizes them to 1.
    if class == "AutoEncoder" && trainer["trainer_class"] == "StandardTrainerAprilUpdate" {
        fold::normalize_decoder(&mut weights);
    }
    Ok(Saved { architecture, weights, origin: origin(trainer) })
}

/// A buffer of the module since 0.1, and only in the configuration before.
fn k(file: &Arrays, trainer: &Value) -> Result<usize> {
    let said = trainer["k"].as_u64().map(|k| k as usize);
    let held = file.has("k").then(|| file.number("k")).transpose()?.map(|k| k as usize);
    match (held, said) {
        (Some(held), Some(said)) if held != said => {
            Err(Error::format(file.path())(format!("k is {held} here and {said} in {CONFIG}")))
        }
        (Some(k), _) | (None, Some(k)) => Ok(k),
        (None, None) => Err(Error::format(file.path())("a TopK autoencoder without k")),
    }
}

fn origin(trainer: Value) -> Origin {
    let text = |key: &str| trainer[key].as_str().unwrap_or_default().to_string();
    let layer = trainer["layer"].as_u64().unwrap_or_default() as usize;
    let place = text("submodule_name");
    let hook = match place.strip_prefix("resid_post_layer_") {
        Some(number) => hooks::of_tool(&format!("layers.{number}")).0,
        None => place,
    };
    Origin { model: text("lm_name"), hook, layer, training: trainer, ..Origin::default() }
}
