//! The schemas of data sets, recognized by their columns: conversations of LLaVA and of trainers, questions with one
//! answer or two, instructions, captions, and documents of texts and images by position. Turns the columns of a row
//! into a [`Record`], or explains why this is impossible. Reads nothing.

mod answers;
mod media;
mod numbered;
pub(super) mod replies;
#[cfg(test)]
mod tests;
mod turns;

use super::action;
use super::columns::{Columns, IMAGES};
use super::fields::{self, Fields, wrong_kind};
use super::image::ImageFile;
use super::lenient::{self, json_type};
use super::record::{Record, Tree, Video};
use super::row_error::RowError;
use sae_core::error::Hint;
use sae_core::store::conversation::{AnswerPair, Turn, TurnPart};
use sae_core::store::sample::Role;
use serde_json::Value;

/// The placeholder of an image in the conversations of LLaVA's data sets. (A model's own placeholder may be a different
/// one.)
const IMAGE_MARK: &str = "<image>";

/// The placeholder of a video. Rows with a video may also have that of an image in its place.
const VIDEO_MARK: &str = "<video>";

/// Columns that hold turns. The first of them that a row has counts.
const CONVERSATIONS: [&str; 4] = ["conversations", "messages", "prompt", "texts"];

/// Columns that hold the only answer to a question.
const ANSWERS: [&str; 5] = ["answer", "response", "chosen", "output", "completion"];

/// Columns that are dropped from the metadata if they are null or empty.
const KNOWN: [&str; 10] =
    ["question", "instruction", "input", "history", "system", "rejected", "text", "caption", "txt", "tools"];

/// Interprets a row by the columns that it has. If a melted column is the row's text, it answers the row's question or
/// conversation, and columns of other answers are metadata.
///
/// # Errors
/// The reason why the row cannot be used.
pub(super) fn record(mut columns: Columns, melted: Option<String>) -> Result<Record, RowError> {
    unpack(&mut columns.fields);
    let shown = media::take_video(&mut columns)?;
    media::reject_unsupported(&columns, shown.is_some())?;
    if fields::get(&columns.fields, "tools").is_some_and(|tools| *tools != "[]") {
        return Err("the row offers tools to the model (column tools), which is not supported".into());
    }
    let (video, images) = match shown {
        Some((video, frames)) => (Some(video), frames.into_iter().map(Some).collect()),
        None => (None, columns.take_images()?),
    };
    let root = match melted {
        Some(_) => None,
        None => replies::take_ranked(&mut columns.fields)?.or_else(|| replies::take_root(&mut columns.fields)),
    };
    if let Some(root) = root {
        return replies::record(root, columns.fields, images.into_iter().flatten().collect(), video);
    }
    let listed = columns.fields.keys().cloned().collect::<Vec<_>>().join(", ");
    let verbatim = melted.clone().or_else(|| columns.fields.get("text").and_then(Value::as_str).map(str::to_owned));
    let has_images = images.iter().any(Option::is_some);
    let action = action::read(&columns.fields)?;
    let mut row = Schema { has_images, ..Schema::new(columns.fields, Vec::new(), video) };
    let whole = if melted.is_none() && video.is_none() { row.interleaved(&images)? } else { None };
    let (mut turns, pair) = match (whole, melted) {
        (Some(turn), _) => (vec![turn], None),
        (None, melted) => {
            row.images = images.into_iter().flatten().collect();
            match melted {
                Some(_) if action.is_some() => {
                    return Err("the row has an action, which a melted column cannot be followed by".into());
                }
                Some(text) => (row.answered_by(&text)?, None),
                None => {
                    let read = if action.is_some() { Schema::instruction } else { Schema::conversation_and_pair };
                    read(&mut row)?.ok_or_else(|| {
                        let known = "conversations, messages, question, instruction, task, text or texts";
                        RowError::from(format!("expected a column {known}, found {listed}"))
                            .with_hint(Hint::MapField { field: "text".into(), column: None })
                    })?
                }
            }
        }
    };
    row.place_images(&mut turns)?;
    row.fields.retain(|name, value| !(is_known(name) && fields::is_absent(value)));
    let Schema { images, video, fields, numbers, unattributed, unanswered, .. } = row;
    let about_answers = numbers.map(|numbers| numbered::properties(&fields, numbers)).unwrap_or_default();
    let (tree, meta) = (Tree::default(), Value::Object(fields));
    Ok(Record { turns, pair, unanswered, about_answers, verbatim, action, images, video, unattributed, tree, meta })
}

/// Whether a column is dropped from the metadata if it is null or empty.
fn is_known(name: &str) -> bool {
    [&KNOWN[..], &CONVERSATIONS, &ANSWERS, &IMAGES].iter().any(|names| names.contains(&name))
}

/// Whether a column may hold the frames of the row's video, if it has one.
pub(super) fn holds_frames(name: &str, record: &Record) -> bool {
    record.video.is_some() && media::FRAMES.contains(&name)
}

/// Parses columns that hold JSON as text: lists in tables, and RLHF-V's `text`, which contains a question and answers.
fn unpack(columns: &mut Fields) {
    let parsed = |value: &Value, first: char| {
        let text = value.as_str().filter(|text| text.trim_start().starts_with(first))?;
        lenient::value(text.as_bytes()).ok()
    };
    // An answer may well be JSON. In its column only a list of messages is taken for a conversation.
    let is_message = |entry: &Value| ["from", "role"].iter().any(|key| entry.get(key).is_some());
    let are_messages = |list: &Value| list.as_array().is_some_and(|list| list.iter().all(is_message));
    for (names, always) in
        [(&["conversations", "messages", "history"], true), (&["prompt", "chosen", "rejected"], false)]
    {
        for name in names {
            let list =
                columns.get(*name).and_then(|value| parsed(value, '[')).filter(|list| always || are_messages(list));
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

/// A row that is being turned into a record. Whatever is used is removed from `fields`; the rest becomes the metadata.
struct Schema {
    fields: Fields,
    images: Vec<ImageFile>,
    /// Whether a column of the row has images. If not, parts of the turns may bring their own images.
    has_images: bool,
    /// The row's video, if the images are its frames.
    video: Option<Video>,
    /// Number of images, or of videos, that the turns have shown so far.
    shown: usize,
    /// The numbers of the chosen and of the rejected answer, if the row numbers them.
    numbers: Option<[i64; 2]>,
    /// Whether the row has a text or a caption, and no conversation that says whose it is.
    unattributed: bool,
    /// Whether the row has a question and no column with an answer.
    unanswered: bool,
}

/// A conversation, and in preference data the two answers to it.
type ConversationAndPair = (Vec<Turn>, Option<AnswerPair>);

impl Schema {
    fn new(fields: Fields, images: Vec<ImageFile>, video: Option<Video>) -> Self {
        let has_images = !images.is_empty();
        Self { fields, images, has_images, video, shown: 0, numbers: None, unattributed: false, unanswered: false }
    }

    fn conversation_and_pair(&mut self) -> Result<Option<ConversationAndPair>, RowError> {
        if let Some(turns) = self.conversation()? {
            let mut turns = self.with_system(turns)?;
            let pair = self.pair(&turns)?;
            if pair.is_none() {
                // Without a rejected answer, the column `chosen` holds the only answer.
                let unanswered = turns.last().is_some_and(|turn| turn.role == Role::User);
                let names: &[&str] = if unanswered { &["completion", "chosen"] } else { &["completion"] };
                turns.extend(self.answer(names, &turns)?);
            }
            return Ok(Some((turns, pair)));
        }
        if let Some(question) = self.question()? {
            let mut turns = self.with_system(question)?;
            let pair = self.pair(&turns)?;
            if pair.is_none() {
                let answer = self.answer(&ANSWERS, &turns)?;
                self.unanswered = answer.is_none();
                turns.extend(answer);
            }
            return Ok(Some((turns, pair)));
        }
        if let Some(turns) = self.two_conversations()? {
            let turns = self.with_system(turns)?;
            let pair = self.pair(&turns)?;
            return Ok(Some((turns, pair)));
        }
        if let Some(caption) = self.take_text(&["text", "caption", "txt"])? {
            self.unattributed = true;
            return Ok(Some((self.captioned(&caption), None)));
        }
        Ok(None)
    }

    /// The conversation before an action: it ends with what the user asks for.
    fn instruction(&mut self) -> Result<Option<ConversationAndPair>, RowError> {
        let turns = match self.conversation()? {
            Some(turns) => Some(turns),
            None => match self.take_text(&["task"])? {
                Some(task) => Some(vec![self.turn(Role::User, &task)]),
                None => self.question()?,
            },
        };
        let turns = match turns {
            Some(turns) => turns,
            None => match self.take_text(&["text", "caption", "txt"])? {
                Some(text) => vec![self.turn(Role::User, &text)],
                None => return Ok(None),
            },
        };
        match turns.last() {
            Some(turn) if turn.role == Role::User => Ok(Some((self.with_system(turns)?, None))),
            _ => Err("the row has an action, but its last turn is not of the user".into()),
        }
    }

    /// The conversation or the question with this answer; a caption if there is none.
    fn answered_by(&mut self, text: &str) -> Result<Vec<Turn>, RowError> {
        let asked = match self.conversation()? {
            None => self.question()?,
            turns => turns,
        };
        let Some(asked) = asked else { return Ok(self.captioned(text)) };
        let mut turns = self.with_system(asked)?;
        if turns.last().is_some_and(|turn| turn.role == Role::Assistant) {
            return Err("the conversation ends with an answer, which a melted column cannot be as well".into());
        }
        turns.push(Turn::from_text(Role::Assistant, text));
        Ok(turns)
    }

    fn take_text(&mut self, names: &[&str]) -> Result<Option<String>, String> {
        fields::take_text(&mut self.fields, names)
    }

    /// A question, or Alpaca's instruction with its input, preceded by the turns of its `history`.
    fn question(&mut self) -> Result<Option<Vec<Turn>>, String> {
        let has = |name: &str| fields::get(&self.fields, name).is_some();
        let has_question = ["question", "prompt", "instruction"].into_iter().any(has);
        if !has_question && (!has("input") || !has("output")) {
            return Ok(None);
        }
        let mut turns = self.history()?;
        let question = match self.take_text(&["question", "prompt"])? {
            Some(question) => question,
            None => {
                let parts = [self.take_text(&["instruction"])?, self.take_text(&["input"])?];
                parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
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
            let Some([Value::String(instruction), Value::String(answer)]) = round.as_array().map(Vec::as_slice) else {
                let found = json_type(round);
                return Err(format!("the column history: expected pairs of strings, found {found} in entry {}", n + 1));
            };
            turns.push(self.turn(Role::User, instruction));
            turns.push(Turn::from_text(Role::Assistant, answer));
        }
        Ok(turns)
    }

    /// `conversations` of LLaVA and LLaMA-Factory (`from`, `value`), `messages` or a `prompt` of trainers (`role`,
    /// `content`), or the Cauldron's `texts` (`user`, `assistant`).
    fn conversation(&mut self) -> Result<Option<Vec<Turn>>, String> {
        let list = |name: &&str| fields::get(&self.fields, name).is_some_and(Value::is_array);
        let Some(name) = CONVERSATIONS.into_iter().find(list) else {
            let other = fields::first(&self.fields, &["conversations", "messages"]);
            return other.map_or(Ok(None), |(name, value)| Err(wrong_kind(name, value, "a list of turns")));
        };
        match fields::take(&mut self.fields, name) {
            Some(Value::Array(entries)) => self.turns(&entries).map(Some),
            _ => Ok(None),
        }
    }

    /// Adds LLaMA-Factory's column `system` before the turns, unless they begin with a system prompt.
    fn with_system(&mut self, mut turns: Vec<Turn>) -> Result<Vec<Turn>, String> {
        let has_system = turns.first().is_some_and(|turn| turn.role == Role::System);
        if !has_system && let Some(system) = self.take_text(&["system"])? {
            turns.insert(0, Turn::from_text(Role::System, system));
        }
        Ok(turns)
    }

    /// A caption as a conversation: the user shows the images, and the assistant answers with the caption. A text
    /// without images is a turn of the user.
    fn captioned(&mut self, caption: &str) -> Vec<Turn> {
        if self.images.is_empty() || [IMAGE_MARK, VIDEO_MARK].iter().any(|mark| caption.contains(mark)) {
            return vec![self.turn(Role::User, caption)];
        }
        let shown = (0..self.to_show()).map(|_| self.next_image()).collect();
        vec![Turn { role: Role::User, parts: shown }, Turn::from_text(Role::Assistant, caption)]
    }

    /// A document of Obelics: `texts` and `images` have one entry per position, one of them null. The document becomes
    /// a single turn, in which every paragraph begins on a new line.
    fn interleaved(&mut self, images: &[Option<ImageFile>]) -> Result<Option<Turn>, String> {
        let is_entry = |value: &Value| value.is_string() || value.is_null();
        let texts = fields::get(&self.fields, "texts").and_then(Value::as_array);
        if !texts.is_some_and(|texts| texts.iter().all(is_entry)) {
            return Ok(None);
        }
        let Some(Value::Array(texts)) = self.fields.shift_remove("texts") else { return Ok(None) };
        if self.has_images && images.len() != texts.len() {
            return Err(format!("the row has {} texts, but {} images by position", texts.len(), images.len()));
        }
        let mut parts = Vec::new();
        let mut has_text = false;
        for (n, text) in texts.iter().enumerate() {
            if let Some(image) = images.get(n).and_then(Option::as_ref) {
                self.images.push(image.clone());
                parts.push(self.next_image());
            }
            if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
                let line = if std::mem::replace(&mut has_text, true) { "\n" } else { "" };
                parts.push(TurnPart::Text(format!("{line}{text}")));
            }
        }
        Ok(Some(Turn { role: Role::User, parts }))
    }

    /// Number of images, or of videos, that the turns have to show.
    fn to_show(&self) -> usize {
        if self.video.is_some() { 1 } else { self.images.len() }
    }

    /// The next image, or the video.
    fn next_image(&mut self) -> TurnPart {
        self.shown += 1;
        if self.video.is_some() { TurnPart::Video } else { TurnPart::Image(self.shown - 1) }
    }

    /// Checks that each image, or the video, is shown once. If no turn shows one, they are placed at the beginning of the
    /// user's first turn.
    fn place_images(&mut self, turns: &mut [Turn]) -> Result<(), RowError> {
        if self.shown == 0 && self.to_show() > 0 {
            let first = turns.iter_mut().find(|turn| turn.role == Role::User);
            return self.place_in(first.ok_or("the row has images, but no turn of the user to show them in")?);
        }
        self.check_shown()
    }

    /// The same for a turn that shows all of them, whoever speaks.
    fn place_in(&mut self, turn: &mut Turn) -> Result<(), RowError> {
        if self.shown == 0 {
            let parts: Vec<_> = (0..self.to_show()).map(|_| self.next_image()).collect();
            turn.parts.splice(0..0, parts);
        }
        self.check_shown()
    }

    fn check_shown(&self) -> Result<(), RowError> {
        let images = self.to_show();
        if self.shown != images {
            return Err(match images {
                0 => self.missing_image(),
                _ if self.video.is_some() => {
                    format!("the row has one video, but its text refers to {}", self.shown).into()
                }
                images => format!("the row has {images} images, but its text refers to {}", self.shown).into(),
            });
        }
        Ok(())
    }

    /// The error for a text that refers to an image although the row has none. The hint names a column that may hold
    /// it.
    fn missing_image(&self) -> RowError {
        let may_hold_image = |name: &&String| {
            let name = name.to_ascii_lowercase();
            ["image", "img", "picture", "photo"].iter().any(|part| name.contains(part))
        };
        let mut names = self.fields.iter().filter(|(_, value)| !fields::is_absent(value)).map(|(name, _)| name);
        let error = RowError::from("the row has no image, but its text refers to one");
        match names.find(may_hold_image) {
            Some(name) => error.with_hint(Hint::MapField { field: "image".into(), column: Some(name.as_str().into()) }),
            None => error,
        }
    }
}
