//! Reads an index: the table of features at once, everything else for one feature at a time, on request.

use super::{Bin, Coactive, Example, FeatureRow, Lists, LogitBin, Neighbor, Row, Word, read_features};
use crate::{Error, Result};
use std::path::Path;

/// An open index. Its files stay mapped into memory, so a later index in the same folder is not seen.
///
/// ```no_run
/// use sae_core::Run;
/// use sae_core::analysis::index::Index;
/// use std::path::Path;
///
/// let run = Run::open(Path::new("demo-run"))?;
/// let index = Index::open(&run.features("seed-0"))?;
/// for row in index.features().iter().filter(|row| row.class == "cross") {
///     println!("feature {} fires on {} text and {} image tokens", row.feature, row.fires_text, row.fires_image);
/// }
/// # Ok::<(), sae_core::Error>(())
/// ```
pub struct Index {
    features: Vec<FeatureRow>,
    examples: Lists<(u8, Example)>,
    neighbors: Lists<Neighbor>,
    histogram: Lists<Bin>,
    coactive: Lists<Coactive>,
    logits: Option<Lists<Word>>,
    logit_histogram: Option<Lists<LogitBin>>,
}

impl Index {
    /// Opens the index in `folder`.
    ///
    /// # Errors
    /// A file is missing or is not such a table. (`logits.parquet` and `logit_histogram.parquet` may be missing: they need the
    /// model.)
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("features.parquet");
        let features = read_features(&path)?;
        let d_sae = features.len();
        // Rows are looked up by their number.
        if let Some((number, row)) = features.iter().enumerate().find(|(number, row)| *number != row.feature as usize) {
            return Err(Error::format(&path)(format!("row {number} is of feature {}", row.feature)));
        }
        Ok(Self {
            features,
            examples: Lists::open(folder, d_sae)?,
            neighbors: Lists::open(folder, d_sae)?,
            histogram: Lists::open(folder, d_sae)?,
            coactive: Lists::open(folder, d_sae)?,
            logits: if_exists(folder, d_sae)?,
            logit_histogram: if_exists(folder, d_sae)?,
        })
    }

    /// The table of features, a row for each.
    pub fn features(&self) -> &[FeatureRow] {
        &self.features
    }

    /// Examples of a feature with their group: 0 has the strongest, the following groups have octaves below the maximum.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn examples(&self, feature: u32) -> Result<Vec<(u8, Example)>> {
        self.examples.rows(feature)
    }

    /// Features whose decoder directions are nearest, nearest first.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn neighbors(&self, feature: u32) -> Result<Vec<Neighbor>> {
        self.neighbors.rows(feature)
    }

    /// The histogram of its activations, weakest first, without empty bins.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn histogram(&self, feature: u32) -> Result<Vec<Bin>> {
        self.histogram.rows(feature)
    }

    /// Features that fire most often together with it.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn coactive(&self, feature: u32) -> Result<Vec<Coactive>> {
        self.coactive.rows(feature)
    }

    /// Tokens that it promotes, then tokens that it suppresses, strongest first; `None` if the index was made without the model.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn logits(&self, feature: u32) -> Result<Option<Vec<Word>>> {
        self.logits.as_ref().map(|logits| logits.rows(feature)).transpose()
    }

    /// The histogram of the logits that it adds to all tokens, smallest first, without empty bins; `None` if the index was made
    /// without the model.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn logit_histogram(&self, feature: u32) -> Result<Option<Vec<LogitBin>>> {
        self.logit_histogram.as_ref().map(|bins| bins.rows(feature)).transpose()
    }
}

/// Opens a table that an index need not have.
fn if_exists<R: Row>(folder: &Path, d_sae: usize) -> Result<Option<Lists<R>>> {
    folder.join(R::FILE).exists().then(|| Lists::open(folder, d_sae)).transpose()
}
