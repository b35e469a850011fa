//! Two models on the same samples, such as a model and what was made of it by further training: by how much their predictions
//! diverge, and what one of them predicts with hidden states that depend on those of the other. Does not know where these states
//! come from.

use crate::checkpoint::Checkpoint;
use crate::data::Source;
use crate::model::{Compute, Hidden, Input, Model, check_decoder, check_hooks};
use crate::predictions::{Predicted, predict};
use crate::prepared::Prepared;
use crate::splice::tokens;
use crate::{Error, Plan, Result};
use sae_core::store::sample::Token;
use sae_core::store::{Hook, SkipList};
use std::path::Path;

/// Replaces hidden states of the second model. It gets the tokens of a batch and the hidden states of the first and of the second
/// model at the hook for each of them, `[tokens, width]`, and returns what takes the place of the latter: one list of the same
/// shape for each variant.
pub type PairIntervention<'a> = dyn Fn(&[&Token], [&[f32]; 2]) -> Result<Vec<Vec<f32>>> + Sync + 'a;

/// Two models and a data set. Both read the tokens and images that the second one makes of a row.
pub struct ModelPair<'a> {
    plan: &'a Plan,
    hook: Hook,
    source: Source,
    first: (Checkpoint, Model),
    second: (Checkpoint, Model),
}

impl<'a> ModelPair<'a> {
    /// Loads the model in the folder `first` and, as the second, that of the plan, both entirely. The plan has to name exactly
    /// one hook; its settings for storing are ignored.
    ///
    /// # Errors
    /// The plan divides rows into pieces or does not fit the checkpoints, the models have other widths or vocabularies, or files cannot be read.
    pub fn open(first: &Path, plan: &'a Plan) -> Result<Self> {
        let hook = plan.hook()?;
        plan.check_whole("a prediction of tokens")?;
        let checkpoints = (Checkpoint::open(first)?, plan.checkpoint()?);
        let sizes = |checkpoint: &Checkpoint| {
            let text = &checkpoint.config().text;
            [("wide", text.hidden_size), ("tokens in the vocabulary", text.vocab_size)]
        };
        for ((what, expected), (_, found)) in sizes(&checkpoints.0).into_iter().zip(sizes(&checkpoints.1)) {
            if expected != found {
                return Err(Error::ModelsDiffer { what, expected, found, folder: plan.model.clone() });
            }
        }
        let compute = Compute::on(&plan.device.open()?, plan.dtype.into());
        let load = |checkpoint: Checkpoint| {
            check_hooks(checkpoint.config(), &[hook])?;
            check_decoder(&[hook])?;
            let model = checkpoint.load(None, &compute)?;
            Ok::<_, Error>((checkpoint, model))
        };
        let source = plan.source()?;
        Ok(Self { plan, hook, source, first: load(checkpoints.0)?, second: load(checkpoints.1)? })
    }

    /// The checkpoints of the first and of the second model.
    pub fn checkpoints(&self) -> [&Checkpoint; 2] {
        [&self.first.0, &self.second.0]
    }

    /// Lets both models predict. The first list of predictions is that of the first model; the second is that of the second model,
    /// with `KL(first || second)`. `check` is called before each batch; its error ends the run. See
    /// [`SpliceRunner::run`](crate::SpliceRunner::run) for `visit` and for what is returned.
    ///
    /// # Errors
    /// A file cannot be read, the device failed, or `check` returned an error.
    pub fn diverge(
        &self,
        check: &(dyn Fn() -> Result<()> + Sync),
        visit: &mut dyn FnMut(Option<&Predicted>, u64),
    ) -> Result<SkipList> {
        let batch = |samples: &[Prepared], targets: &[Vec<usize>]| {
            check()?;
            let [first, second] =
                [&self.first, &self.second].map(|(checkpoint, model)| (inputs(checkpoint, samples), model));
            let [(first, model), (second, other)] =
                [&first, &second].map(|(inputs, model)| (by_reference(inputs), model));
            model.diverge(&first, other, &second, targets)
        };
        predict(self.plan, &self.second.0, &self.source, &batch, visit)
    }

    /// Lets the second model predict with other hidden states at the hook of the plan. The first list of predictions is
    /// computed with its own; see [`SpliceRunner::run`](crate::SpliceRunner::run).
    ///
    /// # Errors
    /// As there.
    pub fn splice(
        &self,
        replace: &PairIntervention,
        visit: &mut dyn FnMut(Option<&Predicted>, u64),
    ) -> Result<SkipList> {
        let batch = |samples: &[Prepared], targets: &[Vec<usize>]| {
            let hidden = |(checkpoint, model): &(Checkpoint, Model)| {
                let inputs = inputs(checkpoint, samples);
                let hidden = model.pause(&mut [], &by_reference(&inputs), &[self.hook])?;
                Ok::<_, Error>((inputs, hidden))
            };
            let ((_, first), (inputs, second)) = (hidden(&self.first)?, hidden(&self.second)?);
            let replaced = replace(&tokens(samples), [first.hook(0), second.hook(0)])?;
            let states: Vec<Hidden> =
                std::iter::once(second.clone()).chain(replaced.iter().map(|rows| second.with_rows(rows))).collect();
            self.second.1.compare(self.hook, &by_reference(&inputs), &states, targets)
        };
        predict(self.plan, &self.second.0, &self.source, &batch, visit)
    }
}

fn inputs(checkpoint: &Checkpoint, samples: &[Prepared]) -> Vec<Input> {
    samples.iter().map(|sample| checkpoint.input(sample)).collect()
}

fn by_reference(inputs: &[Input]) -> Vec<&Input> {
    inputs.iter().collect()
}
