//! Writes SAELens v6 folders that `SAE.load_from_disk` opens, but for transcoders with TopK or gates, which it does not have.
//! Everything is folded into the weights already, so `b_dec` is never
//! subtracted, and decoder norms have no effect.

use super::config::CONFIG;
use crate::autoencoder::formats::arrays::transposed;
use crate::autoencoder::formats::saved::Saved;
use crate::autoencoder::{Activation, Architecture, InputNorm, Weights};
use crate::store::hooks;
use crate::store::run;
use crate::{Result, file, tensors};
use serde_json::json;
use std::path::Path;

/// The file of the weights.
pub const WEIGHTS: &str = "sae_weights.safetensors";

/// The version of SAELens that has this layout.
const VERSION: &str = "6.54.12";

/// The properties that the format cannot express.
pub fn missing(weights: &Weights) -> Vec<&'static str> {
    let closed = matches!(&weights.activation, Activation::Gated { scale, .. } if scale.iter().any(|s| *s <= 0.0));
    let normalized = weights.normalization != InputNorm::None && weights.skip.is_some();
    let checks = [(normalized, "normalized inputs of a transcoder"), (closed, "a gate's scale of zero or less")];
    checks.into_iter().filter(|(missing, _)| *missing).map(|(_, what)| what).collect()
}

/// Writes the folder. The weights come last: a folder without them is not an autoencoder.
pub fn save(dir: &Path, saved: &Saved) -> Result<()> {
    let Saved { architecture, weights, origin } = saved;
    let (d, f) = (weights.d_in, weights.d_sae);
    let w_enc = transposed(&weights.w_enc, f, d);
    let d_out = weights.d_out();
    let (wide, tall, features, outputs, across) = ([d, f], [f, d_out], [f], [d_out], [d_out, d]);
    let mut tensors: Vec<(&str, &[usize], &[f32])> =
        vec![("W_enc", &wide, &w_enc), ("W_dec", &tall, &weights.w_dec), ("b_dec", &outputs, &weights.b_dec)];
    let r_mag: Vec<f32>;
    let name = match &weights.activation {
        Activation::Relu => "standard",
        Activation::TopK { .. } => "topk",
        Activation::JumpRelu { .. } => "jumprelu",
        Activation::Gated { .. } => "gated",
    };
    match &weights.activation {
        Activation::Gated { scale, bias } => {
            r_mag = scale.iter().map(|s| s.ln()).collect();
            tensors.push(("b_gate", &features, &weights.b_enc));
            tensors.push(("b_mag", &features, bias));
            tensors.push(("r_mag", &features, &r_mag));
        }
        Activation::JumpRelu { threshold } => {
            tensors.push(("b_enc", &features, &weights.b_enc));
            tensors.push(("threshold", &features, threshold));
        }
        Activation::Relu | Activation::TopK { .. } => tensors.push(("b_enc", &features, &weights.b_enc)),
    }
    if let Some(skip) = &weights.skip {
        tensors.push(("W_skip", &across, skip));
    }
    let mut config = json!({
        "d_in": d,
        "d_sae": f,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": false,
        "normalize_activations": match weights.normalization {
            InputNorm::None => "none",
            InputNorm::ConstantNorm => "constant_norm_rescale",
            InputNorm::LayerNorm => "layer_norm",
        },
        "reshape_activations": "none",
        "architecture": name,
        "metadata": {
            "sae_lens_version": VERSION,
            "sae_lens_training_version": null,
            "model_name": origin.model,
            "hook_name": hooks::to_sae_lens(&origin.hook),
            "hook_head_index": null,
            "prepend_bos": true,
            "training_architecture": self::name(*architecture),
            "training_architecture_details": origin.training,
            "sae_workbench": {
                "program": env!("CARGO_PKG_VERSION"),
                "hook": origin.hook,
                "created": run::now(),
                "models": origin.models,
            },
        },
    });
    // Tools use it as the length of the context, so leaving it out is better than 0.
    if origin.context_size > 0 {
        config["metadata"]["context_size"] = origin.context_size.into();
    }
    if let Activation::TopK { k } = weights.activation {
        config["k"] = k.into();
        config["rescale_acts_by_decoder_norm"] = false.into();
    }
    if saved.is_transcoder() {
        let base = if name == "standard" { String::new() } else { format!("{name}_") };
        let skip = if weights.skip.is_some() { "skip_" } else { "" };
        config["architecture"] = format!("{base}{skip}transcoder").into();
        config["d_out"] = d_out.into();
        config["metadata"]["hook_name_out"] = hooks::to_sae_lens(&origin.target).into();
        config["metadata"]["sae_workbench"]["target"] = origin.target.as_str().into();
    }
    file::write_json(&dir.join(CONFIG), &config)?;
    tensors::write(&dir.join(WEIGHTS), safetensors::Dtype::F32, &tensors)?;
    Ok(())
}

/// SAELens' name of an architecture in training.
pub fn name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Relu => "standard",
        Architecture::TopK => "topk",
        Architecture::BatchTopK => "batchtopk",
        Architecture::JumpRelu => "jumprelu",
        Architecture::Gated => "gated",
        Architecture::Matryoshka => "matryoshka_batchtopk",
    }
}
