//! Rows with video or sound. No model here takes them, so that such a row would become a sample whose answer describes what
//! the model never saw.

use crate::data::columns::Columns;
use crate::data::fields::{self, Fields};
use serde_json::Value;

/// Columns that hold videos or sounds.
const COLUMNS: [&str; 6] = ["video", "videos", "audio", "audios", "sound", "sounds"];

/// Marks that stand for one in a text. They count only beside a column that may hold what they stand for: a text may as
/// well talk about HTML.
const MARKS: [(&str, &str); 2] = [("video", "<video>"), ("audio", "<audio>")];

/// Refuses a row that has a video or a sound.
///
/// # Errors
/// The column that holds it.
pub(super) fn refuse(columns: &Columns) -> Result<(), String> {
    let held = |name: &str| columns.images.get(name).is_some_and(|files| files.iter().any(Option::is_some));
    let column = COLUMNS.into_iter().find(|name| held(name) || names_media(&columns.fields, name));
    let column = column.or_else(|| marked(&columns.fields));
    match column {
        Some(column) => Err(format!("video and audio are not read: the row has a column {column}")),
        None => Ok(()),
    }
}

/// Whether a column is there and may name a file: a number or a boolean in it is a property of the row.
fn names_media(columns: &Fields, name: &str) -> bool {
    fields::get(columns, name).is_some_and(|value| !value.is_number() && !value.is_boolean())
}

/// A column with another name, such as `video_path`, in a row whose text shows a video.
fn marked(columns: &Fields) -> Option<&str> {
    MARKS.iter().find_map(|(kind, mark)| {
        let named = columns.keys().find(|name| name.contains(kind) && names_media(columns, name))?;
        columns.values().any(|value| mentions(value, mark)).then_some(named.as_str())
    })
}

fn mentions(value: &Value, mark: &str) -> bool {
    match value {
        Value::String(text) => text.contains(mark),
        Value::Array(items) => items.iter().any(|item| mentions(item, mark)),
        Value::Object(fields) => fields.values().any(|value| mentions(value, mark)),
        _ => false,
    }
}
