//! The schemas of data sets, recognised by their columns: conversations of LLaVA and of trainers, questions with an
//! answer or with two, instructions, captions, texts and images by position. A row becomes a [`Record`] or a reason why
//! not. Reads nothing.

use super::columns::Columns;
use super::image::ImageFile;
use super::lenient;
use super::record::{Pair, Part, Record, Turn};
use sae_core::sample::Role;
use serde_json::{Map, Value};

/// The mark for an image in a conversation of LLaVA's data sets (the model's own placeholder may be another).
const IMAGE_MARK: &str = "<image>";

/// Columns that say which of two answers is preferred; the first that a row has counts. Helpfulness goes before safety.
const PREFERRED: [&str; 5] =
    ["overall_response", "p_response", "better_response_id", "more_helpful_response_id", "safer_response_id"];

/// Understands a row by the columns it has.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn understand(mut columns: Columns) -> Result<Record, String> {
    unpack(&mut columns.fields);
    let images = columns.take_images()?;
    let listed = columns.fields.keys().cloned().collect::<Vec<_>>().join(", ");
    let verbatim = columns.fields.get("text").and_then(Value::as_str).map(str::to_owned);
    let has_images = images.is_some();
    let mut row = Schema { fields: columns.fields, images: Vec::new(), has_images, shown: 0 };
    let images = images.unwrap_or_default();
    let (mut turns, pair) = match row.interleaved(&images)? {
        Some(turn) => (vec![turn], None),
        None => {
            row.images = images.into_iter().flatten().collect();
            row.spoken()?.ok_or_else(|| {
                let known = "conversations, messages, question, instruction, text or texts";
                format!("none of its columns is {known} ({listed})\nhint: --map text=COLUMN")
            })?
        }
    };
    row.place_images(&mut turns)?;
    Ok(Record { turns, pair, verbatim, images: row.images, meta: Value::Object(row.fields) })
}

/// Columns that hold JSON as text: conversations in tables, and RLHF-V's `text` with question and answers in it.
fn unpack(fields: &mut Map<String, Value>) {
    let parsed = |value: &Value, first: char| {
        let text = value.as_str().filter(|text| text.trim_start().starts_with(first))?;
        lenient::value(text.as_bytes()).ok()
    };
    for name in ["conversations", "messages"] {
        if let Some(turns) = fields.get(name).and_then(|value| parsed(value, '[')) {
            fields.insert(name.into(), turns);
        }
    }
    if let Some(Value::Object(packed)) = fields.get("text").and_then(|value| parsed(value, '{')) {
        let asks = ["question", "prompt", "conversations", "messages"].iter().any(|name| packed.contains_key(*name));
        if asks {
            fields.remove("text");
            for (name, value) in packed {
                fields.entry(name).or_insert(value);
            }
        }
    }
}

/// A row on its way to a record; what is used is taken out of `fields`, the rest is its `meta`.
struct Schema {
    fields: Map<String, Value>,
    images: Vec<ImageFile>,
    /// Whether the row has a column for images; if not, parts of its turns may bring their own.
    has_images: bool,
    /// Images that its turns have shown so far.
    shown: usize,
}

/// A conversation, and two answers to it where there are two.
type Spoken = (Vec<Turn>, Option<Pair>);

impl Schema {
    fn spoken(&mut self) -> Result<Option<Spoken>, String> {
        if let Some(turns) = self.conversation()? {
            let mut turns = self.under_system(turns);
            let pair = self.pair()?;
            if pair.is_none()
                && let Some(answer) = self.fields.remove("completion")
            {
                turns.push(Turn::of_text(Role::Assistant, answer_text("completion", &answer)?));
            }
            return Ok(Some((turns, pair)));
        }
        if let Some(question) = self.question() {
            self.require_image()?;
            let asked = vec![self.turn(Role::User, &question)];
            let mut turns = self.under_system(asked);
            let pair = self.pair()?;
            if pair.is_none() {
                let answer = self.take_text(&["answer", "response", "chosen", "output"]);
                let completed = self.fields.remove("completion").map(|answer| answer_text("completion", &answer));
                let answer = answer.map(Ok).or(completed).ok_or("the row has no answer")??;
                turns.push(Turn::of_text(Role::Assistant, answer));
            }
            return Ok(Some((turns, pair)));
        }
        if let Some(both) = self.two_conversations()? {
            return Ok(Some(both));
        }
        if let Some(caption) = self.take_text(&["text", "caption"]) {
            self.require_image()?;
            return Ok(Some((self.captioned(&caption), None)));
        }
        Ok(None)
    }

    fn take_text(&mut self, names: &[&str]) -> Option<String> {
        let name = names.iter().find(|name| self.fields.get(**name).is_some_and(Value::is_string))?;
        match self.fields.remove(*name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    fn require_image(&self) -> Result<(), String> {
        match self.has_images && self.images.is_empty() {
            true => Err("the row's image is missing".into()),
            false => Ok(()),
        }
    }

    /// A question, or Alpaca's instruction with its input.
    fn question(&mut self) -> Option<String> {
        if let Some(question) = self.take_text(&["question", "prompt"]) {
            return Some(question);
        }
        let instruction = self.take_text(&["instruction"])?;
        match self.take_text(&["input"]).filter(|input| !input.is_empty()) {
            Some(input) => Some(format!("{instruction}\n{input}")),
            None => Some(instruction),
        }
    }

    /// `conversations` of LLaVA and LLaMA-Factory (`from`, `value`), `messages` or a `prompt` of trainers (`role`,
    /// `content`), or the Cauldron's `texts` (`user`, `assistant`).
    fn conversation(&mut self) -> Result<Option<Vec<Turn>>, String> {
        let names = ["conversations", "messages", "prompt", "texts"];
        let name = names.into_iter().find(|name| self.fields.get(*name).is_some_and(Value::is_array));
        let Some(Value::Array(said)) = name.and_then(|name| self.fields.remove(name)) else { return Ok(None) };
        let mut turns = Vec::new();
        for (n, said) in said.iter().enumerate() {
            match (said["user"].as_str(), said["assistant"].as_str()) {
                (Some(user), Some(assistant)) => {
                    turns.push(self.turn(Role::User, user));
                    turns.push(Turn::of_text(Role::Assistant, assistant));
                }
                _ => turns.push(self.said(n, said)?),
            }
        }
        Ok(Some(turns))
    }

    fn said(&mut self, n: usize, said: &Value) -> Result<Turn, String> {
        let side = said["from"].as_str().or(said["role"].as_str());
        let role = match side {
            Some("human" | "user") => Role::User,
            Some("gpt" | "assistant") => Role::Assistant,
            Some("system") => Role::System,
            _ => return Err(format!("turn {} is of nobody (from or role: {side:?})", n + 1)),
        };
        match said.get("value").or(said.get("content")) {
            Some(Value::String(text)) => Ok(self.turn(role, text)),
            Some(Value::Array(parts)) => {
                let parts = parts.iter().map(|part| self.part(n, part));
                Ok(Turn { role, parts: parts.collect::<Result<_, _>>()? })
            }
            _ => Err(format!("turn {} has no text (value or content)", n + 1)),
        }
    }

    /// A part of a turn as trainers and chat templates write it.
    fn part(&mut self, n: usize, part: &Value) -> Result<Part, String> {
        match part["type"].as_str() {
            Some("text") => Ok(Part::Text(part["text"].as_str().unwrap_or_default().to_owned())),
            Some("image" | "image_url") => {
                if let Some(at) = part["index"].as_u64().filter(|at| *at != self.shown as u64) {
                    return Err(format!("turn {} shows image {at} out of order", n + 1));
                }
                let own = ["image", "image_url", "url", "path"].iter().map(|name| &part[*name]).find(|v| !v.is_null());
                if let Some(own) = own.filter(|_| !self.has_images) {
                    self.images.push(ImageFile::from_json(own)?);
                }
                Ok(self.next_image())
            }
            kind => Err(format!("turn {} has a part of type {kind:?}", n + 1)),
        }
    }

    /// LLaMA-Factory's column `system` says what comes before the turns.
    fn under_system(&mut self, mut turns: Vec<Turn>) -> Vec<Turn> {
        let told = turns.first().is_some_and(|turn| turn.role == Role::System);
        if !told && let Some(system) = self.take_text(&["system"]).filter(|text| !text.is_empty()) {
            turns.insert(0, Turn::of_text(Role::System, system));
        }
        turns
    }

    /// Two answers, and which of them is preferred.
    fn pair(&mut self) -> Result<Option<Pair>, String> {
        if self.fields.contains_key("rejected") {
            let mut answer = |name: &str| answer_text(name, &self.fields.remove(name).unwrap_or(Value::Null));
            return Ok(Some(Pair { chosen: answer("chosen")?, rejected: answer("rejected")? }));
        }
        let first = match ["response_2", "response_0"].map(|name| self.fields.contains_key(name)) {
            [true, _] => 1,
            [_, true] => 0,
            _ => return Ok(None),
        };
        let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
        let preferred = PREFERRED.iter().find_map(|name| number(self.fields.get(*name)?));
        let preferred = preferred.ok_or_else(|| {
            let unsaid = "the row does not say which of its two answers is preferred";
            format!("{unsaid}\nhint: --map overall_response=COLUMN")
        })?;
        let mut answer = |name: String| self.take_text(&[&name]).ok_or_else(|| format!("the row's {name} is no text"));
        let answers = [answer(format!("response_{first}"))?, answer(format!("response_{}", first + 1))?];
        let [one, two] = answers;
        match preferred {
            _ if preferred == first => Ok(Some(Pair { chosen: one, rejected: two })),
            _ if preferred == first + 1 => Ok(Some(Pair { chosen: two, rejected: one })),
            _ => Err(format!("the preferred answer is {preferred}, neither {first} nor {}", first + 1)),
        }
    }

    /// Two whole conversations that differ in their last turn alone: TRL's preferences without a prompt.
    fn two_conversations(&mut self) -> Result<Option<Spoken>, String> {
        let whole = |name| self.fields.get(name).and_then(Value::as_array).filter(|turns| turns.len() > 1);
        let (Some(chosen), Some(rejected)) = (whole("chosen"), whole("rejected")) else { return Ok(None) };
        if chosen[..chosen.len() - 1] != rejected[..rejected.len() - 1] {
            return Err("the chosen and the rejected conversation differ before their last turn".into());
        }
        let asked = chosen[..chosen.len() - 1].to_vec();
        let turns = asked.iter().enumerate().map(|(n, said)| self.said(n, said)).collect::<Result<_, _>>()?;
        Ok(Some((self.under_system(turns), self.pair()?)))
    }

    /// An image and its caption: a picture shown, and what is said about it. Words alone are said by the person.
    fn captioned(&mut self, caption: &str) -> Vec<Turn> {
        if self.images.is_empty() || caption.contains(IMAGE_MARK) {
            return vec![self.turn(Role::User, caption)];
        }
        let shown = (0..self.images.len()).map(|_| self.next_image()).collect();
        vec![Turn { role: Role::User, parts: shown }, Turn::of_text(Role::Assistant, caption)]
    }

    /// Obelics: `texts` and `images`, at every position one of the two. A document is one turn; paragraphs begin on a
    /// line of their own.
    fn interleaved(&mut self, images: &[Option<ImageFile>]) -> Result<Option<Turn>, String> {
        let document = |value: &Value| value.is_string() || value.is_null();
        let texts = self.fields.get("texts").and_then(Value::as_array);
        if !texts.is_some_and(|texts| texts.iter().all(document)) {
            return Ok(None);
        }
        let Some(Value::Array(texts)) = self.fields.remove("texts") else { return Ok(None) };
        if self.has_images && images.len() != texts.len() {
            return Err(format!("the row has {} texts and {} images by position", texts.len(), images.len()));
        }
        let mut parts = Vec::new();
        let mut spoken = false;
        for (n, text) in texts.iter().enumerate() {
            if let Some(image) = images.get(n).and_then(Option::as_ref) {
                self.images.push(image.clone());
                parts.push(self.next_image());
            }
            if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
                let line = if std::mem::replace(&mut spoken, true) { "\n" } else { "" };
                parts.push(Part::Text(format!("{line}{text}")));
            }
        }
        Ok(Some(Turn { role: Role::User, parts }))
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
        let images = self.images.len();
        if self.shown == 0 && images > 0 {
            let parts: Vec<_> = (0..images).map(|_| self.next_image()).collect();
            let first = turns.iter_mut().find(|turn| turn.role == Role::User).ok_or("no turn is of the person")?;
            first.parts.splice(0..0, parts);
        }
        if self.shown != images {
            return Err(match images {
                0 => "the row's image is missing: its text refers to one".into(),
                images => format!("the row has {images} images and its text refers to {}", self.shown),
            });
        }
        Ok(())
    }
}

/// The text of an answer: itself, a message, or the last message of a conversation.
fn answer_text(name: &str, answer: &Value) -> Result<String, String> {
    let said = answer.as_array().map_or(Some(answer), |turns| turns.last()).unwrap_or(&Value::Null);
    let content = said.get("content").or(said.get("value")).unwrap_or(said);
    let parts = |parts: &Vec<Value>| parts.iter().map(|part| part["text"].as_str().unwrap_or_default()).collect();
    let text = content.as_str().map(str::to_owned).or_else(|| content.as_array().map(parts));
    text.ok_or_else(|| format!("the row's {name} answer is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(row: Value) -> Result<Record, String> {
        let Value::Object(fields) = row else { panic!("a row is an object") };
        understand(Columns { fields, ..Default::default() })
    }

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    fn pair(chosen: &str, rejected: &str) -> Option<Pair> {
        Some(Pair { chosen: chosen.into(), rejected: rejected.into() })
    }

    #[test]
    fn llava_conversations_become_parts() {
        let row = json!({"id": 7, "image": "a.png", "extra": true, "conversations": [
            {"from": "human", "value": "See <image>\nand\nsay."}, {"from": "gpt", "value": "Yes."}]});
        let record = record(row).unwrap();
        assert_eq!(record.turns[0].parts, [text("See "), Part::Image(0), text("and\nsay.")]);
        assert_eq!(record.turns[1], Turn::of_text(Role::Assistant, "Yes."));
        assert_eq!(record.images[0].path, "a.png");
        assert_eq!(record.meta, json!({"id": 7, "extra": true}));
    }

    #[test]
    fn images_that_no_turn_names_come_first() {
        let row = json!({"images": ["a.png", "b.png"], "messages": [{"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Compare."}]}]});
        assert_eq!(record(row).unwrap().turns[1].parts, [Part::Image(0), Part::Image(1), text("Compare.")]);
    }

    #[test]
    fn parts_bring_their_own_images_where_the_row_has_none() {
        let content = json!([{"type": "image", "image": "a.png"}, {"type": "text", "text": "q"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}}]);
        let row = json!({"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "a"}]});
        let record = record(row).unwrap();
        assert_eq!(record.turns[0].parts, [Part::Image(0), text("q"), Part::Image(1)]);
        assert_eq!(
            (record.images[0].path.as_str(), record.images[1].bytes.as_deref()),
            ("a.png", Some(&[1, 2, 3][..]))
        );
    }

    #[test]
    fn preference_rows_say_which_answer_is_chosen() {
        let both = json!({"question": "q", "image": "a.png", "response_1": "a", "response_2": "b"});
        for (name, value) in [("overall_response", json!(2)), ("safer_response_id", json!("2"))] {
            let mut row = both.clone();
            row[name] = value;
            let two = record(row).unwrap();
            assert_eq!((two.pair, two.turns.len()), (pair("b", "a"), 1));
        }
        let from_zero = json!({"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 0});
        assert_eq!(record(from_zero).unwrap().pair, pair("a", "b"));
        assert_eq!(record(json!({"question": "q", "chosen": "b", "rejected": "a"})).unwrap().pair, pair("b", "a"));
        let lists = json!({"prompt": "q", "chosen": [{"role": "assistant", "content": "b"}], "rejected": "a"});
        assert_eq!(record(lists).unwrap().pair, pair("b", "a"));
        assert!(record(both).unwrap_err().contains("hint: --map overall_response=COLUMN"));
    }

    #[test]
    fn preferences_without_a_prompt_share_their_turns() {
        let turns = |answer: &str| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
        let row = record(json!({"chosen": turns("b"), "rejected": turns("a")})).unwrap();
        assert_eq!((row.turns, row.pair), (vec![Turn::of_text(Role::User, "q")], pair("b", "a")));
        let other = json!([{"role": "user", "content": "?"}, {"role": "assistant", "content": "a"}]);
        assert!(record(json!({"chosen": turns("b"), "rejected": other})).unwrap_err().contains("differ"));
    }

    #[test]
    fn packed_json_instructions_and_systems_are_read() {
        let packed = record(json!({"image": "a.png", "text": r#"{"question": "q", "chosen": "b", "rejected": "a"}"#}));
        let packed = packed.unwrap();
        assert_eq!((packed.pair, packed.turns[0].parts.as_slice()), (pair("b", "a"), &[Part::Image(0), text("q")][..]));
        let row = json!({"instruction": "Sum", "input": "1 1", "output": "2", "system": "Be brief."});
        let turns = [(Role::System, "Be brief."), (Role::User, "Sum\n1 1"), (Role::Assistant, "2")];
        assert_eq!(record(row).unwrap().turns, turns.map(|(role, text)| Turn::of_text(role, text)));
        let asked = json!({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]});
        assert_eq!(record(asked).unwrap().turns[1], Turn::of_text(Role::Assistant, "a"));
        let cauldron = record(json!({"images": ["a.png"], "texts": [{"user": "q", "assistant": "a"}]})).unwrap();
        assert_eq!(cauldron.turns[0].parts, [Part::Image(0), text("q")]);
    }

    #[test]
    fn documents_keep_images_at_their_position() {
        let row = json!({"images": [null, "a.png", null, "b.png"], "texts": ["One.", null, "Two.", null]});
        let document = record(row).unwrap();
        assert_eq!(document.turns[0].parts, [text("One."), Part::Image(0), text("\nTwo."), Part::Image(1)]);
        assert_eq!(document.images.iter().map(|i| i.path.as_str()).collect::<Vec<_>>(), ["a.png", "b.png"]);
        assert!(record(json!({"images": ["a.png"], "texts": ["a", "b"]})).unwrap_err().contains("by position"));
    }

    #[test]
    fn a_caption_is_said_about_the_picture() {
        let shown = record(json!({"image": {"path": "a.png"}, "text": "a cat"})).unwrap();
        assert_eq!(shown.turns[0].parts, [Part::Image(0)]);
        assert_eq!(shown.turns[1], Turn::of_text(Role::Assistant, "a cat"));
        assert_eq!(record(json!({"text": "words alone"})).unwrap().turns[0].role, Role::User);
        assert_eq!(record(json!({"file_name": "a.png", "text": "a cat"})).unwrap().turns, shown.turns);
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
        let video = json!({"messages": [{"role": "user", "content": [{"type": "video"}]}]});
        assert!(reason(video).contains("video"));
    }
}
