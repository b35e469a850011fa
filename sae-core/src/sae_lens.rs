//! SAELens v6 folders, `cfg.json` + `sae_weights.safetensors`: written so that `SAE.load_from_disk` opens them, read
//! with every size and shape checked.

use crate::sae::{Architecture, Weights};
use crate::{Error, Result, file, run, tensors};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// Where an autoencoder's inputs come from, and what else its file tells people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Checkpoint of the model.
    pub model: String,
    /// Hook in this workbench's words, such as `layers.16`.
    pub hook: String,
    /// Decoder block, counted from 0.
    pub layer: usize,
    /// Tokens of a sequence at most, 0 if unknown.
    pub context_size: usize,
    /// Anything about the training, for people.
    pub training: Value,
}

/// An autoencoder as it lies on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// How activations are made.
    pub architecture: Architecture,
    /// Its weights, with every normalisation folded in.
    pub weights: Weights,
    /// Where it comes from.
    pub origin: Origin,
}

const CONFIG: &str = "cfg.json";
const WEIGHTS: &str = "sae_weights.safetensors";

/// Writes the folder. The weights come last: a folder without them is not an autoencoder.
pub fn save(dir: &Path, saved: &Saved) -> Result<()> {
    let Saved { architecture: _, weights, origin } = saved;
    weights.check()?;
    let (d, f) = (weights.d_in, weights.d_sae);
    let config = json!({
        "d_in": d,
        "d_sae": f,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": false,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "architecture": "standard",
        "metadata": {
            "sae_lens_version": "6.54.12",
            "sae_lens_training_version": null,
            "model_name": origin.model,
            "hook_name": format!("blocks.{}.hook_resid_post", origin.layer),
            "hook_head_index": null,
            "context_size": origin.context_size,
            "prepend_bos": true,
            "training_architecture": "standard",
            "training_architecture_details": origin.training,
            "sae_workbench": { "program": env!("CARGO_PKG_VERSION"), "hook": origin.hook, "created": run::now() },
        },
    });
    file::write_json(&dir.join(CONFIG), &config)?;
    let w_enc = transposed(&weights.w_enc, f, d);
    let tensors: [(&str, &[usize], &[f32]); 4] = [
        ("W_enc", &[d, f], &w_enc),
        ("b_enc", &[f], &weights.b_enc),
        ("W_dec", &[f, d], &weights.w_dec),
        ("b_dec", &[d], &weights.b_dec),
    ];
    tensors::write(&dir.join(WEIGHTS), safetensors::Dtype::F32, &tensors)?;
    Ok(())
}

/// Reads the folder.
///
/// # Errors
/// Another architecture or a normalisation that this version cannot apply; weights of other shapes than the config says.
pub fn load(dir: &Path) -> Result<Saved> {
    let path = dir.join(CONFIG);
    if !path.exists() {
        let cause = "there is no autoencoder here (no cfg.json)\nhint: `sae train --name NAME` makes one".into();
        return Err(Error::Run { cause, path: dir.to_path_buf() });
    }
    let config: Config = file::read_json(&path, 1 << 24)?;
    if config.architecture != "standard" {
        return Err(Error::format(&path)(format!("the architecture {} is not supported", config.architecture)));
    }
    let architecture = Architecture::Relu;
    let refused = [
        (config.normalize_activations != "none", "normalize_activations", config.normalize_activations.clone()),
        (config.apply_b_dec_to_input, "apply_b_dec_to_input", "true".into()),
        (config.reshape_activations != "none", "reshape_activations", config.reshape_activations.clone()),
    ];
    if let Some((_, key, value)) = refused.iter().find(|(wrong, ..)| *wrong) {
        return Err(Error::format(&path)(format!("{key} = {value} is not supported")));
    }
    let (d, f) = (config.d_in, config.d_sae);
    let file = tensors::Tensors::open(&dir.join(WEIGHTS))?;
    let weights = Weights {
        d_in: d,
        d_sae: f,
        w_enc: transposed(&file.f32("W_enc", &[d, f])?, d, f),
        b_enc: file.f32("b_enc", &[f])?,
        w_dec: file.f32("W_dec", &[f, d])?,
        b_dec: file.f32("b_dec", &[d])?,
        ..Weights::default()
    };
    weights.check()?;
    let layer = config.metadata.hook_name.split('.').find_map(|part| part.parse().ok()).unwrap_or_default();
    let hook = config.metadata.sae_workbench.map_or_else(|| crate::store::hook(layer), |own| own.hook);
    let origin = Origin {
        model: config.metadata.model_name,
        hook,
        layer,
        context_size: config.metadata.context_size.unwrap_or_default(),
        training: config.metadata.training_architecture_details,
    };
    Ok(Saved { architecture, weights, origin })
}

/// `[rows, columns]` as `[columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

#[derive(Deserialize)]
struct Config {
    d_in: usize,
    d_sae: usize,
    #[serde(default = "none")]
    normalize_activations: String,
    #[serde(default)]
    apply_b_dec_to_input: bool,
    #[serde(default = "none")]
    reshape_activations: String,
    #[serde(default = "standard")]
    architecture: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    model_name: String,
    hook_name: String,
    context_size: Option<usize>,
    training_architecture_details: Value,
    sae_workbench: Option<Own>,
}

#[derive(Deserialize)]
struct Own {
    hook: String,
}

fn none() -> String {
    "none".into()
}

fn standard() -> String {
    "standard".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Saved {
        let ramp = |n: usize| (0..n).map(|i| i as f32 / n as f32 - 0.3).collect::<Vec<_>>();
        let weights = Weights {
            d_in: 3,
            d_sae: 5,
            w_enc: ramp(15),
            b_enc: ramp(5),
            w_dec: ramp(15),
            b_dec: ramp(3),
            ..Weights::default()
        };
        let origin = Origin { model: "m".into(), hook: "layers.4".into(), layer: 4, ..Origin::default() };
        Saved { architecture: Architecture::Relu, weights, origin }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &tiny()).unwrap();
        assert_eq!(load(dir.path()).unwrap(), tiny());
    }

    #[test]
    fn configs_that_lie_or_need_more_are_refused() {
        for (from, to, said) in [
            ("\"d_sae\": 5", "\"d_sae\": 6", "expected [3, 6]"),
            ("\"standard\",\n  \"metadata\"", "\"gated\",\n  \"metadata\"", "gated is not supported"),
            ("\"normalize_activations\": \"none\"", "\"normalize_activations\": \"layer_norm\"", "layer_norm"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            save(dir.path(), &tiny()).unwrap();
            let path = dir.path().join(CONFIG);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(&path, text.replace(from, to)).unwrap();
            let error = load(dir.path()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
