//! How the predictions of a model change when the hidden states at one hook are replaced, by what is made from them or from the
//! states at hooks before it. Each batch goes through the whole model once, and through what is behind the hook once more for every
//! replacement. Does not know what the replacements are.

use crate::checkpoint::Checkpoint;
use crate::data::Source;
use crate::model::{Compute, Hidden, Input, Model, check_hooks};
use crate::predictions::{Predicted, predict};
use crate::prepared::Prepared;
use crate::{Plan, Result};
use sae_core::store::sample::Token;
use sae_core::store::{Hook, SkipList};

/// Replaces hidden states. It gets the tokens of a batch and their hidden states at each hook of the plan, `[hooks]` of
/// `[tokens, width]`, and returns what takes the place of those at the last hook: one list of their shape for each variant.
pub type Intervention<'a> = dyn Fn(&[&Token], &[&[f32]]) -> Result<Vec<Vec<f32>>> + Sync + 'a;

/// A model and a data set, ready to run with replaced hidden states.
pub struct SpliceRunner<'a> {
    plan: &'a Plan,
    hooks: &'a [Hook],
    checkpoint: Checkpoint,
    source: Source,
    model: Model,
}

impl<'a> SpliceRunner<'a> {
    /// Loads the whole model. The hooks of the plan are in the order in which the model computes them; its settings for storing are
    /// ignored.
    ///
    /// # Errors
    /// The plan has no hook, or hooks in another order, divides rows into pieces or does not fit the checkpoint, or the checkpoint or the data cannot be read.
    pub fn open(plan: &'a Plan) -> Result<Self> {
        let hooks = plan.ascending_hooks()?;
        plan.check_whole("a prediction of tokens")?;
        let checkpoint = plan.checkpoint()?;
        check_hooks(checkpoint.config(), hooks)?;
        let source = plan.source()?;
        let model = checkpoint.load(None, &Compute::on(&plan.device.open()?, plan.dtype.into()))?;
        Ok(Self { plan, hooks, checkpoint, source, model })
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
            let states = self.model.pause(&mut [], &inputs, self.hooks)?;
            let read = states.hooks();
            let replaced = replace(&tokens(samples), &read)?;
            let (original, last) = (read[read.len() - 1], self.hooks[self.hooks.len() - 1]);
            let variants = std::iter::once(original).chain(replaced.iter().map(Vec::as_slice));
            let variants: Vec<Hidden> = variants.map(|rows| states.with_rows(rows)).collect();
            self.model.compare(last, &inputs, &variants, targets)
        };
        predict(self.plan, &self.checkpoint, &self.source, &batch, visit)
    }
}

/// The tokens of a batch, in the order of its hidden states.
pub(crate) fn tokens(samples: &[Prepared]) -> Vec<&Token> {
    samples.iter().flat_map(|sample| &sample.tokens).collect()
}
