//! `cfg.json` of SAELens in one form: version 6, with `metadata`, and the flat ones before it. Reads no tensor.

use crate::autoencoder::InputNorm;
use crate::autoencoder::formats::config_file::{self, check_supported};
use crate::autoencoder::formats::saved::{ModelStream, Origin};
use crate::store::hooks;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The file of the configuration.
pub const CONFIG: &str = "cfg.json";

/// The part of the configuration that decides how weights are read.
pub struct Config {
    /// Whether it was written by a version before 6.
    pub old: bool,
    pub architecture: String,
    /// The architecture in training, which differs for BatchTopK.
    pub trained_as: Option<String>,
    pub d_in: usize,
    /// Width of reconstructions, which only transcoders state.
    pub d_out: Option<usize>,
    pub d_sae: usize,
    pub k: Option<usize>,
    pub rescale_acts_by_decoder_norm: bool,
    pub apply_b_dec_to_input: bool,
    pub normalization: InputNorm,
    /// Inputs were multiplied in training by a factor that was estimated on the data.
    pub scaled: bool,
    pub origin: Origin,
}

impl Config {
    pub fn read(path: &Path) -> Result<Self> {
        let file: File = config_file::read(path)?;
        let old = file.is_old();
        let (about, activation_fn) = if old {
            (&file.flat, file.activation_fn.as_ref().or(file.activation_fn_str.as_ref()))
        } else {
            (&file.metadata.about, None)
        };
        // Since 6 the architecture says it all; before, `standard` could be TopK by its activation function.
        let by_function = activation_fn.is_some_and(|f| f == "topk");
        let unknown = activation_fn.filter(|f| *f != "topk" && *f != "relu").cloned().unwrap_or_default();
        let two_names = matches!((&file.activation_fn, &file.activation_fn_str), (Some(a), Some(b)) if a != b);
        let named = || file.architecture.clone().unwrap_or_else(|| "standard".into());
        let architecture = if by_function { "topk".into() } else { named() };
        let (normalization, not_known) = normalization(&file.normalize_activations);
        let scaled = [Value::from(true), EXPECTED_AVERAGE.into()].contains(&file.normalize_activations);
        check_supported(
            path,
            [
                (!unknown.is_empty(), format!("the activation function {unknown:?}")),
                (old && two_names, "activation_fn and activation_fn_str that contradict each other".into()),
                (not_known, format!("normalize_activations = {}", file.normalize_activations)),
            ],
        )?;
        let hook_name = about.hook_name.as_ref().or(about.hook_point.as_ref());
        let (mut hook, layer) = hooks::of_tool(hook_name.map(String::as_str).unwrap_or_default());
        if let Some(workbench) = &file.metadata.sae_workbench {
            hook.clone_from(&workbench.hook);
        }
        let hook_out = about.hook_name_out.as_deref().map(|name| hooks::of_tool(name).0);
        let (models, own_target) = match file.metadata.sae_workbench {
            Some(own) => (own.models, Some(own.target)),
            None => Default::default(),
        };
        let target = own_target.or(hook_out).filter(|target| *target != hook).unwrap_or_default();
        if models.len() == 1 || !file.d_in.is_multiple_of(models.len().max(1)) {
            let cause = format!("a crosscoder of {} models, {} wide", models.len(), file.d_in);
            return Err(Error::format(path)(cause));
        }
        let origin = Origin {
            models,
            model: about.model_name.clone().unwrap_or_default(),
            hook,
            layer,
            target,
            context_size: about.context_size.unwrap_or_default(),
            training: file.metadata.training_architecture_details,
            notes: Vec::new(),
        };
        let k = file.k.or_else(|| old.then_some(file.activation_fn_kwargs).and_then(|a| a.k));
        let k = k.map(|k| whole_number(k).ok_or_else(|| Error::format(path)(format!("k = {k}")))).transpose()?;
        Ok(Self {
            old,
            architecture,
            trained_as: file.metadata.training_architecture,
            d_in: file.d_in,
            d_out: file.d_out,
            d_sae: file.d_sae,
            k,
            rescale_acts_by_decoder_norm: file.rescale_acts_by_decoder_norm,
            // Before 6 the bias was subtracted unless the configuration said otherwise.
            apply_b_dec_to_input: file.apply_b_dec_to_input.unwrap_or(true),
            normalization,
            scaled,
            origin,
        })
    }
}

const EXPECTED_AVERAGE: &str = "expected_average_only_in";

/// How inputs are normalized, and whether the configuration asks for something that is not supported.
///
/// A factor that was estimated on training data (`expected_average_only_in`, or just `true`) is not in the configuration.
fn normalization(asked: &Value) -> (InputNorm, bool) {
    match asked {
        Value::Null | Value::Bool(_) => (InputNorm::None, false),
        Value::String(s) => match &s[..] {
            "none" | EXPECTED_AVERAGE => (InputNorm::None, false),
            "constant_norm_rescale" => (InputNorm::ConstantNorm, false),
            "layer_norm" => (InputNorm::LayerNorm, false),
            _ => (InputNorm::None, true),
        },
        _ => (InputNorm::None, true),
    }
}

/// A number of features that must be an integer. Only BatchTopK allows fractions.
fn whole_number(k: f64) -> Option<usize> {
    (k >= 0.0 && k < u32::MAX as f64).then_some(k.ceil() as usize)
}

#[derive(Deserialize)]
struct File {
    d_in: usize,
    d_out: Option<usize>,
    d_sae: usize,
    architecture: Option<String>,
    k: Option<f64>,
    #[serde(default)]
    rescale_acts_by_decoder_norm: bool,
    apply_b_dec_to_input: Option<bool>,
    #[serde(default)]
    normalize_activations: Value,
    sae_lens_version: Option<String>,
    #[serde(default)]
    metadata: Metadata,
    activation_fn: Option<String>,
    /// The name in versions before 4.
    activation_fn_str: Option<String>,
    #[serde(default)]
    activation_fn_kwargs: Arguments,
    /// Where versions before 6 kept what is now metadata.
    #[serde(flatten)]
    flat: About,
}

impl File {
    /// As SAELens decides it: no version, or one below 6.
    fn is_old(&self) -> bool {
        let version = self.sae_lens_version.as_ref().or(self.metadata.sae_lens_version.as_ref());
        let major = version.and_then(|v| v.split('.').next()?.parse::<u32>().ok());
        major.is_none_or(|m| m < 6)
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
struct Arguments {
    k: Option<f64>,
}

#[derive(Default, Deserialize)]
struct About {
    model_name: Option<String>,
    hook_name: Option<String>,
    /// Of a transcoder: the hook that it reconstructs.
    hook_name_out: Option<String>,
    /// The name in versions before 3.
    hook_point: Option<String>,
    context_size: Option<usize>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    sae_lens_version: Option<String>,
    training_architecture: Option<String>,
    #[serde(default)]
    training_architecture_details: Value,
    sae_workbench: Option<Own>,
    #[serde(flatten)]
    about: About,
}

#[derive(Deserialize)]
struct Own {
    hook: String,
    #[serde(default)]
    target: String,
    #[serde(default)]
    models: Vec<ModelStream>,
}
