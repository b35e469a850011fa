//! The schemas of data sets, recognized by their columns: conversations of LLaVA and of trainers, questions with an
//! answer or with two, instructions, captions, texts and images by position. A row becomes a [`Record`] or a reason why
//! not. Reads nothing.

mod answers;
mod media;
#[cfg(test)]
mod tests;
mod turns;

use super::columns::{Columns, IMAGES};
use super::fields::{self, Fields, wrong_kind};
use super::image::ImageFile;
use super::lenient::{self, json_type};
use super::record::{Pair, Record, Turn, TurnPart};
use sae_core::store::sample::Role;
use serde_json::Value;

/// The mark for an image in a conversation of LLaVA's data sets (the model's own placeholder may be another).
const IMAGE_MARK: &str = "<image>";

/// Columns of turns, in the order in which they count.
const CONVERSATIONS: [&str; 4] = ["conversations", "messages", "prompt", "texts"];

/// Columns of the one answer to a question.
const ANSWERS: [&str; 5] = ["answer", "response", "chosen", "output", "completion"];

/// Columns of which a null or empty one is no property of the row that is worth keeping.
const KNOWN: [&str; 10] =
    ["question", "instruction", "input", "history", "system", "rejected", "text", "caption", "txt", "tools"];

/// Understands a row by the columns it has.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn understand(mut columns: Columns) -> Result<Record, String> {
    unpack(&mut columns.fields);
    media::refuse(&columns)?;
    if fields::get(&columns.fields, "tools").is_some_and(|tools| *tools != "[]") {
        return Err("the row offers tools to the model (column tools), and tools are not read".into());
    }
    let images = columns.take_images()?;
    let listed = columns.fields.keys().cloned().collect::<Vec<_>>().join(", ");
    let verbatim = columns.fields.get("text").and_then(Value::as_str).map(str::to_owned);
    let has_images = images.iter().any(Option::is_some);
    let mut row = Schema { fields: columns.fields, images: Vec::new(), has_images, shown: 0 };
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
    let known = |name: &str| [&KNOWN[..], &CONVERSATIONS, &ANSWERS, &IMAGES].iter().any(|names| names.contains(&name));
    row.fields.retain(|name, value| !(known(name) && fields::is_absent(value)));
    Ok(Record { turns, pair, verbatim, images: row.images, meta: Value::Object(row.fields) })
}

/// Columns that hold JSON as text: lists in tables, and RLHF-V's `text` with question and answers in it.
fn unpack(columns: &mut Fields) {
    let parsed = |value: &Value, first: char| {
        let text = value.as_str().filter(|text| text.trim_start().starts_with(first))?;
        lenient::value(text.as_bytes()).ok()
    };
    // An answer may well be JSON: only messages are taken for a conversation there.
    let message = |said: &Value| ["from", "role"].iter().any(|key| said.get(key).is_some());
    let messages = |list: &Value| list.as_array().is_some_and(|list| list.iter().all(message));
    for (names, always) in
        [(&["conversations", "messages", "history"], true), (&["prompt", "chosen", "rejected"], false)]
    {
        for name in names {
            let list = columns.get(*name).and_then(|value| parsed(value, '[')).filter(|list| always || messages(list));
            if let Some(list) = list {
                columns.insert((*name).to_owned(), list);
            }
        }
    }
    if let Some(Value::Object(packed)) = columns.get("text").and_then(|value| parsed(value, '{'))
        && fields::first(&packed, &["question", "prompt", "conversations", "messages"]).is_some()
    {
        columns.shift_remove("text");
        for (name, value) in packed {
            if fields::get(columns, &name).is_none() {
                columns.insert(name, value);
            }
        }
    }
}

/// A row on its way to a record; what is used is taken out of `fields`, the rest is its `meta`.
struct Schema {
    fields: Fields,
    images: Vec<ImageFile>,
    /// Whether a column of the row has images; if not, parts of its turns may bring their own.
    has_images: bool,
    /// Images that its turns have shown so far.
    shown: usize,
}

/// A conversation, and two answers to it where there are two.
type Spoken = (Vec<Turn>, Option<Pair>);

impl Schema {
    fn spoken(&mut self) -> Result<Option<Spoken>, String> {
        if let Some(turns) = self.conversation()? {
            let mut turns = self.under_system(turns)?;
            let pair = self.pair(&turns)?;
            if pair.is_none() {
                // The answer that a preference row would prefer, where it has no other.
                let unanswered = turns.last().is_some_and(|turn| turn.role == Role::User);
                let names: &[&str] = if unanswered { &["completion", "chosen"] } else { &["completion"] };
                turns.extend(self.answer(names, &turns)?);
            }
            return Ok(Some((turns, pair)));
        }
        if let Some(asked) = self.question()? {
            let mut turns = self.under_system(asked)?;
            let pair = self.pair(&turns)?;
            if pair.is_none() {
                turns.push(self.answer(&ANSWERS, &turns)?.ok_or("the row has no answer")?);
            }
            return Ok(Some((turns, pair)));
        }
        if let Some(turns) = self.two_conversations()? {
            let turns = self.under_system(turns)?;
            let pair = self.pair(&turns)?;
            return Ok(Some((turns, pair)));
        }
        if let Some(caption) = self.take_text(&["text", "caption", "txt"])? {
            return Ok(Some((self.captioned(&caption), None)));
        }
        Ok(None)
    }

    fn take_text(&mut self, names: &[&str]) -> Result<Option<String>, String> {
        fields::take_text(&mut self.fields, names)
    }

    /// A question, or Alpaca's instruction with its input, behind the turns of its `history`.
    fn question(&mut self) -> Result<Option<Vec<Turn>>, String> {
        let there = |name: &str| fields::get(&self.fields, name).is_some();
        let asks = ["question", "prompt", "instruction"].into_iter().any(there);
        if !asks && (!there("input") || !there("output")) {
            return Ok(None);
        }
        let mut turns = self.history()?;
        let question = match self.take_text(&["question", "prompt"])? {
            Some(question) => question,
            None => {
                let asked = [self.take_text(&["instruction"])?, self.take_text(&["input"])?];
                asked.into_iter().flatten().collect::<Vec<_>>().join("\n")
            }
        };
        turns.push(self.turn(Role::User, &question));
        Ok(Some(turns))
    }

    /// Alpaca's earlier turns: pairs of an instruction and its answer, oldest first.
    fn history(&mut self) -> Result<Vec<Turn>, String> {
        let Some(history) = fields::take(&mut self.fields, "history") else { return Ok(Vec::new()) };
        let Value::Array(rounds) = &history else { return Err(wrong_kind("history", &history, "a list of pairs")) };
        let mut turns = Vec::new();
        for (n, round) in rounds.iter().enumerate() {
            let Some([Value::String(asked), Value::String(answered)]) = round.as_array().map(Vec::as_slice) else {
                let found = json_type(round);
                return Err(format!("the column history: entry {} is {found}, expected a pair of strings", n + 1));
            };
            turns.push(self.turn(Role::User, asked));
            turns.push(Turn::of_text(Role::Assistant, answered));
        }
        Ok(turns)
    }

    /// `conversations` of LLaVA and LLaMA-Factory (`from`, `value`), `messages` or a `prompt` of trainers (`role`,
    /// `content`), or the Cauldron's `texts` (`user`, `assistant`).
    fn conversation(&mut self) -> Result<Option<Vec<Turn>>, String> {
        let list = |name: &&str| fields::get(&self.fields, name).is_some_and(Value::is_array);
        let Some(name) = CONVERSATIONS.into_iter().find(list) else {
            let unread = fields::first(&self.fields, &["conversations", "messages"]);
            return unread.map_or(Ok(None), |(name, value)| Err(wrong_kind(name, value, "a list of turns")));
        };
        match fields::take(&mut self.fields, name) {
            Some(Value::Array(said)) => self.turns(&said).map(Some),
            _ => Ok(None),
        }
    }

    /// LLaMA-Factory's column `system` says what comes before the turns.
    fn under_system(&mut self, mut turns: Vec<Turn>) -> Result<Vec<Turn>, String> {
        let told = turns.first().is_some_and(|turn| turn.role == Role::System);
        if !told && let Some(system) = self.take_text(&["system"])? {
            turns.insert(0, Turn::of_text(Role::System, system));
        }
        Ok(turns)
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
        let texts = fields::get(&self.fields, "texts").and_then(Value::as_array);
        if !texts.is_some_and(|texts| texts.iter().all(document)) {
            return Ok(None);
        }
        let Some(Value::Array(texts)) = self.fields.shift_remove("texts") else { return Ok(None) };
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
                parts.push(TurnPart::Text(format!("{line}{text}")));
            }
        }
        Ok(Some(Turn { role: Role::User, parts }))
    }

    fn next_image(&mut self) -> TurnPart {
        self.shown += 1;
        TurnPart::Image(self.shown - 1)
    }

    /// Images that no turn shows come first in the first turn of the person; otherwise each is shown once.
    fn place_images(&mut self, turns: &mut [Turn]) -> Result<(), String> {
        let images = self.images.len();
        if self.shown == 0 && images > 0 {
            let parts: Vec<_> = (0..images).map(|_| self.next_image()).collect();
            let first = turns.iter_mut().find(|turn| turn.role == Role::User);
            let first = first.ok_or("the row has images, but no turn of the user to show them in")?;
            first.parts.splice(0..0, parts);
        }
        if self.shown != images {
            return Err(match images {
                0 => self.missing_image(),
                images => format!("the row has {images} images and its text refers to {}", self.shown),
            });
        }
        Ok(())
    }

    /// The reason for a text that refers to an image where the row has none; names columns that may hold it.
    fn missing_image(&self) -> String {
        let may = |name: &&String| {
            let name = name.to_ascii_lowercase();
            ["image", "img", "picture", "photo"].iter().any(|part| name.contains(part))
        };
        let mut named = self.fields.iter().filter(|(_, value)| !fields::is_absent(value)).map(|(name, _)| name);
        let hint = named.find(may).map_or(String::new(), |name| format!("\nhint: --map image={name}"));
        format!("the row's image is missing: its text refers to one{hint}")
    }
}
