//! Folders of Llamascopium (OpenMOSS), `config.json` + `sae_weights.safetensors`: plain autoencoders, and transcoders at
//! one hook. Inputs and outputs were scaled by constants of the data set, which are folded in.

use super::arrays::{self, Arrays, plain, turned};
use super::config_file::{self, check_supported, unsupported};
use super::fold;
use super::saved::{Origin, Saved};
use crate::autoencoder::{Activation, Architecture, InputNorm, Weights};
use crate::{Error, Result};
use serde::Deserialize;
use std::path::Path;

pub const CONFIG: &str = "config.json";
pub const WEIGHTS: &str = "sae_weights.safetensors";

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    sae_type: String,
    d_model: usize,
    expansion_factor: f64,
    act_fn: String,
    top_k: Option<usize>,
    #[serde(default = "dataset_wise")]
    norm_activation: String,
    #[serde(default = "config_file::on")]
    sparsity_include_decoder_norm: bool,
    /// Of versions before `W_E`.
    #[serde(default)]
    apply_decoder_bias_to_pre_encoder: bool,
    #[serde(default = "config_file::on")]
    use_decoder_bias: bool,
    #[serde(default)]
    use_glu_encoder: bool,
    hook_point_in: String,
    hook_point_out: String,
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
            (!["sae", ""].contains(&&config.sae_type[..]), format!("sae_type {:?}, only \"sae\" is", config.sae_type)),
            (config.apply_decoder_bias_to_pre_encoder, "apply_decoder_bias_to_pre_encoder".into()),
            (config.use_glu_encoder, "use_glu_encoder".into()),
            (
                !["dataset-wise", "token-wise", "inference", "none", ""].contains(&norm),
                format!("norm_activation {norm:?}"),
            ),
            (norm == "token-wise" && transcoder, "token-wise normalization of a transcoder".into()),
        ],
    )?;
    let d = config.d_model;
    // A float in the file; whatever it means is compared with the tensors' shapes.
    let f = (d as f64 * config.expansion_factor) as usize;
    let file = Arrays::open(&dir.join(WEIGHTS), arrays::safetensors)?;
    // Up to 2025 the matrices were those of PyTorch's linear layers.
    let linear = file.has("encoder.weight");
    let [e, be, dec] = if linear {
        [plain("encoder.weight", &[f, d]), plain("encoder.bias", &[f]), turned("decoder.weight", [d, f])]
    } else {
        [turned("W_E", [d, f]), plain("b_E", &[f]), plain("W_D", &[f, d])]
    };
    let [encoder_bias, decoder_bias, log] = if linear {
        ["encoder.bias", "decoder.bias", "log_jumprelu_threshold"]
    } else {
        ["b_E", "b_D", "activation_function.log_jumprelu_threshold"]
    };
    let b_dec = || if config.use_decoder_bias { plain(decoder_bias, &[d]) } else { plain(encoder_bias, &[f]) };
    let (architecture, activation, tensors) = match &config.act_fn.to_lowercase()[..] {
        "jumprelu" => {
            let [e, be, dec, bd, log] = file.take([e, be, dec, b_dec(), plain(log, &[f])])?;
            let threshold = log.into_iter().map(f32::exp).collect();
            (Architecture::JumpRelu, Activation::JumpRelu { threshold }, [e, be, dec, bd])
        }
        "topk" => {
            let k = config.top_k.ok_or_else(|| Error::format(&path)("a topk autoencoder without top_k"))?;
            (Architecture::TopK, Activation::TopK { k }, file.take([e, be, dec, b_dec()])?)
        }
        "relu" => (Architecture::Relu, Activation::Relu, file.take([e, be, dec, b_dec()])?),
        other => return Err(unsupported(&path, "act_fn", other, &["relu", "topk", "jumprelu"])),
    };
    let [w_enc, b_enc, w_dec, mut b_dec] = tensors;
    if !config.use_decoder_bias {
        b_dec = vec![0.0; d];
    }
    let mut weights = Weights { d_in: d, d_sae: f, w_enc, b_enc, w_dec, b_dec, activation, ..Weights::default() };
    if config.sparsity_include_decoder_norm {
        include_decoder_norm(&mut weights);
    }
    match norm {
        "dataset-wise" => {
            // Activations stay in the units in which the model sees its scaled inputs.
            let scale = |hook: &str| -> Result<f32> {
                let name = format!("dataset_average_activation_norm.{hook}");
                let norm = file.number(&name)?;
                if norm > 0.0 {
                    Ok(((d as f64).sqrt() / norm) as f32)
                } else {
                    Err(Error::format(file.path())(format!("{name} is {norm}")))
                }
            };
            let (input, output) = (scale(&config.hook_point_in)?, scale(&config.hook_point_out)?);
            fold::scale_input(&mut weights, input);
            fold::scale_output(&mut weights, 1.0 / output);
        }
        "token-wise" => weights.normalization = InputNorm::ConstantNorm,
        _ => (),
    }
    let origin = Origin::from_tool_hook(&config.hook_point_in, value).with_tool_target(&config.hook_point_out);
    Ok(Saved { architecture, weights, origin })
}

/// Pre-activations are multiplied by the decoder's norms before the activation function, and divided after it.
fn include_decoder_norm(weights: &mut Weights) {
    let norms = fold::decoder_norms(weights);
    match &mut weights.activation {
        // A threshold can be divided instead, which leaves the activations alone.
        Activation::JumpRelu { threshold } => {
            // A feature without a direction has pre-activations of 0, which are above no threshold.
            let divided = |t: f32, n: f32| if n > 0.0 { t / n } else { f32::MAX };
            threshold.iter_mut().zip(norms).for_each(|(t, n)| *t = divided(*t, n).min(f32::MAX));
        }
        // Which ones are the largest cannot: activations are multiplied, directions divided.
        Activation::TopK { .. } => fold::normalize_decoder(weights),
        Activation::Relu | Activation::Gated { .. } => (),
    }
}

fn dataset_wise() -> String {
    "dataset-wise".into()
}
