//! The content of a row, whatever its columns are called: a conversation, answers and images. Knows no columns and reads
//! nothing.

use super::action::Action;
use super::image::ImageFile;
use super::row_error::RowError;
use sae_core::store::conversation::{AnswerPair, Turn};
use serde_json::{Map, Value};

/// A video whose frames are images.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Video {
    /// How many of the frames there are per second, if the row says so.
    pub fps: Option<f64>,
}

impl Video {
    /// The frames per second: 24 if the row does not say, as `transformers` assumes.
    pub(crate) fn rate(self) -> f64 {
        self.fps.unwrap_or(24.0)
    }
}

/// A tree of messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// Its nodes, depth first.
    pub nodes: Vec<TreeNode>,
    /// Messages that cannot be used, each with its id; what replies to them is lost as well.
    pub lost: Vec<(String, RowError)>,
}

/// A node of a tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TreeNode {
    /// Its id.
    pub id: String,
    /// The number of the node that it continues, which comes before it; nothing for the root.
    pub parent: Option<usize>,
    /// What it adds to the conversation. Images are counted over the whole tree.
    pub turns: Vec<Turn>,
    /// Whether its only turn goes on with the last one of its parent, whose speaker it has, instead of being a turn of its own.
    pub continues: bool,
    /// Whether its only turn names no speaker: it is the model's after one of the user, and the user's otherwise.
    pub unattributed: bool,
    /// The key and the source of its row, if it is not that of the tree.
    pub row: Option<(String, String)>,
    /// What else its row or its message says.
    pub meta: Value,
}

/// The content of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The conversation, without the answers in [`Record::pair`].
    pub turns: Vec<Turn>,
    /// Two answers to the conversation, in preference data.
    pub pair: Option<AnswerPair>,
    /// Whether the row has a question and no answer to it. The model can answer it; there is nothing else to read.
    pub unanswered: bool,
    /// What numbered columns say about the chosen and about the rejected answer. They stay in [`Record::meta`] as well.
    pub about_answers: [Map<String, Value>; 2],
    /// The column `text`, for prompts that are used without a template.
    pub verbatim: Option<String>,
    /// What an agent does after the conversation, in rows that are steps of an episode.
    pub action: Option<Action>,
    /// Images, in the order in which the turns show them; or the frames of the row's video.
    pub images: Vec<ImageFile>,
    /// Describes the row's video, if the images are its frames.
    pub video: Option<Video>,
    /// Whether the row does not say who speaks: it has a text or a caption, and no conversation.
    pub unattributed: bool,
    /// The tree of which the turns are the root's, and the images those of all nodes; empty if the row is none.
    pub tree: Tree,
    /// All other columns.
    pub meta: Value,
}
