//! Samples and their tokens: what a row of the data became, and what each position of it is. Data only.

use serde::{Deserialize, Serialize};

/// What kind of input a token position carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Modality {
    /// Words.
    Text = 0,
    /// Patches of an image.
    Image = 1,
    /// Frames of sound.
    Audio = 2,
    /// Frames of a video.
    Video = 3,
    /// Actions of an agent.
    Action = 4,
}

impl Modality {
    /// The name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Action => "action",
        }
    }
}

impl TryFrom<u8> for Modality {
    type Error = String;

    fn try_from(code: u8) -> Result<Self, String> {
        use Modality::*;
        let known = [Text, Image, Audio, Video, Action];
        known.get(code as usize).copied().ok_or_else(|| format!("invalid modality {code}: expected 0 to 4"))
    }
}

/// Whose turn a token position belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Nobody's: tokens that the chat template puts around the turns.
    Template = 0,
    /// The system prompt.
    System = 1,
    /// The person.
    User = 2,
    /// The model.
    Assistant = 3,
}

impl Role {
    /// The name of the role in messages of chat templates and trainers. Text of the template counts as the user's.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Assistant => "assistant",
            Self::User | Self::Template => "user",
        }
    }
}

impl TryFrom<u8> for Role {
    type Error = String;

    fn try_from(code: u8) -> Result<Self, String> {
        use Role::*;
        let known = [Template, System, User, Assistant];
        known.get(code as usize).copied().ok_or_else(|| format!("invalid role {code}: expected 0 to 3"))
    }
}

/// One token position of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Position in the sample's sequence, from 0.
    pub position: u32,
    /// What kind of input it carries.
    pub modality: Modality,
    /// Vocabulary id; -1 for soft tokens that have none.
    pub token_id: i32,
    /// The token's text.
    pub piece: String,
    /// Whose turn it belongs to.
    pub role: Role,
    /// Whether it has no content: template, begin, end and newline tokens.
    pub special: bool,
    /// Which of the sample's images, from 0.
    pub image: Option<i16>,
    /// `[x0, y0, x1, y1]` in the image, each 0 to 1; nothing for text.
    pub rect: Option<[f32; 4]>,
}

/// An image that a sample refers to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageRef {
    /// Path as the data set gives it.
    pub path: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Hex SHA-256 of the file's bytes.
    pub sha256: String,
}

/// The place of a piece: a sample that continues another one, or that others continue. A row of the data is a tree of pieces. The
/// pieces from its first one to one that no other continues are a path, which is what a whole sample would be: each has the
/// positions that it adds to the path, and at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The number of the sample that it continues; nothing at the beginning of a path. In a [`Part`](super::Part) it is counted from
    /// the first sample of the part, in a store that is read from the first one of the store.
    pub parent: Option<u32>,
    /// Which piece of its row it is: `prompt`, then `chosen` and `rejected` (or `answer`, if there is one answer), or `sentence_1`,
    /// `sentence_2` and so on, or `feedback`, or the id of a node.
    pub branch: String,
    /// Whether it is a critique of the answer that it continues, and no part of it. What people say about an answer follows it in the
    /// context of the model, but whatever is found along paths is not found in critiques.
    pub is_critique: bool,
}

/// The branch of critiques.
pub const FEEDBACK: &str = "feedback";

/// The column that says that a message of a tree goes on with the turn of its parent.
pub const CONTINUES: &str = "continues";

/// One row of the data, as harvested, or a piece of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Hex SHA-256 over texts and image bytes: the same for the same content in any format.
    pub id: String,
    /// The key of the row in the data set.
    pub key: String,
    /// The texts of its turns, a newline between them.
    pub text: String,
    /// Its images, in order.
    pub images: Vec<ImageRef>,
    /// `file:row` in the data it came from; `file:row#column` if it is one of several columns of the row.
    pub source: String,
    /// The other columns of the row.
    pub meta: serde_json::Value,
    /// Its place, if the samples of the run are pieces of rows. `id` is then that of a sample with all turns up to the end of the
    /// piece and the images of the row, `text` its own text, and `images`, `source`, `key` and `meta` are those of the row, or of
    /// the row or message that a node of a tree was.
    pub piece: Option<Piece>,
}

impl Sample {
    /// The file that the sample came from, relative to the data set's folder, and the number of its row there. `None` if
    /// `source` does not say, as for activations of other tools.
    pub fn place(&self) -> Option<(&str, u64)> {
        place(&self.source)
    }
}

/// Whether a message with these other columns goes on with the turn of its parent, instead of being a turn of its own.
pub fn continues_turn(meta: &serde_json::Value) -> bool {
    meta.get(CONTINUES).is_some_and(|value| *value == true)
}

/// The source of a sample that is one column of the row at `source`.
pub fn melted_source(source: &str, column: &str) -> String {
    format!("{source}#{column}")
}

/// The file and the number of the row in a source, which is `file:row` or `file:row#column`.
///
/// ```
/// use sae_core::store::sample::place;
///
/// assert_eq!(place("a/b.jsonl:7"), Some(("a/b.jsonl", 7)));
/// assert_eq!(place("a#b.jsonl:7#short"), Some(("a#b.jsonl", 7)));
/// assert_eq!(place("activations"), None);
/// ```
pub fn place(source: &str) -> Option<(&str, u64)> {
    let (file, row) = source.rsplit_once(':')?;
    let row = row.split_once('#').map_or(row, |(row, _)| row);
    Some((file, row.parse().ok()?))
}
