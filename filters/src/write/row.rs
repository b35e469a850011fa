//! A row as the writers take it: a conversation with its images, and the columns that are neither. Data only.

use super::image::Image;
use sae_core::store::sample::Role;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum MessagePart {
    /// Words.
    Text(String),
    /// The next of the row's images.
    Image,
}

/// What one side says at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// Who.
    pub role: Role,
    /// What, in order.
    pub parts: Vec<MessagePart>,
}

/// A row of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Number of its sample.
    pub number: u32,
    /// The sample's id: the hash of its texts and images.
    pub id: String,
    /// The data set's own key; the row's number where it has none.
    pub key: String,
    /// The file it came from, relative to the data set's folder, and its number there.
    pub source: (PathBuf, u64),
    /// The score that decided, if one did.
    pub score: Option<f64>,
    /// The conversation, without the answers of `pair`.
    pub turns: Vec<Turn>,
    /// Two answers to it, the preferred one first.
    pub pair: Option<[String; 2]>,
    /// Images in the order in which the turns show them.
    pub images: Vec<Image>,
    /// The data set's columns that are none of these; on their way to a file with those that the writer adds.
    pub columns: Map<String, Value>,
}
