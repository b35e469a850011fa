//! The tables of a feature index that are read one feature at a time. Every failure becomes a sentence in place of the rows.

use super::guarded;
use crate::state::details::Details;
use sae_core::Run;
use sae_core::analysis::index::{Bin, Coactive, Example, Lists, LogitBin, Neighbor, Row, StrongestExample, Word};
use std::path::Path;

/// The table of all features.
pub const FEATURES: &str = "features.parquet";

/// The tables of an index.
pub struct Tables {
    examples: Table<(u8, Example)>,
    strongest: Table<StrongestExample>,
    neighbors: Table<Neighbor>,
    histogram: Table<Bin>,
    coactive: Table<Coactive>,
    logits: Table<Word>,
    logit_histogram: Table<LogitBin>,
}

type Table<R> = Result<Lists<R>, String>;

impl Tables {
    /// Opens the tables that exist.
    pub fn open(run: &Run, sae: &str, features: usize) -> Self {
        let folder = run.features(sae);
        Self {
            examples: table(&folder, features, "examples"),
            strongest: table(&folder, features, "strongest positions by modality"),
            neighbors: table(&folder, features, "nearest features"),
            histogram: table(&folder, features, "histogram of activations"),
            coactive: table(&folder, features, "co-active features"),
            logits: table(&folder, features, "promoted and suppressed tokens"),
            logit_histogram: table(&folder, features, "histogram of the logits of all tokens"),
        }
    }

    /// Reads what they hold about a feature.
    pub fn read(&self, feature: u32) -> Details {
        Details {
            examples: rows(&self.examples, feature),
            strongest: rows(&self.strongest, feature),
            neighbors: rows(&self.neighbors, feature),
            histogram: rows(&self.histogram, feature),
            coactive: rows(&self.coactive, feature),
            logits: rows(&self.logits, feature),
            logit_histogram: rows(&self.logit_histogram, feature),
        }
    }
}

fn table<R: Row>(folder: &Path, features: usize, what: &str) -> Table<R> {
    if !folder.join(R::FILE).is_file() {
        return Err(format!("The index has no {what}. Make it again to see this."));
    }
    guarded(|| Lists::open(folder, features).map_err(|error| error.message()))
}

fn rows<R: Row>(table: &Table<R>, feature: u32) -> Result<Vec<R>, String> {
    let table = table.as_ref().map_err(Clone::clone)?;
    guarded(|| table.rows(feature).map_err(|error| error.message()))
}
