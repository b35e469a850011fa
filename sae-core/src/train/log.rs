//! `log.parquet`: the measurements of a training, a row for each step in it; and the same for TensorBoard.

use super::events::{self, Scalars};
use crate::{Error, Result, table};
use arrow::array::{Array, Float64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The measurements of one step. Losses are batch means, in units of the scaled inputs (mean norm `sqrt(d_in)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepLog {
    /// Steps done.
    pub step: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// The loss: squared errors of all reconstructions, `l1_coefficient * l1` and `aux`.
    pub loss: f64,
    /// Squared error of the whole reconstruction, summed over dimensions.
    pub mse: f64,
    /// The sparsity penalty, without its weight: `sum_k z_k |f_k|` for ReLU.
    pub l1: f64,
    /// AuxK's loss, with its weight.
    pub aux: f64,
    /// Active features per token.
    pub l0: f64,
    /// Fraction of the batch's variance that is unexplained.
    pub fvu: f64,
    /// Share of features that have not fired within the dead window.
    pub dead: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Weight of `l1`.
    pub l1_coefficient: f64,
    /// Tokens per second in this step.
    pub tokens_per_s: f64,
}

/// One measurement of a step.
type Column = (&'static str, fn(&mut StepLog) -> &mut f64);

const COLUMNS: [Column; 11] = [
    ("loss", |s| &mut s.loss),
    ("mse", |s| &mut s.mse),
    ("l1", |s| &mut s.l1),
    ("aux", |s| &mut s.aux),
    ("l0", |s| &mut s.l0),
    ("fvu", |s| &mut s.fvu),
    ("dead", |s| &mut s.dead),
    ("grad_norm", |s| &mut s.grad_norm),
    ("lr", |s| &mut s.lr),
    ("l1_coefficient", |s| &mut s.l1_coefficient),
    ("tokens_per_s", |s| &mut s.tokens_per_s),
];

/// A log of at most a few thousand steps, evenly spread over the training.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Log {
    steps: Vec<StepLog>,
    every: u64,
    last: u64,
}

impl Log {
    /// A log for a training of `steps` steps, which always has the first and the last.
    pub fn new(steps: u64) -> Self {
        Self { steps: Vec::new(), every: steps.div_ceil(4_000).max(1), last: steps }
    }

    /// Adds a step, if it is one that the log keeps.
    pub fn push(&mut self, entry: &StepLog) {
        if entry.step.is_multiple_of(self.every) || entry.step == 1 || entry.step == self.last {
            self.steps.push(*entry);
        }
    }

    /// The last step that is in it.
    pub fn last(&self) -> Option<&StepLog> {
        self.steps.last()
    }

    /// The whole log as numbers, row by row.
    pub(super) fn numbers(&self) -> Vec<f64> {
        let row = |s: &StepLog| {
            let counts = [s.step as f64, s.tokens as f64];
            counts.into_iter().chain(COLUMNS.map(|(_, field)| *field(&mut { *s })))
        };
        self.steps.iter().flat_map(row).collect()
    }

    /// The log that [`Self::numbers`] returned these numbers for, of a training of `steps` steps.
    pub(super) fn from_numbers(steps: u64, numbers: &[f64]) -> Self {
        let mut log = Self::new(steps);
        for row in numbers.chunks_exact(2 + COLUMNS.len()) {
            let mut entry = StepLog { step: row[0] as u64, tokens: row[1] as u64, ..StepLog::default() };
            COLUMNS.iter().zip(&row[2..]).for_each(|((_, field), value)| *field(&mut entry) = *value);
            log.steps.push(entry);
        }
        log
    }

    /// Writes the table.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut columns = vec![
            table::column("step", UInt64Array::from_iter_values(self.steps.iter().map(|s| s.step))),
            table::column("tokens", UInt64Array::from_iter_values(self.steps.iter().map(|s| s.tokens))),
        ];
        for (name, field) in COLUMNS {
            let values = self.steps.iter().map(|s| *field(&mut { *s }));
            columns.push(table::column(name, Float64Array::from_iter_values(values)));
        }
        table::write(path, &table::batch(columns))
    }
}

impl Log {
    /// Writes the same measurements for TensorBoard. The time of a step is that of the steps in the log up to it, as if all between them were as
    /// fast.
    pub fn write_events(&self, path: &Path) -> Result<()> {
        let (mut seconds, mut tokens) = (0.0, 0);
        let scalars = self.steps.iter().map(|step| {
            if step.tokens_per_s > 0.0 {
                seconds += step.tokens.saturating_sub(tokens) as f64 / step.tokens_per_s;
            }
            tokens = step.tokens;
            let values = COLUMNS.map(|(name, field)| (name, *field(&mut { *step }))).to_vec();
            Scalars { step: step.step, seconds, values }
        });
        events::write(path, scalars)
    }
}

/// Reads the table.
pub fn read_log(path: &Path) -> Result<Vec<StepLog>> {
    let batch = table::read(path, &[])?;
    let mut steps = vec![StepLog::default(); batch.num_rows()];
    for name in ["step", "tokens"] {
        let values = table::get::<UInt64Array>(path, &batch, name)?;
        for (step, value) in steps.iter_mut().zip(values.values()) {
            *if name == "step" { &mut step.step } else { &mut step.tokens } = *value;
        }
    }
    for (name, field) in COLUMNS {
        let column =
            batch.column_by_name(name).ok_or_else(|| Error::format(path)(format!("there is no column {name}")))?;
        let column = cast(column, &DataType::Float64).map_err(Error::format(path))?;
        let values: &Float64Array = column.as_any().downcast_ref().expect("cast to this type above");
        steps.iter_mut().zip(values.values()).for_each(|(step, value)| *field(step) = *value);
    }
    Ok(steps)
}
