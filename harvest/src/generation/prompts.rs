//! The prompts of a data set: its rows as samples without their last answers, one by one. Runs no model.

use crate::checkpoint::{Answers, Checkpoint, Prepared};
use crate::data::Rows;
use crate::fingerprint::fingerprint;
use crate::{Plan, Result};
use sae_core::store::SkipList;
use std::path::PathBuf;

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
    pub fn next(&mut self, checkpoint: &Checkpoint) -> Result<Option<Prepared>> {
        for row in self.rows.by_ref() {
            match checkpoint.prepare(row?, Answers::None, self.plan.template) {
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
