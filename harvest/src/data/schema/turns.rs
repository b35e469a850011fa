//! One turn of a conversation, as LLaVA and LLaMA-Factory (`from`, `value`) and trainers (`role`, `content`) write it:
//! the speaker, the text, and which parts are images. Unsupported content is rejected by name.

use super::{IMAGE_MARK, Schema, VIDEO_MARK, media};
use crate::data::fields::{self, Fields};
use crate::data::image::ImageFile;
use crate::data::lenient::json_type;
use crate::data::record::Video;
use crate::data::speaker;
use sae_core::store::conversation::{Turn, TurnPart};
use sae_core::store::sample::Role;
use serde_json::Value;

/// Keys of a turn that a chat template would show in addition to its text.
const UNSUPPORTED: [&str; 4] = ["tool_calls", "function_call", "reasoning_content", "thinking"];

/// The role of the speaker of a message.
///
/// # Errors
/// There is no speaker, or it is a tool or unknown. The error names it.
pub(super) fn speaker(message: &Fields) -> Result<Role, String> {
    speaker::named(message)?.ok_or_else(|| "it does not name the speaker (from or role)".into())
}

/// The content of a message: the first of `value` and `content` that is not empty, or an empty text if both are empty.
///
/// # Errors
/// The message has neither key, or it has another key that is not supported.
pub(super) fn content(message: &Fields) -> Result<&Value, String> {
    if let Some((key, _)) = fields::first(message, &UNSUPPORTED) {
        return Err(format!("it has {key}, which is not supported"));
    }
    let keys = ["value", "content"];
    let empty = || keys.iter().find_map(|key| message.get(*key).filter(|value| !value.is_null()));
    let content = fields::first(message, &keys).map(|(_, value)| value).or_else(empty);
    content.ok_or("it has no text (value or content)".into())
}

/// The text of a part, or nothing if the part is not a text.
///
/// # Errors
/// A part of type text holds something other than a string.
pub(super) fn text_part(part: &Value) -> Result<Option<&str>, String> {
    let Value::Object(part) = part else { return Ok(part.as_str()) };
    let is_text = match fields::get(part, "type").and_then(Value::as_str) {
        Some("text" | "input_text" | "output_text") => true,
        Some(_) => false,
        None => fields::get(part, "text").is_some(),
    };
    match fields::get(part, "text") {
        _ if !is_text => Ok(None),
        None => Ok(Some("")),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(format!("its text is {}: expected a string", json_type(other))),
    }
}

impl Schema {
    /// The turns of a conversation. Entries that are null or empty are ignored.
    pub(super) fn turns(&mut self, entries: &[Value]) -> Result<Vec<Turn>, String> {
        let mut turns = Vec::new();
        for (n, entry) in entries.iter().enumerate().filter(|(_, entry)| !fields::is_absent(entry)) {
            let failed = |e: String| format!("turn {}: {e}", n + 1);
            let Value::Object(message) = entry else {
                return Err(failed(format!("expected an object, found {}", json_type(entry))));
            };
            match (message.get("user").and_then(Value::as_str), message.get("assistant").and_then(Value::as_str)) {
                // An entry of the Cauldron's `texts` holds a question and its answer.
                (Some(user), Some(assistant)) => {
                    turns.push(self.turn(Role::User, user));
                    turns.push(Turn::from_text(Role::Assistant, assistant));
                }
                _ => turns.push(self.message(message).map_err(failed)?),
            }
        }
        Ok(turns)
    }

    fn message(&mut self, message: &Fields) -> Result<Turn, String> {
        let role = speaker(message)?;
        match content(message)? {
            Value::String(text) => Ok(self.turn(role, text)),
            Value::Array(parts) => {
                let parts = parts.iter().filter(|part| !fields::is_absent(part)).map(|part| self.part(part));
                Ok(Turn { role, parts: parts.collect::<Result<_, _>>()? })
            }
            other => Err(format!("its content is {}: expected a string or a list of parts", json_type(other))),
        }
    }

    /// A part of a turn as trainers and chat templates write it.
    pub(super) fn part(&mut self, part: &Value) -> Result<TurnPart, String> {
        if let Some(text) = text_part(part)? {
            return Ok(TurnPart::Text(text.to_owned()));
        }
        let Value::Object(part) = part else {
            return Err(format!("it has a part that is {}: expected a string or an object", json_type(part)));
        };
        let image = match fields::get(part, "type").map(|kind| kind.as_str().unwrap_or_default()) {
            None | Some("image" | "image_url" | "input_image" | "image_file") => ImageFile::from_object(part)?,
            Some("video") => return self.video_part(part),
            Some(media) if ["video", "audio"].iter().any(|kind| media.contains(kind)) => {
                return Err(format!(
                    "it has a part of type {media:?}: expected a video as a list of frames, or an image"
                ));
            }
            Some(other) => return Err(format!("it has a part of type {other:?}: expected text or image")),
        };
        if image.is_none() && fields::get(part, "type").is_none() {
            let keys = part.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(format!("it has a part without a type ({keys})"));
        }
        if let Some(at) = fields::get(part, "index").and_then(Value::as_u64).filter(|at| *at != self.shown as u64) {
            return Err(format!("it shows image {at} out of order: expected image {}", self.shown));
        }
        match image {
            Some(image) if !self.has_images => self.images.push(image),
            Some(image) => self.check_same_image(&image)?,
            None => {}
        }
        Ok(self.next_image())
    }

    /// A part that shows the row's video, or brings its frames, as `{"type": "video", "video": ["1.png", "2.png"], "fps": 2}`.
    fn video_part(&mut self, part: &Fields) -> Result<TurnPart, String> {
        let frames = match fields::first(part, &["video", "frames"]).map(|(_, value)| value) {
            None if self.video.is_some() => return Ok(self.next_image()),
            Some(Value::Array(list)) if !self.has_images && self.images.is_empty() => media::frames(list)?,
            Some(Value::Array(_)) => return Err("it shows a video, but the row also has other images".into()),
            Some(file) => {
                let advice = media::frames_of_file(file.as_str());
                return Err(format!("it shows a video that is not a list of frames: {advice}"));
            }
            None => return Err("it shows a video, but the row has none".into()),
        };
        self.images = frames.into_iter().flatten().collect();
        self.video = Some(Video { fps: media::rate(part)? });
        Ok(self.next_image())
    }

    /// A part may repeat the next image of the row's column, but it may not show another image.
    fn check_same_image(&self, shown: &ImageFile) -> Result<(), String> {
        match self.images.get(self.shown) {
            Some(image) if !shown.path.is_empty() && !image.path.is_empty() && image.path != shown.path => {
                let number = self.shown + 1;
                Err(format!("it shows {}, but image {number} of the row's column is {}", shown.path, image.path))
            }
            _ => Ok(()),
        }
    }

    /// A turn of LLaVA: placeholders become images or the video, a line break directly after a placeholder is removed, and empty
    /// texts are dropped.
    pub(super) fn turn(&mut self, role: Role, value: &str) -> Turn {
        let mut parts = Vec::new();
        let marks: &[&str] = if self.video.is_some() { &[VIDEO_MARK, IMAGE_MARK] } else { &[IMAGE_MARK] };
        for (n, text) in split(value, marks).enumerate() {
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

/// The texts between marks.
fn split<'a>(text: &'a str, marks: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let first = marks.iter().filter_map(|mark| Some((text.find(mark)?, mark.len()))).min();
        let (before, after) = first.map_or((text, None), |(at, length)| (&text[..at], Some(&text[at + length..])));
        rest = after;
        Some(before)
    })
}
