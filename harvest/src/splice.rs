//! How the predictions of a model change when the hidden states at one hook are replaced. Each batch goes through the whole model
//! once, and through what is behind the hook once more for every replacement. Does not know what the replacements
//! are.

use crate::checkpoint::{Checkpoint, Prepared};
use crate::data::Source;
use crate::model::{Compute, Hidden, Input, Model, check_decoder, check_hooks};
use crate::predictions::{Predicted, predict};
use crate::{Plan, Result};
use sae_core::store::sample::Token;
use sae_core::store::{Hook, SkipList};

/// Replaces hidden states. It gets the tokens of a batch and the hidden state at the hook for each of them,
/// `[tokens, width]`, and returns what takes their place: one list of the same shape for each variant.
pub type Intervention<'a> = dyn Fn(&[&Token], &[f32]) -> Result<Vec<Vec<f32>>> + Sync + 'a;

/// A model and a data set, ready to run with replaced hidden states.
pub struct SpliceRunner<'a> {
    plan: &'a Plan,
    hook: Hook,
    checkpoint: Checkpoint,
    source: Source,
    model: Model,
}

impl<'a> SpliceRunner<'a> {
    /// Loads the whole model. The plan has to name exactly one hook; its settings for storing are ignored.
    ///
    /// # Errors
    /// The plan divides rows into pieces or does not fit the checkpoint, or the checkpoint or the data cannot be read.
    pub fn open(plan: &'a Plan) -> Result<Self> {
        let hook = plan.hook()?;
        plan.check_whole("a prediction of tokens")?;
        let checkpoint = plan.checkpoint()?;
        check_hooks(checkpoint.config(), &[hook])?;
        check_decoder(&[hook])?;
        let source = plan.source()?;
        let model = checkpoint.load(None, &Compute::on(&plan.device.open()?, plan.dtype.into()))?;
        Ok(Self { plan, hook, checkpoint, source, model })
    }

    /// The checkpoint of the model.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Runs the model over the data. Calls `visit` with every sample that has at least one target, and after every
    /// batch with no sample, each time with the number of rows done so far. The first list of predictions is computed with
    /// the model's own hidden states.
    ///
    /// # Errors
    /// A file cannot be read, the device failed, or `replace` returned an error. A row that cannot be used stops
    /// nothing; such rows are counted in the returned list.
    pub fn run(&self, replace: &Intervention, visit: &mut dyn FnMut(Option<&Predicted>, u64)) -> Result<SkipList> {
        let batch = |samples: &[Prepared], targets: &[Vec<usize>]| {
            let inputs: Vec<Input> = samples.iter().map(|sample| self.checkpoint.input(sample)).collect();
            let inputs: Vec<&Input> = inputs.iter().collect();
            let original = self.model.pause(&mut [], &inputs, self.hook)?;
            let replaced = replace(&tokens(samples), original.hook(0))?;
            let states = replaced.iter().map(|rows| original.with_rows(rows));
            let states: Vec<Hidden> = std::iter::once(original.clone()).chain(states).collect();
            self.model.compare(self.hook, &inputs, &states, targets)
        };
        predict(self.plan, &self.checkpoint, &self.source, &batch, visit)
    }
}

/// The tokens of a batch, in the order of its hidden states.
pub(crate) fn tokens(samples: &[Prepared]) -> Vec<&Token> {
    samples.iter().flat_map(|sample| &sample.tokens).collect()
}
