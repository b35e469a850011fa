//! Folders of EleutherAI's sparsify, `cfg.json` + `sae.safetensors`: TopK autoencoders and transcoders, read and written.

use super::arrays::{self, Arrays, plain};
use super::config_file::{self, unsupported};
use super::fold;
use super::saved::{Origin, Saved};
use crate::autoencoder::{Activation, Architecture, InputNorm, Weights};
use crate::store::{Hook, Site, hooks};
use crate::{Error, Result, file, tensors};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

pub const CONFIG: &str = "cfg.json";
pub const WEIGHTS: &str = "sae.safetensors";

/// What a transcoder reconstructs whose folder is not named after a module.
const UNKNOWN_TARGET: &str = "module.output";

/// The fields and defaults of `SparseCoderConfig` 1.3.3, with `d_in`.
#[derive(Serialize, Deserialize)]
struct Config {
    #[serde(default = "topk")]
    activation: String,
    #[serde(default = "thirty_two")]
    expansion_factor: usize,
    /// Of the training alone.
    #[serde(default)]
    normalize_decoder: bool,
    /// 0 means `d_in * expansion_factor`.
    #[serde(default)]
    num_latents: usize,
    #[serde(default = "thirty_two")]
    k: usize,
    /// Of the training's loss alone.
    #[serde(default)]
    multi_topk: bool,
    #[serde(default)]
    skip_connection: bool,
    /// Whether it is a transcoder, which reconstructs activations of another hook; `b_dec` is not subtracted then.
    #[serde(default)]
    transcode: bool,
    d_in: usize,
}

const FIELDS: [&str; 9] = [
    "activation",
    "expansion_factor",
    "normalize_decoder",
    "num_latents",
    "k",
    "multi_topk",
    "skip_connection",
    "transcode",
    "d_in",
];

/// Reads the folder.
pub fn load(dir: &Path) -> Result<Saved> {
    let path = dir.join(CONFIG);
    let fields: Map<String, Value> = config_file::read(&path)?;
    reject_unknown(&path, &fields)?;
    let config: Config = serde_json::from_value(fields.into()).map_err(Error::format(&path))?;
    if config.activation != "topk" {
        return Err(unsupported(&path, "activation", &config.activation, &["topk"]));
    }
    let d = config.d_in;
    let f = match config.num_latents {
        0 => d.saturating_mul(config.expansion_factor),
        given => given,
    };
    let file = Arrays::open(&dir.join(WEIGHTS), arrays::safetensors)?;
    let parameters = || {
        [plain("encoder.weight", &[f, d]), plain("encoder.bias", &[f]), plain("W_dec", &[f, d]), plain("b_dec", &[d])]
    };
    let ([w_enc, b_enc, w_dec, b_dec], skip) = if config.skip_connection {
        let [e, be, dec, bd] = parameters();
        let [e, be, dec, bd, skip] = file.take([e, be, dec, bd, plain("W_skip", &[d, d])])?;
        ([e, be, dec, bd], Some(skip))
    } else {
        (file.take(parameters())?, None)
    };
    let activation = Activation::TopK { k: config.k };
    let normalization = InputNorm::None;
    let mut weights = Weights { d_in: d, d_sae: f, w_enc, b_enc, w_dec, b_dec, activation, normalization, skip };
    if !config.transcode {
        fold::center(&mut weights);
    }
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let training = serde_json::to_value(&config).unwrap_or_default();
    let origin = Origin { training, ..of_module(name, config.transcode) };
    Ok(Saved { architecture: Architecture::TopK, weights, origin })
}

/// Where the states of a folder come from, which is named after a module: `layers.16`. A transcoder reads the module's input and
/// reconstructs its output.
fn of_module(name: &str, transcode: bool) -> Origin {
    let (hook, layer) = hooks::of_tool(name);
    let target = match (transcode, hooks::known(name)) {
        (false, _) if hook.starts_with("layers.") => return Origin { hook, layer, ..Origin::default() },
        (false, _) => return Origin::default(),
        (true, None) => return Origin { target: UNKNOWN_TARGET.into(), ..Origin::default() },
        (true, Some(target)) => target,
    };
    let input = match target.site() {
        Site::MlpOut => Some(Hook::new(layer, Site::MlpIn)),
        Site::AttnOut => Some(Hook::new(layer, Site::AttnIn)),
        // The input of a block is the output of the block before it.
        Site::Output => layer.checked_sub(1).map(Hook::block),
        _ => None,
    };
    let hook = input.map(|hook| hook.to_string()).unwrap_or_default();
    Origin { hook, layer, target: target.to_string(), ..Origin::default() }
}

/// Rejects fields with a meaning that this version does not support: sparsify of 2024 had `signed`, which keeps the `k` largest
/// of either sign, and what a field of a later version does cannot be known. Fields that are off mean nothing.
fn reject_unknown(path: &Path, config: &Map<String, Value>) -> Result<()> {
    let off = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
    let unknown = config.iter().filter(|(name, value)| !FIELDS.contains(&&name[..]) && !off(value));
    let named: Vec<_> = unknown
        .map(|(name, _)| match &name[..] {
            "signed" => "signed, which keeps the k largest of either sign".into(),
            _ => format!("the field {name:.60}, which this version does not know"),
        })
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    Err(Error::format(path)(format!("not supported: {}", named.join("; "))))
}

/// The properties that the format cannot express.
pub fn missing(weights: &Weights) -> Vec<&'static str> {
    let activation = match &weights.activation {
        Activation::TopK { .. } => None,
        Activation::Relu => Some("features without a limit to their number (ReLU)"),
        Activation::JumpRelu { .. } => Some("thresholds (JumpReLU)"),
        Activation::Gated { .. } => Some("gates"),
    };
    let normalized = (weights.normalization != InputNorm::None).then_some("normalized inputs");
    let wider = (weights.d_out() != weights.d_in).then_some("reconstructions of another width than the inputs");
    activation.into_iter().chain(normalized).chain(wider).collect()
}

/// Writes the folder; only TopK has a `k`, see [`missing`].
pub fn save(dir: &Path, saved: &Saved) -> Result<()> {
    let mut weights = saved.weights.clone();
    let (d, f) = (weights.d_in, weights.d_sae);
    let k = if let Activation::TopK { k } = weights.activation { k } else { f };
    let transcode = saved.is_transcoder();
    let skip = weights.skip.take();
    // A transcoder subtracts nothing, as in our form.
    if !transcode {
        fold::uncenter(&mut weights);
    }
    let config = Config {
        activation: topk(),
        expansion_factor: f / d.max(1),
        normalize_decoder: false,
        num_latents: f,
        k,
        multi_topk: false,
        skip_connection: skip.is_some(),
        transcode,
        d_in: d,
    };
    file::write_json(&dir.join(CONFIG), &config)?;
    let (tall, square, features, inputs) = ([f, d], [d, d], [f], [d]);
    let mut tensors: Vec<(&str, &[usize], &[f32])> = vec![
        ("encoder.weight", &tall, &weights.w_enc),
        ("encoder.bias", &features, &weights.b_enc),
        ("W_dec", &tall, &weights.w_dec),
        ("b_dec", &inputs, &weights.b_dec),
    ];
    if let Some(skip) = &skip {
        tensors.push(("W_skip", &square, skip));
    }
    tensors::write(&dir.join(WEIGHTS), safetensors::Dtype::F32, &tensors)?;
    Ok(())
}

fn thirty_two() -> usize {
    32
}

fn topk() -> String {
    "topk".into()
}
