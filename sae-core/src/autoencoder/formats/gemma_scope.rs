//! Gemma Scope 1 (`params.npz`) and 2 (`params.safetensors` + `config.json`): JumpReLU autoencoders and transcoders whose
//! inputs are not centered.

use super::arrays::{self, Arrays, plain, turned};
use super::config_file::{self, check_supported, unsupported};
use super::npz;
use super::saved::{Origin, Saved};
use crate::autoencoder::{Activation, Architecture, InputNorm, Weights};
use crate::{Result, store};
use serde_json::Value;
use std::path::Path;

const CONFIG: &str = "config.json";
pub const WEIGHTS_1: &str = "params.npz";
pub const WEIGHTS_2: &str = "params.safetensors";

/// Reads a folder of the first release, which has no configuration; the layer is in the path (`layer_20/...`).
pub fn load_1(dir: &Path) -> Result<Saved> {
    let file = Arrays::open(&dir.join(WEIGHTS_1), npz::entries)?;
    let layer = dir.iter().rev().find_map(|part| part.to_str()?.strip_prefix("layer_")?.parse::<usize>().ok());
    let (hook, layer) = layer.map(|layer| (store::hook(layer), layer)).unwrap_or_default();
    let origin = Origin { hook, layer, ..Origin::default() };
    Ok(Saved { architecture: Architecture::JumpRelu, weights: weights(&file, "W_enc", "W_dec", None)?, origin })
}

/// Reads a folder of the second release.
pub fn load_2(dir: &Path) -> Result<Saved> {
    let path = dir.join(CONFIG);
    let config: Value = config_file::read(&path)?;
    let text = |key: &str| config[key].as_str().unwrap_or_default();
    if text("architecture") != "jump_relu" {
        return Err(unsupported(&path, "architecture", text("architecture"), &["jump_relu"]));
    }
    let file = Arrays::open(&dir.join(WEIGHTS_2), arrays::safetensors)?;
    let skip = Some("affine_skip_connection").filter(|name| file.has(name));
    let (width, kind) = (config["width"].as_u64(), text("type"));
    let [_, f] = file.matrix("w_enc")?;
    check_supported(
        &path,
        [
            (
                !["sae", "transcoder", ""].contains(&kind),
                format!("the type {kind:?}, only \"sae\" and \"transcoder\" are"),
            ),
            (
                config["affine_connection"].as_bool().is_some_and(|affine| affine != skip.is_some()),
                format!("affine_connection = {}, which the tensors contradict", config["affine_connection"]),
            ),
            (
                width.is_some_and(|width| width != f as u64),
                format!("width = {}, where the tensors have {f}", config["width"]),
            ),
        ],
    )?;
    let origin = Origin::from_tool_hook(text("hf_hook_point_in"), config.clone());
    let origin = Origin { model: text("model_name").into(), ..origin };
    Ok(Saved { architecture: Architecture::JumpRelu, weights: weights(&file, "w_enc", "w_dec", skip)?, origin })
}

fn weights(file: &Arrays, w_enc: &str, w_dec: &str, skip: Option<&str>) -> Result<Weights> {
    let [d, f] = file.matrix(w_enc)?;
    let [e, be, dec, bd] = [turned(w_enc, [d, f]), plain("b_enc", &[f]), plain(w_dec, &[f, d]), plain("b_dec", &[d])];
    let threshold = plain("threshold", &[f]);
    let ([w_enc, b_enc, w_dec, b_dec, threshold], skip) = match skip {
        // Applied as `x A`, with A `[d_in (in), d_in (out)]`.
        Some(name) => {
            let [e, be, dec, bd, t, skip] = file.take([e, be, dec, bd, threshold, turned(name, [d, d])])?;
            ([e, be, dec, bd, t], Some(skip))
        }
        None => (file.take([e, be, dec, bd, threshold])?, None),
    };
    let activation = Activation::JumpRelu { threshold };
    let normalization = InputNorm::None;
    Ok(Weights { d_in: d, d_sae: f, w_enc, b_enc, w_dec, b_dec, activation, normalization, skip })
}
