//! How far each model is from the first one, position by position: by its hidden states and, where the checkpoints are at hand, by
//! its weights and its predictions. The share of the way back that this means for a checkpoint is on the scale of the features' `r`.

use crate::control::{Control, Stage};
use crate::{Error, Result, unknown};
use harvest::{ModelPair, Plan, weight_distance};
use sae_core::analysis::eval::ratio_of_sums;
use sae_core::analysis::rebound::StateDistances;
use sae_core::store::{PositionFilter, Store};
use serde::{Deserialize, Serialize};

/// How far a model is from the first one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BaseDistance {
    /// The number of the model.
    pub model: usize,
    /// `|x - x_0| / |x_0|` of the hidden states, with its 95 % interval over clusters.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub hidden_states: [f64; 3],
    /// `|W - W_0| / |W_0|` of all weights.
    pub weights: Option<f64>,
    /// `KL(first model || model)` of the next token, nats per predicted token, with its 95 % interval over samples.
    #[serde(deserialize_with = "unknown::deserialize")]
    pub kl: Option<[f64; 3]>,
}

/// Distances of all models from the first one, of which that of the second, the aligned model, is a distance of 1.
pub(super) struct Distances {
    states: StateDistances,
    /// For each model after the first.
    weights: Vec<f64>,
    /// For each model after the first the divergence and the number of predicted tokens of every sample.
    divergences: Vec<Vec<SampleDivergence>>,
}

struct SampleDivergence {
    id: String,
    kl: f64,
    tokens: f64,
}

impl Distances {
    /// Reads the joined states of the models, and runs them if `plans` says how.
    pub fn measure(
        joined: &Store,
        filter: &PositionFilter,
        buckets: &[u8],
        plans: &[Plan],
        control: &mut Control,
    ) -> Result<Self> {
        let mut staged = control.stage(Stage::Hidden, joined.manifest().rows)?;
        let cancel = staged.cancel();
        let states = StateDistances::from_store(joined, filter, buckets, &mut |rows| {
            staged.show(rows);
            cancel.check()
        })?;
        drop(staged);
        let (mut weights, mut divergences) = (Vec::new(), Vec::new());
        if let [first, others @ ..] = plans {
            for plan in others {
                weights.push(weight_distance(&first.model, &plan.model)?);
                divergences.push(diverge(first, plan, control)?);
            }
        }
        Ok(Self { states, weights, divergences })
    }

    /// How far a model after the first is from it.
    pub fn of(&self, model: usize) -> BaseDistance {
        let kl = self.divergences.get(model - 1).map(|samples| {
            let sums: Vec<[f64; 2]> = samples.iter().map(|sample| [sample.kl, sample.tokens]).collect();
            ratio_of_sums(&sums).interval(sums.len()).triple()
        });
        let hidden_states = self.states.relative(model).triple();
        BaseDistance { model, hidden_states, weights: self.weights.get(model - 1).copied(), kl }
    }

    /// `1 - |x - x_0| / |x_1 - x_0|`.
    pub fn states_back(&self, model: usize) -> [f64; 3] {
        self.states.back(model).triple()
    }

    /// `1 - |W - W_0| / |W_1 - W_0|`.
    pub fn weights_back(&self, model: usize) -> Option<f64> {
        Some(1.0 - self.weights.get(model - 1)? / self.weights.first()?)
    }

    /// `1 - KL(0 || model) / KL(0 || 1)`; `None` if both did not read the same samples.
    pub fn kl_back(&self, model: usize) -> Option<[f64; 3]> {
        let (aligned, model) = (self.divergences.first()?, self.divergences.get(model - 1)?);
        let same = aligned.iter().map(|sample| &sample.id).eq(model.iter().map(|sample| &sample.id));
        same.then(|| {
            let pairs = aligned.iter().zip(model).map(|(aligned, model)| [aligned.kl - model.kl, aligned.kl]);
            ratio_of_sums(&pairs.collect::<Vec<_>>()).interval(model.len()).triple()
        })
    }
}

/// How the predictions of a model diverge from those of the first one.
fn diverge(first: &Plan, plan: &Plan, control: &mut Control) -> Result<Vec<SampleDivergence>> {
    let pair = ModelPair::open(&first.model, plan)?;
    let mut staged = control.stage(Stage::Model, plan.preview()?.rows)?;
    let cancel = staged.cancel();
    let mut samples = Vec::new();
    pair.diverge(&|| Ok(cancel.check()?), &mut |predicted, rows| {
        staged.show(rows);
        let Some(predicted) = predicted else { return };
        samples.push(SampleDivergence {
            id: predicted.sample.sample.id.clone(),
            kl: predicted.predictions[1].iter().map(|prediction| f64::from(prediction.kl)).sum(),
            tokens: predicted.targets.len() as f64,
        });
    })?;
    if samples.is_empty() {
        return Err(Error::NothingToPredict);
    }
    Ok(samples)
}
