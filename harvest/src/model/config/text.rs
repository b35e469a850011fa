//! Decoders by their `model_type`: the defaults of each family for fields that `config.json` omits, and how it differs
//! from Llama.

mod gemma;

use super::block::{Biases, BlockConfig, Extras, LLAMA, LLAMA_KEYS, LLAMA_NORMS, NormConfig, QkNorm};
use super::rope::{Axes, RopeConfig};
use super::supported;
use crate::fields::Fields;
use crate::kernel::pointwise::Activation;
use crate::precedence::{self, RopeDefaults};

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
        "gemma" => gemma::gemma(text),
        "gemma2" => gemma::gemma2(text),
        "gemma3_text" => gemma::gemma3(text),
        "gemma4_text" => gemma::gemma4(text),
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
        _ => Err(supported::unknown_decoder(kind)),
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
