//! The prompts of a data set: its rows as samples without their last answers, one by one, and the conversations that they are. Runs
//! no model.

use crate::checkpoint::{Answers, Checkpoint, Prepared, Templating, conversation};
use crate::data::{Row, Rows, Turn, Video};
use crate::fingerprint::fingerprint;
use crate::{Plan, Result};
use sae_core::store::{SkipList, Skipped};
use std::path::PathBuf;

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The prompt as the model reads it.
    pub prepared: Prepared,
    /// Its turns. A prompt that is used without the template has them as well.
    pub turns: Vec<Turn>,
    /// The content of its image files, or of the frames of its video.
    pub files: Vec<Vec<u8>>,
    /// Its video, if the files are frames.
    pub video: Option<Video>,
}

impl Prompt {
    /// A row without its last answer.
    ///
    /// # Errors
    /// The skipped row, with the reason why it cannot be a prompt.
    pub fn new(checkpoint: &Checkpoint, row: Row, template: Templating) -> Result<Self, Skipped> {
        let record = row.record.as_ref().ok();
        let turns = record.and_then(|record| conversation(record, Answers::None).ok());
        let turns = turns.map(|(turns, _)| turns.into_owned()).unwrap_or_default();
        let video = record.and_then(|record| record.video);
        let (prepared, files) = checkpoint.prepare_with_files(row, Answers::None, template)?;
        Ok(Self { prepared, turns, files, video })
    }
}

/// The prompts of a data set, in order. Rows that cannot be used are counted and listed.
pub struct Prompts {
    rows: std::iter::Take<Rows>,
    plan: Plan,
    skipped: SkipList,
    files: Vec<PathBuf>,
}

impl Prompts {
    /// Opens the data set of a plan. Its layers, answers and settings for storing are ignored.
    ///
    /// # Errors
    /// The data set cannot be read, or the plan divides rows into pieces.
    pub fn open(plan: &Plan) -> Result<Self> {
        plan.check_whole("generation")?;
        let source = plan.source()?;
        let rows = plan.stream(&source)?.take(plan.row_limit());
        Ok(Self { rows, plan: plan.clone(), skipped: SkipList::default(), files: source.files })
    }

    /// A hash of the files with the rows: of large files the size and both ends.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        fingerprint(self.files.iter().map(PathBuf::as_path))
    }

    /// The next prompt.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next(&mut self, checkpoint: &Checkpoint) -> Result<Option<Prompt>> {
        for row in self.rows.by_ref() {
            match Prompt::new(checkpoint, row?, self.plan.template) {
                Ok(prompt) => return Ok(Some(prompt)),
                Err(skipped) => self.skipped.push(skipped),
            }
        }
        Ok(None)
    }

    /// The rows that could not be used so far.
    pub fn skipped(&self) -> &SkipList {
        &self.skipped
    }
}
