//! Which of a checkpoint's files holds its chat template: what `AutoProcessor` and `AutoTokenizer` of `transformers` 5.23
//! decide in `processing_utils.py` and `tokenization_utils_base.py`.

use crate::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Largest template or configuration file that is read, in bytes.
const LIMIT: u64 = 1 << 24;

/// The template alone.
const JINJA: &str = "chat_template.jinja";
/// Others beside it, by name; the folder is called `additional_chat_templates`.
const OTHERS: &str = "additional_chat_templates";
/// The template of a processor, as `transformers` wrote it up to 4.51.
const LEGACY: &str = "chat_template.json";
/// Their key `chat_template` holds one template, or several by name.
const PROCESSOR: &str = "processor_config.json";
const TOKENIZER: &str = "tokenizer_config.json";

/// A template and where it was found.
pub(super) struct Source {
    pub text: String,
    /// The file's name in the checkpoint.
    pub file: &'static str,
}

impl Source {
    /// Finds the template of the checkpoint in `folder`. A processor (`multimodal`) prefers its own configuration, then
    /// the legacy file, then the file of its own; a tokenizer the file of its own, then its configuration.
    ///
    /// # Errors
    /// A file cannot be read; there are several templates and none of them is the default; two layouts contradict each
    /// other.
    pub fn find(folder: &Path, multimodal: bool) -> Result<Option<Self>> {
        let mut found = None;
        if multimodal {
            let others = !others(folder)?.is_empty();
            if others && folder.join(LEGACY).exists() {
                let cause = format!(
                    "{LEGACY} and {OTHERS} are two layouts of chat templates; rename {LEGACY} or move its template to {JINJA}"
                );
                return Err(Error::checkpoint(folder)(cause));
            }
            found = keyed(folder, PROCESSOR)?;
            found = if found.is_some() { found } else { keyed(folder, LEGACY)? };
        }
        found = if found.is_some() { found } else { separate(folder)? };
        found = if found.is_some() { found } else { keyed(folder, TOKENIZER)? };
        let Some((templates, file)) = found else { return Ok(None) };
        let text = default(templates).map_err(Error::checkpoint(&folder.join(file)))?;
        Ok(Some(Self { text, file }))
    }

    /// Whether only the tokenizer knows of it, which a processor of `transformers` does not ask.
    pub fn is_tokenizers(&self) -> bool {
        self.file == TOKENIZER
    }
}

type Found = Option<(Value, &'static str)>;

/// What the key `chat_template` of a JSON file holds; null and empty ones are absent.
fn keyed(folder: &Path, file: &'static str) -> Result<Found> {
    let path = folder.join(file);
    if !path.exists() {
        return Ok(None);
    }
    let mut config: Value = sae_core::file::read_json(&path, LIMIT)?;
    Ok(match config.get_mut("chat_template").map(Value::take) {
        None | Some(Value::Null) => None,
        Some(Value::Array(named)) if named.is_empty() => None,
        Some(templates) => Some((templates, file)),
    })
}

/// The templates that are files of their own.
fn separate(folder: &Path) -> Result<Found> {
    let mut templates = others(folder)?;
    let default = folder.join(JINJA);
    if default.exists() {
        templates.insert("default".into(), read(&default)?.into());
    }
    Ok((!templates.is_empty()).then(|| (Value::Object(templates), JINJA)))
}

fn others(folder: &Path) -> Result<Map<String, Value>> {
    let folder = folder.join(OTHERS);
    let mut templates = Map::new();
    if !folder.is_dir() {
        return Ok(templates);
    }
    let entries = std::fs::read_dir(&folder).map_err(Error::io("list", &folder))?;
    for entry in entries {
        let path = entry.map_err(Error::io("list", &folder))?.path();
        if path.extension().is_some_and(|extension| extension == "jinja") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            templates.insert(name, read(&path)?.into());
        }
    }
    Ok(templates)
}

fn read(path: &Path) -> Result<String> {
    let size = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
    if size > LIMIT {
        return Err(Error::checkpoint(path)(format!("a chat template of {size} bytes; at most {LIMIT} are read")));
    }
    std::fs::read_to_string(path).map_err(Error::io("read", path))
}

/// The template to use: the only one, or the one that is called `default`.
fn default(templates: Value) -> Result<String, String> {
    let named: Vec<(String, Value)> = match templates {
        Value::String(text) => return Ok(text),
        Value::Object(templates) => templates.into_iter().collect(),
        Value::Array(templates) => {
            let named = templates.into_iter().map(|mut template| {
                let name = template["name"].as_str().unwrap_or_default().to_owned();
                (name, template["template"].take())
            });
            named.collect()
        }
        _ => return Err("chat_template is neither a text nor templates by name".into()),
    };
    let text = named.iter().find(|(name, _)| name == "default").and_then(|(_, template)| template.as_str());
    text.map(str::to_owned).ok_or_else(|| {
        let names: Vec<_> = named.iter().map(|(name, _)| name.as_str()).take(8).collect();
        format!("no chat template is called default: the templates here are {}", names.join(", "))
    })
}
