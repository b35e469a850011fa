//! Decoders by their `model_type`: the defaults of each family for fields that `config.json` omits, and how it differs
//! from Llama.

use super::block::{Biases, BlockConfig, Extras, GEMMA_NORMS, LLAMA, LLAMA_KEYS, LLAMA_NORMS, NormConfig, QkNorm};
use super::rope::{Axes, RopeConfig};
use super::unsupported;
use crate::fields::{Fields, short};
use crate::kernel::pointwise::Activation;
use crate::precedence::{self, RopeDefaults};
use serde_json::{Map, Value};

/// The configuration of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Maximum number of positions in a sample.
    pub context: usize,
    /// The structure of its blocks.
    pub block: BlockConfig,
    /// The differences between its blocks.
    pub layers: Vec<Layer>,
    /// The rotary positions from which layers choose.
    pub ropes: Vec<RopeConfig>,
    /// The factor of embedded tokens.
    pub embedding_scale: f32,
    /// The number of the first position: 1 in PaliGemma, otherwise 0.
    pub first_position: u32,
    /// Whether the embedding matrix is also the output head.
    pub tied_head: bool,
    /// If present, logits become `cap * tanh(logits / cap)`.
    pub logit_cap: Option<f64>,
    /// Tokens that are never predicted: those of images, if they are part of the vocabulary.
    pub never_predicted: Vec<u32>,
}

/// What distinguishes one block of a decoder from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Number of positions to which a position attends, including itself; without a window, it attends to all before
    /// it.
    pub window: Option<usize>,
    /// Which of the decoder's rotary positions it uses.
    pub rope: usize,
    /// Whether positions of the same image attend to each other in both directions.
    pub bidirectional_images: bool,
    /// Its heads, where they are not those of the decoder's blocks.
    pub heads: Option<LayerHeads>,
}

/// The heads of a block that has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerHeads {
    /// Width of a head.
    pub head_dim: usize,
    /// Number of key and value heads.
    pub kv_heads: usize,
    /// Whether values are the keys before their norm.
    pub values_are_keys: bool,
}

impl TextConfig {
    /// The structure of a block.
    pub fn block(&self, layer: usize) -> BlockConfig {
        let mut block = self.block.clone();
        if let Some(LayerHeads { head_dim, kv_heads, values_are_keys }) = self.layers[layer].heads {
            (block.head_dim, block.kv_heads) = (head_dim, kv_heads);
            if values_are_keys {
                block.names.qkv = LLAMA_KEYS;
            }
        }
        block
    }
}

/// The defaults of `transformers` 5.23 for fields that a configuration omits.
#[derive(Clone, Copy)]
struct Defaults {
    vocab_size: usize,
    hidden_size: usize,
    d_ff: usize,
    layers: usize,
    heads: usize,
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
    context: usize,
    eps: f64,
    theta: f64,
    /// For layers with a window, if these have their own rotary positions.
    local_theta: Option<f64>,
    axes: Axes,
    /// How rotary positions are read.
    ropes: fn(Fields, Defaults, usize) -> Result<Vec<RopeConfig>, String>,
}

const LLAMA_DEFAULTS: Defaults = Defaults {
    vocab_size: 32_000,
    hidden_size: 4_096,
    d_ff: 11_008,
    layers: 32,
    heads: 32,
    kv_heads: None,
    head_dim: None,
    context: 2_048,
    eps: 1e-6,
    theta: 1e4,
    local_theta: None,
    axes: Axes::One,
    ropes,
};

/// The supported decoders, by their `model_type` alone or inside a multimodal model.
const SUPPORTED: [&str; 11] = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gemma4_text",
    "chameleon",
    "qwen2_5_vl_text",
    "qwen3_vl_text",
];

/// The decoder of the family `kind` that a configuration describes.
pub(super) fn text(kind: &str, text: Fields) -> Result<TextConfig, String> {
    let base = LLAMA_DEFAULTS;
    match kind {
        "llama" => llama_like(text, base, |text| {
            let bias = text.or("attention_bias", false)?;
            Ok(Biases { qkv: bias, out: bias, mlp: text.or("mlp_bias", false)? })
        }),
        "mistral" => {
            let defaults = Defaults { d_ff: 14_336, kv_heads: Some(8), context: 131_072, ..base };
            let config = llama_like(text, defaults, |_| Ok(Biases::default()))?;
            let window = if text.names("sliding_window") { text.get("sliding_window")? } else { Some(4_096) };
            windowed(config, None, window, |_| true)
        }
        "qwen2" | "qwen2_5_vl_text" => {
            let defaults = match kind {
                "qwen2" => Defaults { vocab_size: 151_936, d_ff: 22_016, kv_heads: Some(32), context: 32_768, ..base },
                _ => Defaults {
                    vocab_size: 152_064,
                    hidden_size: 8_192,
                    d_ff: 29_568,
                    layers: 80,
                    heads: 64,
                    kv_heads: Some(8),
                    context: 32_768,
                    eps: 1e-5,
                    theta: 1e6,
                    axes: Axes::Sections([16, 24, 24]),
                    ..base
                },
            };
            let config = llama_like(text, defaults, |_| Ok(Biases { qkv: true, ..Biases::default() }))?;
            qwen_windows(config, text, if kind == "qwen2" { 28 } else { 80 })
        }
        "qwen3" | "qwen3_vl_text" => {
            let mut defaults = Defaults {
                vocab_size: 151_936,
                d_ff: 22_016,
                kv_heads: Some(32),
                head_dim: Some(128),
                context: 32_768,
                ..base
            };
            if kind == "qwen3_vl_text" {
                (defaults.context, defaults.theta) = (128_000, 5e5);
                // Always interleaved, whatever the file says.
                defaults.axes = Axes::Interleaved([24, 20, 20]);
            }
            let mut config = llama_like(text, defaults, |text| {
                let bias = text.or("attention_bias", false)?;
                Ok(Biases { qkv: bias, out: bias, mlp: false })
            })?;
            config.block.qk_norm = Some(QkNorm { norm: config.block.norm, per_head: false });
            if kind == "qwen3_vl_text" {
                return Ok(config);
            }
            qwen_windows(config, text, 28)
        }
        "gemma" => gemma(text),
        "gemma2" => gemma2(text),
        "gemma3_text" => gemma3(text),
        "gemma4_text" => gemma4(text),
        "chameleon" => {
            let defaults = Defaults { vocab_size: 65_536, kv_heads: Some(32), context: 4_096, eps: 1e-5, ..base };
            let mut config = llama_like(text, defaults, |text| {
                let bias = text.or("attention_bias", false)?;
                Ok(Biases { qkv: bias, out: bias, mlp: text.or("mlp_bias", false)? })
            })?;
            let block = &mut config.block;
            block.qk_norm = Some(QkNorm { norm: NormConfig::Layer { eps: 1e-5 }, per_head: true });
            if text.or("swin_norm", false)? {
                // The same norms, but after attention and MLP instead of before them.
                block.norms = [None, Some("input_layernorm"), None, Some("post_attention_layernorm")];
            }
            Ok(config)
        }
        _ => {
            let (reason, expected) = (unsupported::reason(kind), SUPPORTED.join(", "));
            Err(format!("unsupported decoder type {kind:?}{reason}: expected one of {expected}"))
        }
    }
}

/// A decoder with the structure of Llama.
fn llama_like(
    text: Fields,
    defaults: Defaults,
    bias: impl Fn(Fields) -> Result<Biases, String>,
) -> Result<TextConfig, String> {
    let hidden_size = text.size("hidden_size", defaults.hidden_size)?;
    let heads = text.size("num_attention_heads", defaults.heads)?;
    let kv_heads = if text.names("num_key_value_heads") {
        text.size("num_key_value_heads", heads)?
    } else {
        defaults.kv_heads.unwrap_or(heads)
    };
    let head_dim = text.size("head_dim", defaults.head_dim.unwrap_or(hidden_size / heads).max(1))?;
    let norm = NormConfig::Rms { eps: text.or("rms_norm_eps", defaults.eps)?, offset: 0.0 };
    let block = BlockConfig {
        width: hidden_size,
        d_ff: text.size("intermediate_size", defaults.d_ff)?,
        heads,
        kv_heads,
        head_dim,
        scale: (head_dim as f64).powf(-0.5),
        cap: None,
        extras: Extras::default(),
        activation: text.or("hidden_act", Activation::Silu)?,
        norm,
        norms: LLAMA_NORMS,
        layer_scale: None,
        qk_norm: None,
        bias: bias(text)?,
        names: LLAMA,
    };
    let layers = text.size("num_hidden_layers", defaults.layers)?;
    let ropes = (defaults.ropes)(text, defaults, head_dim)?;
    let context = text.size("max_position_embeddings", defaults.context)?;
    Ok(TextConfig {
        vocab_size: text.size("vocab_size", defaults.vocab_size)?,
        hidden_size,
        // If there are two sets of rotary positions, the file states the context after scaling.
        context: if let [rope] = &ropes[..] { rope.scaling.scaled_context(context) } else { context },
        block: block.check("decoder")?,
        layers: vec![Layer { window: None, rope: 0, bidirectional_images: false, heads: None }; layers],
        ropes,
        embedding_scale: 1.0,
        first_position: 0,
        tied_head: false,
        logit_cap: None,
        never_predicted: Vec::new(),
    })
}

/// The rotary positions from which layers choose: one set for all layers, or one for the layers with full attention and
/// one for those with a window.
fn ropes(text: Fields, defaults: Defaults, head_dim: usize) -> Result<Vec<RopeConfig>, String> {
    let defaults_of = |theta| RopeDefaults { theta, context: defaults.context };
    let sets = match defaults.local_theta {
        None => vec![precedence::rope(text, defaults_of(defaults.theta))?],
        Some(local) => precedence::layered_rope(text, [defaults_of(defaults.theta), defaults_of(local)])?.to_vec(),
    };
    sets.iter().map(|set| RopeConfig::new(Fields(set), head_dim, defaults.axes)).collect()
}

/// Gives a window to the layers that are marked in `types`, or, if there is no such list, to those for which `slides`
/// is true.
fn windowed(
    mut config: TextConfig,
    types: Option<Vec<bool>>,
    window: Option<usize>,
    slides: impl Fn(usize) -> bool,
) -> Result<TextConfig, String> {
    for (n, layer) in config.layers.iter_mut().enumerate() {
        let slides = types.as_ref().map_or_else(|| slides(n), |types| types[n]);
        layer.window = window.filter(|_| slides);
    }
    match window {
        Some(0) => Err("invalid sliding_window 0: expected at least 1".into()),
        _ => Ok(config),
    }
}

fn qwen_windows(config: TextConfig, text: Fields, default_from: usize) -> Result<TextConfig, String> {
    let uses = text.or("use_sliding_window", false)?;
    let window = if uses { Some(text.size("sliding_window", 4_096)?) } else { None };
    let from = text.or("max_window_layers", default_from)?;
    let types = layer_types(text, config.layers.len())?;
    windowed(config, types, window, |n| n >= from)
}

/// Which layers have a sliding window, according to `layer_types`.
fn layer_types(text: Fields, layers: usize) -> Result<Option<Vec<bool>>, String> {
    let Some(types) = text.get::<Vec<String>>("layer_types")? else { return Ok(None) };
    if types.len() < layers {
        return Err(format!("layer_types has {} entries: expected {layers}, one for each layer", types.len()));
    }
    let slides = types.iter().map(|kind| match kind.as_str() {
        "sliding_attention" => Ok(true),
        "full_attention" => Ok(false),
        _ => Err(format!("unsupported layer type {kind:?}: expected sliding_attention or full_attention")),
    });
    slides.collect::<Result<_, _>>().map(Some)
}

/// What all decoders of Gemma have in common: norms that add one to their weights, and embeddings that are scaled.
fn gemma_like(text: Fields, defaults: Defaults) -> Result<TextConfig, String> {
    let mut config = llama_like(text, defaults, |text| {
        let bias = text.or("attention_bias", false)?;
        Ok(Biases { qkv: bias, out: bias, mlp: false })
    })?;
    config.block.norm = NormConfig::Rms { eps: text.or("rms_norm_eps", defaults.eps)?, offset: 1.0 };
    config.embedding_scale = (config.hidden_size as f64).sqrt() as f32;
    Ok(config)
}

fn gemma(text: Fields) -> Result<TextConfig, String> {
    let defaults = Defaults {
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
    let mut config = gemma_like(text, defaults)?;
    config.block.activation = match text.or("hidden_act", Activation::GeluPytorchTanh)? {
        // The first files have this name, although the models were trained with the other function.
        Activation::Gelu => Activation::GeluPytorchTanh,
        activation => activation,
    };
    Ok(config)
}

fn gemma2(text: Fields) -> Result<TextConfig, String> {
    let defaults = Defaults {
        vocab_size: 256_000,
        hidden_size: 2_304,
        d_ff: 9_216,
        layers: 26,
        heads: 8,
        kv_heads: Some(4),
        head_dim: Some(256),
        context: 8_192,
        ..LLAMA_DEFAULTS
    };
    let mut config = gemma_like(text, defaults)?;
    let block = &mut config.block;
    block.scale = text.or("query_pre_attn_scalar", 256.0_f64)?.powf(-0.5);
    block.activation = text.or("hidden_activation", Activation::GeluPytorchTanh)?;
    block.norms = GEMMA_NORMS;
    block.cap = cap(text, "attn_logit_softcapping", Some(50.0))?;
    config.logit_cap = cap(text, "final_logit_softcapping", Some(30.0))?;
    let window = Some(text.size("sliding_window", 4_096)?);
    let types = layer_types(text, config.layers.len())?;
    windowed(config, types, window, |n| n.is_multiple_of(2))
}

fn gemma3(text: Fields) -> Result<TextConfig, String> {
    let defaults = Defaults {
        vocab_size: 262_208,
        hidden_size: 2_304,
        d_ff: 9_216,
        layers: 26,
        heads: 8,
        kv_heads: Some(4),
        head_dim: Some(256),
        context: 131_072,
        theta: 1e6,
        local_theta: Some(1e4),
        ..LLAMA_DEFAULTS
    };
    let mut config = gemma_like(text, defaults)?;
    let block = &mut config.block;
    block.scale = text.or("query_pre_attn_scalar", 256.0_f64)?.powf(-0.5);
    block.activation = text.or("hidden_activation", Activation::GeluPytorchTanh)?;
    block.qk_norm = Some(QkNorm { norm: block.norm, per_head: false });
    block.norms = GEMMA_NORMS;
    // The name with the underscore is that of transformers 5.
    let period = text.size("sliding_window_pattern", text.size("_sliding_window_pattern", 6)?)?;
    let window = Some(text.size("sliding_window", 4_096)?);
    let types = layer_types(text, config.layers.len())?;
    let mut config = windowed(config, types, window, |n| !(n + 1).is_multiple_of(period))?;
    for layer in &mut config.layers {
        layer.rope = usize::from(layer.window.is_some());
    }
    config.logit_cap = cap(text, "final_logit_softcapping", None)?;
    Ok(config)
}

/// The dense model. The small ones have embeddings for each block and share keys and values, and one has experts.
fn gemma4(text: Fields) -> Result<TextConfig, String> {
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
    let sees_images = match text.get::<String>("use_bidirectional_attention")?.as_deref() {
        None => false,
        Some("vision") => true,
        Some(other) => return Err(format!("use_bidirectional_attention {other:?} is not supported: expected vision")),
    };
    let defaults = Defaults {
        vocab_size: 262_144,
        hidden_size: 2_304,
        d_ff: 9_216,
        layers: 30,
        heads: 8,
        kv_heads: Some(4),
        head_dim: Some(256),
        context: 131_072,
        ropes: gemma4_ropes,
        ..LLAMA_DEFAULTS
    };
    let mut config = gemma_like(text, defaults)?;
    let norm = NormConfig::Rms { eps: text.or("rms_norm_eps", defaults.eps)?, offset: 0.0 };
    let block = &mut config.block;
    (block.norm, block.qk_norm, block.scale) = (norm, Some(QkNorm { norm, per_head: false }), 1.0);
    block.activation = text.or("hidden_activation", Activation::GeluPytorchTanh)?;
    block.norms = GEMMA_NORMS;
    block.extras = Extras { v_norm: true, factor: Some("layer_scalar"), ..Extras::default() };
    config.logit_cap = cap(text, "final_logit_softcapping", None)?;
    let window = Some(text.size("sliding_window", 512)?);
    let types = layer_types(text, config.layers.len())?;
    let last = config.layers.len() - 1;
    // The last block has no window, whatever the file says.
    let slides = |n: usize| types.as_ref().map_or(!(n + 1).is_multiple_of(6), |types| types[n]) && n < last;
    let mut config = windowed(config, None, window, slides)?;
    let values_are_keys = text.or("attention_k_eq_v", false)?;
    let listed = text.get::<Map<String, Value>>("per_layer_config")?;
    let mut checked = None;
    for (n, layer) in config.layers.iter_mut().enumerate() {
        let is_global = layer.window.is_none();
        (layer.rope, layer.bidirectional_images) = (usize::from(!is_global), sees_images && !is_global);
        let others = (config.ropes[1].head_dim, config.block.kv_heads);
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
