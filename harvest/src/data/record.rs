//! The content of a row, whatever its columns are called: a conversation, answers and images. Knows no columns and reads
//! nothing.

use super::action::Action;
use super::image::ImageFile;
use sae_core::store::conversation::{AnswerPair, Turn};
use serde_json::Value;

/// The content of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The conversation, without the answers in [`Record::pair`].
    pub turns: Vec<Turn>,
    /// Two answers to the conversation, in preference data.
    pub pair: Option<AnswerPair>,
    /// The column `text`, for prompts that are used without a template.
    pub verbatim: Option<String>,
    /// What an agent does after the conversation, in rows that are steps of an episode.
    pub action: Option<Action>,
    /// Images, in the order in which the turns show them.
    pub images: Vec<ImageFile>,
    /// All other columns.
    pub meta: Value,
}
