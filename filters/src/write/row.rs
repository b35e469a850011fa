//! A row as the writers take it: a conversation with its images, and the columns that are neither. Data only.

use super::image::Image;
use sae_core::sample::Role;
use serde_json::{Map, Value};

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
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
    pub parts: Vec<Part>,
}

/// A row of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Number of its sample.
    pub number: u32,
    /// The data set's own key.
    pub key: String,
    /// The conversation, without the answers of `pair`.
    pub turns: Vec<Turn>,
    /// Two answers to it, the preferred one first.
    pub pair: Option<[String; 2]>,
    /// Images in the order in which the turns show them.
    pub images: Vec<Image>,
    /// The columns that are none of these.
    pub meta: Map<String, Value>,
}
