//! How the predictions of a model change when the hidden states behind one block are replaced. Rows become samples, and
//! samples form batches. Each batch goes through the whole model once, and through the blocks behind the chosen one
//! once more for every replacement. Does not know what the replacements are, holds one chunk of rows, and writes no
//! file.

use crate::capture::{CHUNK_ROWS, for_each_batch};
use crate::checkpoint::{Checkpoint, Prepared};
use crate::data::{Row, Source};
use crate::model::{Compute, Hidden, Input, Model, Prediction, check_layers};
use crate::{Error, Plan, Result};
use rayon::prelude::*;
use sae_core::store::SkipList;
use sae_core::store::sample::Token;

/// Replaces hidden states. It gets the tokens of a batch and the hidden state behind the block at each of them,
/// `[tokens, width]`, and returns what takes their place: one list of the same shape for each variant.
pub type Intervention<'a> = dyn Fn(&[&Token], &[f32]) -> Result<Vec<Vec<f32>>> + Sync + 'a;

/// The predictions of one sample's tokens.
pub struct Predicted<'a> {
    /// The sample.
    pub sample: &'a Prepared,
    /// Positions of the predicted tokens ([`Prepared::targets`]).
    pub targets: &'a [usize],
    /// `[1 + variants][targets]`. The first list was computed with the model's own hidden states.
    pub predictions: Vec<&'a [Prediction]>,
}

/// A model and a data set, ready to run with replaced hidden states.
pub struct SpliceRunner<'a> {
    plan: &'a Plan,
    layer: usize,
    checkpoint: Checkpoint,
    source: Source,
    model: Model,
}

/// A batch that went through the model.
struct Done<'a> {
    samples: &'a [Prepared],
    targets: Vec<Vec<usize>>,
    predictions: Vec<Vec<Prediction>>,
}

impl<'a> SpliceRunner<'a> {
    /// Loads the whole model. The plan has to name exactly one layer; its settings for storing are ignored.
    ///
    /// # Errors
    /// The plan does not fit the checkpoint, or the checkpoint or the data cannot be read.
    pub fn open(plan: &'a Plan) -> Result<Self> {
        let layer = plan.layer()?;
        let checkpoint = plan.checkpoint()?;
        check_layers(checkpoint.config(), &[layer])?;
        let source = plan.source()?;
        let model = checkpoint.load(None, &Compute::on(&plan.device.open()?, plan.dtype.into()))?;
        Ok(Self { plan, layer, checkpoint, source, model })
    }

    /// The checkpoint of the model.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Runs the model over the data. Calls `visit` with every sample that has at least one target, and after every
    /// batch with no sample, each time with the number of rows done so far.
    ///
    /// # Errors
    /// A file cannot be read, the device failed, or `replace` returned an error. A row that cannot be used stops
    /// nothing; such rows are counted in the returned list.
    pub fn run(&self, replace: &Intervention, visit: &mut dyn FnMut(Option<&Predicted>, u64)) -> Result<SkipList> {
        let mut rows = self.plan.stream(&self.source)?.take(self.plan.row_limit());
        let (mut skipped, mut done) = (SkipList::default(), 0);
        loop {
            let chunk = rows.by_ref().take(CHUNK_ROWS).collect::<Result<Vec<Row>>>()?;
            if chunk.is_empty() {
                return Ok(skipped);
            }
            let row_count = chunk.len();
            let prepared: Vec<_> = chunk
                .into_par_iter()
                .map(|row| self.checkpoint.prepare(row, self.plan.answers, self.plan.template))
                .collect();
            let mut samples = Vec::with_capacity(prepared.len());
            for prepared in prepared {
                prepared.map_or_else(|row| skipped.push(row), |sample| samples.push(sample));
            }
            done += (row_count - samples.len()) as u64;
            let work = |samples| self.batch(samples, replace);
            for_each_batch(&samples, self.plan, work, |_, batch| {
                let batch = batch?;
                done += batch.samples.len() as u64;
                batch.for_each(&mut |predicted| visit(Some(predicted), done));
                visit(None, done);
                Ok::<_, Error>(())
            })?;
        }
    }

    fn batch<'s>(&self, samples: &'s [Prepared], replace: &Intervention) -> Result<Done<'s>> {
        let inputs: Vec<Input> = samples.iter().map(|sample| self.checkpoint.input(sample)).collect();
        let inputs: Vec<&Input> = inputs.iter().collect();
        let targets: Vec<Vec<usize>> = samples.iter().map(|sample| sample.targets()).collect();
        let original = self.model.hidden(&inputs, &[self.layer])?;
        let tokens: Vec<&Token> = samples.iter().flat_map(|sample| &sample.tokens).collect();
        let rows: Vec<f32> = (0..samples.len()).flat_map(|n| original.rows(0, n)).copied().collect();
        let replaced = replace(&tokens, &rows)?;
        let states = replaced.iter().map(|rows| with_rows(&original, samples.len(), rows));
        let states: Vec<Hidden> = std::iter::once(original.clone()).chain(states).collect();
        let predictions = self.model.compare(self.layer, &inputs, &states, &targets)?;
        Ok(Done { samples, targets, predictions })
    }
}

impl Done<'_> {
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

/// The same batch with other hidden states.
fn with_rows(like: &Hidden, samples: usize, mut rows: &[f32]) -> Hidden {
    let mut hidden = like.clone();
    for sample in 0..samples {
        let state = hidden.rows_mut(0, sample);
        let (first, rest) = rows.split_at(state.len());
        state.copy_from_slice(first);
        rows = rest;
    }
    hidden
}
