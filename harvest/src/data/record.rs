//! What a row of a data set says, whatever its columns are called: turns of a conversation, answers, images. Knows no
//! columns and reads nothing.

use super::image::ImageFile;
use sae_core::store::sample::Role;
use serde_json::Value;

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnPart {
    /// Words.
    Text(String),
    /// One of the record's images, by number.
    Image(usize),
}

impl TurnPart {
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
    pub parts: Vec<TurnPart>,
}

impl Turn {
    /// A turn of words.
    pub fn of_text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![TurnPart::Text(text.into())] }
    }

    /// Its words without the images.
    pub fn text(&self) -> String {
        self.parts.iter().filter_map(TurnPart::text).collect()
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
