//! Merging: checks the shards of a job and joins them into one run, together with their passes with blank images.

use crate::control::{Control, Stage};
use crate::{Error, Result, objects};
use filters::pmi::BLANK_DIR;
use sae_core::store;
use serde::Serialize;
use std::path::PathBuf;

/// Which shards to join.
#[derive(Clone, Debug)]
pub struct MergeRequest {
    /// Their run folders, in any order, or addresses in buckets: of a folder that was pushed, or of a folder of such folders.
    pub shards: Vec<PathBuf>,
    /// The new run folder.
    pub run: PathBuf,
}

/// What a merge would make.
#[derive(Clone, Debug, Serialize)]
pub struct MergePlan {
    /// `merge`.
    pub command: &'static str,
    /// The new run folder.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub run: PathBuf,
    /// Run folders of the shards.
    #[serde(serialize_with = "sae_core::path_text::serialize")]
    pub shards: Vec<PathBuf>,
    /// Samples in all of them.
    pub samples: u64,
    /// Token positions in all of them.
    pub tokens: u64,
    /// Rows of the data that they read.
    pub source_rows: u64,
    /// Whether they have the pass with blank images.
    pub blank_images: bool,
    #[serde(skip)]
    skipped: u64,
}

/// What a merge made.
#[derive(Clone, Debug, Serialize)]
pub struct MergeReport {
    /// What was joined.
    #[serde(flatten)]
    pub merged: MergePlan,
    /// Files of activations that the run shares with the shards.
    pub linked: usize,
    /// Files of activations that were copied.
    pub copied: usize,
    /// Rows of the data that became no sample.
    pub skipped: u64,
}

/// The shards of one job, and their passes with blank images.
struct Checked {
    shards: store::Merge,
    blank: Option<store::Merge>,
}

impl MergeRequest {
    /// What [`MergeRequest::run`] would make. Reads and hashes every byte of the shards.
    ///
    /// # Errors
    /// Everything that is wrong with the shards, at once.
    pub fn plan(&self, control: &mut Control) -> Result<MergePlan> {
        Ok(self.planned(&self.check(control)?))
    }

    /// Joins the shards.
    ///
    /// # Errors
    /// Everything that is wrong with the shards, at once; a run folder that holds something else; a full disk.
    pub fn run(&self, control: &mut Control) -> Result<MergeReport> {
        let checked = self.check(control)?;
        let merged = self.planned(&checked);
        let mut written = checked.shards.write(&self.run)?;
        if let Some(blank) = &checked.blank {
            let second = blank.write(&self.run.join(BLANK_DIR))?;
            written.linked += second.linked;
            written.copied += second.copied;
        }
        Ok(MergeReport { linked: written.linked, copied: written.copied, skipped: merged.skipped, merged })
    }

    fn check(&self, control: &mut Control) -> Result<Checked> {
        let shards = objects::local_folders(&self.shards, control)?;
        let blank = blank(&shards)?;
        let shards = check(&shards, control)?;
        let blank = if blank.is_empty() { None } else { Some(check(&blank, control)?) };
        Ok(Checked { shards, blank })
    }

    fn planned(&self, checked: &Checked) -> MergePlan {
        let total = checked.shards.progress();
        MergePlan {
            command: "merge",
            run: self.run.clone(),
            shards: self.shards.clone(),
            samples: total.samples,
            tokens: total.rows,
            source_rows: total.source_rows,
            blank_images: checked.blank.is_some(),
            skipped: total.skipped(),
        }
    }
}

/// The shards' passes with blank images: all of them have one, or none has.
fn blank(shards: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let has_blank = |shard: &&PathBuf| shard.join(BLANK_DIR).is_dir();
    let (with, without): (Vec<&PathBuf>, Vec<_>) = shards.iter().partition(has_blank);
    if !with.is_empty() && !without.is_empty() {
        return Err(Error::NoBlankImages { shards: without.into_iter().cloned().collect() });
    }
    Ok(with.into_iter().map(|shard| shard.join(BLANK_DIR)).collect())
}

fn check(shards: &[PathBuf], control: &mut Control) -> Result<store::Merge> {
    let mut staged = control.stage(Stage::Check, None)?;
    Ok(store::Merge::check(shards, &mut |rows, of| {
        staged.extend(of);
        staged.show(rows);
    })?)
}
