//! Conversations as JSON: parts (TRL, Align-Anything) and marks (LLaVA, ShareGPT). Knows no files.

use super::row::{MessagePart, Row, Turn};
use crate::{Error, Result};
use sae_core::error::Cause;
use sae_core::store::sample::Role;
use serde_json::{Map, Value, json};

/// The mark that stands for an image in a text.
const MARK: &str = "<image>";

/// `{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "..."}]}`.
pub(super) fn parts(turns: &[Turn]) -> Value {
    let part = |part: &MessagePart| match part {
        MessagePart::Image => json!({ "type": "image" }),
        MessagePart::Text(text) => json!({ "type": "text", "text": text }),
    };
    let content = |turn: &Turn| turn.parts.iter().map(part).collect::<Vec<_>>();
    turns.iter().map(|turn| json!({ "role": role(turn.role), "content": content(turn) })).collect()
}

/// The name of a role.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Assistant => "assistant",
        Role::User | Role::Template => "user",
    }
}

/// One answer as a turn.
pub(super) fn answer(text: &str) -> Turn {
    Turn { role: Role::Assistant, parts: vec![MessagePart::Text(text.to_owned())] }
}

/// A row of parts: `images`, `messages` or `prompt`, `chosen` and `rejected`, and its other columns.
pub(super) fn row_of_parts(row: &Row, images: Option<Vec<String>>) -> Map<String, Value> {
    let mut fields = Map::new();
    if let Some(images) = images {
        fields.insert("images".into(), images.into());
    }
    match &row.pair {
        None => drop(fields.insert("messages".into(), parts(&row.turns))),
        Some([chosen, rejected]) => {
            fields.insert("prompt".into(), parts(&row.turns));
            fields.insert("chosen".into(), parts(&[answer(chosen)]));
            fields.insert("rejected".into(), parts(&[answer(rejected)]));
        }
    }
    fields.extend(row.columns.clone());
    fields
}

/// `{"from": "human", "value": "<image>\n..."}`.
///
/// # Errors
/// A text that holds the mark itself: a reader would look for an image.
pub(super) fn marked(row: &Row, turns: &[Turn]) -> Result<Value> {
    let turn = |turn: &Turn| {
        let from = match turn.role {
            Role::System => "system",
            Role::Assistant => "gpt",
            Role::User | Role::Template => "human",
        };
        Ok(json!({ "from": from, "value": with_marks(row, turn)? }))
    };
    turns.iter().map(turn).collect()
}

/// A turn's text with a mark for every image, and a newline between a mark and words.
fn with_marks(row: &Row, turn: &Turn) -> Result<String> {
    let mut value = String::new();
    for (n, part) in turn.parts.iter().enumerate() {
        match part {
            MessagePart::Image => {
                value += MARK;
                // Readers take one newline behind a mark for its own.
                if matches!(turn.parts.get(n + 1), Some(MessagePart::Text(_))) {
                    value.push('\n');
                }
            }
            MessagePart::Text(text) if text.contains(MARK) => {
                let text = format!("the row {} has <image> in its text, which would be read as an image", row.key);
                return Err(Error::request(Cause::with_hint(text, super::other_format(&["jsonl", "parquet"]))));
            }
            MessagePart::Text(text) => value += text,
        }
    }
    Ok(value)
}
