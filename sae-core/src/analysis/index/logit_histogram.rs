//! The distribution of the logits that a feature adds to all tokens (logit lens), in bins of equal width. Computed by the crate
//! `harvest`, which has the model.

use super::lists::Row;
use crate::Result;
use crate::table::{self, Column};
use arrow::array::{Float32Array, RecordBatch, UInt32Array};
use std::path::Path;

/// A bin of a feature: how many tokens have their logit changed by how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitBin {
    /// The lower edge: change of the logit for an activation of 1, as in [`Word::logit`](super::Word::logit).
    pub low: f32,
    /// The upper edge.
    pub high: f32,
    /// Tokens of the vocabulary in it.
    pub tokens: u32,
}

impl Row for LogitBin {
    const FILE: &'static str = "logit_histogram.parquet";

    fn columns(rows: &[(u32, Self)]) -> Vec<Column> {
        let edges = |edge: fn(&Self) -> f32| Float32Array::from_iter_values(rows.iter().map(|(_, bin)| edge(bin)));
        vec![
            table::column("low", edges(|bin| bin.low)),
            table::column("high", edges(|bin| bin.high)),
            table::column("tokens", UInt32Array::from_iter_values(rows.iter().map(|(_, bin)| bin.tokens))),
        ]
    }

    fn read(path: &Path, batch: &RecordBatch, _: usize) -> Result<Vec<Self>> {
        let low = table::get::<Float32Array>(path, batch, "low")?.values();
        let high = table::get::<Float32Array>(path, batch, "high")?.values();
        let tokens = table::get::<UInt32Array>(path, batch, "tokens")?.values();
        Ok((0..batch.num_rows()).map(|n| Self { low: low[n], high: high[n], tokens: tokens[n] }).collect())
    }
}
