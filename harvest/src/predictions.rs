//! Predictions of the tokens of a data set: rows become samples, samples form batches, and each batch is given to whoever computes.
//! Does not know what the predictions are of, holds one chunk of rows, and writes no file.

use crate::capture::{CHUNK_ROWS, for_each_batch};
use crate::checkpoint::{Checkpoint, Prepared};
use crate::data::{Row, Source};
use crate::model::Prediction;
use crate::{Error, Plan, Result};
use rayon::prelude::*;
use sae_core::store::SkipList;

/// The predictions of one sample's tokens.
pub struct Predicted<'a> {
    /// The sample.
    pub sample: &'a Prepared,
    /// Positions of the predicted tokens ([`Prepared::targets`]).
    pub targets: &'a [usize],
    /// `[1 + variants][targets]`. The first list is the reference of the divergences of all.
    pub predictions: Vec<&'a [Prediction]>,
}

/// Computes the predictions of a batch's tokens at the targets of each sample, `[1 + variants][targets]`.
pub(crate) type Predict<'a> = dyn Fn(&[Prepared], &[Vec<usize>]) -> Result<Vec<Vec<Prediction>>> + Sync + 'a;

/// A batch that went through the model.
struct Done<'a> {
    samples: &'a [Prepared],
    targets: Vec<Vec<usize>>,
    predictions: Vec<Vec<Prediction>>,
}

/// Predicts the tokens of a data set. Calls `visit` with every sample that has at least one target, and after every batch with no
/// sample, each time with the number of rows done so far. Returns the rows that could not be used.
pub(crate) fn predict(
    plan: &Plan,
    checkpoint: &Checkpoint,
    source: &Source,
    predict: &Predict,
    visit: &mut dyn FnMut(Option<&Predicted>, u64),
) -> Result<SkipList> {
    let mut rows = plan.stream(source)?.take(plan.row_limit());
    let (mut skipped, mut done) = (SkipList::default(), 0);
    loop {
        let chunk = rows.by_ref().take(CHUNK_ROWS).collect::<Result<Vec<Row>>>()?;
        if chunk.is_empty() {
            return Ok(skipped);
        }
        let row_count = chunk.len();
        let prepared: Vec<_> =
            chunk.into_par_iter().map(|row| checkpoint.prepare(row, plan.answers, plan.template)).collect();
        let mut samples = Vec::with_capacity(prepared.len());
        for prepared in prepared {
            prepared.map_or_else(|row| skipped.push(row), |sample| samples.push(sample));
        }
        done += (row_count - samples.len()) as u64;
        let work = |samples| Done::new(samples, predict);
        for_each_batch(&samples, plan, work, |_, batch| {
            let batch = batch?;
            done += batch.samples.len() as u64;
            batch.for_each(&mut |predicted| visit(Some(predicted), done));
            visit(None, done);
            Ok::<_, Error>(())
        })?;
    }
}

impl<'a> Done<'a> {
    fn new(samples: &'a [Prepared], predict: &Predict) -> Result<Self> {
        let targets: Vec<Vec<usize>> = samples.iter().map(Prepared::targets).collect();
        let predictions = predict(samples, &targets)?;
        Ok(Self { samples, targets, predictions })
    }

    fn for_each(&self, visit: &mut dyn FnMut(&Predicted)) {
        let mut start = 0;
        for (sample, targets) in self.samples.iter().zip(&self.targets).filter(|(_, targets)| !targets.is_empty()) {
            let range = start..start + targets.len();
            start = range.end;
            visit(&Predicted {
                sample,
                targets,
                predictions: self.predictions.iter().map(|p| &p[range.clone()]).collect(),
            });
        }
    }
}
