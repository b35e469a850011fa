//! The types of rows on their way from a file to a sample: what a reader of one file yields, and what the stream of a
//! data set yields. Data only.

use super::columns::Columns;
use super::image::ImageFile;
use super::record::Record;
use super::row_error::RowError;
use crate::Result;
use sae_core::store::conversation::{Turn, TurnPart};
use sae_core::store::sample::Role;
use serde_json::Value;
use std::path::PathBuf;

/// A row of a data set.
#[derive(Debug)]
pub struct Row {
    /// Number of the row in the whole data set, from 0. If a row is several samples, each counts as a row.
    pub number: u64,
    /// `file:row` (`file:row#column` for one of several columns of the row): the file relative to the data set's folder (see [`sae_core::path_text`]), and the number of the row in
    /// this file, from 0.
    pub source: String,
    /// The data set's own key, or the row's number if it has none. A sample of one of several columns adds the column.
    pub key: String,
    /// Whether the data set has a key for the row.
    pub has_own_key: bool,
    /// The content of the row, or why it cannot be used.
    pub record: Result<Record, RowError>,
}

impl Row {
    /// A row that no data set has: the user shows images, says a text unless it is empty, and is to be answered.
    pub(crate) fn from_prompt(text: &str, images: &[PathBuf]) -> Self {
        let says = (!text.is_empty()).then(|| TurnPart::Text(text.to_owned()));
        let parts = (0..images.len()).map(TurnPart::Image).chain(says).collect();
        // The last turn stands for the answer. `Answers::None` removes it and adds the beginning of an answer.
        let turns = vec![Turn { role: Role::User, parts }, Turn::from_text(Role::Assistant, "")];
        let record = Record {
            turns,
            pair: None,
            unanswered: false,
            about_answers: Default::default(),
            unattributed: false,
            tree: Default::default(),
            verbatim: Some(text.to_owned()),
            action: None,
            images: images.iter().map(|path| ImageFile::from_disk(path)).collect(),
            video: None,
            meta: Value::Null,
        };
        Self { number: 0, source: String::new(), key: String::new(), has_own_key: false, record: Ok(record) }
    }
}

/// The rows of a data set, in order. An error means that the rest of a file cannot be read.
pub type Rows = Box<dyn Iterator<Item = Result<Row>> + Send>;

/// The rows of one file as its reader yields them: an outer error ends the file, an inner error is the reason why a single
/// row cannot be read.
pub(super) type FileRows = Box<dyn Iterator<Item = Result<Result<Columns, RowError>>> + Send>;
