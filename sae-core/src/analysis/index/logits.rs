//! The logit lens: the tokens that a feature promotes and suppresses. Computed by the crate `harvest`, which has the model.

use super::lists::{Row, ranks};
use crate::Result;
use crate::table::{self, Column};
use arrow::array::{BooleanArray, Float32Array, RecordBatch, StringArray, UInt32Array};
use std::path::Path;

/// Tokens that are kept of each kind, promoted and suppressed.
pub const WORDS: usize = 10;

/// A token whose logit a feature changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// Whether it is one of the most promoted tokens; otherwise it is one of the most suppressed ones.
    pub promoted: bool,
    /// Vocabulary id.
    pub token_id: u32,
    /// The token's text.
    pub piece: String,
    /// Change of the logit for an activation of 1, without the division by the last norm.
    pub logit: f32,
}

impl Row for Word {
    const FILE: &'static str = "logits.parquet";

    fn columns(rows: &[(u32, Self)]) -> Vec<Column> {
        vec![
            table::column("promoted", BooleanArray::from_iter(rows.iter().map(|(_, w)| Some(w.promoted)))),
            table::column("rank", ranks(rows, |a, b| a.promoted == b.promoted)),
            table::column("token_id", UInt32Array::from_iter_values(rows.iter().map(|(_, w)| w.token_id))),
            table::column("piece", StringArray::from_iter_values(rows.iter().map(|(_, w)| &w.piece))),
            table::column("logit", Float32Array::from_iter_values(rows.iter().map(|(_, w)| w.logit))),
        ]
    }

    fn read(path: &Path, batch: &RecordBatch, _: usize) -> Result<Vec<Self>> {
        let promoted = table::get::<BooleanArray>(path, batch, "promoted")?;
        let token_id = table::get::<UInt32Array>(path, batch, "token_id")?.values();
        let piece = table::get::<StringArray>(path, batch, "piece")?;
        let logit = table::get::<Float32Array>(path, batch, "logit")?.values();
        let word = |n: usize| Word {
            promoted: promoted.value(n),
            token_id: token_id[n],
            piece: piece.value(n).into(),
            logit: logit[n],
        };
        Ok((0..batch.num_rows()).map(word).collect())
    }
}
