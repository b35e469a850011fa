//! A conversation, independent of the format in which a data set writes it: turns of text and images, and the two answers
//! of preference data. The reader of data sets produces it, and the writers of filtered data sets consume it.

use super::sample::Role;

/// A part of a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum TurnPart {
    /// A text.
    Text(String),
    /// One of the row's images, by its number from 0. Turns show the images of a row in ascending order.
    Image(usize),
    /// The row's only video. Its frames are the row's images, none of which is shown by itself.
    Video,
}

impl TurnPart {
    /// The text of the part, or nothing if the part is an image or a video.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Image(_) | Self::Video => None,
        }
    }
}

/// What one speaker says at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The speaker.
    pub role: Role,
    /// Texts, images and videos, in order.
    pub parts: Vec<TurnPart>,
}

impl Turn {
    /// A turn that consists of a text.
    pub fn from_text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![TurnPart::Text(text.into())] }
    }

    /// The texts of the turn, concatenated, without the images.
    pub fn text(&self) -> String {
        self.parts.iter().filter_map(TurnPart::text).collect()
    }

    /// Adds the parts of a turn that goes on with this one. Texts that meet become one.
    pub fn go_on(&mut self, more: &Self) {
        for part in &more.parts {
            match (self.parts.last_mut(), part) {
                (Some(TurnPart::Text(before)), TurnPart::Text(text)) => before.push_str(text),
                _ => self.parts.push(part.clone()),
            }
        }
    }
}

/// A preferred and a rejected answer to the same conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerPair {
    /// The preferred answer.
    pub chosen: String,
    /// The other answer.
    pub rejected: String,
}
