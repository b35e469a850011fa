//! What a row of a data set says, whatever its columns are called: turns of a conversation, images, a key. Recognises
//! the common schemas by their columns; reads no files but an image when it is asked for.

use sae_core::sample::Role;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Bytes of the largest image file that is read.
const IMAGE_FILE_LIMIT: u64 = 1 << 28;

/// The mark for an image in a conversation of LLaVA's data sets (the model's own placeholder may be another).
const IMAGE_MARK: &str = "<image>";

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Words.
    Text(String),
    /// One of the record's images, by number.
    Image(usize),
}

impl Part {
    /// The words, if it is words.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Image(_) => None,
        }
    }
}

/// What one side says at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Who.
    pub role: Role,
    /// What, in order.
    pub parts: Vec<Part>,
}

impl Turn {
    /// A turn of words.
    pub fn of_text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text(text.into())] }
    }

    /// Its words without the images.
    pub fn text(&self) -> String {
        self.parts.iter().filter_map(Part::text).collect()
    }
}

/// An image of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFile {
    /// The path that the data set gives it; empty if it gives none.
    pub path: String,
    /// Where that is.
    pub file: PathBuf,
    /// The file itself, where the data set holds it.
    pub bytes: Option<Vec<u8>>,
}

impl ImageFile {
    /// The file's bytes.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub fn read(&self) -> Result<Cow<'_, [u8]>, String> {
        if let Some(bytes) = &self.bytes {
            return Ok(Cow::Borrowed(bytes));
        }
        if self.path.contains("://") {
            return Err(format!("the image is a link, which is not followed: {}", self.path));
        }
        let failed = |e: std::io::Error| format!("cannot read the image ({e}): {}", self.path);
        let size = std::fs::metadata(&self.file).map_err(failed)?.len();
        if size > IMAGE_FILE_LIMIT {
            return Err(format!("the image file has {size} bytes: {}", self.path));
        }
        std::fs::read(&self.file).map(Cow::Owned).map_err(failed)
    }
}

/// A preferred and a rejected answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The preferred one.
    pub chosen: String,
    /// The other.
    pub rejected: String,
}

/// A row, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The conversation, without the answers of [`Record::pair`].
    pub turns: Vec<Turn>,
    /// Two answers to the conversation, in preference data.
    pub pair: Option<Pair>,
    /// The column `text`, for prompts without a template.
    pub verbatim: Option<String>,
    /// Images, in the order in which the turns show them.
    pub images: Vec<ImageFile>,
    /// The columns that are none of these.
    pub meta: Value,
}

/// A row as a reader hands it over: columns with images taken out of them, everything else as JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Columns {
    pub fields: Map<String, Value>,
    /// Columns of image files, with no image where it is null.
    pub images: BTreeMap<String, Vec<ImageFile>>,
}

impl Columns {
    /// The row's own key, if it has one.
    pub fn key(&self) -> Option<String> {
        let keys = ["key", "id", "question_id", "image_id"];
        keys.iter().find_map(|name| match self.fields.get(*name)? {
            Value::String(key) => Some(key.clone()),
            Value::Number(key) => Some(key.to_string()),
            _ => None,
        })
    }

    /// Renames columns to the fields they are mapped to.
    pub fn rename(&mut self, mapping: &[(String, String)]) -> Result<(), String> {
        for (field, column) in mapping {
            if let Some(value) = self.fields.remove(column) {
                self.fields.insert(field.clone(), value);
            } else if let Some(images) = self.images.remove(column) {
                self.images.insert(field.clone(), images);
            } else {
                return Err(format!("the row has no column {column} for {field}"));
            }
        }
        Ok(())
    }
}

impl Record {
    /// Understands a row by the columns it has. Paths of images are relative to `folder`.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn new(mut columns: Columns, folder: &std::path::Path) -> Result<Self, String> {
        let images = take_images(&mut columns, folder)?;
        let listed = columns.fields.keys().cloned().collect::<Vec<_>>().join(", ");
        let mut row = Schema { fields: columns.fields, images: images.as_ref().map_or(0, Vec::len), shown: 0 };
        let verbatim = row.fields.get("text").and_then(Value::as_str).map(str::to_owned);
        let (mut turns, pair) = if let Some(turns) = row.conversation()? {
            (turns, row.pair()?)
        } else if let Some(question) = row.take_text(&["question", "prompt"]) {
            row.require_image(images.is_some())?;
            let turns = vec![row.turn(Role::User, &question)];
            match row.pair()? {
                Some(pair) => (turns, Some(pair)),
                None => {
                    let answer = row.take_text(&["answer", "response", "chosen"]).ok_or("the row has no answer")?;
                    (turns.into_iter().chain([Turn::of_text(Role::Assistant, answer)]).collect(), None)
                }
            }
        } else if let Some(caption) = row.take_text(&["text", "caption"]) {
            row.require_image(images.is_some())?;
            (row.captioned(&caption), None)
        } else {
            return Err(format!("none of its columns is conversations, messages, question or text ({listed})"));
        };
        row.place_images(&mut turns)?;
        Ok(Self { turns, pair, verbatim, images: images.unwrap_or_default(), meta: Value::Object(row.fields) })
    }
}

/// A row on its way to a record; what is used is taken out of `fields`, the rest is its `meta`.
struct Schema {
    fields: Map<String, Value>,
    /// Images that the row has.
    images: usize,
    /// Images that its turns have shown so far.
    shown: usize,
}

impl Schema {
    fn take_text(&mut self, names: &[&str]) -> Option<String> {
        let name = names.iter().find(|name| self.fields.get(**name).is_some_and(Value::is_string))?;
        match self.fields.remove(*name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    fn require_image(&self, column: bool) -> Result<(), String> {
        if column && self.images == 0 { Err("the row's image is missing".into()) } else { Ok(()) }
    }

    /// `conversations` of LLaVA (`from`, `value`) or `messages` of trainers (`role`, `content`).
    fn conversation(&mut self) -> Result<Option<Vec<Turn>>, String> {
        let name =
            ["conversations", "messages"].into_iter().find(|name| self.fields.get(*name).is_some_and(Value::is_array));
        let Some(Value::Array(turns)) = name.and_then(|name| self.fields.remove(name)) else { return Ok(None) };
        let turns = turns.iter().enumerate().map(|(n, turn)| {
            let side = turn["from"].as_str().or(turn["role"].as_str());
            let role = match side {
                Some("human" | "user") => Role::User,
                Some("gpt" | "assistant") => Role::Assistant,
                Some("system") => Role::System,
                _ => return Err(format!("turn {} is of nobody (from or role: {side:?})", n + 1)),
            };
            match turn.get("value").or(turn.get("content")) {
                Some(Value::String(text)) => Ok(self.turn(role, text)),
                Some(Value::Array(parts)) => {
                    let parts = parts.iter().map(|part| match part["type"].as_str() {
                        Some("image") => Ok(self.next_image()),
                        Some("text") => Ok(Part::Text(part["text"].as_str().unwrap_or_default().to_owned())),
                        kind => Err(format!("turn {} has a part of type {kind:?}", n + 1)),
                    });
                    Ok(Turn { role, parts: parts.collect::<Result<_, _>>()? })
                }
                _ => Err(format!("turn {} has no text (value or content)", n + 1)),
            }
        });
        turns.collect::<Result<_, _>>().map(Some)
    }

    /// Two answers, and which of them is preferred.
    fn pair(&mut self) -> Result<Option<Pair>, String> {
        if self.fields.contains_key("rejected") {
            let mut answer = |name: &str| {
                let answer = self.fields.remove(name).unwrap_or(Value::Null);
                let last = answer.as_array().and_then(|turns| turns.last()).map(|turn| turn["content"].clone());
                let text = last.unwrap_or(answer).as_str().map(str::to_owned);
                text.ok_or_else(|| format!("the row's {name} answer is no text"))
            };
            return Ok(Some(Pair { chosen: answer("chosen")?, rejected: answer("rejected")? }));
        }
        let preferred = ["overall_response", "p_response"].iter().find_map(|name| self.fields.get(*name)?.as_i64());
        let Some(preferred) = preferred.filter(|_| self.fields.contains_key("response_2")) else { return Ok(None) };
        let first = self.take_text(&["response_1"]).ok_or("the row's response_1 is no text")?;
        let second = self.take_text(&["response_2"]).ok_or("the row's response_2 is no text")?;
        match preferred {
            1 => Ok(Some(Pair { chosen: first, rejected: second })),
            2 => Ok(Some(Pair { chosen: second, rejected: first })),
            other => Err(format!("the preferred answer is {other}, neither 1 nor 2")),
        }
    }

    /// An image and its caption: a picture shown, and what is said about it. Words alone are said by the person.
    fn captioned(&mut self, caption: &str) -> Vec<Turn> {
        if self.images == 0 || caption.contains(IMAGE_MARK) {
            return vec![self.turn(Role::User, caption)];
        }
        let shown = (0..self.images).map(|_| self.next_image()).collect();
        vec![Turn { role: Role::User, parts: shown }, Turn::of_text(Role::Assistant, caption)]
    }

    /// A turn of LLaVA: marks become images, a newline right behind one belongs to it, empty texts are dropped.
    fn turn(&mut self, role: Role, value: &str) -> Turn {
        let mut parts = Vec::new();
        for (n, text) in value.split(IMAGE_MARK).enumerate() {
            let text = if n == 0 {
                text
            } else {
                parts.push(self.next_image());
                text.strip_prefix('\n').unwrap_or(text)
            };
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
        }
        Turn { role, parts }
    }

    fn next_image(&mut self) -> Part {
        self.shown += 1;
        Part::Image(self.shown - 1)
    }

    /// Images that no turn shows come first in the first turn of the person; otherwise each is shown once.
    fn place_images(&mut self, turns: &mut [Turn]) -> Result<(), String> {
        if self.shown == 0 && self.images > 0 {
            let images: Vec<_> = (0..self.images).map(|_| self.next_image()).collect();
            let first = turns.iter_mut().find(|turn| turn.role == Role::User).ok_or("no turn is of the person")?;
            first.parts.splice(0..0, images);
        }
        if self.shown != self.images {
            return Err(match self.images {
                0 => "the row's image is missing: its text refers to one".into(),
                images => format!("the row has {images} images and its text refers to {}", self.shown),
            });
        }
        Ok(())
    }
}

/// The row's images; nothing if it has no column for them.
fn take_images(columns: &mut Columns, folder: &std::path::Path) -> Result<Option<Vec<ImageFile>>, String> {
    for name in ["image", "images"] {
        let at = |path: &str| ImageFile { path: path.into(), file: folder.join(path), bytes: None };
        if let Some(mut images) = columns.images.remove(name) {
            for image in &mut images {
                image.file = folder.join(&image.path);
            }
            return Ok(Some(images));
        }
        let one = |value: &Value| match value {
            Value::String(path) => Ok(at(path)),
            Value::Object(image) => {
                let path = image.get("path").and_then(Value::as_str).map(at);
                path.ok_or_else(|| format!("the column {name} holds an image without a path"))
            }
            _ => Err(format!("the column {name} holds no image")),
        };
        match columns.fields.remove(name) {
            None => continue,
            Some(Value::Null) => return Ok(Some(Vec::new())),
            Some(Value::Array(images)) => return images.iter().map(one).collect::<Result<_, _>>().map(Some),
            Some(value) => return one(&value).map(|image| Some(vec![image])),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn record(row: Value) -> Result<Record, String> {
        let Value::Object(fields) = row else { panic!("a row is an object") };
        Record::new(Columns { fields, ..Default::default() }, Path::new("data"))
    }

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    #[test]
    fn llava_conversations_become_parts() {
        let row = json!({"id": 7, "image": "a.png", "extra": true, "conversations": [
            {"from": "human", "value": "See <image>\nand\nsay."}, {"from": "gpt", "value": "Yes."}]});
        let record = record(row).unwrap();
        assert_eq!(record.turns[0].parts, [text("See "), Part::Image(0), text("and\nsay.")]);
        assert_eq!(record.turns[1], Turn::of_text(Role::Assistant, "Yes."));
        assert_eq!(record.images[0].file, Path::new("data/a.png"));
        assert_eq!(record.meta, json!({"id": 7, "extra": true}));
    }

    #[test]
    fn images_that_no_turn_names_come_first() {
        let row = json!({"images": ["a.png", "b.png"], "messages": [{"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Compare."}]}]});
        assert_eq!(record(row).unwrap().turns[1].parts, [Part::Image(0), Part::Image(1), text("Compare.")]);
    }

    #[test]
    fn preference_rows_say_which_answer_is_chosen() {
        let pair = Some(Pair { chosen: "b".into(), rejected: "a".into() });
        let row =
            json!({"question": "q", "image": "a.png", "response_1": "a", "response_2": "b", "overall_response": 2});
        let two = record(row).unwrap();
        assert_eq!((two.pair, two.turns.len()), (pair.clone(), 1));
        assert_eq!(record(json!({"question": "q", "chosen": "b", "rejected": "a"})).unwrap().pair, pair);
        let lists = json!({"prompt": "q", "chosen": [{"role": "assistant", "content": "b"}], "rejected": "a"});
        assert_eq!(record(lists).unwrap().pair, pair);
    }

    #[test]
    fn a_caption_is_said_about_the_picture() {
        let shown = record(json!({"image": {"path": "a.png"}, "text": "a cat"})).unwrap();
        assert_eq!(shown.turns[0].parts, [Part::Image(0)]);
        assert_eq!(shown.turns[1], Turn::of_text(Role::Assistant, "a cat"));
        assert_eq!(record(json!({"text": "words alone"})).unwrap().turns[0].role, Role::User);
    }

    #[test]
    fn rows_that_cannot_be_used_say_why() {
        let reason = |row| record(row).unwrap_err();
        assert!(reason(json!({"image": null, "text": "a cat"})).contains("image is missing"));
        let named = json!({"conversations": [{"from": "human", "value": "<image>"}]});
        assert!(reason(named).contains("image is missing"));
        let two = json!({"image": "a.png", "conversations": [{"from": "human", "value": "<image> <image>"}]});
        assert!(reason(two).contains("1 images and its text refers to 2"));
        assert!(reason(json!({"a": 1, "b": 2})).contains("(a, b)"));
        assert!(reason(json!({"question": "q"})).contains("no answer"));
        assert!(reason(json!({"conversations": [{"from": "bot", "value": ""}]})).contains("bot"));
    }
}
