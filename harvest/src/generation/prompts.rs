//! Prompts, one by one, and the conversations that they are: the rows of a data set as samples without their last answers, or a single
//! text with images. Runs no model.

use crate::checkpoint::{Answers, Checkpoint, Templating, conversation};
use crate::data::{Row, Rows, Turn, Video};
use crate::fingerprint::fingerprint;
use crate::identity::hex;
use crate::prepared::Prepared;
use crate::{Error, Plan, Result};
use sae_core::store::{SkipList, Skipped};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// A single prompt, which no data set has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypedPrompt {
    /// What the user says.
    pub text: String,
    /// Image files, which come first.
    pub images: Vec<PathBuf>,
}

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
    /// The text of the only prompt, if it is not of a data set.
    text: Option<String>,
}

impl Prompts {
    /// A single prompt; of the plan, only the use of the template counts.
    pub fn single(prompt: &TypedPrompt, plan: &Plan) -> Self {
        let row = Row::from_prompt(&prompt.text, &prompt.images);
        let rows: Rows = Box::new(std::iter::once(Ok(row)));
        let (files, text) = (prompt.images.clone(), Some(prompt.text.clone()));
        Self { rows: rows.take(1), plan: plan.clone(), skipped: SkipList::default(), files, text }
    }

    /// Opens the data set of a plan. Its layers, answers and settings for storing are ignored.
    ///
    /// # Errors
    /// The data set cannot be read, or the plan divides rows into pieces.
    pub fn open(plan: &Plan) -> Result<Self> {
        plan.check_whole("generation")?;
        let source = plan.source()?;
        let rows = plan.stream(&source)?.take(plan.row_limit());
        Ok(Self { rows, plan: plan.clone(), skipped: SkipList::default(), files: source.files, text: None })
    }

    /// A hash of the files with the rows, or of the only prompt and its images: of large files the size and both ends.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn fingerprint(&self) -> Result<String> {
        let files = fingerprint(self.files.iter().map(PathBuf::as_path))?;
        Ok(self.text.as_ref().map_or(files.clone(), |text| hex(Sha256::digest(format!("{files}{text}")))))
    }

    /// The next prompt.
    ///
    /// # Errors
    /// A file cannot be read, or the only prompt is of no use.
    pub fn next(&mut self, checkpoint: &Checkpoint) -> Result<Option<Prompt>> {
        for row in self.rows.by_ref() {
            match Prompt::new(checkpoint, row?, self.plan.template) {
                Ok(prompt) => return Ok(Some(prompt)),
                Err(skipped) if self.text.is_some() => return Err(Error::unusable(skipped)),
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
