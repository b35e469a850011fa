//! The decoders of Gemma: what versions 1 to 4 have in common, and what each of them changes.

use super::super::block::{Biases, BlockConfig, Extras, GEMMA_NORMS, NormConfig, QkNorm};
use super::super::rope::RopeConfig;
use super::{Defaults, LLAMA_DEFAULTS, LayerHeads, TextConfig, layer_types, llama_like, windowed};
use crate::fields::{Fields, short};
use crate::kernel::pointwise::Activation;
use crate::precedence;
use serde_json::{Map, Value};

const GEMMA_DEFAULTS: Defaults = Defaults {
    vocab_size: 256_000,
    hidden_size: 3_072,
    d_ff: 24_576,
    layers: 28,
    heads: 16,
    kv_heads: Some(16),
    head_dim: Some(256),
    context: 8_192,
    ..LLAMA_DEFAULTS
};

const GEMMA2_DEFAULTS: Defaults =
    Defaults { hidden_size: 2_304, d_ff: 9_216, layers: 26, heads: 8, kv_heads: Some(4), ..GEMMA_DEFAULTS };

const GEMMA3_DEFAULTS: Defaults =
    Defaults { vocab_size: 262_208, context: 131_072, theta: 1e6, local_theta: Some(1e4), ..GEMMA2_DEFAULTS };

const GEMMA4_DEFAULTS: Defaults =
    Defaults { vocab_size: 262_144, layers: 30, context: 131_072, ropes: gemma4_ropes, ..GEMMA2_DEFAULTS };

/// What all versions have in common: norms that multiply by one plus their weights, and embeddings that are scaled.
fn gemma_like(text: Fields, defaults: Defaults) -> Result<TextConfig, String> {
    let mut config = llama_like(text, defaults, |text| {
        let bias = text.or("attention_bias", false)?;
        Ok(Biases { qkv: bias, out: bias, mlp: false })
    })?;
    config.block.norm = NormConfig::Rms { eps: text.or("rms_norm_eps", defaults.eps)?, offset: 1.0 };
    config.embedding_scale = (config.hidden_size as f64).sqrt() as f32;
    Ok(config)
}

/// What versions 2 to 4 have in common besides: norms after attention and after the MLP too, and a cap of logits.
fn gemma2_like(text: Fields, defaults: Defaults, logit_cap: Option<f64>) -> Result<TextConfig, String> {
    let mut config = gemma_like(text, defaults)?;
    config.block.activation = text.or("hidden_activation", Activation::GeluPytorchTanh)?;
    config.block.norms = GEMMA_NORMS;
    config.logit_cap = cap(text, "final_logit_softcapping", logit_cap)?;
    Ok(config)
}

/// The factor of products of queries and keys in versions 2 and 3.
fn query_scale(text: Fields) -> Result<f64, String> {
    Ok(text.or("query_pre_attn_scalar", 256.0_f64)?.powf(-0.5))
}

/// Version 1.
pub(super) fn gemma(text: Fields) -> Result<TextConfig, String> {
    let mut config = gemma_like(text, GEMMA_DEFAULTS)?;
    config.block.activation = match text.or("hidden_act", Activation::GeluPytorchTanh)? {
        // The first files have this name, although the models were trained with the other function.
        Activation::Gelu => Activation::GeluPytorchTanh,
        activation => activation,
    };
    Ok(config)
}

/// Version 2, whose products in attention are capped.
pub(super) fn gemma2(text: Fields) -> Result<TextConfig, String> {
    let mut config = gemma2_like(text, GEMMA2_DEFAULTS, Some(30.0))?;
    config.block.scale = query_scale(text)?;
    config.block.cap = cap(text, "attn_logit_softcapping", Some(50.0))?;
    let window = Some(text.size("sliding_window", 4_096)?);
    let types = layer_types(text, config.layers.len())?;
    windowed(config, types, window, |n| n.is_multiple_of(2))
}

/// Version 3, whose queries and keys are normalized.
pub(super) fn gemma3(text: Fields) -> Result<TextConfig, String> {
    let mut config = gemma2_like(text, GEMMA3_DEFAULTS, None)?;
    config.block.scale = query_scale(text)?;
    config.block.qk_norm = Some(QkNorm { norm: config.block.norm, per_head: false });
    // The name with the underscore is that of transformers 5.
    let period = text.size("sliding_window_pattern", text.size("_sliding_window_pattern", 6)?)?;
    let window = Some(text.size("sliding_window", 4_096)?);
    let types = layer_types(text, config.layers.len())?;
    let mut config = windowed(config, types, window, |n| !(n + 1).is_multiple_of(period))?;
    for layer in &mut config.layers {
        layer.rope = usize::from(layer.window.is_some());
    }
    Ok(config)
}

/// The dense model of version 4. The small ones have embeddings for each block and share keys and values, and one has experts.
pub(super) fn gemma4(text: Fields) -> Result<TextConfig, String> {
    check_dense(text)?;
    let sees_images = match text.get::<String>("use_bidirectional_attention")?.as_deref() {
        None => false,
        Some("vision") => true,
        Some(other) => return Err(format!("use_bidirectional_attention {other:?} is not supported: expected vision")),
    };
    let mut config = gemma2_like(text, GEMMA4_DEFAULTS, None)?;
    let norm = NormConfig::Rms { eps: text.or("rms_norm_eps", GEMMA4_DEFAULTS.eps)?, offset: 0.0 };
    let block = &mut config.block;
    (block.norm, block.qk_norm, block.scale) = (norm, Some(QkNorm { norm, per_head: false }), 1.0);
    block.extras = Extras { v_norm: true, factor: Some("layer_scalar"), ..Extras::default() };
    let window = Some(text.size("sliding_window", 512)?);
    let types = layer_types(text, config.layers.len())?;
    let last = config.layers.len() - 1;
    // The last block has no window, whatever the file says.
    let slides = |n: usize| types.as_ref().map_or(!(n + 1).is_multiple_of(6), |types| types[n]) && n < last;
    let mut config = windowed(config, None, window, slides)?;
    for layer in &mut config.layers {
        layer.rope = usize::from(layer.window.is_some());
        layer.bidirectional_images = sees_images && layer.window.is_some();
    }
    with_own_heads(text, config)
}

/// Rejects the other models of version 4.
fn check_dense(text: Fields) -> Result<(), String> {
    for (name, value, missing) in [
        (
            "hidden_size_per_layer_input",
            text.or("hidden_size_per_layer_input", 256_usize)?,
            "embeddings for each block",
        ),
        ("num_kv_shared_layers", text.or("num_kv_shared_layers", 0)?, "blocks that share keys and values"),
        ("enable_moe_block", usize::from(text.or("enable_moe_block", false)?), "experts"),
    ] {
        if value != 0 {
            return Err(format!("{name} is not 0: of Gemma 4, models with {missing} are not supported"));
        }
    }
    Ok(())
}

/// Gives every block of version 4 its own heads.
fn with_own_heads(text: Fields, mut config: TextConfig) -> Result<TextConfig, String> {
    let values_are_keys = text.or("attention_k_eq_v", false)?;
    let listed = text.get::<Map<String, Value>>("per_layer_config")?;
    let others = (config.ropes[1].head_dim, config.block.kv_heads);
    let mut checked = None;
    for (n, layer) in config.layers.iter_mut().enumerate() {
        let is_global = layer.window.is_none();
        let (head_dim, kv_heads) = match &listed {
            Some(listed) => listed_heads(Fields(listed.get(&n.to_string()).unwrap_or(&Value::Null)), others)
                .map_err(|error| format!("{error} of block {n} in per_layer_config"))?,
            None if is_global => global_heads(text, values_are_keys, others)?,
            None => others,
        };
        let expected = config.ropes[layer.rope].head_dim;
        if head_dim != expected {
            return Err(format!(
                "block {n} has heads of {head_dim} in per_layer_config: expected {expected}, as in others"
            ));
        }
        if checked != Some((head_dim, kv_heads)) {
            BlockConfig { head_dim, kv_heads, ..config.block.clone() }.check("decoder")?;
            checked = Some((head_dim, kv_heads));
        }
        layer.heads = Some(LayerHeads { head_dim, kv_heads, values_are_keys: values_are_keys && is_global });
    }
    Ok(config)
}

/// Width and number of key heads of a block without a window, where the file does not list them block by block. `others` are those
/// of the other blocks.
fn global_heads(text: Fields, values_are_keys: bool, others: (usize, usize)) -> Result<(usize, usize), String> {
    let kv_heads = if values_are_keys { text.size("num_global_key_value_heads", others.1)? } else { others.1 };
    Ok((text.size("global_head_dim", 512)?, kv_heads))
}

/// The same of a block that the file lists, or that it leaves out because it is like the others.
fn listed_heads(block: Fields, others: (usize, usize)) -> Result<(usize, usize), String> {
    let other = block.0.as_object().into_iter().flatten().find(|(name, _)| !LAYER_SETTINGS.contains(&name.as_str()));
    if let Some((name, value)) = other {
        return Err(format!("unsupported {name} ({})", short(value)));
    }
    Ok((block.size("head_dim", others.0)?, block.size("num_key_value_heads", others.1)?))
}

/// What `per_layer_config` may say of a block.
const LAYER_SETTINGS: [&str; 2] = ["head_dim", "num_key_value_heads"];

/// The rotary positions of Gemma 4's blocks without a window, and of those with one. The former have wider heads.
fn gemma4_ropes(text: Fields, defaults: Defaults, head_dim: usize) -> Result<Vec<RopeConfig>, String> {
    let wide = match text.get::<Map<String, Value>>("per_layer_config")? {
        // The last block has no window.
        Some(listed) => {
            let last = text.size("num_hidden_layers", defaults.layers)? - 1;
            Fields(listed.get(&last.to_string()).unwrap_or(&Value::Null)).size("head_dim", head_dim)?
        }
        None => text.size("global_head_dim", 512)?,
    };
    let sets = precedence::gemma4_rope(text, defaults.context)?;
    let [full, sliding] = [(&sets[0], wide), (&sets[1], head_dim)];
    [full, sliding].into_iter().map(|(set, width)| RopeConfig::new(Fields(set), width, defaults.axes)).collect()
}

/// A cap of logits or of products in attention, if there is one. A field that is null means that there is none.
fn cap(text: Fields, name: &str, default: Option<f64>) -> Result<Option<f64>, String> {
    let cap = if text.names(name) { text.get(name)? } else { default };
    match cap {
        Some(cap) if !(cap.is_finite() && cap > 0.0) => {
            Err(format!("invalid {name} {cap}: expected a positive number"))
        }
        cap => Ok(cap),
    }
}
