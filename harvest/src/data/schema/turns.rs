//! One turn of a conversation, as LLaVA and LLaMA-Factory (`from`, `value`) and trainers (`role`, `content`) write it: who
//! speaks, what is said, and which parts are images. What is not understood is refused by name.

use super::{IMAGE_MARK, Schema};
use crate::data::fields::{self, Fields};
use crate::data::image::ImageFile;
use crate::data::lenient::json_type;
use crate::data::record::{Turn, TurnPart};
use sae_core::store::sample::Role;
use serde_json::Value;

/// What the sides of a conversation are called.
const SPEAKERS: [(&str, Role); 11] = [
    ("human", Role::User),
    ("user", Role::User),
    ("gpt", Role::Assistant),
    ("assistant", Role::Assistant),
    ("bot", Role::Assistant),
    ("chatgpt", Role::Assistant),
    ("model", Role::Assistant),
    ("ai", Role::Assistant),
    ("bing", Role::Assistant),
    ("bard", Role::Assistant),
    ("system", Role::System),
];

/// Sides that are tools, or calls of them.
const TOOLS: [&str; 8] =
    ["tool", "function", "observation", "function_call", "tool_call", "tool_response", "function_response", "ipython"];

/// Keys of a turn that a chat template would show beside its text.
const UNREAD: [&str; 4] = ["tool_calls", "function_call", "reasoning_content", "thinking"];

/// Who speaks.
///
/// # Errors
/// Nobody, a tool, or somebody unknown; the message names them.
pub(super) fn speaker(said: &Fields) -> Result<Role, String> {
    let Some((key, side)) = fields::first(said, &["from", "role"]) else {
        return Err("it does not say who speaks (from or role)".into());
    };
    let name = side.as_str().ok_or_else(|| format!("its {key} is {}, expected a string", json_type(side)))?;
    let lower = name.trim().to_ascii_lowercase();
    if let Some((_, role)) = SPEAKERS.iter().find(|(speaker, _)| *speaker == lower) {
        return Ok(*role);
    }
    Err(match TOOLS.contains(&lower.as_str()) {
        true => format!("it is said by a tool ({key}: {name}), and tools are not read"),
        false => format!("its {key} is {name:?}, expected human, user, gpt, assistant or system"),
    })
}

/// What is said: the first of `value` and `content` that is there; an empty text where both are empty.
///
/// # Errors
/// There is neither, or there is something beside it that is not read.
pub(super) fn content(said: &Fields) -> Result<&Value, String> {
    if let Some((key, _)) = fields::first(said, &UNREAD) {
        return Err(format!("it has {key}, which is not read"));
    }
    let keys = ["value", "content"];
    let empty = || keys.iter().find_map(|key| said.get(*key).filter(|value| !value.is_null()));
    fields::first(said, &keys).map(|(_, value)| value).or_else(empty).ok_or("it has no text (value or content)".into())
}

/// The text of a part, if that is what it is.
///
/// # Errors
/// It is a text part without a string.
pub(super) fn text_part(part: &Value) -> Result<Option<&str>, String> {
    let Value::Object(part) = part else { return Ok(part.as_str()) };
    let named = match fields::get(part, "type").and_then(Value::as_str) {
        Some("text" | "input_text" | "output_text") => true,
        Some(_) => false,
        None => fields::get(part, "text").is_some(),
    };
    match fields::get(part, "text") {
        _ if !named => Ok(None),
        None => Ok(Some("")),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("its text is {}, expected a string", json_type(other))),
    }
}

impl Schema {
    /// The turns of a conversation; entries that are null or empty are none.
    pub(super) fn turns(&mut self, said: &[Value]) -> Result<Vec<Turn>, String> {
        let mut turns = Vec::new();
        for (n, said) in said.iter().enumerate().filter(|(_, said)| !fields::is_absent(said)) {
            let failed = |e: String| format!("turn {}: {e}", n + 1);
            let Value::Object(said) = said else {
                return Err(failed(format!("expected an object, found {}", json_type(said))));
            };
            match (said.get("user").and_then(Value::as_str), said.get("assistant").and_then(Value::as_str)) {
                // The Cauldron's `texts` have a question and its answer in one entry.
                (Some(user), Some(assistant)) => {
                    turns.push(self.turn(Role::User, user));
                    turns.push(Turn::of_text(Role::Assistant, assistant));
                }
                _ => turns.push(self.said(said).map_err(failed)?),
            }
        }
        Ok(turns)
    }

    fn said(&mut self, said: &Fields) -> Result<Turn, String> {
        let role = speaker(said)?;
        match content(said)? {
            Value::String(text) => Ok(self.turn(role, text)),
            Value::Array(parts) => {
                let parts = parts.iter().filter(|part| !fields::is_absent(part)).map(|part| self.part(part));
                Ok(Turn { role, parts: parts.collect::<Result<_, _>>()? })
            }
            other => Err(format!("it says {}, expected a string or a list of parts", json_type(other))),
        }
    }

    /// A part of a turn as trainers and chat templates write it.
    fn part(&mut self, part: &Value) -> Result<TurnPart, String> {
        if let Some(text) = text_part(part)? {
            return Ok(TurnPart::Text(text.to_owned()));
        }
        let Value::Object(part) = part else {
            return Err(format!("it has a part that is {}, expected a string or an object", json_type(part)));
        };
        let own = match fields::get(part, "type").map(|kind| kind.as_str().unwrap_or_default()) {
            None | Some("image" | "image_url" | "input_image" | "image_file") => ImageFile::of_object(part)?,
            Some(media) if ["video", "audio"].iter().any(|kind| media.contains(kind)) => {
                return Err(format!("it has a part of type {media:?}: video and audio are not read"));
            }
            Some(other) => return Err(format!("it has a part of type {other:?}, expected text or image")),
        };
        if own.is_none() && fields::get(part, "type").is_none() {
            let keys = part.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(format!("it has a part without a type ({keys})"));
        }
        if let Some(at) = fields::get(part, "index").and_then(Value::as_u64).filter(|at| *at != self.shown as u64) {
            return Err(format!("it shows image {at} out of order"));
        }
        match own {
            Some(own) if !self.has_images => self.images.push(own),
            Some(own) => self.same_image(&own)?,
            None => {}
        }
        Ok(self.next_image())
    }

    /// A part may repeat the image of the row's column, and not show another in its place.
    fn same_image(&self, own: &ImageFile) -> Result<(), String> {
        match self.images.get(self.shown) {
            Some(image) if !own.path.is_empty() && !image.path.is_empty() && image.path != own.path => {
                let shown = self.shown + 1;
                Err(format!("it shows {}, and image {shown} of the row's column is {}", own.path, image.path))
            }
            _ => Ok(()),
        }
    }

    /// A turn of LLaVA: marks become images, a line break right behind one belongs to it, empty texts are dropped.
    pub(super) fn turn(&mut self, role: Role, value: &str) -> Turn {
        let mut parts = Vec::new();
        for (n, text) in value.split(IMAGE_MARK).enumerate() {
            let text = if n == 0 {
                text
            } else {
                parts.push(self.next_image());
                text.strip_prefix("\r\n").or(text.strip_prefix('\n')).unwrap_or(text)
            };
            if !text.is_empty() {
                parts.push(TurnPart::Text(text.to_owned()));
            }
        }
        Turn { role, parts }
    }
}
