//! Decoders by their `model_type`: what each family leaves out of `config.json`, and how it differs from Llama.

use super::block::{Biases, BlockConfig, LLAMA, LLAMA_NORMS, NormConfig, QkNorm};
use super::rope::{Axes, RopeConfig};
use crate::fields::Fields;
use crate::kernel::pointwise::Activation;
use crate::precedence::{self, RopeDefaults};

/// A decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Most positions of a sample.
    pub context: usize,
    /// What its blocks are made of.
    pub block: BlockConfig,
    /// What distinguishes each of its blocks.
    pub layers: Vec<Layer>,
    /// Rotary positions that layers choose from.
    pub ropes: Vec<RopeConfig>,
    /// What embedded words are multiplied with.
    pub embedding_scale: f32,
    /// Whether positions of one image see each other in both directions.
    pub bidirectional_images: bool,
    /// Whether the output head is the embedding.
    pub tied_head: bool,
    /// `cap * tanh(logits / cap)`.
    pub logit_cap: Option<f64>,
    /// Tokens that are never predicted: those of images, where they are words of the vocabulary.
    pub unspoken: Vec<u32>,
}

/// What distinguishes one block of a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Positions that a position sees, itself included; all before it if there is no window.
    pub window: Option<usize>,
    /// Which of the decoder's rotary positions.
    pub rope: usize,
}

/// What `transformers` 5.23 takes for what a configuration leaves out.
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
    /// Of the layers with a window, where these have rotary positions of their own.
    local_theta: Option<f64>,
    axes: Axes,
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
};

/// The decoders that are supported, as `model_type` names them alone or inside a multimodal model.
const SUPPORTED: [&str; 8] =
    ["llama", "mistral", "qwen2", "qwen3", "gemma3_text", "chameleon", "qwen2_5_vl_text", "qwen3_vl_text"];

/// The decoder that a configuration describes, of the family `kind`.
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
                // Interleaved always, whatever the file says.
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
        "gemma3_text" => gemma3(text),
        "chameleon" => {
            let defaults = Defaults { vocab_size: 65_536, kv_heads: Some(32), context: 4_096, eps: 1e-5, ..base };
            let mut config = llama_like(text, defaults, |text| {
                let bias = text.or("attention_bias", false)?;
                Ok(Biases { qkv: bias, out: bias, mlp: text.or("mlp_bias", false)? })
            })?;
            let block = &mut config.block;
            block.qk_norm = Some(QkNorm { norm: NormConfig::Layer { eps: 1e-5 }, per_head: true });
            if text.or("swin_norm", false)? {
                // The same norms, behind what they stood in front of.
                block.norms = [None, Some("input_layernorm"), None, Some("post_attention_layernorm")];
            }
            Ok(config)
        }
        _ => Err(format!("decoders of type {kind} are not supported; these are: {}", SUPPORTED.join(", "))),
    }
}

fn llama_like(
    text: Fields,
    defaults: Defaults,
    bias: impl Fn(Fields) -> Result<Biases, String>,
) -> Result<TextConfig, String> {
    let hidden_size = text.size("hidden_size", defaults.hidden_size)?;
    let heads = text.size("num_attention_heads", defaults.heads)?;
    let kv_heads = match text.names("num_key_value_heads") {
        true => text.size("num_key_value_heads", heads)?,
        false => defaults.kv_heads.unwrap_or(heads),
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
        activation: text.or("hidden_act", Activation::Silu)?,
        norm,
        norms: LLAMA_NORMS,
        qk_norm: None,
        bias: bias(text)?,
        names: LLAMA,
    };
    let layers = text.size("num_hidden_layers", defaults.layers)?;
    let ropes = ropes(text, defaults, head_dim)?;
    let context = text.size("max_position_embeddings", defaults.context)?;
    Ok(TextConfig {
        vocab_size: text.size("vocab_size", defaults.vocab_size)?,
        hidden_size,
        // Where there are two, the file gives the number that the scaling leads to.
        context: if let [rope] = &ropes[..] { rope.scaling.reach(context) } else { context },
        block: block.check("decoder")?,
        layers: vec![Layer { window: None, rope: 0 }; layers],
        ropes,
        embedding_scale: 1.0,
        bidirectional_images: false,
        tied_head: false,
        logit_cap: None,
        unspoken: Vec::new(),
    })
}

/// The rotary positions that layers choose from: one for all, or one for the layers that see everything and one for those
/// with a window.
fn ropes(text: Fields, defaults: Defaults, head_dim: usize) -> Result<Vec<RopeConfig>, String> {
    let of = |theta| RopeDefaults { theta, context: defaults.context };
    let sets = match defaults.local_theta {
        None => vec![precedence::rope(text, of(defaults.theta))?],
        Some(local) => precedence::layered_rope(text, [of(defaults.theta), of(local)])?.to_vec(),
    };
    sets.iter().map(|set| RopeConfig::new(Fields(set), head_dim, defaults.axes)).collect()
}

/// Gives a window to the layers that `types` calls so, or, where there is no such list, to those that `slides` names.
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
        Some(0) => Err("sliding_window is 0".into()),
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

/// Which layers slide, by `layer_types`.
fn layer_types(text: Fields, layers: usize) -> Result<Option<Vec<bool>>, String> {
    let Some(types) = text.get::<Vec<String>>("layer_types")? else { return Ok(None) };
    if types.len() < layers {
        return Err(format!("layer_types has {} entries for {layers} layers", types.len()));
    }
    let slides = types.iter().map(|kind| match kind.as_str() {
        "sliding_attention" => Ok(true),
        "full_attention" => Ok(false),
        _ => Err(format!("layers of type {kind} are not supported; these are: sliding_attention, full_attention")),
    });
    slides.collect::<Result<_, _>>().map(Some)
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
    let mut config = llama_like(text, defaults, |text| {
        let bias = text.or("attention_bias", false)?;
        Ok(Biases { qkv: bias, out: bias, mlp: false })
    })?;
    let block = &mut config.block;
    block.scale = text.or("query_pre_attn_scalar", 256.0_f64)?.powf(-0.5);
    block.activation = text.or("hidden_activation", Activation::GeluPytorchTanh)?;
    let norm = NormConfig::Rms { eps: text.or("rms_norm_eps", defaults.eps)?, offset: 1.0 };
    (block.norm, block.qk_norm) = (norm, Some(QkNorm { norm, per_head: false }));
    block.norms =
        ["input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"]
            .map(Some);
    // The underscore is transformers 5's own.
    let period = text.size("sliding_window_pattern", text.size("_sliding_window_pattern", 6)?)?;
    let window = Some(text.size("sliding_window", 4_096)?);
    let types = layer_types(text, config.layers.len())?;
    let mut config = windowed(config, types, window, |n| !(n + 1).is_multiple_of(period))?;
    for layer in &mut config.layers {
        layer.rope = usize::from(layer.window.is_some());
    }
    config.embedding_scale = (config.hidden_size as f64).sqrt() as f32;
    config.logit_cap = text.get("final_logit_softcapping")?;
    Ok(config)
}
