//! Gemma Scope 1 (`params.npz`) and 2 (`params.safetensors` + `config.json`): JumpReLU autoencoders and transcoders whose
//! inputs are not centered. Parts of the second release lack the configuration; there the names of folders say what it would.

use super::arrays::{self, Arrays, plain, turned};
use super::config_file::{self, check_supported, unsupported};
use super::npz;
use super::saved::{Origin, Saved};
use crate::autoencoder::{Activation, Architecture, InputNorm, Weights};
use crate::{Result, store};
use serde_json::{Value, json};
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
    let config: Value = if path.is_file() { config_file::read(&path)? } else { named(dir) };
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
    let origin = origin.with_tool_target(text("hf_hook_point_out"));
    // The configurations call `google/gemma-3-4b-it` `gemma-v3-4b-it`.
    let model = text("model_name");
    let model = model.strip_prefix("gemma-v3-").map_or(model.to_owned(), |size| format!("google/gemma-3-{size}"));
    let origin = Origin { model, ..origin };
    Ok(Saved { architecture: Architecture::JumpRelu, weights: weights(&file, "w_enc", "w_dec", skip)?, origin })
}

/// The configuration that the names of folders stand for: `gemma-scope-2-4b-it/resid_post_all/layer_17_width_16k_l0_small`. A
/// repository in the hub's cache is `models--google--gemma-scope-2-4b-it`. What no name says is left out.
fn named(dir: &Path) -> Value {
    let names: Vec<&str> = dir.iter().rev().filter_map(|part| part.to_str()).collect();
    let digits = |name: &str| name.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse::<usize>().ok());
    let layer = names.first().and_then(|name| digits(name.strip_prefix("layer_")?));
    let place = names.get(1).zip(layer).and_then(|(kind, layer)| {
        let inside = match kind.trim_end_matches("_all") {
            "resid_post" => "output",
            "attn_out" => "self_attn.o_proj.input",
            "mlp_out" => "post_feedforward_layernorm.output",
            "transcoder" => "pre_feedforward_layernorm.output",
            _ => return None,
        };
        Some(format!("model.layers.{layer}.{inside}"))
    });
    let is_transcoder = names.get(1).is_some_and(|kind| kind.trim_end_matches("_all") == "transcoder");
    let target = layer.filter(|_| is_transcoder).map(|layer| {
        // What the MLP adds to the residual stream.
        format!("model.layers.{layer}.post_feedforward_layernorm.output")
    });
    let model = names
        .iter()
        .find_map(|name| name.rsplit_once("gemma-scope-2-"))
        .map(|(_, size)| format!("google/gemma-3-{size}"));
    json!({
        "architecture": "jump_relu",
        "model_name": model,
        "hf_hook_point_in": place,
        "hf_hook_point_out": target,
    })
}

fn weights(file: &Arrays, w_enc: &str, w_dec: &str, skip: Option<&str>) -> Result<Weights> {
    let ([d, f], [_, out]) = (file.matrix(w_enc)?, file.matrix(w_dec)?);
    let [e, be] = [turned(w_enc, [d, f]), plain("b_enc", &[f])];
    let [dec, bd] = [plain(w_dec, &[f, out]), plain("b_dec", &[out])];
    let threshold = plain("threshold", &[f]);
    let ([w_enc, b_enc, w_dec, b_dec, threshold], skip) = match skip {
        // Applied as `x A`, with A `[d_in, d_out]`.
        Some(name) => {
            let [e, be, dec, bd, t, skip] = file.take([e, be, dec, bd, threshold, turned(name, [d, out])])?;
            ([e, be, dec, bd, t], Some(skip))
        }
        None => (file.take([e, be, dec, bd, threshold])?, None),
    };
    let activation = Activation::JumpRelu { threshold };
    let normalization = InputNorm::None;
    Ok(Weights { d_in: d, d_sae: f, w_enc, b_enc, w_dec, b_dec, activation, normalization, skip })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_stand_for_a_configuration() {
        for (path, model, hook, target) in [
            (
                "models--google--gemma-scope-2-4b-it/snapshots/0a/resid_post_all/layer_7_width_16k_l0_small",
                "google/gemma-3-4b-it",
                "layers.7",
                "",
            ),
            ("gemma-scope-2-27b-pt/resid_post/layer_31_width_1m_l0_big", "google/gemma-3-27b-pt", "layers.31", ""),
            ("transcoder_all/layer_0_width_16k_l0_big_affine", "", "layers.0.mlp_in", "layers.0.mlp_out"),
            ("mlp_out_all/layer_12_width_16k_l0_big", "", "layers.12.mlp_out", ""),
            ("mine/layer_12", "", "", ""),
            ("resid_post/mine", "", "", ""),
        ] {
            let config = named(Path::new(path));
            let text = |key: &str| config[key].as_str().unwrap_or_default();
            let origin = Origin::from_tool_hook(text("hf_hook_point_in"), config.clone());
            let origin = origin.with_tool_target(text("hf_hook_point_out"));
            assert_eq!((text("model_name"), &origin.hook[..]), (model, hook), "{path}");
            assert_eq!(origin.target, target, "{path}");
        }
    }
}
