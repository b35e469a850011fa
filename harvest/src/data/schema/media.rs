//! Rows with video or audio. No supported model reads them, so such a row would become a sample whose answer describes
//! something that the model never saw.

use crate::data::columns::Columns;
use crate::data::fields::{self, Fields};
use serde_json::Value;

/// Columns that hold video or audio.
const COLUMNS: [&str; 6] = ["video", "videos", "audio", "audios", "sound", "sounds"];

/// Placeholders of video and audio in a text. They count only if there is also a column that may hold the file, because a
/// text may mention HTML tags.
const PLACEHOLDERS: [(&str, &str); 2] = [("video", "<video>"), ("audio", "<audio>")];

/// Rejects a row that has video or audio.
///
/// # Errors
/// The column that holds it.
pub(super) fn reject_unsupported(columns: &Columns) -> Result<(), String> {
    let has_file = |name: &str| columns.images.get(name).is_some_and(|files| files.iter().any(Option::is_some));
    let column = COLUMNS.into_iter().find(|name| has_file(name) || names_media(&columns.fields, name));
    let column = column.or_else(|| named_by_placeholder(&columns.fields));
    match column {
        Some(column) => Err(format!("the row has a column {column}, but video and audio are not supported")),
        None => Ok(()),
    }
}

/// Whether a column exists and may name a file. A number or a boolean is a property of the row.
fn names_media(columns: &Fields, name: &str) -> bool {
    fields::get(columns, name).is_some_and(|value| !value.is_number() && !value.is_boolean())
}

/// A column with another name, such as `video_path`, in a row whose text contains a placeholder.
fn named_by_placeholder(columns: &Fields) -> Option<&str> {
    PLACEHOLDERS.iter().find_map(|(kind, placeholder)| {
        let named = columns.keys().find(|name| name.contains(kind) && names_media(columns, name))?;
        columns.values().any(|value| mentions(value, placeholder)).then_some(named.as_str())
    })
}

/// Whether a text anywhere in a value contains a placeholder.
fn mentions(value: &Value, placeholder: &str) -> bool {
    match value {
        Value::String(text) => text.contains(placeholder),
        Value::Array(items) => items.iter().any(|item| mentions(item, placeholder)),
        Value::Object(fields) => fields.values().any(|value| mentions(value, placeholder)),
        _ => false,
    }
}
