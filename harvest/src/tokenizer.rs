//! A checkpoint's tokenizer as `AutoTokenizer` of `transformers` 5.23 loads it. This takes more than `tokenizer.json`:
//! some classes keep its vocabulary and replace the rest, and `tokenizer_config.json` adds and changes tokens. Knows
//! nothing about prompts.
//!
//! `add_bos_token` and `add_eos_token` have no effect here. `transformers` 5.23 ignores them if there is a
//! `tokenizer.json`, whose post-processor decides (`tests/golden/templates/tokenizers.json` contains the resulting
//! ids).

use crate::{Error, Result};
use sae_core::error::Hint;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::models::ModelWrapper;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

/// Size of the largest `tokenizer.json` that is read, in bytes.
const LIMIT: u64 = 1 << 28;
/// Size of the largest configuration file that is read, in bytes.
const CONFIG_LIMIT: u64 = 1 << 24;

/// The named tokens that every tokenizer may have.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Classes of `transformers` 5.23 that rebuild the tokenizer from its vocabulary in a way that is not implemented here.
const UNSUPPORTED: [&str; 43] = [
    "AlbertTokenizer",
    "BarthezTokenizer",
    "BertTokenizer",
    "BigBirdTokenizer",
    "BlenderbotTokenizer",
    "CLIPTokenizer",
    "CamembertTokenizer",
    "CodeGenTokenizer",
    "CodeLlamaTokenizer",
    "CohereTokenizer",
    "DebertaTokenizer",
    "DebertaV2Tokenizer",
    "EsmcTokenizer",
    "FunnelTokenizer",
    "GPTNeoXTokenizer",
    "HerbertTokenizer",
    "LasrTokenizer",
    "LayoutLMv2Tokenizer",
    "LayoutLMv3Tokenizer",
    "LayoutXLMTokenizer",
    "LukeTokenizer",
    "MBart50Tokenizer",
    "MBartTokenizer",
    "MLukeTokenizer",
    "MPNetTokenizer",
    "NllbTokenizer",
    "NougatTokenizer",
    "OpenAIGPTTokenizer",
    "PegasusTokenizer",
    "Qwen3_5Tokenizer",
    "ReformerTokenizer",
    "RemBertTokenizer",
    "RobertaTokenizer",
    "SeamlessM4TTokenizer",
    "Siglip2Tokenizer",
    "SplinterTokenizer",
    "T5Tokenizer",
    "UdopTokenizer",
    "VideoPrismTokenizer",
    "WhisperTokenizer",
    "XGLMTokenizer",
    "XLMRobertaTokenizer",
    "XLNetTokenizer",
];

/// A tokenizer and the tokens that its files name.
pub(crate) struct Named {
    pub tokenizer: Tokenizer,
    /// `bos_token` and so on, and further ones of multimodal tokenizers, such as `image_token`.
    pub special_tokens: Map<String, Value>,
}

/// What `transformers` does with a `tokenizer.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// The file is used unchanged.
    Backend,
    Llama,
    Qwen2,
    Gemma,
    Gpt2,
}

/// Reads the tokenizer of the checkpoint in `folder`.
///
/// # Errors
/// A file is missing or damaged, or the tokenizer is of a class that is not supported.
pub(crate) fn open(folder: &Path) -> Result<Named> {
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        let error =
            Error::checkpoint(folder)("the checkpoint has no tokenizer.json: no other tokenizer format is supported");
        let advice =
            "run AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) in Python, which writes the file";
        return Err(error.with_hint(Hint::from(advice)));
    }
    let mut tokenizer: Tokenizer = sae_core::file::read_json(&path, LIMIT)?;
    let config = optional(folder, "tokenizer_config.json")?;
    let model = optional(folder, "config.json")?;
    let declared = [&config, &model].into_iter().find_map(|config| config.get("tokenizer_class")?.as_str());
    let kind = model.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let class = class(kind, declared, || is_byte_level(&tokenizer)).map_err(Error::checkpoint(folder))?;
    let names = Names::read(folder, &config, class)?;
    let added = match names.added.clone() {
        Some(added) => added,
        None => {
            let mut added = legacy(folder, &names)?;
            added.extend(tokenizer.get_added_tokens_decoder());
            added
        }
    };
    if class != Class::Backend {
        tokenizer = rebuilt(&tokenizer, class, &config, &names).map_err(Error::checkpoint(&path))?;
    }
    add_tokens(&mut tokenizer, class, added, &names).map_err(Error::checkpoint(&path))?;
    tokenizer.set_encode_special_tokens(config.get("split_special_tokens").and_then(Value::as_bool).unwrap_or(false));
    // Texts are never truncated: samples that exceed the context length are rejected elsewhere.
    tokenizer.with_truncation(None).map_err(Error::checkpoint(&path))?;
    tokenizer.with_padding(None);
    let special_tokens = names.named.into_iter().map(|(name, token)| (name, token.content.into())).collect();
    Ok(Named { tokenizer, special_tokens })
}

/// The JSON object in a file; empty if there is no such file.
fn optional(folder: &Path, file: &str) -> Result<Map<String, Value>> {
    let path = folder.join(file);
    if path.exists() { Ok(sae_core::file::read_json(&path, CONFIG_LIMIT)?) } else { Ok(Map::new()) }
}

/// The class that `AutoTokenizer` chooses (`models/auto/tokenization_auto.py`): the one that the files declare, unless
/// the model's own class is known to be the right one, or `transformers` never rebuilds the tokenizer of this model.
fn class(model: &str, declared: Option<&str>, byte_level: impl FnOnce() -> bool) -> Result<Class, String> {
    let model_class = match model {
        "mistral" | "mistral3" | "llava" | "llava_next" | "smolvlm" => return Ok(Class::Backend),
        "qwen2" => return Ok(Class::Qwen2),
        "qwen3" | "qwen2_5_vl" | "qwen3_vl" | "internvl" => Class::Qwen2,
        "gemma" | "gemma2" | "gemma3" | "gemma3_text" => Class::Gemma,
        _ => Class::Backend,
    };
    let Some(declared) = declared else { return Ok(model_class) };
    match declared.strip_suffix("Fast").unwrap_or(declared) {
        "LlamaTokenizer" if byte_level() => Ok(Class::Backend),
        "LlamaTokenizer" => Ok(Class::Llama),
        "Qwen2Tokenizer" => Ok(Class::Qwen2),
        "GemmaTokenizer" => Ok(Class::Gemma),
        "GPT2Tokenizer" => Ok(Class::Gpt2),
        name if UNSUPPORTED.contains(&name) => {
            Err(format!("tokenizers of class {declared} are not supported (tokenizer_config.json)"))
        }
        _ => Ok(Class::Backend),
    }
}

fn is_byte_level(tokenizer: &Tokenizer) -> bool {
    let parts = json!([
        tokenizer.get_normalizer(),
        tokenizer.get_pre_tokenizer(),
        tokenizer.get_post_processor(),
        tokenizer.get_decoder()
    ]);
    parts.to_string().contains("\"ByteLevel\"")
}

/// The tokens that the configuration files name.
struct Names {
    /// Tokens with their names, in the order of `transformers`.
    named: Vec<(String, AddedToken)>,
    /// Special tokens without a name.
    extra: Vec<AddedToken>,
    /// `added_tokens_decoder`, if there is one.
    added: Option<BTreeMap<u32, AddedToken>>,
}

impl Names {
    fn read(folder: &Path, config: &Map<String, Value>, class: Class) -> Result<Self> {
        let mut config = config.clone();
        let added = config.get("added_tokens_decoder").and_then(Value::as_object).map(|added| {
            let tokens = added.iter().filter_map(|(id, token)| Some((id.parse().ok()?, added_token(token, false)?)));
            tokens.collect::<BTreeMap<u32, AddedToken>>()
        });
        // The separate file takes precedence over tokenizer_config.json, except for tokenizers saved by versions that
        // list the added tokens in the latter.
        if added.is_none() {
            config.extend(optional(folder, "special_tokens_map.json")?);
        }
        for &(name, token) in class.defaults() {
            config.entry(name).or_insert_with(|| token.into());
        }
        let known = |content: &str| added.as_ref().and_then(|added| added.values().find(|t| t.content == content));
        let token = |value: &Value| {
            let token = added_token(value, true)?;
            Some(known(&token.content).cloned().unwrap_or(token))
        };
        let mut named: Vec<(String, AddedToken)> = Vec::new();
        let others = config.keys().filter(|key| key.ends_with("_token") && !NAMED.contains(&key.as_str()));
        for name in NAMED.into_iter().chain(others.map(String::as_str)) {
            named.extend(config.get(name).and_then(token).map(|token| (name.to_owned(), token)));
        }
        let mut extra = Vec::new();
        let lists = ["extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens"];
        for list in lists.into_iter().filter_map(|key| config.get(key)) {
            match list {
                Value::Object(tokens) => {
                    named.extend(tokens.iter().filter_map(|(name, value)| Some((name.clone(), token(value)?))));
                }
                Value::Array(tokens) if extra.is_empty() => extra.extend(tokens.iter().filter_map(token)),
                _ => {}
            }
        }
        Ok(Self { named, extra, added })
    }

    /// All tokens, with and without a name.
    fn all(&self) -> impl Iterator<Item = &AddedToken> {
        self.named.iter().map(|(_, token)| token).chain(&self.extra)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(other, _)| other == name).map(|(_, token)| token.content.as_str())
    }
}

impl Class {
    /// The tokens that a class names if no file does.
    fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Backend => &[],
            Self::Llama => &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")],
            Self::Qwen2 => {
                &[("unk_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>"), ("pad_token", "<|endoftext|>")]
            }
            Self::Gemma => &[
                ("unk_token", "<unk>"),
                ("bos_token", "<bos>"),
                ("eos_token", "<eos>"),
                ("pad_token", "<pad>"),
                ("mask_token", "<mask>"),
            ],
            Self::Gpt2 => {
                &[("unk_token", "<|endoftext|>"), ("bos_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>")]
            }
        }
    }
}

/// A token of a configuration file, which is either its text or an object that describes it.
fn added_token(value: &Value, special: bool) -> Option<AddedToken> {
    if let Some(content) = value.as_str() {
        return Some(AddedToken::from(content, true));
    }
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(special);
    Some(AddedToken {
        content: value.get("content")?.as_str()?.to_owned(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}

/// The tokens of `added_tokens.json`, which old tokenizers have.
fn legacy(folder: &Path, names: &Names) -> Result<BTreeMap<u32, AddedToken>> {
    let tokens = optional(folder, "added_tokens.json")?.into_iter().filter_map(|(content, id)| {
        let special = names.all().any(|token| token.content == content);
        Some((u32::try_from(id.as_u64()?).ok()?, AddedToken::from(content, special)))
    });
    Ok(tokens.collect())
}

/// The tokenizer that a class builds from a vocabulary and its merges.
fn rebuilt(
    tokenizer: &Tokenizer,
    class: Class,
    config: &Map<String, Value>,
    names: &Names,
) -> Result<Tokenizer, String> {
    let ModelWrapper::BPE(mut model) = tokenizer.get_model().clone() else {
        return Err(format!("the model of the tokenizer is not BPE, which the tokenizer class {class:?} requires"));
    };
    let pieces = matches!(class, Class::Llama | Class::Gemma);
    (model.fuse_unk, model.byte_fallback, model.ignore_merges, model.dropout) = (pieces, pieces, false, None);
    model.unk_token = if class == Class::Gemma { names.get("unk_token").map(str::to_owned) } else { None };
    let prefixed = config.get("add_prefix_space").and_then(Value::as_bool);
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    let (normalizer, pre_tokenizer, decoder) = match class {
        Class::Backend => return Ok(tokenizer.clone()),
        Class::Llama => {
            let legacy = config.get("legacy").and_then(Value::as_bool).unwrap_or(false);
            let prefixed = prefixed.unwrap_or(true);
            let scheme = if !prefixed {
                "never"
            } else if legacy {
                "always"
            } else {
                "first"
            };
            if prefixed {
                decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
            }
            let words = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
            (Value::Null, words, json!({"type": "Sequence", "decoders": decoders}))
        }
        Class::Gemma => (
            json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
            json!({"type": "Sequence", "decoders": decoders}),
        ),
        Class::Qwen2 => {
            let words =
                json!({"type": "Split", "pattern": {"Regex": QWEN2_WORDS}, "behavior": "Isolated", "invert": false});
            let spaces = prefixed.unwrap_or(false);
            let pieces =
                json!({"type": "ByteLevel", "add_prefix_space": spaces, "trim_offsets": true, "use_regex": false});
            (json!({"type": "NFC"}), json!({"type": "Sequence", "pretokenizers": [words, pieces]}), bytes)
        }
        Class::Gpt2 => {
            let spaces = prefixed.unwrap_or(false);
            let pieces =
                json!({"type": "ByteLevel", "add_prefix_space": spaces, "trim_offsets": true, "use_regex": true});
            (Value::Null, pieces, bytes)
        }
    };
    let mut new = Tokenizer::new(model);
    let read = |error: serde_json::Error| error.to_string();
    let normalizer: Option<NormalizerWrapper> = serde_json::from_value(normalizer).map_err(read)?;
    new.with_normalizer(normalizer).map_err(|error| error.to_string())?;
    new.with_pre_tokenizer(serde_json::from_value::<Option<PreTokenizerWrapper>>(pre_tokenizer).map_err(read)?);
    new.with_decoder(serde_json::from_value::<Option<DecoderWrapper>>(decoder).map_err(read)?);
    new.with_post_processor(tokenizer.get_post_processor().cloned());
    Ok(new)
}

/// The regular expression by which Qwen2's tokenizer divides a text into words.
const QWEN2_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Adds the tokens that the files list, and the tokens that they name but do not list.
fn add_tokens(
    tokenizer: &mut Tokenizer,
    class: Class,
    listed: BTreeMap<u32, AddedToken>,
    names: &Names,
) -> Result<(), String> {
    let present: Vec<AddedToken> = tokenizer.get_added_tokens_decoder().into_values().collect();
    let mut tokens: Vec<AddedToken> = listed.into_values().filter(|token| !present.contains(token)).collect();
    for token in names.all() {
        if !present.iter().chain(&tokens).any(|other| other.content == token.content) {
            tokens.push(token.clone());
        }
    }
    for token in &mut tokens {
        token.special |= names.named.iter().any(|(_, named)| named.content == token.content);
    }
    tokenizer.add_tokens(tokens).map_err(|error| error.to_string())?;
    if class == Class::Qwen2 {
        let special = names.all().map(|token| AddedToken::from(token.content.clone(), true));
        tokenizer.add_tokens(special.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_the_one_that_transformers_chooses() {
        let class = |model, declared, byte_level: bool| super::class(model, declared, || byte_level);
        assert_eq!(class("llama", Some("LlamaTokenizerFast"), false), Ok(Class::Llama));
        assert_eq!(class("llama", Some("LlamaTokenizer"), true), Ok(Class::Backend));
        assert_eq!(class("llama", None, false), Ok(Class::Backend));
        assert_eq!(class("mistral", Some("LlamaTokenizer"), false), Ok(Class::Backend));
        assert_eq!(class("qwen2", Some("PreTrainedTokenizerFast"), true), Ok(Class::Qwen2));
        assert_eq!(class("qwen3", Some("PreTrainedTokenizerFast"), true), Ok(Class::Backend));
        assert_eq!(class("gemma3", None, false), Ok(Class::Gemma));
        assert!(class("llama", Some("T5TokenizerFast"), false).unwrap_err().contains("T5TokenizerFast"));
    }
}
