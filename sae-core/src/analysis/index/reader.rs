//! An index as it is read: the table of features at once, everything else of one feature at a time, when it is asked for.

use super::{Bin, Coactive, Example, FeatureRow, Lists, Neighbor, Word, read_features};
use crate::{Error, Result};
use std::path::Path;

/// An index that is open. Its files stay mapped: one that is written anew meanwhile is not seen.
pub struct Index {
    features: Vec<FeatureRow>,
    examples: Lists<(u8, Example)>,
    neighbors: Lists<Neighbor>,
    histogram: Lists<Bin>,
    coactive: Lists<Coactive>,
    logits: Option<Lists<Word>>,
}

impl Index {
    /// Opens the index in `folder`.
    ///
    /// # Errors
    /// A file is missing or no such table. (`logits.parquet` may be missing: the model was not at hand.)
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("features.parquet");
        let features = read_features(&path)?;
        let d_sae = features.len();
        // Lists are looked up by place.
        if let Some((place, row)) = features.iter().enumerate().find(|(place, row)| *place != row.feature as usize) {
            return Err(Error::format(&path)(format!("row {place} is of feature {}", row.feature)));
        }
        Ok(Self {
            features,
            examples: Lists::open(folder, d_sae)?,
            neighbors: Lists::open(folder, d_sae)?,
            histogram: Lists::open(folder, d_sae)?,
            coactive: Lists::open(folder, d_sae)?,
            logits: folder.join("logits.parquet").exists().then(|| Lists::open(folder, d_sae)).transpose()?,
        })
    }

    /// A row a feature.
    pub fn features(&self) -> &[FeatureRow] {
        &self.features
    }

    /// Examples of a feature with their group, group by group.
    ///
    /// # Errors
    /// The file is damaged; as with all that follows.
    pub fn examples(&self, feature: u32) -> Result<Vec<(u8, Example)>> {
        self.examples.of(feature)
    }

    /// Features whose directions are nearest, nearest first.
    pub fn neighbors(&self, feature: u32) -> Result<Vec<Neighbor>> {
        self.neighbors.of(feature)
    }

    /// How often it fires how strongly, weakest first; empty bins are left out.
    pub fn histogram(&self, feature: u32) -> Result<Vec<Bin>> {
        self.histogram.of(feature)
    }

    /// Features that fire most often together with it.
    pub fn coactive(&self, feature: u32) -> Result<Vec<Coactive>> {
        self.coactive.of(feature)
    }

    /// Tokens that it promotes, then tokens that it suppresses, strongest first; nothing if the index was made without the model.
    pub fn logits(&self, feature: u32) -> Result<Option<Vec<Word>>> {
        self.logits.as_ref().map(|logits| logits.of(feature)).transpose()
    }
}
