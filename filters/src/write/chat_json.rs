//! Conversations as JSON: with parts (TRL, Align-Anything) or with placeholders (LLaVA, ShareGPT). Knows no files.

use super::row::Row;
use crate::{Error, Result};
use sae_core::error::Cause;
use sae_core::store::conversation::{AnswerPair, Turn, TurnPart};
use sae_core::store::sample::Role;
use serde_json::{Map, Value, json};

/// The placeholder of an image in a text.
const PLACEHOLDER: &str = "<image>";

/// Turns as messages with parts: `{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "..."}]}`.
pub fn messages(turns: &[Turn]) -> Value {
    let part = |part: &TurnPart| match part {
        TurnPart::Image(_) => json!({ "type": "image" }),
        TurnPart::Video => json!({ "type": "video" }),
        TurnPart::Text(text) => json!({ "type": "text", "text": text }),
    };
    let content = |turn: &Turn| turn.parts.iter().map(part).collect::<Vec<_>>();
    turns.iter().map(|turn| json!({ "role": turn.role.name(), "content": content(turn) })).collect()
}

/// An answer as a turn.
pub(super) fn answer(text: &str) -> Turn {
    Turn::from_text(Role::Assistant, text)
}

/// Whether a row shows a video.
pub(super) fn has_video(row: &Row) -> bool {
    row.turns.iter().flat_map(|turn| &turn.parts).any(|part| matches!(part, TurnPart::Video))
}

/// A row with parts: `images` or the frames of its `video`, `messages` or `prompt`, `chosen` and `rejected`, and its other
/// columns.
pub(super) fn row_of_parts(row: &Row, images: Option<Vec<String>>) -> Map<String, Value> {
    let mut fields = Map::new();
    if let Some(images) = images {
        let name = if has_video(row) { "video" } else { "images" };
        fields.insert(name.into(), images.into());
    }
    match &row.pair {
        None => drop(fields.insert("messages".into(), messages(&row.turns))),
        Some(AnswerPair { chosen, rejected }) => {
            fields.insert("prompt".into(), messages(&row.turns));
            fields.insert("chosen".into(), messages(&[answer(chosen)]));
            fields.insert("rejected".into(), messages(&[answer(rejected)]));
        }
    }
    fields.extend(row.columns.clone());
    fields
}

/// `{"from": "human", "value": "<image>\n..."}`.
///
/// # Errors
/// A text contains the placeholder, so that a reader would expect an image.
pub(super) fn with_placeholders(row: &Row, turns: &[Turn]) -> Result<Value> {
    let turn = |turn: &Turn| {
        let from = match turn.role {
            Role::System => "system",
            Role::Assistant => "gpt",
            Role::User | Role::Template => "human",
        };
        Ok(json!({ "from": from, "value": turn_with_placeholders(row, turn)? }))
    };
    turns.iter().map(turn).collect()
}

/// The text of a turn with a placeholder for every image, and a line break between a placeholder and the text after it.
fn turn_with_placeholders(row: &Row, turn: &Turn) -> Result<String> {
    let mut value = String::new();
    for (n, part) in turn.parts.iter().enumerate() {
        match part {
            TurnPart::Image(_) | TurnPart::Video => {
                value += PLACEHOLDER;
                // Readers remove one line break after a placeholder.
                if matches!(turn.parts.get(n + 1), Some(TurnPart::Text(_))) {
                    value.push('\n');
                }
            }
            TurnPart::Text(text) if text.contains(PLACEHOLDER) => {
                let text = format!("the row {} has <image> in its text, which would be read as an image", row.key);
                return Err(Error::request(Cause::with_hint(text, super::other_format(&["jsonl", "parquet"]))));
            }
            TurnPart::Text(text) => value += text,
        }
    }
    Ok(value)
}
