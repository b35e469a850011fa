//! Which place counts if two places of a checkpoint state the same fact. The answers are those of `transformers` 5.23;
//! FORMATS.md lists them in a table ("Where the files of a checkpoint disagree"). Knows nothing about models or images:
//! it only says which file, which level of `config.json`, and which of several names to read.

use crate::fields::Fields;
use crate::{Error, Result};
use sae_core::error::Hint;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";

/// The files that decide the output of a checkpoint, besides the weights. `config.json` and the tokenizer are required.
pub(crate) const DECISIVE: [&str; 10] = [
    CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    TEMPLATE,
    LEGACY_TEMPLATE,
    PREPROCESSOR,
    PROCESSOR,
    VIDEO_PREPROCESSOR,
];

/// Other files that a checkpoint may have, for programs that generate text.
pub(crate) const OTHER_CONFIGS: [&str; 1] = ["generation_config.json"];

pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// The chat template in a file of its own.
pub(crate) const TEMPLATE: &str = "chat_template.jinja";
/// The chat template of a processor, as `transformers` wrote it up to version 4.51.
pub(crate) const LEGACY_TEMPLATE: &str = "chat_template.json";
pub(crate) const PREPROCESSOR: &str = "preprocessor_config.json";
pub(crate) const PROCESSOR: &str = "processor_config.json";
pub(crate) const VIDEO_PREPROCESSOR: &str = "video_preprocessor_config.json";
pub(crate) const ADAPTER: &str = "adapter_config.json";
/// The error message for a repository on the hub that contains an adapter.
pub(crate) const NO_ADAPTERS: &str =
    "adapters are not supported: merge the adapter into its base model, save the result, and use that";

/// A file with all weights, and the index that lists the files of weights that are divided.
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Size of the largest index that is read, in bytes.
const INDEX_LIMIT: u64 = 1 << 28;

/// Rejects a folder that is not a complete checkpoint, or whose small files are placeholders of missing content.
///
/// # Errors
/// The folder holds an adapter or further checkpoints, or a file is rejected by [`check_content`].
pub(crate) fn check(folder: &Path) -> Result<()> {
    let adapter = folder.join(ADAPTER);
    if adapter.exists() {
        let config: Value = sae_core::file::read_json(&adapter, 1 << 20)?;
        let base = config["base_model_name_or_path"].as_str().map(|base| format!(" ({base})")).unwrap_or_default();
        let cause = "adapters are not supported: merge the adapter into its base model";
        return Err(Error::checkpoint(&adapter)(format!("{cause}{base}, save the result, and use that")));
    }
    if !folder.join(CONFIG).exists() {
        if folder.join("snapshots").is_dir() {
            let cause = "this is a repository of the hub's cache: pass its name, such as org/name, or one of the folders in snapshots";
            return Err(Error::checkpoint(folder)(cause));
        }
        // Trainers write folders of checkpoints.
        let inside = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        if let Some(inside) = inside.filter(|path| path.join(CONFIG).exists()).max() {
            let name = inside.file_name().unwrap_or_default().display();
            let cause =
                format!("this is not a Hugging Face checkpoint (it has no {CONFIG}), but {name} in it may be one");
            return Err(Error::checkpoint(folder)(cause));
        }
    }
    DECISIVE
        .iter()
        .map(|name| folder.join(name))
        .filter(|path| path.is_symlink() || path.exists())
        .try_for_each(|path| check_content(&path))
}

/// Rejects a file whose content is missing.
///
/// # Errors
/// A link whose target does not exist, or a Git LFS pointer in place of the content, as `git clone` writes it without
/// Git LFS.
pub(crate) fn check_content(path: &Path) -> Result<()> {
    const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
    if is_dangling(path) {
        return Err(Error::checkpoint(path)("broken link: its target does not exist"));
    }
    let mut start = Vec::new();
    let file = fs::File::open(path).map_err(Error::io("open", path))?;
    file.take(POINTER.len() as u64).read_to_end(&mut start).map_err(Error::io("read", path))?;
    if start == POINTER {
        let error = Error::checkpoint(path)("the file is a Git LFS pointer: its content was not downloaded");
        return Err(error.with_hint(Hint::from("run `git lfs pull`")));
    }
    Ok(())
}

/// Whether a path is a link whose target does not exist.
pub(crate) fn is_dangling(path: &Path) -> bool {
    path.is_symlink() && !path.exists()
}

/// The file that leads to a checkpoint's weights: a safetensors file, or an index of several. `transformers_weights` in
/// `config.json` counts most, then a complete `model.safetensors`, then an index. Files with other names
/// (`consolidated.safetensors`, and the weights of adapters, variants and PyTorch) are never read.
///
/// # Errors
/// `transformers_weights` does not name such a file.
pub(crate) fn weights(config: &Value, has: impl Fn(&str) -> bool) -> Result<Option<String>, String> {
    if let Some(name) = Fields(config).get::<String>("transformers_weights")? {
        let is_known = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
        if is_known && is_plain(&name) {
            return Ok(Some(name));
        }
        return Err(format!("invalid transformers_weights {name:?}: expected a safetensors file in the same folder"));
    }
    Ok([WEIGHTS, INDEX].into_iter().find(|name| has(name)).map(str::to_owned))
}

/// The files that an index names, in the order in which they are read. If two of them contain the same tensor, the
/// later one counts.
///
/// # Errors
/// The file is damaged, or it names files outside its folder or files that are not safetensors.
pub(crate) fn shards(index: &Path) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let Index { weight_map } = sae_core::file::read_json(index, INDEX_LIMIT)?;
    let shards: BTreeSet<_> = weight_map.into_values().collect();
    if let Some(shard) = shards.iter().find(|shard| !is_plain(shard) || !shard.ends_with(".safetensors")) {
        let cause = format!("the index names {shard:?}: expected safetensors files in the folder of the checkpoint");
        return Err(Error::checkpoint(index)(cause));
    }
    if shards.is_empty() {
        return Err(Error::checkpoint(index)("the index does not name any file"));
    }
    Ok(shards)
}

/// The error message for a folder with files of these names but without weights. Mentions weights of other formats.
pub(crate) fn no_weights(names: impl Iterator<Item = String>) -> String {
    const OTHER_FORMATS: [&str; 8] = [".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".index.json"];
    let is_other = |name: &String| OTHER_FORMATS.iter().any(|ending| name.ends_with(ending));
    let mut others: Vec<String> = names.filter(is_other).collect();
    others.sort();
    let found = match others.as_slice() {
        [] => String::new(),
        [first, rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
            format!("; {first}{more} cannot be used: save the model with save_pretrained, or rename a complete file")
        }
    };
    format!("the checkpoint has no weights (neither {WEIGHTS} nor {INDEX}){found}")
}

/// The settings of the image processor, and the file that contains them: those nested in `processor_config.json`, or,
/// if there are none, `preprocessor_config.json`.
///
/// # Errors
/// There are no settings, or the file cannot be read.
pub(crate) fn image_processor(folder: &Path) -> Result<(PathBuf, Value)> {
    let path = folder.join(PROCESSOR);
    let nested = processor(folder)?["image_processor"].take();
    if !nested.is_null() {
        return Ok((path, nested));
    }
    let path = folder.join(PREPROCESSOR);
    if !path.exists() {
        let cause = format!("the checkpoint has no image processor (no {PREPROCESSOR}, and none in {PROCESSOR})");
        return Err(Error::checkpoint(folder)(cause));
    }
    let config = sae_core::file::read_json(&path, 1 << 20)?;
    Ok((path, config))
}

/// The settings of the video processor: those nested in `processor_config.json`, or, if there are none, those of
/// `video_preprocessor_config.json`, or, if there is no such file, those of `preprocessor_config.json`.
///
/// # Errors
/// There are no settings, or the file cannot be read.
pub(crate) fn video_processor(folder: &Path) -> Result<Value> {
    let nested = processor(folder)?["video_processor"].take();
    if !nested.is_null() {
        return Ok(nested);
    }
    let files = [VIDEO_PREPROCESSOR, PREPROCESSOR].map(|name| folder.join(name));
    match files.iter().find(|path| path.exists()) {
        Some(path) => Ok(sae_core::file::read_json(path, 1 << 20)?),
        None => Err(Error::checkpoint(folder)("the checkpoint has no video processor")),
    }
}

/// The content of `processor_config.json`, or null if there is no such file.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn processor(folder: &Path) -> Result<Value> {
    let path = folder.join(PROCESSOR);
    Ok(if path.exists() { sae_core::file::read_json(&path, 1 << 24)? } else { Value::Null })
}

/// The family of the decoder, and the part of `config.json` that contains its settings.
///
/// # Errors
/// `model_type` is not a string, or the settings are missing.
pub(crate) fn decoder<'a>(kind: &str, config: Fields<'a>) -> Result<(String, Fields<'a>), String> {
    let inner = config.under("text_config");
    Ok(match kind {
        // `transformers` would take the sizes of a published model.
        "idefics3" | "smolvlm" | "mistral3" | "internvl" | "paligemma" if !inner.is_object() => {
            return Err("config.json has no text_config".into());
        }
        // These may have any decoder. The other families have a fixed one, whatever the file says.
        "mistral3" => (inner.or("model_type", "mistral".to_owned())?, inner),
        "paligemma" => (inner.or("model_type", "gemma".to_owned())?, inner),
        "llava" | "llava_next" | "idefics3" | "smolvlm" | "openvla" => {
            (inner.or("model_type", "llama".to_owned())?, inner)
        }
        "llava_onevision" | "internvl" => (inner.or("model_type", "qwen2".to_owned())?, inner),
        // Older files have the settings of the decoder at the top level.
        "qwen2_5_vl" if !inner.is_object() => ("qwen2_5_vl_text".into(), config),
        "qwen2_5_vl" | "qwen3_vl" | "gemma3" | "gemma4" => (format!("{kind}_text"), inner),
        _ => (kind.to_owned(), config),
    })
}

/// Whether the embedding matrix is also the output head. LLaVA, LLaVA-OneVision and Qwen2.5-VL consult both levels of the
/// configuration, the other families only the outer one. (If the weights contain a separate head, it is used anyway; see
/// `model/head.rs`.)
///
/// # Errors
/// The setting is not a boolean.
pub(crate) fn tied(kind: &str, config: Fields) -> Result<bool, String> {
    const NAME: &str = "tie_word_embeddings";
    let (family, text) = decoder(kind, config)?;
    match kind {
        "llava" | "llava_onevision" | "qwen2_5_vl" => {
            Ok(config.or(NAME, false)? || text.or(NAME, family == "gemma3_text")?)
        }
        "paligemma" | "gemma" | "gemma2" | "gemma3" | "gemma3_text" | "gemma4" | "gemma4_text" | "mistral3"
        | "internvl" => config.or(NAME, true),
        _ => config.or(NAME, false),
    }
}

/// The `vision_aspect_ratio` of LLaVA-OneVision where a file does not have it.
pub(crate) const ASPECT_RATIO: &str = "anyres_max_9";

/// The `image_seq_len` of Idefics3's processor, and the `image_seq_length` of InternVL's, where a file does not have it.
pub(crate) const IMAGE_SEQ_LEN: usize = 169;
pub(crate) const IMAGE_SEQ_LENGTH: usize = 256;

/// The tokens that Pixtral's processor puts behind the rows of an image and behind its last row: the fields that name them, and
/// what they are if no file does.
pub(crate) const ROW_ENDS: [(&str, &str); 2] = [("image_break_token", "[IMG_BREAK]"), ("image_end_token", "[IMG_END]")];

/// Names of the ids of special tokens in LLaVA and Gemma 3. Newer versions use the first name; if both are present, it
/// counts.
pub(crate) const IMAGE_TOKEN: [&str; 2] = ["image_token_id", "image_token_index"];
pub(crate) const BEGIN_OF_IMAGE: [&str; 2] = ["boi_token_id", "boi_token_index"];
pub(crate) const END_OF_IMAGE: [&str; 2] = ["eoi_token_id", "eoi_token_index"];

/// The id under the first of several names that is present.
///
/// # Errors
/// The value is not a number.
pub(crate) fn token(config: Fields, names: &[&str], default: u32) -> Result<u32, String> {
    for name in names {
        if let Some(id) = config.get(name)? {
            return Ok(id);
        }
    }
    Ok(default)
}

/// A family's defaults for its rotary parameters.
#[derive(Clone, Copy)]
pub(crate) struct RopeDefaults {
    /// Base of the frequencies.
    pub theta: f64,
    /// Number of positions that the model was trained on.
    pub context: usize,
}

/// The rotary parameters of a decoder as one object: those of `rope_scaling` unless it is empty, otherwise those of
/// `rope_parameters`. Parameters that are missing there are taken from the fields beside it.
/// `original_max_position_embeddings` beside the object takes precedence over the same field inside it.
///
/// # Errors
/// A setting has the wrong type.
pub(crate) fn rope(text: Fields, defaults: RopeDefaults) -> Result<Value, String> {
    const ORIGINAL: &str = "original_max_position_embeddings";
    let named = ["rope_scaling", "rope_parameters"].map(|name| text.under(name));
    let found = named.into_iter().find(|rope| rope.has_fields());
    let mut rope = found.and_then(|rope| rope.0.as_object().cloned()).unwrap_or_default();
    if let Some(original) = text.get::<f64>(ORIGINAL)? {
        rope.insert(ORIGINAL.into(), original.into());
    }
    let theta = text.or("rope_theta", defaults.theta)?;
    completed(rope, text, RopeDefaults { theta, ..defaults })
}

/// The rotary parameters of Gemma 3: first those of the layers with full attention, then those of the layers with a
/// sliding window. `rope_scaling` overrides the former.
///
/// # Errors
/// A setting has the wrong type, or the parameters are not divided by type of layer.
pub(crate) fn layered_rope(text: Fields, [full, sliding]: [RopeDefaults; 2]) -> Result<[Value; 2], String> {
    let nested = text.under("rope_parameters");
    let parameters = |kind: &str| nested.under(kind).0.as_object().cloned();
    let (global, local) = (parameters("full_attention"), parameters("sliding_attention"));
    if nested.has_fields() && global.is_none() && local.is_none() {
        return Err(
            "rope_parameters has neither full_attention nor sliding_attention: expected one object for each".into()
        );
    }
    // If there are no newer parameters, `rope_type` is already set, so an older `type` is ignored.
    let mut global = global.unwrap_or_else(|| Map::from_iter([("rope_type".to_owned(), json!("default"))]));
    global.extend(text.under("rope_scaling").0.as_object().cloned().unwrap_or_default());
    // `transformers` looks for this field beside the two objects, where it never is.
    global.remove("truncate");
    let theta = [text.or("rope_theta", full.theta)?, text.or("rope_local_base_freq", sliding.theta)?];
    Ok([
        completed(global, text, RopeDefaults { theta: theta[0], ..full })?,
        completed(local.unwrap_or_default(), text, RopeDefaults { theta: theta[1], ..sliding })?,
    ])
}

/// The rotary parameters of Gemma 4: first those of the layers with full attention, then those of the layers with a sliding
/// window. Without `rope_parameters` both are those of the published models.
///
/// # Errors
/// A setting has the wrong type, or the parameters of one type of layer are missing.
pub(crate) fn gemma4_rope(text: Fields, context: usize) -> Result<[Value; 2], String> {
    let nested = text.under("rope_parameters");
    let own = |kind: &str| {
        let own = nested.under(kind).0.as_object().cloned();
        own.ok_or_else(|| format!("rope_parameters has no {kind}: expected one object for each type of layer"))
    };
    let published = |value: Value| value.as_object().cloned().unwrap_or_default();
    let [full, sliding] = if nested.0.is_null() {
        let full = json!({"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6});
        [published(full), published(json!({"rope_type": "default", "rope_theta": 1e4}))]
    } else {
        [own("full_attention")?, own("sliding_attention")?]
    };
    let theta = text.or("rope_theta", 1e4)?;
    Ok([
        completed(full, text, RopeDefaults { theta, context })?,
        completed(sliding, text, RopeDefaults { theta, context })?,
    ])
}

/// Rotary parameters, completed from the fields beside them and from the defaults.
fn completed(mut rope: Map<String, Value>, text: Fields, defaults: RopeDefaults) -> Result<Value, String> {
    rope.retain(|_, value| !value.is_null());
    let context = text.or("max_position_embeddings", defaults.context)?;
    let mut add = |name: &str, value: Value| {
        rope.entry(name).or_insert(value);
    };
    add("rope_theta", defaults.theta.into());
    add("max_position_embeddings", context.into());
    add("original_max_position_embeddings", context.into());
    if let Some(factor) = text.get::<f64>("partial_rotary_factor")? {
        add("partial_rotary_factor", json!(factor));
    }
    Ok(Value::Object(rope))
}

/// Whether a name is that of a file directly in the folder.
pub(crate) fn is_plain(name: &str) -> bool {
    let is_allowed = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    is_allowed && !name.is_empty() && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_tied(config: Value) -> bool {
        tied(config["model_type"].as_str().unwrap(), Fields(&config)).unwrap()
    }

    #[test]
    fn llava_and_qwen2_5_vl_tie_on_either_level_and_others_on_the_outer_one() {
        let both = |kind: &str, outer: Value, inner: Value| {
            is_tied(
                json!({"model_type": kind, "tie_word_embeddings": outer, "text_config": {"tie_word_embeddings": inner}}),
            )
        };
        for kind in ["llava", "qwen2_5_vl"] {
            assert!(both(kind, false.into(), true.into()) && both(kind, true.into(), false.into()), "{kind}");
            assert!(!both(kind, false.into(), Value::Null) && both(kind, Value::Null, true.into()), "{kind}");
        }
        for kind in ["llava_next", "qwen3_vl"] {
            assert!(!both(kind, false.into(), true.into()) && !both(kind, Value::Null, true.into()), "{kind}");
            assert!(both(kind, true.into(), false.into()), "{kind}");
        }
        assert!(both("gemma3", Value::Null, false.into()) && !both("gemma3", false.into(), true.into()));
        assert!(is_tied(json!({"model_type": "gemma3_text"})) && !is_tied(json!({"model_type": "qwen2"})));
        assert!(is_tied(json!({"model_type": "qwen2_5_vl", "tie_word_embeddings": true, "hidden_size": 8})));
        assert!(is_tied(json!({"model_type": "llava", "text_config": {"model_type": "gemma3_text"}})));
    }

    #[test]
    fn rotary_parameters_come_from_both_layouts_and_both_levels() {
        let defaults = RopeDefaults { theta: 1e4, context: 2048 };
        let read = |text: Value| rope(Fields(&text), defaults).unwrap();
        let found =
            read(json!({"rope_scaling": {}, "rope_parameters": {"factor": 2.0, "rope_theta": 7.0}, "rope_theta": 5.0}));
        assert_eq!((&found["factor"], &found["rope_theta"]), (&json!(2.0), &json!(7.0)));
        let found =
            read(json!({"rope_scaling": {"factor": 3.0}, "rope_parameters": {"factor": 2.0}, "rope_theta": 5.0}));
        assert_eq!((&found["factor"], &found["rope_theta"]), (&json!(3.0), &json!(5.0)));
        // As Phi writes it: the number beside the parameters takes precedence.
        let found =
            read(json!({"rope_scaling": {"original_max_position_embeddings": 16}, "max_position_embeddings": 64,
            "original_max_position_embeddings": 99}));
        assert_eq!(found["original_max_position_embeddings"], json!(99.0));
        assert_eq!(read(json!({"max_position_embeddings": 64}))["original_max_position_embeddings"], json!(64));
    }

    #[test]
    fn gemmas_two_sets_of_rotary_parameters_are_completed_separately() {
        let defaults = [1e6, 1e4].map(|theta| RopeDefaults { theta, context: 512 });
        let read = |text: Value| layered_rope(Fields(&text), defaults);
        let old = json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 8.0, "rope_local_base_freq": 77.0});
        let [global, local] = read(old).unwrap();
        assert_eq!((&global["rope_theta"], &global["factor"]), (&json!(8.0), &json!(2.0)));
        assert_eq!((&local["rope_theta"], local.get("factor")), (&json!(77.0), None));
        let new = json!({"rope_scaling": {"factor": 2.0}, "rope_theta": 8.0, "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 3.0, "rope_theta": 1.0}, "sliding_attention": null}});
        let [global, local] = read(new).unwrap();
        assert_eq!((&global["rope_theta"], &global["factor"]), (&json!(1.0), &json!(2.0)));
        assert_eq!(local["rope_theta"], json!(1e4));
        assert!(
            read(json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}))
                .unwrap_err()
                .contains("full_attention")
        );
    }
}
