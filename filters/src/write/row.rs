//! A row to be written: a conversation with its images, and its other columns. Data only.

use super::image::Image;
use sae_core::store::conversation::{AnswerPair, Turn};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// A row of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The number of the sample.
    pub number: u32,
    /// The sample's id: the hash of its texts and images.
    pub id: String,
    /// The data set's own key, or the row's number if it has none.
    pub key: String,
    /// The file of the row, relative to the data set's folder, and the number of the row in the file.
    pub source: (PathBuf, u64),
    /// The score by which the row was selected, if there is one.
    pub score: Option<f64>,
    /// The conversation, without the answers of `pair`.
    pub turns: Vec<Turn>,
    /// Two answers to it, in preference data.
    pub pair: Option<AnswerPair>,
    /// Images in the order in which the turns show them.
    pub images: Vec<Image>,
    /// The other columns of the data set. The writer adds columns to them.
    pub columns: Map<String, Value>,
}
