//! Reads a data set without storing anything: rows become samples, samples form batches, and each batch is given to whoever
//! computes, such as the predictions of its tokens. Holds one chunk of rows, and writes no file.

use crate::capture::{CHUNK_ROWS, for_each_batch};
use crate::checkpoint::Checkpoint;
use crate::data::{Row, Source};
use crate::model::Prediction;
use crate::prepared::Prepared;
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
struct Done {
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
    let work = |samples: &_| Done::new(samples, predict);
    for_each_prepared(plan, checkpoint, source, work, &mut |samples, batch: Done, done| {
        batch.for_each(samples, &mut |predicted| visit(Some(predicted), done));
        visit(None, done);
    })
}

/// Computes something of every batch of samples of a data set, on several threads. `receive` gets each batch with the result, in
/// order, and the number of rows done so far. Returns the rows that could not be used.
///
/// # Errors
/// A file cannot be read, or `work` returned an error.
pub(crate) fn for_each_prepared<R: Send>(
    plan: &Plan,
    checkpoint: &Checkpoint,
    source: &Source,
    work: impl Fn(&[Prepared]) -> Result<R> + Sync,
    receive: &mut dyn FnMut(&[Prepared], R, u64),
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
        plan.check_images()?;
        let mut samples = Vec::with_capacity(prepared.len());
        for prepared in prepared {
            prepared.map_or_else(|row| skipped.push(row), |sample| samples.push(sample));
        }
        done += (row_count - samples.len()) as u64;
        for_each_batch(&samples, plan, &work, |range, result| {
            done += range.len() as u64;
            receive(&samples[range], result?, done);
            Ok::<_, Error>(())
        })?;
    }
}

impl Done {
    fn new(samples: &[Prepared], predict: &Predict) -> Result<Self> {
        let targets: Vec<Vec<usize>> = samples.iter().map(Prepared::targets).collect();
        let predictions = predict(samples, &targets)?;
        Ok(Self { targets, predictions })
    }

    fn for_each(&self, samples: &[Prepared], visit: &mut dyn FnMut(&Predicted)) {
        let mut start = 0;
        for (sample, targets) in samples.iter().zip(&self.targets).filter(|(_, targets)| !targets.is_empty()) {
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
