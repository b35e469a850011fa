//! How a model's predictions change when the hidden states behind one block are replaced: rows become samples, samples
//! batches; each batch goes through the model once, and on from the block once for every replacement.
//! Knows nothing of what the replacements are, holds one chunk of rows, and writes no file.

use crate::capture::{CHUNK, TOGETHER, batches};
use crate::checkpoint::{Checkpoint, Prepared};
use crate::data::{Row, Source};
use crate::model::{Compute, Hidden, Input, Model, Prediction, check_layers};
use crate::{Error, Plan, Result};
use rayon::prelude::*;
use sae_core::store::SkipList;
use sae_core::store::sample::Token;

/// Replacements of hidden states: from the tokens of a batch and what left the block at each of them, `[tokens, width]`,
/// to what is to leave it instead, once for every variant and of the same shape.
pub type Intervention<'a> = dyn Fn(&[&Token], &[f32]) -> Result<Vec<Vec<f32>>> + Sync + 'a;

/// How a sample's tokens were predicted.
pub struct Predicted<'a> {
    /// The sample.
    pub sample: &'a Prepared,
    /// Positions of the predicted tokens ([`Prepared::targets`]).
    pub targets: &'a [usize],
    /// `[1 + variants][targets]`; the first are from the model's own states.
    pub predictions: Vec<&'a [Prediction]>,
}

/// A model and a data set, ready to be run with replaced states.
pub struct SpliceRunner<'a> {
    plan: &'a Plan,
    layer: usize,
    checkpoint: Checkpoint,
    source: Source,
    model: Model,
}

/// A batch that went through the model.
struct Done<'a> {
    samples: Vec<&'a Prepared>,
    targets: Vec<Vec<usize>>,
    predictions: Vec<Vec<Prediction>>,
}

impl<'a> SpliceRunner<'a> {
    /// Loads the whole model. The plan names one layer; what it says of storing is left aside.
    ///
    /// # Errors
    /// The plan does not fit the checkpoint, or checkpoint or data cannot be read.
    pub fn open(plan: &'a Plan) -> Result<Self> {
        let [layer] = plan.layers[..] else {
            return Err(Error::Plan(format!("states are replaced behind one layer, not behind {:?}", plan.layers)));
        };
        let checkpoint = Checkpoint::open(&plan.model)?;
        check_layers(checkpoint.config(), &[layer])?;
        let source = plan.source()?;
        let model = checkpoint.load(None, &Compute::on(&plan.device.open()?, plan.dtype.into()))?;
        Ok(Self { plan, layer, checkpoint, source, model })
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Runs the model over the data; `see` is shown every sample with at least one target, and told the rows done.
    ///
    /// # Errors
    /// A file that cannot be read, a device that failed, or whatever `replace` returns. Rows that cannot be used stop
    /// nothing and are counted in what is returned.
    pub fn run(&self, replace: &Intervention, see: &mut dyn FnMut(Option<&Predicted>, u64)) -> Result<SkipList> {
        let limit = self.plan.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let mut rows = self.plan.stream(&self.source)?.take(limit);
        let (mut skipped, mut done) = (SkipList::default(), 0);
        loop {
            let chunk = rows.by_ref().take(CHUNK).collect::<Result<Vec<Row>>>()?;
            if chunk.is_empty() {
                return Ok(skipped);
            }
            let rows_here = chunk.len();
            let prepared: Vec<_> = chunk
                .into_par_iter()
                .map(|row| self.checkpoint.prepare(row, self.plan.answers, self.plan.template))
                .collect();
            let mut samples = Vec::with_capacity(prepared.len());
            for prepared in prepared {
                prepared.map_or_else(|row| skipped.push(row), |sample| samples.push(sample));
            }
            done += (rows_here - samples.len()) as u64;
            for together in batches(&samples, self.plan.batch_tokens).chunks(TOGETHER) {
                let together = together.par_iter().map(|batch| {
                    let samples = samples[batch.clone()].iter().collect();
                    self.batch(samples, replace)
                });
                for batch in together.collect::<Result<Vec<_>>>()? {
                    done += batch.samples.len() as u64;
                    batch.show(&mut |predicted| see(Some(predicted), done));
                    see(None, done);
                }
            }
        }
    }

    fn batch<'s>(&self, samples: Vec<&'s Prepared>, replace: &Intervention) -> Result<Done<'s>> {
        let inputs: Vec<Input> = samples.iter().map(|sample| self.checkpoint.input(sample)).collect();
        let inputs: Vec<&Input> = inputs.iter().collect();
        let targets: Vec<Vec<usize>> = samples.iter().map(|sample| sample.targets()).collect();
        let own = self.model.hidden(&inputs, &[self.layer])?;
        let tokens: Vec<&Token> = samples.iter().flat_map(|sample| &sample.tokens).collect();
        let rows: Vec<f32> = (0..samples.len()).flat_map(|n| own.rows(0, n)).copied().collect();
        let replaced = replace(&tokens, &rows)?;
        let states = replaced.iter().map(|rows| with_rows(&own, samples.len(), rows));
        let states: Vec<Hidden> = std::iter::once(own.clone()).chain(states).collect();
        let predictions = self.model.compare(self.layer, &inputs, &states, &targets)?;
        Ok(Done { samples, targets, predictions })
    }
}

impl Done<'_> {
    fn show(&self, see: &mut dyn FnMut(&Predicted)) {
        let mut start = 0;
        for (sample, targets) in self.samples.iter().zip(&self.targets).filter(|(_, targets)| !targets.is_empty()) {
            let own = start..start + targets.len();
            start = own.end;
            see(&Predicted {
                sample,
                targets,
                predictions: self.predictions.iter().map(|p| &p[own.clone()]).collect(),
            });
        }
    }
}

/// The same batch with other states.
fn with_rows(like: &Hidden, samples: usize, mut rows: &[f32]) -> Hidden {
    let mut hidden = like.clone();
    for sample in 0..samples {
        let own = hidden.rows_mut(0, sample);
        let (first, rest) = rows.split_at(own.len());
        own.copy_from_slice(first);
        rows = rest;
    }
    hidden
}
