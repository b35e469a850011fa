//! Which file of a checkpoint contains its chat template, as `AutoProcessor` and `AutoTokenizer` of `transformers` 5.23
//! decide it in `processing_utils.py` and `tokenization_utils_base.py`.

use crate::precedence::{LEGACY_TEMPLATE, PROCESSOR, TEMPLATE, TOKENIZER_CONFIG};
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Size of the largest template or configuration file that is read, in bytes.
const LIMIT: u64 = 1 << 24;

/// The folder of further templates, which are named after their files.
const OTHERS: &str = "additional_chat_templates";

/// A template and where it was found.
pub(super) struct Source {
    pub text: String,
    /// The name of the file in the checkpoint.
    pub file: &'static str,
}

impl Source {
    /// Finds the template of the checkpoint in `folder`. A processor (`multimodal`) prefers its own configuration, then
    /// the legacy file, then a separate file. A tokenizer prefers a separate file, then its configuration.
    ///
    /// # Errors
    /// A file cannot be read, none of several templates is the default, or two layouts contradict each other.
    pub fn find(folder: &Path, multimodal: bool) -> Result<Option<Self>> {
        let mut found = None;
        if multimodal {
            let has_others = !others(folder)?.is_empty();
            if has_others && folder.join(LEGACY_TEMPLATE).exists() {
                let cause = format!(
                    "{LEGACY_TEMPLATE} and {OTHERS} are two incompatible layouts of chat templates: rename \
                     {LEGACY_TEMPLATE}, or move its template to {TEMPLATE}"
                );
                return Err(Error::checkpoint(folder)(cause));
            }
            found = keyed(folder, PROCESSOR)?;
            found = if found.is_some() { found } else { keyed(folder, LEGACY_TEMPLATE)? };
        }
        found = if found.is_some() { found } else { separate(folder)? };
        found = if found.is_some() { found } else { keyed(folder, TOKENIZER_CONFIG)? };
        let Some((templates, file)) = found else { return Ok(None) };
        let text = default(templates).map_err(Error::checkpoint(&folder.join(file)))?;
        Ok(Some(Self { text, file }))
    }

    /// Whether the template is in the tokenizer's configuration, which a processor of `transformers` does not read.
    pub fn is_of_tokenizer(&self) -> bool {
        self.file == TOKENIZER_CONFIG
    }
}

type Found = Option<(Value, &'static str)>;

/// The value of the key `chat_template` in a JSON file: one template, or several by name. Null and empty values count
/// as absent.
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

/// The templates in separate files.
fn separate(folder: &Path) -> Result<Found> {
    let mut templates = others(folder)?;
    let default = folder.join(TEMPLATE);
    if default.exists() {
        templates.insert("default".into(), read(&default)?.into());
    }
    Ok((!templates.is_empty()).then(|| (Value::Object(templates), TEMPLATE)))
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
        return Err(Error::checkpoint(path)(format!(
            "the chat template has {size} bytes, more than the limit of {LIMIT}"
        )));
    }
    std::fs::read_to_string(path).map_err(Error::io("read", path))
}

/// The template to use: the only one, or the one with the name `default`.
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
        _ => return Err("invalid chat_template: expected a text, or templates by name".into()),
    };
    let text = named.iter().find(|(name, _)| name == "default").and_then(|(_, template)| template.as_str());
    text.map(str::to_owned).ok_or_else(|| {
        let names: Vec<_> = named.iter().map(|(name, _)| name.as_str()).take(8).collect();
        format!("expected a chat template with the name default, found {}", names.join(", "))
    })
}
